"""A sample store behind a real HTTP server that misbehaves as scripted, request by request.

    with faulty(SampleStore(shop)) as server:
        server.script(None, Status(503), Reset())
        ...
        assert server.pages == [1, 2, 2, 2]

Here the first request is answered as the store answers it, the second one gets a 503, the answer to the third one
breaks off in mid-body, and all that follow are answered well again. `otherwise` says what becomes of those, as in
`server.script(otherwise=Status(500))`: a store that is down. A fault is anything that can be called with an
`Exchange`; the ones below are small values, so that a test can list, print and draw them at random.

The server listens on loopback, answers each connection in a separate thread, keeps connections alive as HTTP/1.1
does, and remembers every request. An error in a fault is raised where the `with` block ends.
"""

import os
import socket
import ssl
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from sample_store.store import SampleStore
from sample_store.transport import JSON_TYPE, Answer

Headers: TypeAlias = Mapping[str, str]


@dataclass(frozen=True)
class Received:
    """A request that came in, whatever became of it."""

    at: float
    """When its head had been read, on the monotonic clock that all processes of the machine share."""
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """The names are in lower case."""

    @property
    def page(self) -> int:
        return int(self.query.get("page", 1))

    @property
    def has_credentials(self) -> bool:
        return "authorization" in self.headers


class Exchange:
    """A request that waits for its answer: what a fault works with."""

    def __init__(
        self, request: Received, store: SampleStore, connection: socket.socket, closing: threading.Event
    ) -> None:
        self.request = request
        self.store = store
        self.is_over = False
        """No other request can follow on this connection."""
        self._connection = connection
        self._closing = closing

    def answer(self) -> Answer:
        """What the store says at this moment; counted among `store.requests`."""
        return self.store.respond(self.request.path, self.request.query, self.request.headers)

    def wait(self, seconds: float) -> None:
        """Waits, but not for longer than the server runs."""
        if self._closing.wait(seconds):
            raise ConnectionAbortedError("the server has been stopped")

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self._connection.sendall(data)

    def send_answer(self, answer: Answer) -> None:
        self.send(head_of(answer) + answer.body)

    def hang_up(self) -> None:
        """Ends the connection in good order: the other side reads to an end."""
        self.is_over = True

    def reset(self) -> None:
        """Ends the connection at once: the other side's read fails."""
        self.is_over = True
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self._connection.detach())


Fault: TypeAlias = Callable[[Exchange], None]
Change: TypeAlias = Callable[[SampleStore], None]


