"""Items of the store as the tests write them, and the requests and windows that select them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from commerce_assets.api.request import ListRequest
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.window import Window
from sample_store.shop import Shop
from sample_store.store import SampleStore
from sample_store.transport import encode, list_body
from sample_store.values import timestamp

Item = Mapping[str, Any] | bytes
"""An item without its selector: a mapping, or its JSON as the store sends it."""

BY_NAME: Mapping[str, Endpoint] = {endpoint.name: endpoint for endpoint in ENDPOINTS}
ORDERS, PRODUCTS = BY_NAME["orders"], BY_NAME["products"]
DAY = date(2024, 3, 15)
NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)
PRODUCT_LIST = ListRequest(endpoint=PRODUCTS)
ORDERS_OF_DAY = ListRequest(endpoint=ORDERS, window=Window.of_days(DAY, DAY))


def product(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": number, "name": f"Product {number}", "updated_at": "2024-01-01T00:00:00Z"} | fields


def order(number: int, created_at: datetime | str = NOON, **fields: Any) -> dict[str, Any]:
    created = created_at if isinstance(created_at, str) else timestamp(created_at)
    return {"id": number, "state": "complete", "created_at": created, "updated_at": created} | fields


def orders(count: int, *, start: datetime = NOON, every: timedelta = timedelta(minutes=1)) -> list[dict[str, Any]]:
    return [order(number, start + (number - 1) * every) for number in range(1, count + 1)]


def days(first: str, last: str | None = None) -> Window:
    return Window.of_days(date.fromisoformat(first), date.fromisoformat(last or first))


def body_of(*items: Any, selector: str = "product") -> bytes:
    return list_body([item if isinstance(item, bytes) else encode(item) for item in items], selector=selector)


def store_of(*, products: int = 0, orders: Iterable[dict[str, Any]] = (), **fields: Any) -> SampleStore:
    """A store with a number of products, and these orders; `fields` are those of a SampleStore."""
    listed = [product(number, price="9.00") for number in range(1, products + 1)]
    return SampleStore(Shop(products=listed, orders=[*orders]), **fields)
