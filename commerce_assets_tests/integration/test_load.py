"""The load: a pull replaces what it covers, in one transaction, and nothing else is touched."""

import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from stat import S_IMODE

import duckdb
import pytest

from commerce_assets.endpoint import Column, ColumnType, Endpoint
from commerce_assets.ingest import staging
from commerce_assets.ingest.staging import StagingError
from commerce_assets.warehouse.database import DatabaseMemoryError
from commerce_assets.warehouse.diff import vanished_rows
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.load import DayCounts, load
from commerce_assets.warehouse.load_log import followed, has_loaded, set_mark
from commerce_assets.warehouse.parse import LoadMemoryError, StagedItemsUnreadableError
from commerce_assets_tests.support.items import ORDERS, PRODUCTS, Item, days, order, product
from commerce_assets_tests.support.other_programs import python
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.world import FIRST_PULL, World, counts
from sample_store.shop import build_orders

DAY, NEXT_DAY = date(2024, 3, 15), date(2024, 3, 16)
WINDOW = days("2024-03-15")
TWO_DAYS = days("2024-03-15", "2024-03-16")
ON_DAY, ON_NEXT_DAY = "2024-03-15T12:00:00Z", "2024-03-16T12:00:00Z"
EARLY, LATE, LATEST = "2024-04-01T00:00:00Z", "2024-04-02T00:00:00Z", "2024-04-03T00:00:00Z"
SINCE = datetime(2024, 3, 20, tzinfo=UTC)
TABLE = "FROM commerce.orders ORDER BY id"


# Replacing a window.


