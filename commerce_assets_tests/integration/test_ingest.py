"""Rows disappear on proof only: two complete readings that agree, from the same store, and not too many at once."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from commerce_assets.api.request import ListRequest
from commerce_assets.ingest.ingest import Ingested, ingest
from commerce_assets.ingest.verify import RowCountCollapsedError, StoreChangedError
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY
from commerce_assets.warehouse.warehouse import Warehouse
from commerce_assets.window import Window
from commerce_assets_tests.support.pulling import BY_NAME, LOG, Puller, orders, product, puller_of, store_of

DAY = date(2024, 1, 2)
ORDERS_OF_DAY = ListRequest(endpoint=BY_NAME["orders"], window=Window.of_days(DAY, DAY))
CHANGES = ListRequest(endpoint=BY_NAME["orders"], updated_after=datetime(2024, 1, 1, tzinfo=UTC))
PRODUCTS = ListRequest(endpoint=BY_NAME["products"])
MORNING = datetime(2024, 1, 2, 8, tzinfo=UTC)


class Ingesting:
    """A store, and the warehouse that its lists are ingested into."""

    def __init__(self, puller: Puller, folder: Path) -> None:
        self.puller = puller
        file = DatabaseFile(path=folder / "shop.duckdb", lock_timeout=5, log=LOG)
        self.warehouse = Warehouse(file=file, staging_dir=folder / "staging", policy=DEFAULT_POLICY)

    @property
    def shop(self) -> Any:
        return self.puller.server.store.shop

    def run(self, request: ListRequest, *, key: str | None = None, **options: Any) -> Ingested:
        fields = {"key": key} if key else {}
        with self.puller.client(**fields) as client:
            return ingest(request, client=client, warehouse=self.warehouse, log=LOG, **options)

    def remove(self, kind: str, *ids: int) -> None:
        rows = getattr(self.shop, kind)
        rows[:] = [row for row in rows if row["id"] not in ids]
        self.puller.server.store.touch()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.warehouse.file.read() as connection:
            return connection.execute(sql).fetchall()

    @property
    def live_products(self) -> int:
        return int(self.query("SELECT count(*) FROM commerce.products WHERE _deleted_at IS NULL")[0][0])

    @property
    def orders(self) -> int:
        return int(self.query("SELECT count(*) FROM commerce.orders")[0][0])


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Ingesting]:
    store = store_of(products=9, orders=orders(19, start=MORNING))
    with puller_of(store, tmp_path / "unused") as puller:
        yield Ingesting(puller, tmp_path)


def test_one_missing_order_is_deleted_after_a_second_reading(shop: Ingesting) -> None:
    """Fault 78."""
    shop.run(ORDERS_OF_DAY)
    shop.remove("orders", 7)
    done = shop.run(ORDERS_OF_DAY)
    assert (shop.orders, done.load.removed, done.verified.readings) == (18, 1, 2)


def test_an_answer_with_one_of_nineteen_orders_deletes_nothing(shop: Ingesting) -> None:
    """Fault 78."""
    shop.run(ORDERS_OF_DAY)
    shop.remove("orders", *range(2, 20))
    with pytest.raises(RowCountCollapsedError, match=r"returns 1 rows where 19 are stored\. Nothing was stored\. "):
        shop.run(ORDERS_OF_DAY)
    assert shop.orders == 19
    assert shop.run(ORDERS_OF_DAY, allow_shrinkage=True).load.removed == 18


def test_one_product_of_nine_deletes_nothing(shop: Ingesting) -> None:
    """Fault 78."""
    shop.run(PRODUCTS)
    shop.remove("products", *range(2, 10))
    with pytest.raises(RowCountCollapsedError):
        shop.run(PRODUCTS)
    assert shop.live_products == 9


@pytest.mark.parametrize(("stored", "left"), [(1, 0), (2, 0), (3, 0), (9, 5), (9, 4)])
def test_half_of_the_rows_or_two_may_disappear(tmp_path: Path, stored: int, left: int) -> None:
    """Fault 78."""
    with puller_of(store_of(products=stored), tmp_path / "unused") as puller:
        shop = Ingesting(puller, tmp_path)
        shop.run(PRODUCTS)
        shop.remove("products", *range(left + 1, stored + 1))
        allowed = (stored, left) not in {(3, 0), (9, 4)}
        if allowed:
            shop.run(PRODUCTS)
        else:
            with pytest.raises(RowCountCollapsedError):
                shop.run(PRODUCTS)
        assert shop.live_products == (left if allowed else stored)


def test_a_row_that_only_one_reading_misses_stays(shop: Ingesting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 78."""
    shop.run(PRODUCTS)
    missing = shop.shop.products[4]
    shop.remove("products", missing["id"])
    warned = []

    def warning(message: str, *values: object) -> None:
        warned.append(message % values)
        shop.puller.server.store.add("products", missing)

    monkeypatch.setattr(LOG, "warning", warning)
    done = shop.run(PRODUCTS)
    assert warned == ["products: 1 stored rows are missing from the answer; reading the list again"]
    assert (shop.live_products, done.load.removed, done.verified.readings) == (9, 0, 2)


def test_another_account_is_refused_until_a_person_says_it_moved(shop: Ingesting) -> None:
    """Fault 79."""
    shop.run(PRODUCTS)
    shop.puller.server.store.credentials = ("another-key", shop.puller.server.store.credentials[1])
    shop.shop.products[:] = [product(number) for number in range(100, 109)]
    shop.puller.server.store.touch()
    for request in (PRODUCTS, ORDERS_OF_DAY):
        with pytest.raises(StoreChangedError, match="another store or API key"):
            shop.run(request, key="another-key")
    assert shop.live_products == 9
    shop.run(PRODUCTS, key="another-key", store_moved=True, allow_shrinkage=True)
    assert shop.live_products == 9
    assert shop.query("SELECT min(id) FROM commerce.products WHERE _deleted_at IS NULL") == [(100,)]
    shop.run(PRODUCTS, key="another-key")


def test_another_address_is_refused(shop: Ingesting, tmp_path: Path) -> None:
    """Fault 79."""
    shop.run(PRODUCTS)
    with puller_of(store_of(products=60), tmp_path / "unused") as other:
        moved = Ingesting(other, tmp_path)
        with pytest.raises(StoreChangedError):
            moved.run(PRODUCTS)
    assert shop.live_products == 9


def test_changes_reach_rows_stored_before_the_start_date(shop: Ingesting) -> None:
    """Fault 81."""
    shop.run(ORDERS_OF_DAY)
    later = MORNING + timedelta(days=30)
    shop.puller.server.store.update_order(3, refunded=True)
    shop.puller.server.store.add("orders", {**shop.shop.orders[0], "id": 500, "updated_at": "2024-02-03T00:00:00Z"})
    done = shop.run(CHANGES, not_before=later)
    assert shop.query("SELECT id FROM commerce.orders WHERE refunded") == [(3,)]
    assert (done.load.inserted, shop.orders) == (0, 19)


def test_the_loads_record_store_and_account(shop: Ingesting) -> None:
    """Faults 65, 79."""
    shop.run(PRODUCTS)
    ((store,),) = shop.query("SELECT store FROM commerce_loads.loads")
    assert store.startswith(shop.puller.server.base_url.partition("/api")[0] + " ")
    assert shop.puller.server.store.credentials[0] not in store
