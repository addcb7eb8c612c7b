"""Own assets: the table they get, the rows that a partition replaces, the values that stay exact."""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from commerce_assets.defs.failures import KnownError
from commerce_assets.defs.io_manager import CommerceDuckDBIOManager
from commerce_assets.defs.resources import WarehouseResource
from commerce_assets.defs.table_partitions import partitions_of
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse import tables
from commerce_assets.warehouse.partitions import PartitionError, Partitions
from commerce_assets.warehouse.tables import TableError, TableName
from commerce_assets_tests.support.items import ORDERS, days, order
from commerce_assets_tests.support.pages import DOCS
from commerce_assets_tests.support.world import World

NEW_YORK, BERLIN = "America/New_York", "Europe/Berlin"


def manager(storage: World, schema: str | None = "commerce") -> CommerceDuckDBIOManager:
    return CommerceDuckDBIOManager(**storage.warehouse_fields, schema=schema, lock_timeout=5)


def run(storage: World, *assets: dg.AssetsDefinition, schema: str | None = "commerce", **options: Any) -> Any:
    return dg.materialize([*assets], resources={"io_manager": manager(storage, schema)}, **options)


class Table:
    """A table that is stored without a run of Dagster."""

    def __init__(self, storage: World, partitions: Any = None, expression: Any = "at", name: str = "returned") -> None:
        self.storage, self.definition, self.expression = storage, partitions, expression
        self.name = TableName("commerce", name)

    def partitions(self, key: str | None) -> Partitions | None:
        return partitions_of(self.definition, self.expression, [key]) if key else None

    def store(self, frame: pa.Table, key: str | None = None) -> None:
        with self.storage.file.write() as connection:
            tables.store(connection, self.name, frame, owner="asset returned", partitions=self.partitions(key))

    def load(self, key: str | None = None) -> pa.Table:
        with self.storage.file.read() as connection:
            loaded = tables.load(connection, self.name, partitions=self.partitions(key))
        assert loaded is not None
        return loaded


class Returned:
    """An asset whose next value the test sets."""

    def __init__(self, storage: World, **options: Any) -> None:
        self.storage = storage
        self.value: Any = None

        def returned() -> Any:
            return self.value

        self.asset: dg.AssetsDefinition = dg.asset(**{"name": "returned", **options})(returned)

    def store(self, value: Any, partition_key: Any = None, **options: Any) -> Any:
        self.value = value
        return run(self.storage, self.asset, partition_key=partition_key, **options)

    def load(self, partition_key: Any = None, wanted: Any = pa.Table, **options: Any) -> Any:
        """What a downstream asset gets, with the same partitions if it has a key."""
        seen: list[Any] = []
        partitions = self.asset.partitions_def if partition_key else None

        @dg.asset(
            ins={"frame": dg.AssetIn(key=self.asset.key, **options)},
            partitions_def=partitions,
            metadata={"partition_expr": "unused"},
        )
        def downstream(frame: wanted) -> None:
            seen.append(frame)

        run(self.storage, self.asset, downstream, selection=[downstream], partition_key=partition_key)
        return seen[0]


# Names of tables.


def test_a_key_prefix_names_the_schema(storage: World) -> None:
    storage.load(ORDERS, [order(1, "2024-03-10T00:00:00Z")], window=days("2024-03-10"))
    reporting = Returned(storage, name="orders", key_prefix=["reporting"])
    result = reporting.store(pa.table({"a": [1, 2]}))
    assert storage.query("SELECT a FROM reporting.orders ORDER BY a") == [(1,), (2,)]
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]
    (event,) = result.asset_materializations_for_node("reporting__orders")
    assert event.metadata["dagster/table_name"].value == "reporting.orders"
    assert event.metadata["dagster/storage_kind"].value == "duckdb"
    assert reporting.load().num_rows == 2


@pytest.mark.parametrize(
    ("options", "schema", "table"),
    [
        ({}, "custom", "custom.returned"),
        ({}, None, "public.returned"),
        ({"key_prefix": ["one", "two"]}, "custom", "two.returned"),
        ({"key_prefix": ["one"], "metadata": {"schema": "named"}}, "custom", "named.returned"),
    ],
)
def test_the_metadata_wins_over_prefix_and_setting(
    storage: World, options: dict[str, Any], schema: str | None, table: str
) -> None:
    for _ in range(2):
        Returned(storage, **options).store(pa.table({"a": [1]}), schema=schema)
    assert storage.query(f"FROM {table}") == [(1,)]


