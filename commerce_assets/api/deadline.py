"""An adapter of requests that reads an answer until a deadline, however slowly it comes.

A read time-out is one for each packet: with a byte now and then, be it of the body, of the head or of interim answers
before it, a server holds a client for as long as it likes.
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
    """Raises requests' and urllib3's time-outs, also where an answer as a whole takes longer than `seconds`."""

    def __init__(self, *, seconds: float) -> None:
        self._pools = _pools(seconds)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools


class _UntilDeadline(io.RawIOBase):
    """A connection as it is read: each read may take the time-out, but no longer than is left of `seconds`."""

    def __init__(self, source: io.RawIOBase, connection: socket.socket, seconds: float) -> None:
        self._source = source
        self._connection = connection
        self._patience = connection.gettimeout() or seconds
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._connection.settimeout(min(left, self._patience))
        return self._source.readinto(buffer)

    def close(self) -> None:
        self._source.close()
        super().close()


def _pools(seconds: float) -> dict[str, type[HTTPConnectionPool]]:
    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp = io.BufferedReader(_UntilDeadline(self.fp.detach(), sock, seconds))

        def _read_status(self) -> tuple[str, int, str]:
            """Skip interim answers such as 103 Early Hints; http.client itself skips 100 alone."""
            while True:
                version, status, reason = super()._read_status()  # type: ignore[misc]
                if not HTTPStatus.PROCESSING <= status < HTTPStatus.OK:
                    return version, status, reason
                http.client.parse_headers(self.fp)

    class Plain(HTTPConnection):
        response_class = Response

    class Encrypted(HTTPSConnection):
        response_class = Response

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}
