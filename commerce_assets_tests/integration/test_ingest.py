"""Rows disappear on proof only: two complete readings that agree, from the same store, and not too many at once."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from commerce_assets.api.request import ListRequest
from commerce_assets.ingest.verify import RowCountCollapsedError, StoreChangedError
from commerce_assets.warehouse.parse import LoadMemoryError
from commerce_assets.window import Window
from commerce_assets_tests.support.items import BY_NAME, order, orders, product, store_of
from commerce_assets_tests.support.world import LOG, World, serving
from sample_store.dialect import Dialect

DAY = date(2024, 1, 2)
ORDERS_OF_DAY = ListRequest(endpoint=BY_NAME["orders"], window=Window.of_days(DAY, DAY))
CHANGES = ListRequest(endpoint=BY_NAME["orders"], updated_after=datetime(2024, 1, 1, tzinfo=UTC))
PRODUCTS = ListRequest(endpoint=BY_NAME["products"])
MORNING = datetime(2024, 1, 2, 8, tzinfo=UTC)


def count_products(shop: World) -> int:
    ((count,),) = shop.query("SELECT count(*) FROM products WHERE _deleted_at IS NULL")
    return int(count)


def count_orders(shop: World) -> int:
    ((count,),) = shop.query("SELECT count(*) FROM orders")
    return int(count)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[World]:
    store = store_of(products=9, orders=orders(19, start=MORNING))
    with serving(store, tmp_path) as shop:
        yield shop


def test_one_missing_order_is_deleted_after_a_second_reading(shop: World) -> None:
    """Fault 78."""
    shop.ingest(ORDERS_OF_DAY)
    shop.remove("orders", 7)
    done = shop.ingest(ORDERS_OF_DAY)
    assert (count_orders(shop), done.load.removed, done.verified.readings) == (18, 1, 2)


def test_an_answer_with_one_of_nineteen_orders_deletes_nothing(shop: World) -> None:
    """Fault 78."""
    shop.ingest(ORDERS_OF_DAY)
    shop.remove("orders", *range(2, 20))
    with pytest.raises(RowCountCollapsedError, match=r"returns 1 row where 19 are stored\. Nothing was stored\. "):
        shop.ingest(ORDERS_OF_DAY)
    assert count_orders(shop) == 19
    assert shop.ingest(ORDERS_OF_DAY, allow_shrinkage=True).load.removed == 18


def test_a_refused_reading_is_not_loaded_later(shop: World) -> None:
    """Fault 78: the store has recovered, or a person has confirmed what it returns by now."""
    shop.ingest(PRODUCTS)
    products = [*shop.store.shop.products]
    shop.remove("products", *range(2, 10))
    with pytest.raises(RowCountCollapsedError):
        shop.ingest(PRODUCTS)
    shop.store.shop.products[:] = products
    shop.store.touch()
    assert shop.ingest(PRODUCTS, allow_shrinkage=True).load.removed == 0
    assert count_products(shop) == 9


def test_one_product_of_nine_deletes_nothing(shop: World) -> None:
    """Fault 78."""
    shop.ingest(PRODUCTS)
    shop.remove("products", *range(2, 10))
    with pytest.raises(RowCountCollapsedError):
        shop.ingest(PRODUCTS)
    assert count_products(shop) == 9


@pytest.mark.parametrize(("stored", "left"), [(1, 0), (2, 0), (3, 0), (9, 5), (9, 4)])
def test_half_of_the_rows_or_two_may_disappear(tmp_path: Path, stored: int, left: int) -> None:
    """Fault 78."""
    with serving(store_of(products=stored), tmp_path) as shop:
        shop.ingest(PRODUCTS)
        shop.remove("products", *range(left + 1, stored + 1))
        allowed = (stored, left) not in {(3, 0), (9, 4)}
        if allowed:
            shop.ingest(PRODUCTS)
        else:
            with pytest.raises(RowCountCollapsedError):
                shop.ingest(PRODUCTS)
        assert count_products(shop) == (left if allowed else stored)


def test_a_row_that_only_one_reading_misses_stays(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 78."""
    shop.ingest(PRODUCTS)
    missing = shop.store.shop.products[4]
    shop.remove("products", missing["id"])
    warned = []

    def warning(message: str, *values: object) -> None:
        warned.append(message % values)
        shop.store.add("products", missing)

    monkeypatch.setattr(LOG, "warning", warning)
    done = shop.ingest(PRODUCTS)
    assert warned == ["products: the response lacks 1 stored row; reading the list again"]
    assert (count_products(shop), done.load.removed, done.verified.readings) == (9, 0, 2)