@pytest.mark.parametrize("schema", ["warehouse", "memory", "temp", "system", "main", "__commerce__", "shop"])
def test_a_schema_may_be_called_like_a_catalog(storage: World, schema: str) -> None:
    asset = Returned(storage, key_prefix=[schema])
    for values in ([1], [2, 3]):
        asset.store(pa.table({"a": values}))
    assert sorted(asset.load()["a"].to_pylist()) == [2, 3]
    if schema in {"warehouse", "memory", "main", "shop"}:
        assert len(storage.query(f"FROM {schema}.returned")) == 2


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        *(("commerce", endpoint.name) for endpoint in ENDPOINTS),
        ("commerce", "orders_history"),
        ("Commerce", "ORDERS"),
        ("analytics", "daily_revenue"),
        ("commerce_loads", "anything"),
    ],
)
def test_tables_of_the_project_are_refused(storage: World, schema: str, name: str) -> None:
    """Fault 100. Before anything is written: no file is created."""
    asset = Returned(storage, name=name, key_prefix=["mine"], metadata={"schema": schema})
    with pytest.raises(KnownError, match=r"is a table of the project\. Fix: give the asset another name"):
        asset.store(pa.table({"a": [1]}))
    assert not storage.file.exists()


@pytest.mark.parametrize("other", [["b", "x", "returned"], ["X", "Returned"]])
def test_two_assets_never_share_a_table(storage: World, other: list[str]) -> None:
    first, second = Returned(storage, key_prefix=["a", "x"]), Returned(storage, name=other[-1], key_prefix=other[:-1])
    first.store(pa.table({"a": [1]}))
    with pytest.raises(KnownError, match=r"(?i)x\.returned exists and belongs to asset a/x/returned"):
        second.store(pa.table({"a": [2]}))
    assert first.load()["a"].to_pylist() == [1]
    storage.execute("DROP TABLE x.returned")
    second.store(pa.table({"a": [2]}))
    assert second.load()["a"].to_pylist() == [2]


def test_a_table_that_no_asset_has_stored_is_refused(storage: World) -> None:
    storage.execute("CREATE SCHEMA mine", "CREATE TABLE mine.returned AS SELECT 1 AS a")
    with pytest.raises(KnownError, match=r"mine\.returned exists and was not created by an asset"):
        Returned(storage, key_prefix=["mine"]).store(pa.table({"a": [2]}))
    assert storage.query("FROM mine.returned") == [(1,)]


def test_a_view_in_place_of_the_table_is_refused(storage: World) -> None:
    returned = Returned(storage, key_prefix=["mine"])
    returned.store(pa.table({"a": [1]}))
    storage.execute("DROP TABLE mine.returned", "CREATE VIEW mine.returned AS SELECT 1 AS a")
    with pytest.raises(KnownError, match=r"cannot store asset mine/returned: mine\.returned is a view\. Fix: drop it"):
        returned.store(pa.table({"a": [2]}))


# Partitions: the rows that a run replaces and a parameter loads.

Rows = Sequence[Any]


