"""The sample store over HTTP, on a loopback port, in a thread."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sample_store.store import BASE_PATH, SampleStore


@dataclass(frozen=True)
class RunningServer:
    host: str
    port: int

    @property
    def base_url(self) -> str:
        """The base URL, for `COMMERCE_API_BASE_URL`."""
        return f"http://{self.host}:{self.port}{BASE_PATH}"


@contextmanager
def serve(store: SampleStore, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[RunningServer]:
    """Serve the store until the block ends; port 0 is any free port.

    Raises:
        OSError: The port is in use, or the host is not on this machine.
    """

    async def respond(request: Request) -> Response:
        answer = store.respond(request.url.path, request.query_params, request.headers)
        return Response(answer.body, status_code=answer.status, headers=dict(answer.headers))

    app = Starlette(routes=[Route("/{path:path}", respond, methods=["GET"])])
    config = uvicorn.Config(
        app, access_log=False, lifespan="off", log_level="warning", timeout_graceful_shutdown=1, ws="none"
    )
    # Bound here, because uvicorn exits the process if the port is in use.
    with socket.create_server((host, port)) as listener:
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="sample-store", daemon=True)
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the sample store's server ended before it had started")
            time.sleep(0.002)
        try:
            yield RunningServer(host, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()
