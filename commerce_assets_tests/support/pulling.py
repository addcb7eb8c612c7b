"""Former names of world.py and items.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commerce_assets_tests.support.clock import Clock
from commerce_assets_tests.support.faulty_store import FaultyStore, faulty
from commerce_assets_tests.support.items import (
    BY_NAME,
    DAY,
    NOON,
    ORDERS_OF_DAY,
    body_of,
    order,
    orders,
    product,
    store_of,
)
from commerce_assets_tests.support.items import PRODUCT_LIST as PRODUCTS
from commerce_assets_tests.support.world import IMPATIENT, LOG, World, staged_rows
from sample_store.store import SampleStore

__all__ = [
    "BY_NAME",
    "DAY",
    "IMPATIENT",
    "LOG",
    "NOON",
    "ORDERS_OF_DAY",
    "PRODUCTS",
    "Clock",
    "body_of",
    "order",
    "orders",
    "product",
    "staged_rows",
    "store_of",
]


class Puller(World):
    def __init__(self, server: FaultyStore, directory: Path) -> None:
        super().__init__(directory.parent, running_server=server)
        self.directory = directory

    @property
    def staging(self) -> Path:
        return self.directory


@contextmanager
def puller_of(store: SampleStore, directory: Path) -> Iterator[Puller]:
    with faulty(store) as server:
        yield Puller(server, directory)