def of_type(values: Rows, type_: str) -> pa.Table:
    """A frame whose column `at` has a type of DuckDB."""
    if type_ == "text":
        return pa.table({"at": [str(value) for value in values]})
    types: dict[str, Any] = {
        "DATE": pa.date32(),
        "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
        **{f"TIMESTAMP_{unit.upper()}": pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
    }
    return pa.table({"at": pa.array(values, types[type_])})


def local(zone: str, *stamps: str) -> list[datetime]:
    return [datetime.fromisoformat(stamp).replace(tzinfo=ZoneInfo(zone)) for stamp in stamps]


DAILY_KEYS = ("2024-03-09", "2024-03-10", "2024-03-11")
DAILY_TIMES = {key: (f"{key} 00:00", f"{key} 09:00", f"{key} 23:30") for key in DAILY_KEYS}


@pytest.mark.parametrize("zone", [NEW_YORK, BERLIN])
@pytest.mark.parametrize(
    "type_", ["DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_US", "TIMESTAMP_NS", "TIMESTAMPTZ", "text"]
)
def test_a_day_replaces_its_rows_in_every_type(storage: World, type_: str, zone: str) -> None:
    """Fault 99. The clocks of New York change on 10 March."""
    partitions = dg.DailyPartitionsDefinition("2024-03-08", end_date="2024-03-14", timezone=zone)
    asset = Table(storage, partitions)

    def rows(key: str) -> Rows:
        if type_ == "DATE":
            return [date.fromisoformat(key)]
        if type_ == "TIMESTAMPTZ":
            return local(zone, *DAILY_TIMES[key])
        return [datetime.fromisoformat(stamp) for stamp in DAILY_TIMES[key]]

    for key in (*DAILY_KEYS, DAILY_KEYS[0], DAILY_KEYS[1]):
        asset.store(of_type(rows(key), type_), key)
    expected = {key: len(rows(key)) for key in DAILY_KEYS}
    assert {key: asset.load(key).num_rows for key in DAILY_KEYS} == expected
    assert asset.load().num_rows == sum(expected.values())


@pytest.mark.parametrize(
    ("definition", "keys", "stamps"),
    [
        (
            dg.HourlyPartitionsDefinition,
            ("2024-03-09-22:00", "2024-03-09-23:00", "2024-03-10-00:00"),
            ("2024-03-09 22:59", "2024-03-09 23:00", "2024-03-10 00:30"),
        ),
        (
            dg.WeeklyPartitionsDefinition,
            ("2024-03-03", "2024-03-10", "2024-03-17"),
            ("2024-03-09 23:59", "2024-03-10 00:00", "2024-03-23 23:59"),
        ),
        (
            dg.MonthlyPartitionsDefinition,
            ("2024-02-01", "2024-03-01", "2024-04-01"),
            ("2024-02-29 23:59", "2024-03-01 00:00", "2024-04-30 23:59"),
        ),
    ],
    ids=["hours", "weeks", "months"],
)
@pytest.mark.parametrize("type_", ["DATE", "TIMESTAMP_US", "TIMESTAMPTZ", "text", "key"])
def test_hours_weeks_and_months_replace_their_rows(
    storage: World, definition: Any, keys: Sequence[str], stamps: Sequence[str], type_: str
) -> None:
    """Fault 99. The clocks of New York change on 10 March."""
    zone = NEW_YORK
    hours = definition is dg.HourlyPartitionsDefinition
    start = "2024-02-01-00:00" if hours else "2024-02-01"
    partitions = definition(start_date=start, end_offset=0, timezone=zone)
    asset = Table(storage, partitions)

    def frame(key: str, stamp: str) -> pa.Table:
        naive = datetime.fromisoformat(stamp)
        if type_ == "key":
            return pa.table({"at": [key]})
        value = {"DATE": naive.date(), "TIMESTAMPTZ": local(zone, stamp)[0]}.get(type_, naive)
        return of_type([value], type_)

    if hours and type_ == "DATE":
        asset.store(frame(keys[0], stamps[0]).slice(0, 0), keys[0])
        with pytest.raises(PartitionError, match="shorter than a day and the column is a DATE"):
            asset.store(frame(keys[0], stamps[0]), keys[0])
        return
    for _ in range(2):
        for key, stamp in zip(keys, stamps, strict=True):
            asset.store(frame(key, stamp), key)
    assert [asset.load(key)["at"].to_pylist() for key in keys] == [
        frame(key, stamp)["at"].to_pylist() for key, stamp in zip(keys, stamps, strict=True)
    ]
    assert asset.load().num_rows == 3


def test_texts_with_an_offset_are_instants(storage: World) -> None:
    partitions = dg.DailyPartitionsDefinition("2024-03-08", timezone=BERLIN)
    asset = Table(storage, partitions)
    texts = {
        "2024-03-09": ["2024-03-08T23:30:00Z", "2024-03-09T23:59:00+01:00", "2024-03-09 12:00:00.5-05"],
        "2024-03-10": ["2024-03-09T23:00:00+00:00", "2024-03-10"],
    }
    for _ in range(2):
        for key, values in texts.items():
            asset.store(pa.table({"at": values}), key)
    assert {key: sorted(map(str, asset.load(key)["at"].to_pylist())) for key in texts} == {
        key: sorted(values) for key, values in texts.items()
    }


def test_an_hour_that_occurs_twice_needs_an_offset(storage: World) -> None:
    """New York repeats 01:00 to 02:00 on 3 November 2024."""
    partitions = dg.HourlyPartitionsDefinition("2024-11-03-00:00", end_date="2024-11-04-00:00", timezone=NEW_YORK)
    first, second = "2024-11-03-01:00", "2024-11-03-01:00-0500"
    naive = Table(storage, partitions, name="naive")
    for key in (first, second):
        with pytest.raises(PartitionError, match=r"2024-11-03 01:00 occurs twice in America/New_York"):
            naive.store(of_type([datetime(2024, 11, 3, 1, 30)], "TIMESTAMP_US"), key)  # noqa: DTZ001
    naive.store(of_type([datetime(2024, 11, 3, 2)], "TIMESTAMP_US"), "2024-11-03-02:00")  # noqa: DTZ001
    aware = Table(storage, partitions, name="aware")
    for _ in range(2):
        for key, hour in ((first, 5), (second, 6)):
            aware.store(of_type([datetime(2024, 11, 3, hour, 30, tzinfo=UTC)], "TIMESTAMPTZ"), key)
    assert aware.load(second)["at"].to_pylist() == [datetime(2024, 11, 3, 6, 30, tzinfo=UTC)]
    assert aware.load().num_rows == 2


def test_the_partitions_of_two_dimensions_are_kept_apart(storage: World) -> None:
    partitions = dg.MultiPartitionsDefinition(
        {
            "day": dg.DailyPartitionsDefinition("2024-03-09", timezone=NEW_YORK),
            "color": dg.StaticPartitionsDefinition(["red", "blue"]),
        }
    )
    asset = Returned(
        storage, partitions_def=partitions, metadata={"partition_expr": {"day": 'CAST("at" AS DATE)', "color": "color"}}
    )

    def put(day: str, color: str, value: int) -> None:
        key = dg.MultiPartitionKey({"day": day, "color": color})
        asset.store(pa.table({"color": [color], "at": [day], "value": [value]}), key)

    put("2024-03-09", "red", 1)
    put("2024-03-09", "blue", 2)
    put("2024-03-10", "red", 3)
    put("2024-03-09", "red", 4)
    assert sorted(asset.load()["value"].to_pylist()) == [2, 3, 4]
    assert asset.load(dg.MultiPartitionKey({"day": "2024-03-09", "color": "red"}))["value"].to_pylist() == [4]


def test_a_mapping_of_two_dimensions_loads_the_selected_pairs(storage: World) -> None:
    """One color of every day, as a parameter with a multi-to-single mapping gets it."""
    colors = dg.StaticPartitionsDefinition(["red", "blue"])
    partitions = dg.MultiPartitionsDefinition(
        {"day": dg.DailyPartitionsDefinition("2024-03-09", end_date="2024-03-12"), "color": colors}
    )
    metadata = {"partition_expr": {"day": "day", "color": "color"}}
    asset = Returned(storage, partitions_def=partitions, metadata=metadata)
    for day in ("2024-03-09", "2024-03-10"):
        for color in ("red", "blue"):
            key = dg.MultiPartitionKey({"day": day, "color": color})
            asset.store(pa.table({"day": [date.fromisoformat(day)], "color": [color]}), key)
    seen = []

    @dg.asset(
        ins={"frame": dg.AssetIn(key="returned", partition_mapping=dg.MultiToSingleDimensionPartitionMapping())},
        partitions_def=colors,
    )
    def downstream(frame: pa.Table) -> None:
        seen.append((frame.num_rows, set(frame["color"].to_pylist())))

    run(storage, asset.asset, downstream, selection=[downstream], partition_key="red")
    assert seen == [(2, {"red"})]


@pytest.mark.parametrize("values", [["a", "b"], [2023, 2024], [True, False]])
def test_keys_match_columns_of_any_type(storage: World, values: Rows) -> None:
    keys = [str(value) for value in values]
    asset = Table(storage, dg.StaticPartitionsDefinition(keys), "key")
    for _ in range(2):
        for key, value in zip(keys, values, strict=True):
            asset.store(pa.table({"key": [value]}), key)
    assert asset.load(keys[0])["key"].to_pylist() == values[:1]
    assert asset.load().num_rows == 2


def test_dynamic_partitions_replace_their_rows(storage: World) -> None:
    fruits = dg.DynamicPartitionsDefinition(name="fruits")
    asset = Returned(storage, partitions_def=fruits, metadata={"partition_expr": "fruit"})
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("fruits", ["apple", "pear"])
        for value, key in enumerate(["apple", "pear", "apple"]):
            asset.store(pa.table({"fruit": [key], "value": [value]}), key, instance=instance)
    assert sorted(storage.query("SELECT fruit, value FROM commerce.returned")) == [("apple", 2), ("pear", 1)]


def test_a_run_of_several_days_reports_the_rows_of_each(storage: World) -> None:
    instance = dg.DagsterInstance.ephemeral()

    @dg.asset(
        partitions_def=dg.DailyPartitionsDefinition("2024-03-09", end_date="2024-03-12", timezone=NEW_YORK),
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata={"partition_expr": "day"},
    )
    def returned() -> pa.Table:
        return pa.table({"day": [date(2024, 3, 9), date(2024, 3, 11), date(2024, 3, 11)]})

    tags = {"dagster/asset_partition_range_start": "2024-03-09", "dagster/asset_partition_range_end": "2024-03-11"}
    for _ in range(2):
        result = run(storage, returned, instance=instance, tags=tags)
    counts = {
        event.partition: event.metadata["dagster/partition_row_count"].value
        for event in result.asset_materializations_for_node("returned")
    }
    assert counts == {"2024-03-09": 1, "2024-03-10": 0, "2024-03-11": 2}
    assert storage.query("SELECT count(*) FROM commerce.returned") == [(3,)]


@pytest.mark.parametrize("value", [date(2024, 3, 11), None])
def test_rows_of_other_partitions_are_refused(storage: World, value: date | None) -> None:
    """They would double with each run, since no run of this partition replaces them."""
    asset = Returned(
        storage, partitions_def=dg.DailyPartitionsDefinition("2024-03-09"), metadata={"partition_expr": "day"}
    )
    asset.store(pa.table({"day": [date(2024, 3, 10)]}), "2024-03-10")
    with pytest.raises(KnownError, match=r'1 rows do not belong to the partitions of the run by "day"\. Fix:'):
        asset.store(pa.table({"day": [date(2024, 3, 10), value]}), "2024-03-10")
    assert storage.query("FROM commerce.returned") == [(date(2024, 3, 10),)]


@pytest.mark.parametrize(
    ("metadata", "frame", "match"),
    [
        (
            {},
            {"day": [date(2024, 3, 9)]},
            r'does not name the column .* Fix: add metadata=\{"partition',
        ),
        ({"partition_expr": "dya"}, {"day": [date(2024, 3, 9)]}, 'by "dya": a column is missing'),
        ({"partition_expr": "day"}, {"day": [1]}, r'by "day": its type is BIGINT\. Fix: store a DATE'),
    ],
)
def test_a_useless_partition_expr_is_an_error(
    storage: World, metadata: dict[str, str], frame: dict[str, Rows], match: str
) -> None:
    asset = Returned(storage, partitions_def=dg.DailyPartitionsDefinition("2024-03-09"), metadata=metadata)
    with pytest.raises(KnownError, match=match):
        asset.store(pa.table(frame), "2024-03-09")


# Values: exact, or refused by the name of the column.


def in_two_partitions(storage: World, first: Any, second: Any) -> list[Any]:
    """Stores a value each in the column `value` of two partitions; what the table then holds."""
    asset = Table(storage, dg.StaticPartitionsDefinition(["1", "2"]), "key")
    for key, values in (("1", first), ("2", second), ("2", second)):
        array = values if isinstance(values, pa.Array) else pa.array(values)
        asset.store(pa.table({"key": [key] * len(array), "value": array}), key)
    return asset.load().sort_by("key")["value"].to_pylist()


AT = datetime(2024, 3, 9, 13, 5)  # noqa: DTZ001
NANOSECOND = pa.array([1_700_000_000_000_000_001], pa.timestamp("ns"))


@pytest.mark.parametrize(
    ("first", "second", "stored"),
    [
        ([1], [0.75], [1.0, 0.75]),
        ([1, 2], [1.5, 2.6], [1.0, 2.0, 1.5, 2.6]),
        ([0.5], [7], [0.5, 7.0]),
        ([2**53 + 1], [2.0, None], [2**53 + 1, 2, None]),
        ([1], pa.array([2**63], pa.uint64()), [1, 2**63]),
        ([1], [Decimal("0.5")], [Decimal("1.0"), Decimal("0.5")]),
        ([Decimal("1.5")], [Decimal("1.2345")], [Decimal("1.5000"), Decimal("1.2345")]),
        ([Decimal("1.2345")], [Decimal("1000000.5")], [Decimal("1.2345"), Decimal("1000000.5000")]),
        ([date(2024, 3, 9)], [AT], [datetime(2024, 3, 9), AT]),  # noqa: DTZ001
        (pa.array([AT], pa.timestamp("s")), pa.array([AT], pa.timestamp("us")), [AT, AT]),
        ([{"x": 1}], [{"x": 2, "y": "b"}], [{"x": 1, "y": None}, {"x": 2, "y": "b"}]),
        ([{"x": 1}], [{"y": "b"}], [{"x": 1, "y": None}, {"x": None, "y": "b"}]),
        ([{"x": 1, "y": "a"}], [{"x": 2}], [{"x": 1, "y": "a"}, {"x": 2, "y": None}]),
        ([[{"x": 1}]], [[{"x": 0.5}]], [[{"x": 1.0}], [{"x": 0.5}]]),
        ([[]], [["vip"]], [[], ["vip"]]),
        ([[1]], [[]], [[1], []]),
        ([None], ["vip"], [None, "vip"]),
        ([None], [True], [None, True]),
        ([None], [{"x": 1}], [None, {"x": 1}]),
        (["vip"], [None], ["vip", None]),
        ([["vip"]], [[None]], [["vip"], [None]]),
        ([{"x": "a"}], [{"x": None}], [{"x": "a"}, {"x": None}]),
        (pa.array([None], pa.int32()), ["vip"], [None, "vip"]),
        (["a"], pa.array(["b"]).dictionary_encode(), ["a", "b"]),
    ],
    ids=str,
)
def test_a_column_widens_until_it_is_exact(storage: World, first: Rows, second: Rows, stored: Rows) -> None:
    """Fault 101. Fault 102."""
    assert in_two_partitions(storage, first, second) == stored


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([True], [7]),
        ([7], [True]),
        ([0.5], [2**53 + 1]),
        ([2**53 + 1], [0.5]),
        ([Decimal("0.1")], [0.25]),
        ([0.1], [Decimal("0.1")]),
        ([Decimal(10) ** 36], [Decimal("0.0000000001")]),
        ([1], ["1"]),
        (["1"], [1]),
        (["2024-03-09"], [date(2024, 3, 9)]),
        ([date(2024, 3, 9)], ["2024-03-09"]),
        ([AT], [AT.replace(tzinfo=UTC)]),
        ([{"x": 1}], [{"x": "a"}]),
        ([[1]], [["a"]]),
        ([[1]], [{"x": 1}]),
        ([b"a"], ["a"]),
    ],
    ids=str,
)
def test_a_value_that_would_change_fails_with_its_column(storage: World, first: Rows, second: Rows) -> None:
    """Fault 101."""
    with pytest.raises(TableError, match=r"column value is .* would change in it\. Fix: return value as"):
        in_two_partitions(storage, first, second)
    assert storage.query("SELECT value FROM commerce.returned") == [(first[0],)]


