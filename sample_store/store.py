"""A store of the commerce API without the HTTP: a request's path, query and headers in, an answer out.

It follows the API's reference pages; `Dialect` holds the points on which they are silent.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from threading import RLock
from typing import Any, Literal, NamedTuple, TypeAlias

from sample_store import SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.dialect import Dialect
from sample_store.order_index import OrderIndex, state_of
from sample_store.query import InvalidQueryError, OrderFilter, read_order_filter, read_page
from sample_store.rate import TokenBucket
from sample_store.rows import EncodedRows
from sample_store.shop import Shop
from sample_store.transport import (
    Answer,
    accepts_json,
    answer,
    has_credentials,
    list_body,
    refusal,
)
from sample_store.values import Item, timestamp

Kind: TypeAlias = Literal["products", "packages", "subscriptions", "orders"]

_LOGGED_REQUESTS = 100_000


class _Endpoint(NamedTuple):
    kind: Kind
    selector: str
    has_lookup: bool = False
    is_v1_orders: bool = False


_ENDPOINTS = {
    "/api/v1/products": _Endpoint("products", "product", has_lookup=True),
    "/api/v1/packages": _Endpoint("packages", "package"),
    "/api/v1/subscriptions": _Endpoint("subscriptions", "subscription"),
    "/api/v1_3/orders": _Endpoint("orders", "order", has_lookup=True),
    "/api/v1/orders": _Endpoint("orders", "order", has_lookup=True, is_v1_orders=True),
}
_LATER_FIELDS = {"refunded", "downloads"}
"""Fields of an order that v1 does not have: `refunded` came with v1.1, `downloads` with v1.3."""


@dataclass(frozen=True)
class LoggedRequest:
    at_monotonic: float
    """Seconds of the store's monotonic clock."""
    at_wall: float
    """Seconds since 1970."""
    path: str
    query: dict[str, str]
    status: int