def type_of(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, column: str) -> str:
    row = connection.execute(
        "SELECT data_type FROM duckdb_columns() WHERE table_name = ? AND column_name = ?", [endpoint.name, column]
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_a_window_is_replaced_and_each_row_is_counted(storage: World) -> None:
    first = storage.load(ORDERS, [order(1), order(2), order(3), order(4, ON_NEXT_DAY)], window=TWO_DAYS)
    assert counts(first) == (4, 0, 0, 0)
    assert first.days == {DAY: DayCounts(inserted=3), NEXT_DAY: DayCounts(inserted=1)}

    again = [order(1), order(2, tag="changed"), order(5, ON_NEXT_DAY)]
    second = storage.load(ORDERS, again, window=TWO_DAYS)
    assert counts(second) == (1, 1, 1, 2)
    assert (second.loaded, second.total) == (3, 3)
    assert second.days == {
        DAY: DayCounts(updated=1, unchanged=1, removed=1, fields_changed={"tag": 1}),
        NEXT_DAY: DayCounts(inserted=1, removed=1),
    }
    assert storage.query("SELECT id, tag FROM commerce.orders ORDER BY id") == [(1, None), (2, "changed"), (5, None)]


def test_other_windows_keep_their_rows(storage: World) -> None:
    storage.load(ORDERS, [order(1), order(2, ON_NEXT_DAY)], window=TWO_DAYS)
    storage.load(ORDERS, [order(3)], window=WINDOW)
    assert storage.query("SELECT id FROM commerce.orders ORDER BY id") == [(2,), (3,)]


@pytest.mark.file
def test_the_same_day_three_times_writes_its_rows_once(storage: World) -> None:
    """Fault 55."""
    items: list[Item] = list(build_orders(start=datetime(2024, 3, 15, tzinfo=UTC), days=1, per_day=2_000))
    storage.load(ORDERS, items, window=WINDOW)
    table, size = storage.query(TABLE), storage.path.stat().st_size
    for _ in range(2):
        result = storage.load(ORDERS, items, window=WINDOW)
        assert counts(result) == (0, 0, 2_000, 0)
        assert storage.query(TABLE) == table
    assert storage.query("SELECT DISTINCT _extracted_at FROM commerce.orders") == [(FIRST_PULL,)]
    assert storage.path.stat().st_size <= size * 1.02


def test_a_changed_row_is_marked_with_its_pull(storage: World) -> None:
    storage.load(ORDERS, [order(1), order(2)], window=WINDOW)
    storage.load(ORDERS, [order(1), order(2, tag="x")], window=WINDOW)
    assert storage.query("SELECT id, _extracted_at FROM commerce.orders ORDER BY id") == [
        (1, FIRST_PULL),
        (2, FIRST_PULL + timedelta(hours=1)),
    ]


def test_an_empty_window_makes_a_table_of_no_rows(storage: World) -> None:
    """Fault 57."""
    result = storage.load(ORDERS, [], window=WINDOW)
    assert (counts(result), result.total, result.days) == ((0, 0, 0, 0), 0, {})
    assert storage.query(TABLE) == []
    assert [name for name, *_ in storage.query("DESCRIBE commerce.orders")] == [c.name for c in ORDERS.stored_columns]


def test_a_window_that_became_empty_is_emptied(storage: World) -> None:
    storage.load(ORDERS, [order(1)], window=WINDOW)
    result = storage.load(ORDERS, [], window=WINDOW)
    assert (counts(result), result.days) == ((0, 0, 0, 1), {DAY: DayCounts(removed=1)})
    assert storage.query(TABLE) == []


def test_rows_outside_of_the_window_are_cut_off_and_counted(storage: World) -> None:
    """Fault 46."""
    items = [
        order(1, "2024-03-14T23:59:59Z"),
        order(2),
        order(3, "2024-03-16T00:00:00Z"),
        order(4, "1999-01-01T00:00Z"),
    ]
    result = storage.load(ORDERS, items, window=WINDOW)
    assert (result.loaded, result.outside_window, result.repeated) == (1, 3, 0)
    assert storage.query("SELECT id FROM commerce.orders") == [(2,)]


@pytest.mark.parametrize(
    ("day", "created_at", "inside"),
    [
        ("2024-02-29", "2024-02-29T00:00:00Z", True),
        ("2024-02-29", "2024-02-29T23:59:59.999999Z", True),
        ("2024-02-29", "2024-03-01T00:00:00Z", False),
        ("2024-02-29", "2024-02-28T23:59:59.999999Z", False),
        ("2024-12-31", "2024-12-31T23:59:59Z", True),
        ("2024-12-31", "2025-01-01T00:00:00Z", False),
        ("2024-12-31", "2025-01-01T00:30:00+01:00", True),
        ("2024-12-31", "2024-12-31T23:30:00-01:00", False),
        ("2024-03-31", "2024-03-31T02:30:00+02:00", True),
    ],
)
def test_a_day_is_between_two_midnights_in_utc(storage: World, day: str, created_at: str, *, inside: bool) -> None:
    """Fault 45. Fault 58."""
    assert storage.load(ORDERS, [order(1, created_at)], window=days(day)).loaded == inside


def test_an_order_that_moved_to_another_day_leaves_its_old_day(storage: World) -> None:
    storage.load(ORDERS, [order(1), order(2)], window=WINDOW)
    result = storage.load(ORDERS, [order(1, ON_NEXT_DAY)], window=days("2024-03-16"))
    assert result.days == {
        DAY: DayCounts(removed=1, fields_changed={"created_at": 1, "updated_at": 1}),
        NEXT_DAY: DayCounts(updated=1),
    }
    assert storage.query("SELECT id, created_at FROM commerce.orders ORDER BY id") == [
        (1, datetime(2024, 3, 16, 12, tzinfo=UTC)),
        (2, datetime(2024, 3, 15, 12, tzinfo=UTC)),
    ]


def test_a_pull_keeps_rows_that_a_later_pull_has_loaded(storage: World) -> None:
    """Fault 56."""
    slow = storage.stage(ORDERS, [order(1)], window=WINDOW)
    storage.load(ORDERS, [order(1), order(2)], window=WINDOW)
    with storage.file.read() as connection:
        assert vanished_rows(connection, slow).keys == frozenset()
    assert counts(storage.put(slow)) == (0, 0, 1, 0)
    assert storage.query("SELECT id FROM commerce.orders ORDER BY id") == [(1,), (2,)]


# The newest version.


@pytest.mark.parametrize("per_segment", [50, 1], ids=["in one file", "in a file each"])
@pytest.mark.parametrize(
    ("versions", "kept"),
    [
        ([(EARLY, "a"), (LATE, "b")], "b"),
        ([(LATE, "b"), (EARLY, "a")], "b"),
        ([(EARLY, "a"), (LATEST, "c"), (LATE, "b")], "c"),
        ([(EARLY, "a"), (EARLY, "b")], "b"),
        ([(None, "a"), (EARLY, "b")], "b"),
    ],
)
def test_of_the_versions_in_a_pull_the_newest_is_stored(
    storage: World,
    monkeypatch: pytest.MonkeyPatch,
    per_segment: int,
    versions: Sequence[tuple[str | None, str]],
    kept: str,
) -> None:
    """Fault 34."""
    monkeypatch.setattr(staging, "_SEGMENT_BYTES", 1)
    items = [order(1, updated_at=updated_at, tag=tag) for updated_at, tag in versions]
    staged = storage.stage(ORDERS, items, window=WINDOW, per_page=per_segment)
    assert len(staged.segments) == (1 if per_segment == 50 else len(versions))
    result = storage.put(staged)
    assert (result.loaded, result.inserted, result.repeated) == (1, 1, len(versions) - 1)
    assert result.days == {DAY: DayCounts(inserted=1)}
    assert storage.query("SELECT tag FROM commerce.orders") == [(kept,)]


def test_of_versions_with_one_updated_at_the_last_is_stored(storage: World) -> None:
    """Fault 34."""
    rows, padding = 14_000, "x" * 1_000
    items = [order(number, tag=tag, order_name=padding) for tag in ("old", "new") for number in range(rows)]
    staged = storage.stage(ORDERS, items, window=WINDOW, per_page=1_000)
    assert len(staged.segments) == 1
    assert storage.put(staged).repeated == rows
    assert storage.query("SELECT tag, count(*) FROM commerce.orders GROUP BY 1") == [("new", rows)]


def test_a_row_in_two_files_is_counted_once(storage: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 32. Fault 34."""
    monkeypatch.setattr(staging, "_SEGMENT_BYTES", 1)
    storage.load(ORDERS, [order(1), order(2)], window=TWO_DAYS)
    items = [order(1), order(2), order(3), order(1, ON_NEXT_DAY, updated_at=LATE), order(3, updated_at=LATE)]
    result = storage.load(ORDERS, items, window=TWO_DAYS, per_page=1)
    assert counts(result) == (1, 1, 1, 0)
    assert (result.loaded, result.repeated) == (3, 2)
    assert result.days == {
        DAY: DayCounts(inserted=1, unchanged=1, removed=1),
        NEXT_DAY: DayCounts(updated=1),
    }


@pytest.mark.parametrize(
    ("updated_at", "stored", "outcome"),
    [
        (EARLY, "stored", (0, 0, 1, 0)),
        (LATE, "extracted", (0, 1, 0, 0)),
        (LATEST, "extracted", (0, 1, 0, 0)),
        (None, "extracted", (0, 1, 0, 0)),
    ],
)
def test_of_changes_the_newer_version_wins(
    storage: World, updated_at: str | None, stored: str, outcome: tuple[int, int, int, int]
) -> None:
    """Fault 34."""
    storage.load(ORDERS, [order(1, updated_at=LATE, tag="stored")], window=WINDOW)
    changes = [order(1, updated_at=updated_at, tag="extracted")]
    result = storage.load(ORDERS, changes, updated_after=FIRST_PULL)
    assert counts(result) == outcome
    assert storage.query("SELECT tag FROM commerce.orders") == [(stored,)]


def test_a_complete_reading_wins_over_stamps(storage: World) -> None:
    """Fault 80."""
    storage.load(ORDERS, [order(1, updated_at="2099-01-01T00:00:00Z", tag="wrong")], window=WINDOW)
    storage.load(ORDERS, [order(1, updated_at="2024-03-20T00:00:00Z", tag="corrected")], window=WINDOW)
    assert storage.query("SELECT tag, year(updated_at) FROM commerce.orders") == [("corrected", 2024)]


# Late changes.


def test_changes_are_upserted_into_whichever_days_they_belong_to(storage: World) -> None:
    """Fault 62."""
    storage.load(ORDERS, [order(1, settled_gross="9.00"), order(2), order(3, ON_NEXT_DAY)], window=TWO_DAYS)
    changes = [
        order(1, updated_at=LATE, settled_gross="0.00", refunded=True),
        order(3, ON_NEXT_DAY),
        order(4, "2024-03-20T00:00:00Z"),
    ]
    result = storage.load(ORDERS, changes, updated_after=SINCE)
    assert counts(result) == (1, 1, 1, 0)
    assert result.days == {
        DAY: DayCounts(updated=1, fields_changed={"settled_gross": 1, "refunded": 1, "updated_at": 1}),
        NEXT_DAY: DayCounts(unchanged=1),
        date(2024, 3, 20): DayCounts(inserted=1),
    }
    assert [day for day, of_day in result.days.items() if of_day.touched] == [DAY, date(2024, 3, 20)]
    assert storage.query("SELECT id, refunded FROM commerce.orders ORDER BY id") == [
        (1, True),
        (2, None),
        (3, None),
        (4, None),
    ]


def test_no_changes_leave_every_row_alone(storage: World) -> None:
    storage.load(ORDERS, [order(number) for number in range(30)], window=WINDOW)
    table = storage.query(TABLE)
    assert counts(storage.load(ORDERS, [], updated_after=SINCE)) == (0, 0, 0, 0)
    assert storage.query(TABLE) == table


def test_changes_of_days_that_are_not_kept_are_left_out(storage: World) -> None:
    items = [order(1, "2024-03-14T23:59:59Z", updated_at=LATE), order(2, updated_at=LATE)]
    result = storage.load(ORDERS, items, updated_after=SINCE, not_before=datetime(2024, 3, 15, tzinfo=UTC))
    assert (result.loaded, result.outside_window) == (1, 1)


# Whole lists.


def test_only_a_complete_read_marks_a_row_as_deleted(storage: World) -> None:
    """Fault 63."""
    marks = "SELECT id, _deleted_at FROM commerce.products ORDER BY id"
    storage.load(PRODUCTS, [product(1), product(2)])
    assert storage.query(marks) == [(1, None), (2, None)]

    result = storage.load(PRODUCTS, [product(1)])
    gone_at = FIRST_PULL + timedelta(hours=1)
    assert (counts(result), result.total) == ((0, 0, 1, 1), 2)
    assert storage.query(marks) == [(1, None), (2, gone_at)]

    assert counts(storage.load(PRODUCTS, [product(1)])) == (0, 0, 1, 0)
    assert storage.query(marks) == [(1, None), (2, gone_at)]

    assert counts(storage.load(PRODUCTS, [product(1), product(2)])) == (0, 1, 1, 0)
    assert storage.query(marks) == [(1, None), (2, None)]


# Tables that are there already.

OLD_PRODUCTS = Endpoint(
    name="products",
    path="products",
    data_selector="product",
    description="Before prices were declared.",
    columns=tuple(column for column in PRODUCTS.columns if column.name not in {"price", "components", "category"}),
)


def test_an_older_table_gets_new_columns_and_keeps_its_rows(storage: World) -> None:
    """Fault 61."""
    storage.load(OLD_PRODUCTS, [product(number, price="1.00") for number in range(4)])
    items = [product(0, price="1.00"), product(1, name="updated", price="2.50"), product(4, category="new")]
    result = storage.load(PRODUCTS, items)
    assert result.added_columns == ["category", "price"]
    # Row 0 is the same but for its price, which has moved out of `_extra`.
    assert counts(result) == (1, 2, 0, 2)
    with storage.file.read() as connection:
        assert type_of(connection, PRODUCTS, "price") == "DECIMAL(18,4)"
        rows = connection.execute(
            "SELECT id, name, CAST(price AS VARCHAR), category, _extra, _deleted_at IS NOT NULL "
            "FROM commerce.products ORDER BY id"
        ).fetchall()
    assert rows == [
        (0, "Product 0", "1.0000", None, None, False),
        (1, "updated", "2.5000", None, None, False),
        (2, "Product 2", None, None, '{"price":"1.00"}', True),
        (3, "Product 3", None, None, '{"price":"1.00"}', True),
        (4, "Product 4", None, "new", None, False),
    ]


def test_a_migrated_table_is_updated_in_the_same_transaction(storage: World) -> None:
    """Fault 61."""
    older = Endpoint(
        name="orders",
        path="orders",
        data_selector="order",
        description="Before tags were declared.",
        cursor="created_at",
        columns=tuple(column for column in ORDERS.columns if column.name != "tag"),
    )
    storage.load(older, [order(number) for number in range(5_000)], window=WINDOW)
    items = [order(number, **({"tag": "x"} if number % 2 else {})) for number in range(4_500)]
    assert counts(storage.load(ORDERS, items, window=WINDOW)) == (0, 2_250, 2_250, 500)
    assert storage.query("SELECT tag, count(*), count(DISTINCT id) FROM commerce.orders GROUP BY 1 ORDER BY 1") == [
        ("x", 2_250, 2_250),
        (None, 2_250, 2_250),
    ]


def test_a_column_that_is_no_longer_declared_keeps_what_it_holds(storage: World) -> None:
    """Fault 61."""
    storage.load(PRODUCTS, [product(1, category="kept"), product(2, category="lost by its update")])
    storage.load(OLD_PRODUCTS, [product(1), product(2, name="updated")])
    assert storage.query("SELECT id, name, category FROM commerce.products ORDER BY id") == [
        (1, "Product 1", "kept"),
        (2, "updated", None),
    ]


def test_rows_that_somebody_has_doubled_are_one_row_again(storage: World) -> None:
    storage.load(ORDERS, [order(1), order(2)], window=WINDOW)
    storage.execute("INSERT INTO commerce.orders SELECT * REPLACE ('twice' AS tag) FROM commerce.orders WHERE id = 1")
    result = storage.load(ORDERS, [order(1), order(2)], window=WINDOW)
    assert (result.loaded, result.total) == (2, 2)
    assert storage.query("SELECT id, tag FROM commerce.orders ORDER BY id") == [(1, None), (2, None)]


# All or nothing.


@pytest.mark.file
def test_a_failed_insert_rolls_the_delete_back(storage: World) -> None:
    """Fault 51."""
    columns = ", ".join(f'"{column.name}" {column.type}' for column in ORDERS.stored_columns)
    storage.execute("CREATE SCHEMA commerce", f"CREATE TABLE commerce.orders ({columns}, CHECK (tag <> 'bad'))")
    storage.load(ORDERS, [order(1), order(2, tag="good")], window=WINDOW)
    table, loads = storage.query(TABLE), storage.query("FROM commerce_loads.loads")
    with pytest.raises(duckdb.ConstraintException):
        storage.load(ORDERS, [order(1, tag="bad"), order(2, tag="better"), order(3)], window=WINDOW)
    assert storage.query(TABLE) == table
    assert storage.query("FROM commerce_loads.loads") == loads
    assert counts(storage.load(ORDERS, [order(1, tag="fine"), order(2), order(3)], window=WINDOW)) == (1, 2, 0, 0)


@pytest.mark.file
@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_a_load_killed_before_the_swap_leaves_the_old_rows(storage: World, moment: str) -> None:
    """Fault 52."""
    storage.load(ORDERS, [order(1)], window=WINDOW)
    code = """
import sys
from pathlib import Path
from commerce_assets.warehouse.load import load
from commerce_assets_tests.support.items import ORDERS, days, order
from commerce_assets_tests.support.world import World
storage = World(Path(sys.argv[1], "killed"))
storage.folder.mkdir()
staged = storage.stage(ORDERS, [order(2)], window=days("2024-03-15"))
with World(Path(sys.argv[1])).file.write() as connection:
    load(connection, staged)
    if sys.argv[2] == "after the commit":
        connection.commit()
    print("loaded", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(storage.folder), moment]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loaded\n"
        process.kill()
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]
    storage.load(ORDERS, [order(3)], window=WINDOW)
    assert storage.query("SELECT id FROM commerce.orders") == [(3,)]


@pytest.mark.file
def test_loads_of_several_processes_run_one_after_the_other(storage: World) -> None:
    """Fault 56."""
    code = """
import sys
from pathlib import Path
from commerce_assets_tests.support.items import ORDERS, days, order
from commerce_assets_tests.support.world import World
own = World(Path(sys.argv[1], sys.argv[2]))
own.folder.mkdir()
window = days("2024-03-15", "2024-03-16")
items = [order(number, tag="same") for number in range(200)] + [order(200, "2024-03-16T00:00:00Z", tag=sys.argv[2])]
staged = own.stage(ORDERS, items, window=window)
print("staged", flush=True)
sys.stdin.readline()
World(Path(sys.argv[1])).put(staged)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(storage.folder), name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"staged\n"
    for process in processes:
        process.communicate(b"go\n", timeout=30)
    assert [process.returncode for process in processes] == [0, 0]
    assert storage.query("SELECT count(*), count(DISTINCT id) FROM commerce.orders") == [(201, 201)]
    assert storage.query("SELECT count(*) FROM commerce_loads.loads") == [(2,)]


def test_load_log_and_rows_are_stored_together_or_not_at_all(storage: World) -> None:
    staged = storage.stage(ORDERS, [order(1, updated_at=LATE)], window=WINDOW)
    storage.load(PRODUCTS, [product(1)])

    class PowerCutError(Exception):
        pass

    def load_and_mark(*, fail: bool) -> None:
        with storage.file.write() as connection:
            load(connection, staged)
            set_mark(connection, ORDERS, SINCE)
            if fail:
                raise PowerCutError

    with pytest.raises(PowerCutError):
        load_and_mark(fail=True)
    with storage.file.read() as connection:
        assert not has_loaded(connection, staged.manifest.pull_id)
        assert followed(connection, ORDERS) == (None, None, None, None)
    load_and_mark(fail=False)
    with storage.file.read() as connection:
        assert has_loaded(connection, staged.manifest.pull_id)
        known = followed(connection, ORDERS)
    assert known == (SINCE, staged.began_at_store, datetime(2024, 4, 2, tzinfo=UTC), None)


def test_a_mark_never_goes_back(storage: World) -> None:
    storage.load(ORDERS, [], window=WINDOW)
    for day in (20, 25, 22):
        with storage.file.write() as connection:
            set_mark(connection, ORDERS, datetime(2024, 3, day, tzinfo=UTC))
    with storage.file.read() as connection:
        assert followed(connection, ORDERS).mark == datetime(2024, 3, 25, tzinfo=UTC)


# What must not leak, and where it runs.


def test_an_unparsable_item_is_refused_without_quoting_it(storage: World) -> None:
    """Fault 50. Fault 66."""
    storage.load(ORDERS, [order(1)], window=WINDOW)
    emails = b'"buyer_email":"a@canary.example","buyer_email":"b@canary.example"'
    # DuckDB's own message quotes the beginning of the item.
    twice = b'{%s,"id":2,"created_at":"2024-03-15T12:00:00Z"}' % emails
    with pytest.raises(StagedItemsUnreadableError, match=r"orders of 2024-03-15.*Fix: ") as raised:
        storage.load(ORDERS, [order(1, tag="x"), twice, order(3)], window=WINDOW)
    chain: list[BaseException | None] = [raised.value]
    while chain[-1] is not None:
        chain += [chain[-1].__cause__ or chain[-1].__context__]
    assert "canary" not in "".join(traceback.format_exception(raised.value)) + repr(chain)
    assert storage.query("SELECT id, tag FROM commerce.orders") == [(1, None)]


def test_the_zone_of_the_machine_does_not_matter(storage: World) -> None:
    """Fault 59."""
    code = """
import sys
from pathlib import Path
from commerce_assets_tests.support.items import ORDERS, days, order
from commerce_assets_tests.support.world import World
storage = World(Path(sys.argv[1], sys.argv[2]))
storage.folder.mkdir()
items = [order(hour, f"2024-03-{15 + hour // 24}T{hour % 24:02}:30:00Z") for hour in range(48)]
for _ in range(2):
    result = storage.load(ORDERS, items, window=days("2024-03-15"))
    print(result.loaded, result.outside_window, result.removed, result.days)
days_of_rows = "SELECT id, created_at, CAST(created_at AS DATE), CAST(created_at AS VARCHAR) FROM commerce.orders"
print(storage.query(days_of_rows))
"""
    at_home = python(code, storage.folder, "utc")
    assert at_home.startswith("24 24 0 ")
    assert python(code, storage.folder, "new-york", zone="America/New_York") == at_home
    assert python(code, storage.folder, "kiritimati", zone="Pacific/Kiritimati") == at_home


@pytest.mark.file
@pytest.mark.parametrize("name", ["commerce.duckdb", "orders.db", 'it\'s; a "file".duckdb', "memory"])
def test_the_file_may_be_called_whatever_one_likes(tmp_path: Path, name: str) -> None:
    """Fault 60."""
    storage = World(tmp_path, name=name)
    storage.load(ORDERS, [order(1)], window=WINDOW)
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]
    assert storage.path.is_file()


@pytest.mark.parametrize("name", ["group", "values", "table", "staged", "merge_plan"])
def test_an_endpoint_may_be_called_like_a_word_of_sql(storage: World, name: str) -> None:
    """Fault 60."""
    words = ("select", "order", "from", "s", "t", "key", "segment", "day")
    endpoint = Endpoint(
        name=name,
        path=name,
        data_selector="item",
        description="",
        columns=(
            Column(name="id", type=ColumnType.BIGINT, description=""),
            Column(name="updated_at", type=ColumnType.TIMESTAMP, description=""),
            *(Column(name=word, type=ColumnType.TEXT, description="") for word in words),
        ),
    )
    item = {"id": 1} | dict.fromkeys(words, f"'; DROP TABLE commerce.{name}; --")
    storage.load(endpoint, [item])
    assert counts(storage.load(endpoint, [item, {"id": 2}])) == (1, 0, 1, 0)
    assert storage.query(f'SELECT "from" FROM commerce."{name}" ORDER BY id') == [(item["from"],), (None,)]


def test_spilled_files_are_private_also_while_reading(storage: World) -> None:
    """Fault 68."""
    rows = "SELECT range AS a, repeat(md5(CAST(range AS VARCHAR)), 4) AS b FROM range(300_000)"
    storage.execute(f"CREATE TABLE big AS {rows}")
    with storage.file.read() as connection:
        ((folder,),) = connection.execute("SELECT current_setting('temp_directory')").fetchall()
        spilled = Path(folder)
        connection.execute("SET memory_limit = '32MB'")
        connection.execute("SET threads = 1")
        connection.execute("CREATE TEMP TABLE copied AS FROM big")
        modes = {oct(S_IMODE(path.stat().st_mode)) for path in [spilled, *spilled.iterdir()]}
    assert modes == {"0o700", "0o600"}


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("1900-01-01T00:00:00Z", date(1900, 1, 1)),
        ("1969-12-31T23:59:59.999999Z", date(1969, 12, 31)),
        ("1970-01-01T00:00:00Z", date(1970, 1, 1)),
        ("2024-02-29T23:59:59.999999Z", date(2024, 2, 29)),
        ("2024-03-01T01:30:00+02:00", date(2024, 2, 29)),
        ("9999-12-31T23:59:59.999999Z", date(9999, 12, 31)),
    ],
)
def test_a_row_belongs_to_the_utc_day_of_its_instant(storage: World, instant: str, day: date) -> None:
    """Faults 45 and 58."""
    result = storage.load(ORDERS, [order(1, instant)], updated_after=SINCE)
    assert list(result.days) == [day]
    assert storage.query("SELECT CAST(created_at AT TIME ZONE 'UTC' AS DATE) FROM commerce.orders") == [(day,)]


LINE = {"cart_item": {"quantity": 1, "product_id": 12, "product_name": "A product", "price": "1.10"}}


def test_large_orders_load_in_bounded_memory(storage: World) -> None:
    """Fault 93. 17 MB, which the load used to parse at once: it needed more than 120 MB."""
    items = [order(number, cart={"cart_items": [LINE] * 3_000}) for number in range(60)]
    staged = storage.stage(ORDERS, items, window=WINDOW)
    with replace(storage, memory_limit="120MB").file.write() as connection:
        assert load(connection, staged).inserted == 60
        assert vanished_rows(connection, staged).extracted == 60
    assert storage.query("SELECT DISTINCT len(cart -> '$.cart_items[*]') FROM commerce.orders") == [(3_000,)]
    assert [path.name for path in staged.folder.iterdir() if "piece" in path.name] == []


@pytest.mark.file
def test_the_largest_item_of_a_load_beyond_memory_is_named(storage: World) -> None:
    """Fault 93."""
    items = [order(1), order(2, order_name="canary" * 3_000_000), order(3)]
    staged = storage.stage(ORDERS, items, window=WINDOW, per_page=1)
    reason = r"largest item is order 2, page 2, 18\.0 MB\. Fix: raise COMMERCE_DUCKDB_MEMORY_LIMIT"
    with pytest.raises(LoadMemoryError, match=reason) as raised:
        replace(storage, memory_limit="160MB").put(staged)
    assert "canary" not in "".join(traceback.format_exception(raised.value))
    with DatabaseFile(path=storage.path, memory_limit="1GB").write() as connection:
        assert load(connection, staged).inserted == 3


@pytest.mark.file
def test_a_commit_beyond_memory_names_the_setting(storage: World) -> None:
    """Fault 93. DuckDB holds the rows of a vector in memory as it writes a table."""
    reason = r"needs more memory than 40MB; the file is unchanged\. Fix: raise COMMERCE_DUCKDB_MEMORY_LIMIT"

    def write() -> None:
        with DatabaseFile(path=storage.path, memory_limit="40MB").write() as connection:
            connection.execute("CREATE TABLE wide (id INTEGER, note VARCHAR)")
            for number in range(100):
                connection.execute("INSERT INTO wide SELECT $1, repeat(md5($1::VARCHAR), 20_000)", [number])

    with pytest.raises(DatabaseMemoryError, match=reason):
        write()


@pytest.mark.parametrize("sent", [b'"name":"canary"', b'"id":1'])
def test_a_byte_that_flips_before_the_load_is_noticed(storage: World, sent: bytes) -> None:
    """Fault 98."""
    staged = storage.stage(PRODUCTS, [b'{"id":1,"name":"canary"}', b'{"id":2,"name":"b"}'], per_page=1)
    (segment,) = staged.segments
    written = segment.read_bytes()
    at = written.index(sent) + len(sent) - 2
    segment.write_bytes(written[:at] + bytes([written[at] ^ 2]) + written[at + 1 :])
    with pytest.raises(StagedItemsUnreadableError, match=r"^products, page 1: the staged bytes changed .* Fix: "):
        storage.put(staged)


def test_staged_items_that_cannot_be_read_are_named(storage: World) -> None:
    """Fault 54."""
    staged = storage.stage(PRODUCTS, [product(1)])
    (segment,) = staged.segments
    segment.unlink()
    segment.mkdir()
    with pytest.raises(StagingError, match=rf"staging directory {segment.parent} cannot be used: .* Fix: free disk"):
        storage.put(staged)


@pytest.mark.file
def test_typed_rows_are_gone_with_the_load(storage: World) -> None:
    """Fault 66."""
    storage.load(ORDERS, [order(1), order(1, tag="again")], window=WINDOW)

    assert [path.name for path in storage.folder.iterdir() if path.name.startswith("shop")] == ["shop.duckdb"]


def test_the_load_refuses_a_list_with_an_unparsable_item(storage: World) -> None:
    """Faults 33, 50."""
    storage.load(PRODUCTS, [product(1), product(2)])
    staged = storage.stage(PRODUCTS, [b'{"id":1,"name":"a","id":1}'])

    with storage.file.read() as connection:
        assert not vanished_rows(connection, staged).keys
    with pytest.raises(StagedItemsUnreadableError):
        storage.put(staged)