def test_an_unpartitioned_table_takes_the_type_of_its_values(storage: World) -> None:
    """All rows are replaced; a column whose values fit keeps its type."""
    asset = Table(storage)
    for values, type_ in (([0.5], "DOUBLE"), ([1], "DOUBLE"), (["a"], "VARCHAR")):
        asset.store(pa.table({"value": values}))
        assert storage.query("SELECT value, typeof(value) FROM commerce.returned") == [(values[0], type_)]


@pytest.mark.file
def test_what_others_have_said_of_a_table_outlives_a_new_type(storage: World) -> None:
    asset = Table(storage)
    asset.store(pa.table({"value": [1]}))
    storage.execute(
        "COMMENT ON COLUMN commerce.returned.value IS 'a share'",
        "ALTER TABLE commerce.returned ALTER value SET DEFAULT 0",
    )
    asset.store(pa.table({"value": [0.5]}))
    assert storage.query("SELECT comment, column_default FROM duckdb_columns() WHERE column_name = 'value'") == [
        ("a share", "0")
    ]
    assert storage.query("SELECT value, typeof(value) FROM commerce.returned") == [(0.5, "DOUBLE")]


def test_nanoseconds_with_a_zone_are_stored_for_duckdb_1_5(storage: World) -> None:
    """DuckDB 1.5 would cut them in silence, and cannot open a file with a TIMESTAMPTZ_NS."""
    asset = Returned(storage)
    asset.store(pa.table({"at": pa.array([1_700_000_000_000_000_000], pa.timestamp("ns", BERLIN))}))
    assert storage.query('SELECT typeof("at") FROM commerce.returned') == [("TIMESTAMP WITH TIME ZONE",)]
    with pytest.raises(KnownError, match=r"column at holds values that do not fit .* they are timestamp\[ns"):
        asset.store(pa.table({"at": NANOSECOND.cast(pa.timestamp("ns", BERLIN))}))