def head_of(answer: Answer, *, length: int | None = None) -> bytes:
    """The head of an answer; `length` is what it claims the body to be, if that is not its length.

    An answer with a transfer encoding claims no length. A Date is there unless the answer has one.
    """
    headers = {"date": formatdate(usegmt=True), **{name.lower(): value for name, value in answer.headers.items()}}
    if "transfer-encoding" not in headers and answer.status != HTTPStatus.NO_CONTENT:
        headers.setdefault("content-length", str(len(answer.body) if length is None else length))
    lines = [f"HTTP/1.1 {answer.status} Scripted", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


# The faults


@dataclass(frozen=True)
class Serve:
    """Answers as the store does; `headers` are added to its own, or stand in for them."""

    headers: Headers = field(default_factory=dict)

    def __call__(self, exchange: Exchange) -> None:
        status, headers, body = exchange.answer()
        exchange.send_answer(Answer(status, {**headers, **self.headers}, body))


@dataclass(frozen=True)
class Status:
    """Answers with a scripted status; the store is not asked."""

    code: int
    headers: Headers = field(default_factory=dict)
    body: bytes = b'{"error": "scripted"}'

    def __call__(self, exchange: Exchange) -> None:
        body = b"" if self.code == HTTPStatus.NO_CONTENT else self.body
        exchange.send_answer(Answer(self.code, {"content-type": JSON_TYPE, **self.headers}, body))


@dataclass(frozen=True)
class Body:
    """Answers 200 with this body; the store is not asked."""

    content: bytes
    content_type: str = JSON_TYPE

    def __call__(self, exchange: Exchange) -> None:
        exchange.send_answer(Answer(HTTPStatus.OK, {"content-type": self.content_type}, self.content))


@dataclass(frozen=True)
class Edit:
    """Answers with what `change` makes of the store's own body."""

    change: Callable[[bytes], bytes]

    def __call__(self, exchange: Exchange) -> None:
        status, headers, body = exchange.answer()
        exchange.send_answer(Answer(status, headers, self.change(body)))


@dataclass(frozen=True)
class Delay:
    """Waits before it answers; beyond a client's patience, that is a read time-out."""

    seconds: float
    then: Fault = field(default_factory=Serve)

    def __call__(self, exchange: Exchange) -> None:
        exchange.wait(self.seconds)
        self.then(exchange)


@dataclass(frozen=True)
class Reset:
    """Sends a part of the answer, and resets the connection."""

    at: float = 0.5

    def __call__(self, exchange: Exchange) -> None:
        answer = exchange.answer()
        exchange.send(head_of(answer) + answer.body[: int(len(answer.body) * self.at)])
        exchange.reset()


@dataclass(frozen=True)
class CutOff:
    """Sends a part of the body, and hangs up as if that were all: the Content-Length is longer."""

    at: float = 0.5

    def __call__(self, exchange: Exchange) -> None:
        answer = exchange.answer()
        exchange.send(head_of(answer) + answer.body[: int(len(answer.body) * self.at)])
        exchange.hang_up()


@dataclass(frozen=True)
class Raw:
    """Sends bytes that need not be HTTP, and hangs up; the store is not asked."""

    data: bytes = b""

    def __call__(self, exchange: Exchange) -> None:
        exchange.send(self.data)
        exchange.hang_up()


@dataclass(frozen=True)
class Trickle:
    """Sends a little now and then, for ever: header lines, interim answers, or blanks of a JSON body.

    With `status` and `location`, the body is that of a redirect.
    """

    where: Literal["head", "interim", "body"] = "body"
    gap: float = 0.02
    status: int = HTTPStatus.OK
    location: str | None = None

    def __call__(self, exchange: Exchange) -> None:
        headers = {"transfer-encoding": "chunked", **({"location": self.location} if self.location else {})}
        head = head_of(Answer(self.status, headers, b""))
        start, drop = {
            "head": (head.removesuffix(b"\r\n"), b"x: y\r\n"),
            "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            "body": (head + b"1\r\n[\r\n", b"1\r\n \r\n"),
        }[self.where]
        exchange.send(start)
        while True:
            exchange.send(drop)
            exchange.wait(self.gap)


@dataclass(frozen=True)
class Redirect:
    """Sends the client elsewhere."""

    location: str
    code: int = HTTPStatus.FOUND

    def __call__(self, exchange: Exchange) -> None:
        exchange.send_answer(Answer(self.code, {"location": self.location}, b""))


@dataclass(frozen=True)
class GzipBomb:
    """Sends a small body that unpacks to this many bytes of blanks, rounded up to whole MiB."""

    size: int
    status: int = HTTPStatus.OK
    headers: Headers = field(default_factory=dict)

    def __call__(self, exchange: Exchange) -> None:
        mebibyte = 1 << 20
        packer = zlib.compressobj(9, wbits=31)
        start = packer.compress(b"[") + packer.flush(zlib.Z_FULL_FLUSH)
        # After a full flush, what has been packed can be repeated as it is. The checksum at the end is never reached.
        blanks = packer.compress(b" " * mebibyte) + packer.flush(zlib.Z_FULL_FLUSH)
        times = -(-self.size // mebibyte)
        headers = {"content-type": JSON_TYPE, "content-encoding": "gzip", **self.headers}
        exchange.send(head_of(Answer(self.status, headers, b""), length=len(start) + times * len(blanks)) + start)
        for _ in range(times):
            exchange.send(blanks)
        exchange.hang_up()


@dataclass(frozen=True)
class Then:
    """Changes the store after the answer, before the next request on the connection is read."""

    change: Change
    fault: Fault = field(default_factory=Serve)

    def __call__(self, exchange: Exchange) -> None:
        self.fault(exchange)
        self.change(exchange.store)


@dataclass(frozen=True)
class OnPage:
    """A fault on the requests for one page, however often it is asked for; the others are served."""

    number: int
    fault: Fault

    def __call__(self, exchange: Exchange) -> None:
        fault = self.fault if exchange.request.page == self.number else Serve()
        fault(exchange)


# The server


class FaultyStore:
    """What a test holds of a running server: its address, what it has received, what it is to do next."""

    def __init__(self, store: SampleStore, *, scheme: str, port: int) -> None:
        self.store = store
        self.port = port
        self._scheme = scheme
        self._script: list[Fault | None] = []
        self._otherwise: Fault = Serve()
        self._requests: list[Received] = []
        self._lock = threading.Lock()

    @property
    def base_url(self) -> str:
        """The API's base, as in `COMMERCE_API_BASE_URL`."""
        return f"{self._scheme}://127.0.0.1:{self.port}/api/v1/"

    @property
    def requests(self) -> list[Received]:
        """What has come in since the server began or the last `forget`, oldest first."""
        with self._lock:
            return list(self._requests)

    @property
    def pages(self) -> list[int]:
        """The page that each request asked for."""
        return [request.page for request in self.requests]

    def script(self, *faults: Fault | None, otherwise: Fault | None = None) -> None:
        """Says what becomes of the next requests, one after the other, and of those after them; None: served."""
        with self._lock:
            self._script = list(faults)
            self._otherwise = otherwise or Serve()

    def forget(self) -> None:
        """Forgets the requests so far."""
        with self._lock:
            self._requests.clear()

    def receive(self, request: Received) -> Fault:
        """Records a request, and decides what becomes of it."""
        with self._lock:
            self._requests.append(request)
            fault = self._script.pop(0) if self._script else self._otherwise
            return fault or Serve()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    faulty: FaultyStore

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.closing = threading.Event()
        self.errors: list[Exception] = []

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """A client that has gone away is no error; anything else is one of the test's."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Received(time.monotonic(), parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), headers)
        faulty_store = self.server.faulty
        exchange = Exchange(request, faulty_store.store, self.connection, self.server.closing)
        faulty_store.receive(request)(exchange)
        self.close_connection = self.close_connection or exchange.is_over

    def log_message(self, *_: object) -> None:
        """Nothing: what came in is in `FaultyStore.requests`."""


@contextmanager
def faulty(store: SampleStore, *, tls: ssl.SSLContext | None = None) -> Iterator[FaultyStore]:
    """Serves the store on a free port until the block ends, over TLS if there is a context for it."""
    with _Server() as server:
        if tls:
            # Each connection's thread shakes hands on its first read, so that a client which does not cannot stop all.
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.faulty = FaultyStore(store, scheme="https" if tls else "http", port=server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="faulty-store", daemon=True)
        thread.start()
        try:
            yield server.faulty
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
    if server.errors:
        raise ExceptionGroup("faults failed", server.errors)
