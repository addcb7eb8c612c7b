"""Runs the sample store on a loopback port, in a thread."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

import uvicorn

from sample_store.app import build_app
from sample_store.store import SampleStore

_POLL_SECONDS = 0.002
_STOP_SECONDS = 1


@dataclass(frozen=True)
class RunningServer:
    host: str
    port: int

    @property
    def base_url(self) -> str:
        """The API's base, as in `COMMERCE_API_BASE_URL`."""
        return f"http://{self.host}:{self.port}/api/v1/"


@contextmanager
def serve(store: SampleStore, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[RunningServer]:
    """Serve the store until the block ends; port 0 takes any free one.

    Raises:
        OSError: the port is taken, or the host is not one of this machine's.
    """
    # Bound here and not by uvicorn, which ends the whole process when the port is taken.
    with socket.create_server((host, port)) as listener:
        config = uvicorn.Config(
            build_app(store),
            access_log=False,
            lifespan="off",
            log_level="warning",
            timeout_graceful_shutdown=_STOP_SECONDS,
            ws="none",
        )
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="sample-store", daemon=True)
        thread.start()
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the sample store's server ended before it had started")
            time.sleep(_POLL_SECONDS)
        try:
            yield RunningServer(host, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()