# Frames without rows or columns.


@pytest.mark.parametrize(
    "empty", [pd.DataFrame([]), pl.DataFrame(), pa.table({}), pd.DataFrame({"day": []}), pa.table({"a": pa.nulls(0)})]
)
def test_a_frame_without_rows_empties_its_slice(storage: World, empty: Any) -> None:
    """Fault 102."""
    asset = Returned(
        storage, partitions_def=dg.DailyPartitionsDefinition("2024-03-09"), metadata={"partition_expr": "day"}
    )
    asset.store(empty, "2024-03-09")
    assert asset.load().num_rows == 0
    for day in (9, 10):
        asset.store(pa.table({"day": [date(2024, 3, day)]}), f"2024-03-{day:02}")
    result = asset.store(empty, "2024-03-09")
    (event,) = result.asset_materializations_for_node("returned")
    assert event.metadata["dagster/partition_row_count"].value == 0
    assert asset.load()["day"].to_pylist() == [date(2024, 3, 10)]


@pytest.mark.parametrize("wanted", [pd.DataFrame, pl.DataFrame, pa.Table, duckdb.DuckDBPyRelation])
def test_a_frame_without_columns_is_loaded_as_one(storage: World, wanted: Any) -> None:
    asset = Returned(storage)
    asset.store(pd.DataFrame([]))
    loaded = asset.load(wanted=wanted)
    assert isinstance(loaded, wanted)
    assert len(loaded) == 0


