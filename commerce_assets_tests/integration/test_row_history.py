"""The history of orders: a row for each version that was stored, in the transactions of the loads."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from commerce_assets_tests.support.staged import FIRST_PULL, ORDERS, Storage, days, order

WITH_HISTORY = replace(ORDERS, keeps_versions=True)
WINDOW = days("2024-03-15")
VERSIONS = "SELECT id, tag, valid_from, valid_to FROM commerce.orders_history ORDER BY id, valid_from, valid_to"


def at(hour: int) -> datetime:
    return datetime(2024, 3, 15, hour, tzinfo=UTC)


def version(number: int, tag: str, hour: int) -> dict[str, object]:
    return order(number, tag=tag, updated_at=f"2024-03-15T{hour:02}:00:00Z")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def test_each_version_that_is_stored_is_a_row_that_ends_where_the_next_one_begins(storage: Storage) -> None:
    storage.load(WITH_HISTORY, [version(1, "new", 12), version(2, "other", 12)], window=WINDOW)
    storage.load(WITH_HISTORY, [version(1, "paid", 13)], updated_after=at(0))
    storage.load(WITH_HISTORY, [version(1, "refunded", 15), version(2, "other", 12)], window=WINDOW)

    assert storage.query(VERSIONS) == [
        (1, "new", at(12), at(13)),
        (1, "paid", at(13), at(15)),
        (1, "refunded", at(15), None),
        (2, "other", at(12), None),
    ]


def test_the_open_versions_are_the_table(storage: Storage) -> None:
    for hour in range(3):
        items = [version(number, f"{number % (hour + 2)}", hour) for number in range(hour, 40 + hour)]
        storage.load(WITH_HISTORY, items, window=WINDOW, per_page=7)

    columns = ", ".join(column.name for column in ORDERS.stored_columns)
    stored = storage.query(f"SELECT {columns} FROM commerce.orders ORDER BY id")
    assert storage.query(f"SELECT {columns} FROM commerce.orders_history WHERE valid_to IS NULL ORDER BY id") == stored
    overlapping = """
        SELECT count(*) FROM commerce.orders_history a JOIN commerce.orders_history b
        ON a.id = b.id AND a.rowid <> b.rowid AND a.valid_from < b.valid_to AND b.valid_from < a.valid_to"""
    assert storage.query(overlapping) == [(0,)]


def test_an_order_that_the_store_no_longer_has_ends_when_the_pull_began_that_no_longer_held_it(
    storage: Storage,
) -> None:
    storage.load(WITH_HISTORY, [version(1, "a", 12), version(2, "b", 12)], window=WINDOW)
    storage.load(WITH_HISTORY, [version(1, "a", 12)], window=WINDOW)

    ((ended,),) = storage.query("SELECT valid_to FROM commerce.orders_history WHERE id = 2")
    assert ended == FIRST_PULL.replace(hour=1)


def test_a_history_that_is_switched_on_later_begins_with_what_is_stored(storage: Storage) -> None:
    storage.load(ORDERS, [version(1, "old", 12), version(2, "old", 12)], window=WINDOW)
    storage.load(WITH_HISTORY, [version(1, "new", 14)], updated_after=at(0))

    assert storage.query(VERSIONS) == [
        (1, "old", at(12), at(14)),
        (1, "new", at(14), None),
        (2, "old", at(12), None),
    ]


def test_a_load_that_changes_nothing_adds_no_version(storage: Storage) -> None:
    for _ in range(3):
        storage.load(WITH_HISTORY, [version(1, "a", 12)], window=WINDOW)

    assert storage.query("SELECT count(*) FROM commerce.orders_history") == [(1,)]


def test_a_load_that_fails_leaves_the_history_as_it_was(storage: Storage) -> None:
    storage.load(WITH_HISTORY, [version(number, "a", 12) for number in range(30)], window=WINDOW)
    before = storage.query(VERSIONS)

    with pytest.raises(Exception, match="gives 1 rows where 30 are stored"):
        storage.load(WITH_HISTORY, [version(1, "b", 13)], window=WINDOW)

    assert storage.query(VERSIONS) == before


def test_without_the_setting_there_is_no_history(storage: Storage) -> None:
    storage.load(ORDERS, [version(1, "a", 12)], window=WINDOW)

    assert storage.query("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'orders_history'") == [(0,)]
