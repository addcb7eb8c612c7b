"""A webhook receiver on loopback, which gives scripted answers and keeps the requests."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "canary-token-c0ffee"


@dataclass
class Receiver:
    """`statuses` are those of the next answers, then 200; 0 leaves a request without an answer until the end."""

    port: int = 0
    statuses: list[int] = field(default_factory=list)
    location: str = ""
    answer: bytes = b"ok"
    bodies: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """A webhook's URL, with a secret in it."""
        return f"http://127.0.0.1:{self.port}/services/{TOKEN}?key={TOKEN}"

    @property
    def texts(self) -> list[str]:
        return [json.loads(body)["text"] for body in self.bodies]

    def take(self, path: str, headers: dict[str, str], body: str) -> int:
        self.paths.append(path)
        self.headers.append(headers)
        self.bodies.append(body)
        status = self.statuses.pop(0) if self.statuses else 200
        if not status:
            self.closing.wait(10)
        return status


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status = receiver.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            if not status:
                return
            self.send_response(status)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", str(len(receiver.answer)))
            self.end_headers()
            self.wfile.write(receiver.answer)

        do_GET = do_POST  # noqa: N815 - what a redirect would lead to

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.closing.set()
            server.shutdown()
            thread.join()