@pytest.mark.parametrize("wanted", [pd.DataFrame, pl.DataFrame, pa.Table, duckdb.DuckDBPyRelation])
@pytest.mark.parametrize("first_key", ["2024-03-09", "2024-03-10"])
def test_an_asset_can_depend_on_its_own_yesterday(storage: World, wanted: Any, first_key: str) -> None:
    """Fault 103. Without a file, and with one that lacks the table; on the first partition and on a later one."""
    seen = []

    @dg.asset(
        partitions_def=dg.DailyPartitionsDefinition("2024-03-09"),
        ins={"total": dg.AssetIn(partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1))},
        metadata={"partition_expr": "day"},
    )
    def total(context: dg.AssetExecutionContext, total: wanted) -> pa.Table:
        assert isinstance(total, wanted)
        seen.append(len(total))
        return pa.table({"day": [date.fromisoformat(context.partition_key)] * 3})

    second_key = f"2024-03-{int(first_key[-2:]) + 1:02}"
    for key in (first_key, second_key, first_key):
        run(storage, total, partition_key=key)
    assert seen == [0, 3, 0]
    assert storage.query("SELECT count(*) FROM commerce.total") == [(6,)]


def test_a_table_that_was_never_stored_is_an_error(storage: World) -> None:
    storage.execute("SELECT 1")
    with pytest.raises(KnownError, match=r"commerce.returned: the table does not exist\. Fix: materialize"):
        Returned(storage).load()


