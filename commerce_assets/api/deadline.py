"""A requests adapter that limits how long a whole response may take.

A read time-out applies to each packet: a server that sends a byte now and then, in the head, the body or interim
responses, would hold the client for ever.
"""

import http.client
import io
import socket
import time
from http import HTTPStatus
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


class DeadlineAdapter(HTTPAdapter):
    """Raises the time-outs of requests and urllib3, also if a response as a whole takes longer than `seconds`."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._seconds)


def _pools(seconds: float) -> dict[str, type[HTTPConnectionPool]]:
    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp = io.BufferedReader(_DeadlineReader(self.fp.detach(), sock, seconds))

        def _read_status(self) -> tuple[str, int, str]:
            """Skip interim responses such as 103 Early Hints; http.client itself skips only 100."""
            while True:
                version, status, reason = super()._read_status()  # type: ignore[misc]
                if not HTTPStatus.PROCESSING <= status < HTTPStatus.OK:
                    return version, status, reason
                http.client.parse_headers(self.fp)

    class Connection(HTTPConnection):
        response_class = Response

    class TlsConnection(HTTPSConnection):
        response_class = Response

    return {
        "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": Connection}),
        "https": type("TlsPool", (HTTPSConnectionPool,), {"ConnectionCls": TlsConnection}),
    }


class _DeadlineReader(io.RawIOBase):
    """Reads a socket; each read may take the socket's time-out, but no longer than what is left of `seconds`."""

    def __init__(self, source: io.RawIOBase, connection: socket.socket, seconds: float) -> None:
        self._source = source
        self._connection = connection
        self._read_timeout = connection.gettimeout() or seconds
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response takes too long")
        self._connection.settimeout(min(left, self._read_timeout))
        return self._source.readinto(buffer)

    def close(self) -> None:
        self._source.close()
        super().close()