def test_a_row_that_no_two_readings_miss_alike_stays(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 78: each reading misses another row."""
    shop.ingest(PRODUCTS)
    rows = iter([*shop.store.shop.products])
    missing = next(rows)
    shop.remove("products", missing["id"])

    def warning(message: str, *values: object) -> None:
        nonlocal missing
        del message, values
        shop.store.add("products", missing)
        missing = next(rows)
        shop.remove("products", missing["id"])

    monkeypatch.setattr(LOG, "warning", warning)
    with pytest.raises(RowCountCollapsedError, match=r"products: 3 readings miss different rows\. Nothing was stored"):
        shop.ingest(PRODUCTS)
    assert count_products(shop) == 9


def test_an_order_missing_before_an_unproven_end_stays(tmp_path: Path) -> None:
    """Fault 78: where the store ignores `to`, a list is not read to its end, where the order may be."""
    with serving(store_of(orders=orders(400, start=MORNING, every=timedelta(minutes=30))), tmp_path) as shop:
        shop.store.dialect.ignores_dates = True
        stored = shop.ingest(ORDERS_OF_DAY).load.inserted
        shop.remove("orders", 7)
        with pytest.raises(RowCountCollapsedError, match="the response lacks 1 stored row, and its end is not proven"):
            shop.ingest(ORDERS_OF_DAY)
        assert count_orders(shop) == stored


def test_another_account_is_refused_until_a_person_says_it_moved(shop: World) -> None:
    """Fault 79."""
    shop.ingest(PRODUCTS)
    shop.store.credentials = ("another-key", shop.store.credentials[1])
    shop.store.shop.products[:] = [product(number) for number in range(100, 109)]
    shop.store.touch()
    for request in (PRODUCTS, ORDERS_OF_DAY):
        with pytest.raises(StoreChangedError, match="another store or API key"):
            shop.ingest(request, key="another-key")
    assert count_products(shop) == 9
    shop.ingest(PRODUCTS, key="another-key", store_moved=True, allow_shrinkage=True)
    assert count_products(shop) == 9
    assert shop.query("SELECT min(id) FROM commerce.products WHERE _deleted_at IS NULL") == [(100,)]
    shop.ingest(PRODUCTS, key="another-key")


def test_another_address_is_refused(shop: World, tmp_path: Path) -> None:
    """Fault 79."""
    shop.ingest(PRODUCTS)
    with serving(store_of(products=60), tmp_path) as moved, pytest.raises(StoreChangedError):
        moved.ingest(PRODUCTS)
    assert count_products(shop) == 9


def test_changes_reach_rows_stored_before_the_start_date(shop: World) -> None:
    """Fault 81."""
    shop.ingest(ORDERS_OF_DAY)
    later = MORNING + timedelta(days=30)
    shop.store.update_order(3, refunded=True)
    shop.store.add("orders", {**shop.store.shop.orders[0], "id": 500, "updated_at": "2024-02-03T00:00:00Z"})
    done = shop.ingest(CHANGES, not_before=later)
    assert shop.query("SELECT id FROM commerce.orders WHERE refunded") == [(3,)]
    assert (done.load.inserted, count_orders(shop)) == (0, 19)


def test_the_loads_record_store_and_account(shop: World) -> None:
    """Faults 65, 79."""
    shop.ingest(PRODUCTS)
    ((store,),) = shop.query("SELECT store FROM commerce_loads.loads")
    assert store.startswith(shop.base_url.partition("/api")[0] + " ")
    assert shop.store.credentials[0] not in store


def test_items_beyond_the_memory_limit_load_once_it_is_raised(shop: World) -> None:
    """Fault 93."""
    shop.store.shop.orders[3]["order_name"] = "x" * 18_000_000
    shop.store.touch()
    shop.memory_limit = "160MB"
    for _ in range(2):
        shop.server.forget()
        with pytest.raises(LoadMemoryError, match="COMMERCE_DUCKDB_MEMORY_LIMIT"):
            shop.ingest(ORDERS_OF_DAY)
        # With the same limit, the store is asked again: the item may be smaller by now.
        assert shop.server.pages
    shop.server.forget()
    shop.memory_limit = "1GB"
    assert shop.ingest(ORDERS_OF_DAY).load.inserted == 19
    assert shop.server.pages == []


def test_a_load_that_needs_more_memory_than_usual_takes_it(shop: World, caplog: pytest.LogCaptureFixture) -> None:
    """Fault 93."""
    shop.store.shop.orders[3]["order_name"] = "x" * 18_000_000
    shop.store.touch()
    with caplog.at_level("INFO"):
        assert shop.ingest(ORDERS_OF_DAY).load.inserted == 19
    assert [text for text in caplog.messages if "memory" in text] == [
        "the load needs more memory than 128MB; loading again with 1GB"
    ]


# The day before a window


def every_half_hour(*, first: datetime, days: int) -> list[dict[str, Any]]:
    """Orders, of which some lie on both sides of each midnight."""
    placed = [first + n * timedelta(minutes=30) for n in range(48 * days)]
    placed += [first + timedelta(days=n, seconds=seconds) for n in range(1, days) for seconds in (-1, 1)]
    return [order(number, at) for number, at in enumerate(sorted(placed), start=1)]


def orders_of(day: date) -> ListRequest:
    return ListRequest(endpoint=BY_NAME["orders"], window=Window.of_days(day, day))


def ids_of(shop: World, first: date, last: date) -> list[int]:
    window = Window.of_days(first, last)
    return [
        item["id"] for item in shop.store.shop.orders if window.contains(datetime.fromisoformat(item["created_at"]))
    ]


def days_asked(shop: World) -> tuple[str, str]:
    query = shop.server.requests[-1].query
    return query["from"], query["to"]


@pytest.mark.parametrize(
    ("zone", "days_before"),
    [
        ("UTC", 0),
        ("Europe/London", 0),
        ("Asia/Kathmandu", 0),
        ("Pacific/Kiritimati", 0),
        ("Atlantic/Azores", 1),
        ("America/New_York", 1),
        ("America/St_Johns", 1),
        ("Pacific/Pago_Pago", 1),
    ],
)
def test_the_day_before_is_requested_only_if_the_zone_of_the_store_needs_it(
    tmp_path: Path, zone: str, days_before: int
) -> None:
    begin = datetime(2024, 2, 1, tzinfo=UTC)
    with serving(store_of(orders=every_half_hour(first=begin, days=10)), tmp_path) as shop:
        shop.store.dialect = Dialect(to_is_inclusive=False, day_zone=zone)
        first = date(2024, 2, 4)
        shop.ingest(orders_of(first))
        assert days_asked(shop) == ("2024-02-03", "2024-02-06")
        for n in (1, 2):
            day = first + timedelta(days=n)
            shop.ingest(orders_of(day))
            begins, ends = day - timedelta(days=days_before), day + timedelta(days=2)
            assert days_asked(shop) == (begins.isoformat(), ends.isoformat())
        stored = [row[0] for row in shop.query("SELECT id FROM orders ORDER BY id")]
        assert stored == ids_of(shop, first, first + timedelta(days=2))


@pytest.mark.parametrize("zone", ["Atlantic/Azores", "Europe/London", "America/New_York"])
@pytest.mark.parametrize("begins", [datetime(2024, 3, 26, tzinfo=UTC), datetime(2024, 10, 23, tzinfo=UTC)])
def test_days_are_whole_when_the_store_changes_its_clocks(tmp_path: Path, zone: str, begins: datetime) -> None:
    """The Azores are at UTC in summer and an hour behind it in winter."""
    with serving(store_of(orders=every_half_hour(first=begins, days=11)), tmp_path) as shop:
        shop.store.dialect.day_zone = zone
        days = [begins.date() + timedelta(days=n) for n in range(2, 9)]
        for day in days:
            shop.ingest(orders_of(day))
        stored = [row[0] for row in shop.query("SELECT id FROM orders ORDER BY id")]
        assert stored == ids_of(shop, days[0], days[-1])


def test_a_day_with_quiet_first_hours_is_requested_again_with_the_day_before(tmp_path: Path) -> None:
    items = every_half_hour(first=datetime(2024, 2, 1, tzinfo=UTC), days=10)
    quiet = datetime(2024, 2, 4, tzinfo=UTC)
    kept = [
        item for item in items if not quiet <= datetime.fromisoformat(item["created_at"]) < quiet + timedelta(hours=1)
    ]
    with serving(store_of(orders=kept), tmp_path) as shop:
        shop.ingest(orders_of(date(2024, 2, 3)))
        done = shop.ingest(orders_of(quiet.date()))
        assert done.load.inserted == len(ids_of(shop, quiet.date(), quiet.date()))
        asked = [request.query["from"] for request in shop.server.requests]
        assert [day for day, _ in groupby(asked)] == ["2024-02-02", "2024-02-04", "2024-02-03"]
        # Nothing is learned from that answer, nor from the next one, which begins with the quiet hours.
        asked = []
        for day in (date(2024, 2, 5), date(2024, 2, 6), date(2024, 2, 7)):
            shop.ingest(orders_of(day))
            asked.append(days_asked(shop)[0])
        assert asked == ["2024-02-04", "2024-02-05", "2024-02-07"]


def test_an_empty_answer_to_fewer_days_is_no_proof_of_an_empty_day(tmp_path: Path) -> None:
    begin = datetime(2024, 2, 1, tzinfo=UTC)
    with serving(store_of(orders=every_half_hour(first=begin, days=4)), tmp_path) as shop:
        shop.ingest(orders_of(date(2024, 2, 2)))
        shop.ingest(orders_of(date(2024, 2, 6)))
        assert days_asked(shop) == ("2024-02-05", "2024-02-08")
        assert count_orders(shop) == len(ids_of(shop, date(2024, 2, 2), date(2024, 2, 2)))