# Types of frames.


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_library_may_be_imported_in_the_body(storage: World, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 103. The manager is created while the library is not imported yet."""
    module = sys.modules[library]

    @dg.asset
    def revenue() -> Any:
        monkeypatch.setitem(sys.modules, library, module)
        return module.DataFrame({"a": [1]}) if library != "pyarrow" else module.table({"a": [1]})

    monkeypatch.delitem(sys.modules, library)
    run(storage, revenue)
    assert storage.query("FROM commerce.revenue") == [(1,)]


def test_pandas_loads_are_exact(storage: World) -> None:
    """Fault 103."""
    asset = Returned(storage)
    own_types: dict[str, Any] = {
        "id": pa.array([2**53 + 1, None]),
        "count": pa.array([1, 2]),
        "small": pa.array([200, None], pa.uint8()),
        "flag": pa.array([True, None]),
        "sure": pa.array([True, False]),
        "day": pa.array([date(2024, 3, 9), None]),
        "at": pa.array([AT, None]),
        "amount": pa.array([Decimal("0.10"), None]),
        "share": pa.array([0.5, None]),
    }
    asset.store(pa.table(own_types))
    frame = asset.load(wanted=pd.DataFrame)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "id": "Int64",
        "count": "int64",
        "small": "UInt8",
        "flag": "boolean",
        "sure": "bool",
        "day": "datetime64[ms]",
        "at": "datetime64[us]",
        "amount": "object",
        "share": "float64",
    }
    assert frame["id"].sum() == 2**53 + 1
    assert frame["day"][0] == pd.Timestamp("2024-03-09")
    assert frame["amount"][0] == Decimal("0.10")
    asset.store(frame)
    assert storage.query("SELECT id, small, flag, day, amount FROM commerce.returned WHERE id > 0") == [
        (2**53 + 1, 200, True, date(2024, 3, 9), Decimal("0.10"))
    ]


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (pd.DataFrame({"ok": [1, 2], "mixed": ["secret", 1]}), r"several types.*: mixed\. Fix: convert"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"the same name: a\. Fix: rename"),
        (pd.DataFrame({"a": [1], "A": [2]}), r"apart from upper and lower case: A, a\. Fix: rename"),
        (pl.DataFrame({"a": [object()]}), r"Python objects.*: a\. Fix: convert"),
        (pd.DataFrame({"m": pd.period_range("2024-01", periods=2, freq="M")}), r"column m .* pandas type period"),
        (pd.DataFrame({"i": pd.interval_range(0, 2)}), r"column i .* pandas type interval"),
        (pd.DataFrame({"d": pd.Series([date(2024, 3, 9), AT], dtype=object)}), r"several types.*: d\. Fix: convert"),
        (pd.DataFrame({"d": pd.Series([AT, AT.replace(tzinfo=UTC)], dtype=object)}), r"several types.*: d\."),
        (pd.DataFrame({"b": pd.Series([b"secret", "x"], dtype=object)}), r"several types.*: b\."),
        (pd.DataFrame({"n": pd.Series([2**70], dtype=object)}), r"of a type that a table has not: n\."),
        (pd.DataFrame({"t": pd.Series([pd.Timedelta(1, "ns")], dtype=object)}), r"of a type that a table has not: t\."),
        (pd.DataFrame({"o": [pd.DateOffset(days=1)]}), r"column o .* pandas type offset"),
        (pl.DataFrame({"n": pl.Series([2**70], dtype=pl.Int128)}), r"integers of 128 bits: n\. Fix: convert"),
        (pa.table({"t": pa.array([1], pa.duration("ns"))}), r"column t .* duration\[ns\]\. Fix: convert"),
        (pa.table({"t": pa.array([[1]], pa.list_(pa.duration("ns")))}), r"column t .* Fix: convert"),
        (pa.table({"n": pa.array([Decimal(10) ** 70], pa.decimal256(76, 0))}), r"column n .* decimal256"),
        (pa.table({"s": [{}]}), r"column s .* struct<>"),
        (7, r"int is not the type of a frame\. Fix: use pandas\.DataFrame"),
        (None, r"asset returned: it returned None\. Fix:"),
    ],
)
def test_what_a_table_cannot_hold_is_refused(storage: World, frame: Any, match: str) -> None:
    with pytest.raises(KnownError, match=match) as refused:
        Returned(storage).store(frame)
    assert "secret" not in str(refused.value)
    assert (
        not storage.file.exists() or storage.query("SELECT 1 FROM duckdb_tables() WHERE schema_name = 'commerce'") == []
    )


@pytest.mark.file
def test_types_that_duckdb_cannot_read_are_stored_exactly(storage: World) -> None:
    """Fault 101. DuckDB reads no half floats and no decimals of 256 bits, and cuts durations to microseconds."""
    columns: dict[str, Any] = {
        "half": pa.array([1.5], pa.float16()),
        "amount": pa.array([Decimal("1.5")], pa.decimal256(76, 1)),
        "took": pa.array([1000], pa.duration("ns")),
        "nested": pa.array([[{"took": 1000}]], pa.list_(pa.struct([("took", pa.duration("ns"))]))),
        "named": pa.array([[("a", 1000)]], pa.map_(pa.string(), pa.duration("ns"))),
        "paired": pa.array([[1000, None]], pa.list_(pa.duration("ns"), 2)),
    }
    Returned(storage).store(pa.table(columns))
    took = timedelta(microseconds=1)
    assert storage.query("FROM commerce.returned") == [
        (1.5, Decimal("1.5"), took, [{"took": took}], {"a": took}, (took, None))
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[("a", 1001)]], pa.map_(pa.string(), pa.duration("ns"))),
        pa.array([[1001]], pa.list_(pa.duration("ns"), 1)),
        pa.array([[("a", 1001)]], pa.map_(pa.string(), pa.timestamp("ns", BERLIN))),
        pa.array([86_400_001], pa.date64()),
    ],
    ids=lambda column: str(column.type),
)
def test_what_duckdb_would_cut_is_refused(storage: World, column: Any) -> None:
    with pytest.raises(KnownError, match="column value holds values that do not fit a type of DuckDB"):
        Returned(storage).store(pa.table({"value": column}))


def test_the_index_of_a_pandas_frame_is_left_out(storage: World) -> None:
    frame = pd.DataFrame({0: [1, 2]}, index=pd.period_range("2024-01", periods=2, freq="M"))
    Returned(storage).store(frame)
    assert storage.query('SELECT "0" FROM commerce.returned') == [(1,), (2,)]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"c": pd.Categorical(["a", "b"])}),
        pl.DataFrame({"c": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"]))}),
    ],
    ids=["pandas", "polars"],
)
def test_categories_are_stored_as_text(storage: World, frame: Any) -> None:
    Returned(storage).store(frame)
    assert storage.query("SELECT c, typeof(c) FROM commerce.returned") == [("a", "VARCHAR"), ("b", "VARCHAR")]


# Ops, columns, and both kinds of frames in one graph.


def test_ops_store_and_load_frames(storage: World) -> None:
    @dg.op(out=dg.Out(metadata={"schema": "first"}))
    def numbers() -> pd.DataFrame:
        return pd.DataFrame({"a": [1, 2, 3]})

    @dg.op(out=dg.Out(metadata={"schema": "second"}))
    def plus_one(frame: pd.DataFrame) -> pd.DataFrame:
        return frame + 1

    @dg.job(resource_defs={"io_manager": manager(storage)})
    def both() -> None:
        plus_one(numbers())

    for _ in range(2):
        assert both.execute_in_process().success
    assert storage.query("SELECT a FROM first.result ORDER BY a") == [(1,), (2,), (3,)]
    assert storage.query("SELECT a FROM second.result ORDER BY a") == [(2,), (3,), (4,)]


@pytest.mark.parametrize("wanted", [pd.DataFrame, pl.DataFrame])
def test_a_downstream_asset_gets_the_columns_it_selects(storage: World, wanted: Any) -> None:
    @dg.asset(key_prefix=["mine"])
    def source() -> pd.DataFrame:
        return pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]})

    @dg.asset(key_prefix=["mine"], ins={"source": dg.AssetIn(key=["mine", "source"], metadata={"columns": ["a"]})})
    def more(source: wanted) -> Any:
        assert list(source.columns) == ["a"]
        return source + 1

    for _ in range(2):
        run(storage, source, more)
    assert storage.query("FROM mine.more ORDER BY a") == [(2,), (3,), (4,)]


def test_columns_are_matched_by_name(storage: World) -> None:
    assert in_two_partitions(storage, [1], [2]) == [1, 2]
    asset = Table(storage, dg.StaticPartitionsDefinition(["1", "3"]), "key")
    asset.store(pa.table({"value": [3], "new": ["n"], "key": ["3"]}), "3")
    assert storage.query("SELECT key, value, new FROM commerce.returned WHERE key = '3'") == [("3", 3, "n")]


def test_the_pages_asset_sees_the_rows_of_today(project: World, capfd: pytest.CaptureFixture[str]) -> None:
    """The example of docs/own-assets.md, typed as it is there."""
    project.load(ORDERS, [order(1), order(2)], window=days("2024-03-15"))
    (code,) = re.findall(r"```python\n(@dg.asset\(deps.*?)```", (DOCS / "own-assets.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"dg": dg, "WarehouseResource": WarehouseResource}
    exec(code, names)  # noqa: S102 - the project's own page
    resources = {"warehouse": (project.definitions.resources or {})["warehouse"]}
    assert dg.materialize([names["orders_so_far"]], resources=resources).success
    assert "│            2 │" in capfd.readouterr().out
