"""What the tests of the pull side share: a client that does not really sleep, its misbehaving store, short items."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from commerce_assets.api.client import CommerceClient, Limits
from commerce_assets.api.decoding import Page, PageDecoder
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.api.request import ListRequest
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.ingest.stage import PullStats, stage
from commerce_assets.ingest.staging import StagedPages, Staging
from commerce_assets.window import Window
from commerce_assets_tests.support.faulty_store import FaultyStore, faulty
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.shop import Shop
from sample_store.store import SampleStore
from sample_store.transport import encode, list_body
from sample_store.values import Item, timestamp

BY_NAME: Mapping[str, Endpoint] = {endpoint.name: endpoint for endpoint in ENDPOINTS}
DAY = date(2024, 3, 15)
NOON = datetime(2024, 3, 15, 12, tzinfo=UTC)
PRODUCTS = ListRequest(endpoint=BY_NAME["products"])
ORDERS_OF_DAY = ListRequest(endpoint=BY_NAME["orders"], window=Window.of_days(DAY, DAY))
IMPATIENT = Limits(connect_seconds=1, read_seconds=0.25, total_seconds=0.4)
LOG = logging.getLogger("pull")


def product(number: int, **fields: Any) -> Item:
    return {"id": number, "name": f"Product {number}", "price": "9.00", "updated_at": "2024-01-01T00:00:00Z"} | fields


def order(number: int, created_at: datetime = NOON, **fields: Any) -> Item:
    created = timestamp(created_at)
    return {"id": number, "state": "complete", "created_at": created, "updated_at": created} | fields


def orders(count: int, *, start: datetime = NOON, every: timedelta = timedelta(minutes=1)) -> list[Item]:
    return [order(number, start + (number - 1) * every) for number in range(1, count + 1)]


def store_of(*, products: int = 0, orders: Iterable[Item] = (), **fields: Any) -> SampleStore:
    """A store with so many products, and these orders; `fields` are those of a SampleStore."""
    return SampleStore(
        Shop(products=[product(number) for number in range(1, products + 1)], orders=[*orders]), **fields
    )


def body_of(*items: Any, selector: str = "product") -> bytes:
    return list_body([item if isinstance(item, bytes) else encode(item) for item in items], selector=selector)


@dataclass
class Sleeper:
    """Stands in for `time.sleep`: remembers how long it was to be."""

    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@dataclass
class Clock:
    """Stands in for the module `time`: stands still but for `sleep` and whoever moves it."""

    now: float = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Pulled:
    """A finished pull: what lay in the staging directory before it was discarded, and what it cost."""

    rows: list[Item]
    cost: PullStats

    @property
    def ids(self) -> list[int]:
        """In the order in which they came first: pages overlap."""
        return list(dict.fromkeys(row["id"] for row in self.rows))


@dataclass
class Puller:
    """A client and a staging directory, in front of a misbehaving store."""

    server: FaultyStore
    directory: Path
    sleeper: Sleeper = field(default_factory=Sleeper)

    def client(self, **fields: Any) -> CommerceClient:
        defaults: dict[str, Any] = {
            "base_url": self.server.base_url,
            "key": SAMPLE_API_KEY,
            "secret": SAMPLE_API_SECRET,
            "paths": {"orders": ORDERS_PATH},
            "pacer": RateLimiter(base_url=self.server.base_url, requests_per_second=0),
            "sleep": self.sleeper,
            "log": LOG,
        }
        return CommerceClient(**{**defaults, **fields})

    @contextmanager
    def hold(self, pull: ListRequest, *, store: str | None = None, wait_seconds: float = 5) -> Iterator[StagedPages]:
        staging = Staging(self.directory, log=LOG)
        with staging.hold(pull, store=store or self.server.base_url, wait_seconds=wait_seconds) as staged:
            yield staged

    def pull(self, pull: ListRequest = PRODUCTS, **client_fields: Any) -> Pulled:
        """Pulls to the end, reads what is staged and discards it, as a run does that succeeds."""
        with self.hold(pull) as staged, self.client(**client_fields) as client:
            cost = stage(client, staged, log=LOG)
            rows = staged_rows(staged)
            staged.discard()
            return Pulled(rows, cost)

    def page(self, pull: ListRequest = PRODUCTS, number: int = 1, **client_fields: Any) -> Page:
        with self.client(**client_fields) as client:
            return client.page(pull, PageDecoder(pull.endpoint), number)


def staged_rows(staged: StagedPages) -> list[Item]:
    return [json.loads(line) for path in staged.segments for line in path.read_bytes().splitlines()]


@contextmanager
def puller_of(store: SampleStore, directory: Path) -> Iterator[Puller]:
    with faulty(store) as server:
        yield Puller(server, directory)
