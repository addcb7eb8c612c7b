"""The server of the benchmark, in a separate process: pages are slices of a mapped file, nothing is encoded.

    python -m bench.server <base of a data set> [--latency 0.2] [--rate 1] [--changed 0.01]

It implements what an extraction of orders needs of the API: Basic auth, `Accept: application/json`, `page` and
`per_page` (at most 50), `from` and `to` (UTC days, `to` inclusive), `updated_after`, `sort=newest_first`; keep-alive,
no compression. With `--rate` it returns 429 for requests above that rate. With `--latency` it delays each response,
without delaying others. With `--changed` that share of the orders is refunded on the day after the last one.

`GET /stats` returns the number of requests since the last call, the server's CPU seconds, and the sums of all orders of
`from`, `to`. The first line of its output is its port.
"""

import argparse
import asyncio
import json
import mmap
import os
import time
from base64 import b64encode
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from bench.data import facts, read_index
from sample_store import SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.transport import encode
from sample_store.values import timestamp

LARGEST_PAGE = 50
_TOKEN = b64encode(f"{SAMPLE_API_KEY}:{SAMPLE_API_SECRET}".encode())


class Orders:
    """The orders of a data set, with their changes."""

    def __init__(self, base: Path, *, changed: float = 0.0) -> None:
        with base.with_suffix(".items").open("rb") as items:
            self._items = memoryview(mmap.mmap(items.fileno(), 0, access=mmap.ACCESS_READ))
        self._begins, self._ends, self._created, self._updated, self._cents = read_index(base)
        self._changed: dict[int, bytes] = {}
        if changed:
            self._refund(round(1 / changed))

    def _refund(self, every: int) -> None:
        after = datetime.fromtimestamp(self._created[-1], UTC).replace(hour=0, minute=0, second=0) + timedelta(days=1)
        for count, position in enumerate(range(0, len(self._created), every)):
            order = json.loads(self._items[self._begins[position] : self._ends[position]].tobytes())["order"]
            order |= {
                "refunded": True,
                "settled_gross": "0.00",
                "updated_at": timestamp(after + timedelta(seconds=count)),
            }
            self._changed[position] = b'{"order":%s}' % encode(order)
            _, self._updated[position], self._cents[position] = facts(order)

    def page(self, query: dict[str, str]) -> list[bytes | memoryview]:
        """Return the body, in parts."""
        size = min(int(query.get("per_page", "10")), LARGEST_PAGE)
        first = (int(query.get("page", "1")) - 1) * size
        positions = self.select(
            query.get("from"), query.get("to"), query.get("updated_after"), newest_first="sort" in query
        )[first : first + size]
        if not positions:
            return [b"[]"]
        is_slice = isinstance(positions, range) and positions.step == 1
        if is_slice and not any(position in self._changed for position in (positions if self._changed else ())):
            return [b"[", self._items[self._begins[positions[0]] : self._ends[positions[-1]]], b"]"]
        return [b"[", b",".join(self._item(position) for position in positions), b"]"]

    def _item(self, position: int) -> bytes | memoryview:
        if position in self._changed:
            return self._changed[position]
        return self._items[self._begins[position] : self._ends[position]]

    @lru_cache(maxsize=64)  # noqa: B019 - as long-lived as the process
    def select(
        self, first_day: str | None, last_day: str | None, updated_after: str | None, *, newest_first: bool = False
    ) -> Sequence[int]:
        first, end = 0, len(self._created)
        if first_day:
            first = bisect_left(self._created, _midnight(first_day))
        if last_day:
            end = bisect_left(self._created, _midnight(last_day) + 86_400)
        positions: Sequence[int] = range(first, end)
        if updated_after:
            since = datetime.fromisoformat(updated_after).timestamp()
            positions = [position for position in positions if self._updated[position] >= since]
        return positions[::-1] if newest_first else positions

    def totals(self, query: dict[str, str]) -> dict[str, int]:
        positions = self.select(query.get("from"), query.get("to"), None)
        return {"rows": len(positions), "cents": sum(self._cents[position] for position in positions)}


def _midnight(day: str) -> float:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()


class Counts:
    """Counts the requests since the last `GET /stats`."""

    def __init__(self) -> None:
        self.requests = self.refused = self.bytes = 0
        self.first_at = self.last_at = 0.0

    def add(self, *, refused: bool, size: int) -> None:
        self.last_at = time.monotonic()
        self.first_at = self.first_at or self.last_at
        self.requests += 1
        self.refused += refused
        self.bytes += size


class Api:
    """Responds to requests: status, parts of the body, seconds of delay."""

    def __init__(self, orders: Orders, *, latency: float, rate: float) -> None:
        self.orders = orders
        self.latency = latency
        self._interval = 1 / rate if rate else 0.0
        self._last_start = float("-inf")
        self._counts = Counts()

    def answer(self, head: bytes) -> tuple[bytes, list[bytes | memoryview], float]:
        target = urlsplit(head[4 : head.index(b" ", 4)].decode())
        query = dict(parse_qsl(target.query))
        if target.path == "/stats":
            return b"200 OK", [self._stats(query)], 0.0
        status, body = self._respond(head, target.path, query)
        self._counts.add(refused=status != b"200 OK", size=sum(map(len, body)))
        return status, body, self.latency

    def _respond(self, head: bytes, path: str, query: dict[str, str]) -> tuple[bytes, list[bytes | memoryview]]:
        now = time.monotonic()
        if now < self._last_start + self._interval:
            return b"429 Too Many Requests", [b'{"error":"Too many requests"}']
        self._last_start = now
        if _TOKEN not in head:
            return b"401 Unauthorized", [b'{"error":"Invalid API key or secret"}']
        if b"application/json" not in head:
            return b"415 Unsupported Media Type", [b'{"error":"Accept must be application/json"}']
        if not path.endswith("/orders"):
            return b"404 Not Found", [b'{"error":"Not found"}']
        return b"200 OK", self.orders.page(query)

    def _stats(self, query: dict[str, str]) -> bytes:
        counts, self._counts = self._counts, Counts()
        user, system, *_ = os.times()
        seconds = {"seconds": counts.last_at - counts.first_at, "server_cpu": user + system}
        asked = {"requests": counts.requests, "refused": counts.refused, "bytes": counts.bytes}
        return json.dumps({**asked, **seconds, **self.orders.totals(query)}).encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 without request bodies, as clients of this API send it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head, self._received = self._received[:end], self._received[end + 4 :]
            status, body, latency = self._api.answer(head)
            if latency:
                asyncio.get_running_loop().call_later(latency, self._send, status, body)
            else:
                self._send(status, body)

    def _send(self, status: bytes, body: list[bytes | memoryview]) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head = b"HTTP/1.1 %s\r\nDate: %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
        date_now = formatdate(usegmt=True).encode()
        self._transport.write(b"".join((head % (status, date_now, sum(map(len, body))), *body)))


async def _serve(api: Api, port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(api), "127.0.0.1", port, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--changed", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    api = Api(Orders(arguments.base, changed=arguments.changed), latency=arguments.latency, rate=arguments.rate)
    asyncio.run(_serve(api, arguments.port))


if __name__ == "__main__":
    main()