class SampleStore:
    """Answers requests from a shop, and lets a test change the shop between two of them.

    `now` is the clock of the shop: orders created after it are not there yet, and the shop's scheduled changes happen
    when it passes them. `monotonic` is the clock of the rate limit. All methods may be called from any thread.

    The shop is changed in place, so that two stores should not share one that either changes.
    """

    def __init__(
        self,
        shop: Shop,
        *,
        dialect: Dialect | None = None,
        api_key: str = SAMPLE_API_KEY,
        api_secret: str = SAMPLE_API_SECRET,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shop = shop
        self.dialect = dialect or Dialect()
        self.credentials = (api_key, api_secret)
        self._now = now
        self._monotonic = monotonic
        self._bucket = TokenBucket()
        self._scheduled = deque(shop.changes)
        self._index: OrderIndex | None = None
        self._encoded: dict[_Endpoint, EncodedRows] = {}
        self._log: deque[LoggedRequest] = deque(maxlen=_LOGGED_REQUESTS)
        self._lock = RLock()

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests so far, refused ones included, oldest first."""
        with self._lock:
            return list(self._log)

    def forget_requests(self) -> None:
        """Starts the log of requests anew."""
        with self._lock:
            self._log.clear()

    def requests_to(self, path_suffix: str) -> list[LoggedRequest]:
        return [request for request in self.requests if request.path.endswith(path_suffix)]

    def add(self, kind: Kind, item: Item) -> None:
        with self._lock:
            self._items(kind).append(item)
            self.touch()

    def add_order(self, order: Item) -> None:
        self.add("orders", order)

    def update_order(self, order_id: int, **changes: Any) -> None:
        """Change fields of an order, and set its `updated_at` to now unless that is among them.

        Raises:
            KeyError: the shop has no such order.
        """
        with self._lock:
            for order in self.shop.orders:
                if order["id"] == order_id:
                    order.update({"updated_at": timestamp(self._now())} | changes)
                    self.touch()
                    return
            raise KeyError(order_id)

    def delete(self, kind: Kind, item_id: int) -> None:
        with self._lock:
            items = self._items(kind)
            items[:] = [item for item in items if item["id"] != item_id]
            self.touch()

    def touch(self) -> None:
        """Make changes to `shop` that went past this object's methods visible."""
        with self._lock:
            self._index = None
            self._encoded.clear()

    def respond(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Answer a GET request; the headers' names are in lower case."""
        with self._lock:
            at_monotonic, at_wall = self._monotonic(), time.time()
            answered = self._respond(path, query, headers)
            self._log.append(LoggedRequest(at_monotonic, at_wall, path, dict(query), answered.status))
            return answered

    def _respond(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        if wait := self._wait():
            message = {"error": "Too many requests"}
            return refusal(HTTPStatus.TOO_MANY_REQUESTS, message, retry_after=str(math.ceil(wait)))
        if not has_credentials(headers.get("authorization", ""), *self.credentials):
            message = {"error": "Invalid API key or secret"}
            return refusal(HTTPStatus.UNAUTHORIZED, message, www_authenticate='Basic realm="API"')
        if not accepts_json(headers.get("accept", "")):
            message = {"error": "The Accept header must be one of the valid options: application/json"}
            return refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
        self._make_scheduled_changes()
        collection, _, last = path.rpartition("/")
        try:
            if path in _ENDPOINTS:
                return answer(self._list(_ENDPOINTS[path], query))
        except InvalidQueryError as error:
            return refusal(HTTPStatus.UNPROCESSABLE_ENTITY, error.problems)
        endpoint = _ENDPOINTS.get(collection)
        item = self._lookup(endpoint, last) if endpoint and endpoint.has_lookup else None
        return answer(item) if item else refusal(HTTPStatus.NOT_FOUND, {"error": "Not found"})

    def _wait(self) -> float:
        rate = self.dialect.requests_per_second
        return self._bucket.wait_for(self._monotonic(), rate=rate, burst=self.dialect.burst) if rate else 0.0

    def _make_scheduled_changes(self) -> None:
        now = self._now()
        while self._scheduled and self._scheduled[0].at <= now:
            change = self._scheduled.popleft()
            # A test may have deleted the order.
            with suppress(KeyError):
                self.update_order(change.order_id, **change.values)

    def _list(self, endpoint: _Endpoint, query: Mapping[str, str]) -> bytes:
        page = read_page(query, self.dialect)
        wanted = OrderFilter()
        if endpoint.kind == "orders":
            wanted = read_order_filter(query, self.dialect, refund_is_state=endpoint.is_v1_orders)
        positions = self._positions(endpoint, wanted)[page.rows]
        rows = self._rows(endpoint)
        bodies = [rows[position] for position in positions]
        if self.dialect.wrapped == "object":
            return b'{"%s":[%s]}' % (endpoint.kind.encode(), b",".join(bodies))
        return list_body(bodies, selector=endpoint.selector)

    def _lookup(self, endpoint: _Endpoint, item_id: str) -> bytes | None:
        items = self._orders().rows if endpoint.kind == "orders" else self._items(endpoint.kind)
        for position in self._positions(endpoint, OrderFilter()):
            if str(items[position]["id"]) == item_id:
                return b'{"%s":%s}' % (endpoint.selector.encode(), self._rows(endpoint)[position])
        return None

    def _positions(self, endpoint: _Endpoint, wanted: OrderFilter) -> Sequence[int]:
        if endpoint.kind == "orders":
            return self._orders().select(wanted, now=self._now().timestamp())
        return range(len(self._items(endpoint.kind)))

    def _rows(self, endpoint: _Endpoint) -> EncodedRows:
        if endpoint not in self._encoded:
            items = self._orders().rows if endpoint.kind == "orders" else self._items(endpoint.kind)
            self._encoded[endpoint] = EncodedRows(items, _as_in_v1 if endpoint.is_v1_orders else None)
        return self._encoded[endpoint]

    def _orders(self) -> OrderIndex:
        if self._index is None:
            self._index = OrderIndex(self.shop.orders, self.shop.packages)
        return self._index

    def _items(self, kind: Kind) -> list[Item]:
        items: list[Item] = getattr(self.shop, kind)
        return items


def _as_in_v1(order: Item) -> Item:
    return {
        field: state_of(order, refund_is_state=True) if field == "state" else value
        for field, value in order.items()
        if field not in _LATER_FIELDS
    }
