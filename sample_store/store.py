"""The commerce API without HTTP: a request's path, query and headers in, a response out.

Routes, page parameters, filters and wrappers are generated from the endpoint table. `Dialect` configures the points on
which stores differ.
"""

import base64
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from threading import RLock
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urljoin

from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.dialect import Dialect
from sample_store.shop import Shop
from sample_store.transport import JSON_TYPE, Answer, encode, list_body
from sample_store.values import Item, epoch, timestamp

BASE_PATH = "/api/v1/"

_OLD_ORDERS = f"{BASE_PATH}orders"
_LATER_FIELDS = {"refunded", "downloads"}
"""Fields of an order that v1 does not have: `refunded` came with v1.1, `downloads` with v1.3."""
_LOGGED_REQUESTS = 100_000
_MOST_LISTS = 100
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class LoggedRequest:
    at_monotonic: float
    """Seconds of the machine's monotonic clock."""
    path: str
    query: dict[str, str]
    status: int


class _InvalidQueryError(Exception):
    """Pairs of a parameter and its fault."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__(problems)
        self.problems = problems


class _Filter(NamedTuple):
    """The requested rows of a list; instants are seconds since 1970."""

    created_from: float = float("-inf")
    created_before: float = float("inf")
    updated_from: float = float("-inf")
    newest_first: bool = False
    sorted_by_id: bool = False


class SampleStore:
    """Responds to requests from a shop, which a test can change between two requests.

    `now` is the shop's clock: rows with a later cursor are hidden, and the shop's changes are applied at their time.
    It is thread-safe.

    It changes the shop in place, so two stores must not share a shop that one of them changes.
    """

    def __init__(
        self,
        shop: Shop,
        *,
        dialect: Dialect | None = None,
        endpoints: Sequence[Endpoint] = ENDPOINTS,
        api_key: str = SAMPLE_API_KEY,
        api_secret: str = SAMPLE_API_SECRET,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.shop = shop
        self.dialect = dialect or Dialect()
        self.credentials = (api_key, api_secret)
        self._routes = {urljoin(BASE_PATH, endpoint.path.lstrip("/")): endpoint for endpoint in endpoints}
        self._routes |= {urljoin(BASE_PATH, ORDERS_PATH): orders for orders in endpoints if orders.name == "orders"}
        self._now = now
        self._scheduled = deque(shop.changes)
        self._lists: dict[object, list[Item]] = {}
        self._log: deque[LoggedRequest] = deque(maxlen=_LOGGED_REQUESTS)
        self._lock = RLock()

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests so far, including refused ones, oldest first."""
        with self._lock:
            return list(self._log)

    def forget_requests(self) -> None:
        """Clear the log of requests."""
        with self._lock:
            self._log.clear()

    def requests_to(self, path_suffix: str) -> list[LoggedRequest]:
        return [request for request in self.requests if request.path.endswith(path_suffix)]

    def add(self, endpoint_name: str, item: Item) -> None:
        with self._lock:
            self.shop.rows(endpoint_name).append(item)
            self.touch()

    def add_order(self, order: Item) -> None:
        self.add("orders", order)

    def update_order(self, order_id: int, **changes: Any) -> None:
        """Change fields of an order, and set its `updated_at` to now unless `changes` contains it.

        Raises:
            KeyError: The shop has no such order.
        """
        with self._lock:
            for order in self.shop.orders:
                if order["id"] == order_id:
                    order.update({"updated_at": timestamp(self._now())} | changes)
                    self.touch()
                    return
            raise KeyError(order_id)

    def delete(self, endpoint_name: str, item_id: int) -> None:
        with self._lock:
            items = self.shop.rows(endpoint_name)
            items[:] = [item for item in items if item["id"] != item_id]
            self.touch()

    def touch(self) -> None:
        """Make changes to `shop` that bypassed this object's methods visible."""
        with self._lock:
            self._lists.clear()

    def respond(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Respond to a GET request; the names of the headers are lower-cased."""
        with self._lock:
            answered = self._respond(path, query, headers)
            self._log.append(LoggedRequest(time.monotonic(), path, dict(query), answered.status))
            return answered

    def select(self, path: str, query: Mapping[str, str]) -> list[Item]:
        """Return all rows of a list request, on all pages."""
        with self._lock:
            endpoint = self._routes[path]
            return self._select(endpoint, self._read_filter(endpoint, query))

    def _respond(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        credentials = base64.b64encode(":".join(self.credentials).encode()).decode()
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if (scheme.lower(), token.strip()) != ("basic", credentials):
            return _refusal(HTTPStatus.UNAUTHORIZED, {"error": "Invalid API key or secret"})
        # The API does not accept `*/*` as JSON.
        accepted = [option.partition(";")[0].strip().lower() for option in headers.get("accept", "").split(",")]
        if "application/json" not in accepted:
            message = {"error": "The Accept header must be one of the valid options: application/json"}
            return _refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
        self._make_scheduled_changes()
        if path not in self._routes:
            return self._respond_item(path)
        endpoint = self._routes[path]
        try:
            page = self._read_page(endpoint, query)
            rows = self._select(endpoint, self._read_filter(endpoint, query))[page]
        except _InvalidQueryError as error:
            return _refusal(HTTPStatus.UNPROCESSABLE_ENTITY, error.problems)
        if endpoint.name == "orders" and not self.dialect.lists_refunds:
            rows = [row | {"refund_transactions": None} for row in rows]
        bodies = [encode(_as_in_v1(row) if path == _OLD_ORDERS else row) for row in rows]
        if self.dialect.wrapped == "object":
            body = b'{"%s":%s}' % (endpoint.name.encode(), list_body(bodies, selector=None))
        else:
            body = list_body(bodies, selector=endpoint.data_selector)
        return Answer(HTTPStatus.OK, {"content-type": JSON_TYPE}, body)

    def _respond_item(self, path: str) -> Answer:
        """Respond to a request for one row, `orders/17`."""
        list_path, _, number = path.rpartition("/")
        endpoint = self._routes.get(list_path)
        rows = self._select(endpoint, _Filter()) if endpoint and endpoint.item_lookup else []
        found = [row for row in rows if endpoint and str(row[endpoint.primary_key]) == number]
        if endpoint is None or not found:
            return _refusal(HTTPStatus.NOT_FOUND, {"error": "Not found"})
        body = encode(_as_in_v1(found[0]) if list_path == _OLD_ORDERS else found[0])
        if endpoint.data_selector:
            body = b'{"%s":%s}' % (endpoint.data_selector.encode(), body)
        return Answer(HTTPStatus.OK, {"content-type": JSON_TYPE}, body)

    def _make_scheduled_changes(self) -> None:
        while self._scheduled and self._scheduled[0].at <= self._now():
            change = self._scheduled.popleft()
            # A test may have deleted the order.
            with suppress(KeyError):
                self.update_order(change.order_id, **change.values)

    def _select(self, endpoint: Endpoint, wanted: _Filter) -> list[Item]:
        """Select and sort the requested rows; the pages of a list share one selection."""
        cursor = endpoint.cursor
        if cursor is None:
            return self.shop.rows(endpoint.name)

        def created(row: Item) -> float:
            return epoch(str(row.get(cursor)))

        if endpoint.name not in self._lists:
            self._lists[endpoint.name] = sorted(self.shop.rows(endpoint.name), key=created)
        rows = self._lists[endpoint.name]
        visible = bisect_right(rows, self._now().timestamp(), key=created)
        key = (endpoint.name, wanted, visible)
        if key not in self._lists:
            if len(self._lists) > _MOST_LISTS:
                self._lists = {endpoint.name: rows}
            selected = [
                row
                for row in rows[:visible]
                if wanted.created_from <= created(row) < wanted.created_before
                and wanted.updated_from <= epoch(str(row.get(endpoint.updated_at)))
            ]
            if wanted.sorted_by_id:
                selected.sort(key=lambda row: int(row[endpoint.primary_key]))
            self._lists[key] = selected[::-1] if wanted.newest_first else selected
        return self._lists[key]

    def _read_page(self, endpoint: Endpoint, query: Mapping[str, str]) -> slice:
        paginator = endpoint.paginator
        read = _Reader(query)
        number = read(paginator.page_param, lambda text: _whole(text, least=paginator.first_page))
        size = read(paginator.limit_param, lambda text: _whole(text, least=1))
        read.finish()
        page = paginator.first_page if number is None else number
        limit = min(size or self.dialect.default_per_page, self.dialect.max_per_page, paginator.limit)
        start = (page - paginator.first_page) * limit
        return slice(start, start + limit)

    def _read_filter(self, endpoint: Endpoint, query: Mapping[str, str]) -> _Filter:
        if endpoint.cursor is None:
            return _Filter()
        read, dialect = _Reader(query), self.dialect
        first_day = read(endpoint.window_start_param, _day)
        last_day = read(endpoint.window_end_param, _day)
        updated_from = read(endpoint.update_filter, _instant) if endpoint.update_filter else None
        reversing, value = endpoint.newest_first
        newest_first = query.get(reversing) == value or not dialect.oldest_first
        read.finish()
        wanted = _Filter(newest_first=newest_first, sorted_by_id=dialect.sorted_by_id)
        if updated_from is not None and not dialect.ignores_updated_after:
            wanted = wanted._replace(updated_from=updated_from)
        if first_day and not dialect.ignores_dates:
            wanted = wanted._replace(created_from=first_day.replace(tzinfo=dialect.zone).timestamp())
        if last_day and not dialect.ignores_dates:
            end = last_day + timedelta(days=dialect.to_is_inclusive)
            wanted = wanted._replace(created_before=end.replace(tzinfo=dialect.zone).timestamp())
        return wanted


class _Reader:
    """Reads the parameters and collects their faults."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query
        self._problems: list[tuple[str, str]] = []

    def __call__(self, name: str, parse: Callable[[str], _Value]) -> _Value | None:
        try:
            return parse(self._query[name]) if name in self._query else None
        except ValueError as error:
            self._problems.append((name, str(error)))
            return None

    def finish(self) -> None:
        if self._problems:
            raise _InvalidQueryError(self._problems)


def _whole(text: str, *, least: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) < 2**31):
        raise ValueError(f"must be a whole number from {least}")
    return int(text)


def _day(text: str) -> datetime:
    # date.fromisoformat reads 20240131 and 2024-W05-3 as well, which the API does not document.
    with suppress(ValueError):
        if date.fromisoformat(text).isoformat() == text:
            return datetime.fromisoformat(text)
    raise ValueError("must be a date, YYYY-MM-DD")


def _instant(text: str) -> float:
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo:
            return moment.timestamp()
    raise ValueError("must be an ISO 8601 instant, YYYY-MM-DDTHH:MM:SSZ")


def _refusal(status: HTTPStatus, body: object) -> Answer:
    return Answer(status, {"content-type": JSON_TYPE}, encode(body))


def _as_in_v1(order: Item) -> Item:
    """Convert an order to v1, in which a refund is a state."""
    state = "refunded" if order.get("refunded") else order.get("state")
    return {name: value for name, value in order.items() if name not in _LATER_FIELDS} | {"state": state}
