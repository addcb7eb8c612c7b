"""Row history: one row per stored version, written in the transactions of the loads."""

from dataclasses import replace
from datetime import UTC, datetime

import duckdb
import pytest

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.load import load
from commerce_assets_tests.support.items import ORDERS, days, order
from commerce_assets_tests.support.world import FIRST_PULL, World

WITH_HISTORY = replace(ORDERS, keeps_versions=True)
WINDOW = days("2024-03-15")
VERSIONS = "SELECT id, tag, valid_from, valid_to FROM commerce.orders_history ORDER BY id, valid_from, valid_to"


def at(hour: int) -> datetime:
    return datetime(2024, 3, 15, hour, tzinfo=UTC)


def version(number: int, tag: str, hour: int) -> dict[str, object]:
    return order(number, tag=tag, updated_at=f"2024-03-15T{hour:02}:00:00Z")


def assert_open_versions_equal_the_table(storage: World) -> None:
    columns = ", ".join(column.name for column in ORDERS.stored_columns)
    stored = storage.query(f"SELECT {columns} FROM commerce.orders ORDER BY id")
    assert storage.query(f"SELECT {columns} FROM commerce.orders_history WHERE valid_to IS NULL ORDER BY id") == stored


def test_each_version_ends_where_the_next_one_begins(storage: World) -> None:
    storage.load(WITH_HISTORY, [version(1, "new", 12), version(2, "other", 12)], window=WINDOW)
    storage.load(WITH_HISTORY, [version(1, "paid", 13)], updated_after=at(0))
    storage.load(WITH_HISTORY, [version(1, "refunded", 15), version(2, "other", 12)], window=WINDOW)

    assert storage.query(VERSIONS) == [
        (1, "new", at(12), at(13)),
        (1, "paid", at(13), at(15)),
        (1, "refunded", at(15), None),
        (2, "other", at(12), None),
    ]


def test_the_open_versions_equal_the_table(storage: World) -> None:
    for hour in range(3):
        items = [version(number, f"{number % (hour + 2)}", hour) for number in range(hour, 40 + hour)]
        storage.load(WITH_HISTORY, items, window=WINDOW, per_page=7)

    assert_open_versions_equal_the_table(storage)
    overlapping = """
        SELECT count(*) FROM commerce.orders_history a JOIN commerce.orders_history b
        ON a.id = b.id AND a.rowid <> b.rowid AND a.valid_from < b.valid_to AND b.valid_from < a.valid_to"""
    assert storage.query(overlapping) == [(0,)]


def test_a_deleted_order_ends_when_the_load_without_it_began(storage: World) -> None:
    storage.load(WITH_HISTORY, [version(1, "a", 12), version(2, "b", 12)], window=WINDOW)
    storage.load(WITH_HISTORY, [version(1, "a", 12)], window=WINDOW)

    ((ended,),) = storage.query("SELECT valid_to FROM commerce.orders_history WHERE id = 2")
    assert ended == FIRST_PULL.replace(hour=1)


def test_a_history_switched_on_later_begins_with_stored_rows(storage: World) -> None:
    storage.load(ORDERS, [version(1, "old", 12), version(2, "old", 12)], window=WINDOW)
    storage.load(WITH_HISTORY, [version(1, "new", 14)], updated_after=at(0))

    assert storage.query(VERSIONS) == [
        (1, "old", at(12), at(14)),
        (1, "new", at(14), None),
        (2, "old", at(12), None),
    ]


def test_a_load_that_changes_nothing_adds_no_version(storage: World) -> None:
    for _ in range(3):
        storage.load(WITH_HISTORY, [version(1, "a", 12)], window=WINDOW)

    assert storage.query("SELECT count(*) FROM commerce.orders_history") == [(1,)]


def test_a_failed_load_leaves_the_history_unchanged(storage: World) -> None:
    storage.load(WITH_HISTORY, [version(number, "a", 12) for number in range(30)], window=WINDOW)
    before = storage.query(VERSIONS)

    staged = storage.stage(WITH_HISTORY, [version(1, "b", 13)], window=WINDOW)
    with pytest.raises(duckdb.CatalogException), storage.file.write() as connection:  # noqa: PT012
        load(connection, staged)
        connection.execute("FROM no_such_table")

    assert storage.query(VERSIONS) == before


def test_no_history_without_the_setting(storage: World) -> None:
    storage.load(ORDERS, [version(1, "a", 12)], window=WINDOW)

    assert storage.query("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'orders_history'") == [(0,)]


def test_history_off_and_on_catches_up_with_the_table(storage: World) -> None:
    """Fault 82."""
    storage.load(WITH_HISTORY, [version(number, "a", 12) for number in (1, 2, 3)], window=WINDOW)
    storage.load(ORDERS, [version(1, "b", 13), version(3, "a", 12), version(4, "new", 13)], window=WINDOW)
    storage.load(ORDERS, [version(1, "c", 14)], updated_after=at(0))
    storage.load(WITH_HISTORY, [version(3, "z", 15)], updated_after=at(0))

    assert_open_versions_equal_the_table(storage)
    switched_on = FIRST_PULL.replace(hour=3)
    assert storage.query(VERSIONS) == [
        (1, "a", at(12), at(14)),
        (1, "c", at(14), None),
        (2, "a", at(12), switched_on),
        (3, "a", at(12), at(15)),
        (3, "z", at(15), None),
        (4, "new", at(13), None),
    ]


def test_history_off_and_on_without_a_load_adds_no_version(storage: World) -> None:
    storage.load(WITH_HISTORY, [version(1, "a", 12)], window=WINDOW)
    storage.load(ORDERS, [version(1, "a", 12)], window=WINDOW)
    before = storage.query(VERSIONS)

    storage.load(WITH_HISTORY, [version(1, "a", 12)], window=WINDOW)

    assert storage.query(VERSIONS) == before


def test_a_row_deleted_and_stored_again_while_history_was_off(storage: World) -> None:
    storage.load(WITH_HISTORY, [version(1, "a", 12), version(2, "a", 12)], window=WINDOW)
    storage.load(ORDERS, [version(2, "a", 12)], window=WINDOW)
    storage.load(ORDERS, [version(1, "a", 12), version(2, "a", 12)], window=WINDOW)

    storage.load(WITH_HISTORY, [version(1, "a", 12), version(2, "a", 12)], window=WINDOW)

    assert_open_versions_equal_the_table(storage)
    assert storage.query("SELECT count(*) FROM commerce.orders_history WHERE id = 1") == [(2,)]


@pytest.mark.parametrize("meanwhile", [ORDERS, WITH_HISTORY], ids=["history off", "history on"])
def test_no_version_ends_before_it_began(storage: World, meanwhile: Endpoint) -> None:
    """Faults 80 and 82: the store corrects a stamp of 2099, or deletes the order."""
    stamped = {"updated_at": "2099-01-01T00:00:00Z"}
    storage.load(WITH_HISTORY, [order(1, **stamped), order(2, **stamped)], window=WINDOW)
    for endpoint in (meanwhile, WITH_HISTORY):
        storage.load(endpoint, [version(1, "corrected", 13)], window=WINDOW)

    assert_open_versions_equal_the_table(storage)
    assert storage.query("SELECT id FROM commerce.orders_history WHERE valid_to < valid_from") == []
