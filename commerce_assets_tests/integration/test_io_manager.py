"""The IO manager: tables load as the type and of the partitions that a parameter asks for, frames are stored."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from dagster import (
    AllPartitionMapping,
    AssetIn,
    AssetsDefinition,
    AssetSpec,
    DagsterInstance,
    DailyPartitionsDefinition,
    ExecuteInProcessResult,
    LastPartitionMapping,
    PartitionMapping,
    StaticPartitionsDefinition,
    TimeWindowPartitionMapping,
    asset,
    materialize,
)

from commerce_assets.defs.failures import KnownError
from commerce_assets.defs.io_manager import CommerceDuckDBIOManager
from commerce_assets.defs.metadata import definition_metadata
from commerce_assets_tests.support.items import ORDERS, days, order
from commerce_assets_tests.support.other_programs import held, opens_elsewhere
from commerce_assets_tests.support.world import World

DAILY = DailyPartitionsDefinition(start_date="2024-03-08", end_date="2024-03-14", timezone="UTC")
UPSTREAM = AssetSpec("orders", metadata=definition_metadata(ORDERS), partitions_def=DAILY)
ZONES = ["UTC", "America/New_York", "Pacific/Kiritimati"]
# Of the days 9 to 13 the ids are 9_01 (first moment), 9_02 (last one) and so on; on the 10th New York's clocks change.
MOMENTS = {
    day * 100 + number: f"2024-03-{day:02}T{moment}Z"
    for day in range(9, 14)
    for number, moment in ((1, "00:00:00"), (2, "23:59:59"))
}


def of_days(*wanted: int) -> list[int]:
    return [number for number in MOMENTS if number // 100 in wanted]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two orders per day for five days; the tests that share it only read."""
    storage = World(tmp_path_factory.mktemp("io"))
    orders = [
        order(number, moment, settled_gross="12.3456", refunded=True, gateway_transaction_ids=["a", "b"], cart={"n": 1})
        for number, moment in MOMENTS.items()
    ]
    storage.load(ORDERS, orders, window=days("2024-03-09", "2024-03-13"))
    return storage


@pytest.fixture
def own(tmp_path: Path) -> World:
    """A storage of one order, for a test that writes."""
    storage = World(tmp_path)
    storage.load(ORDERS, [order(1, "2024-03-10T00:00:00Z")], window=days("2024-03-10"))
    return storage


@pytest.fixture
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """The machine's time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def run(
    storage: World, *assets: AssetsDefinition, instance: DagsterInstance | None = None, **options: Any
) -> ExecuteInProcessResult:
    manager = CommerceDuckDBIOManager(database=str(storage.path), schema="commerce", lock_timeout=1)
    return materialize(
        [UPSTREAM.with_io_manager_key("warehouse_io_manager"), *assets],
        resources={"io_manager": manager, "warehouse_io_manager": manager},
        selection=[*assets],
        instance=instance,
        **options,
    )


def ids_of(orders: pa.Table) -> list[int]:
    return sorted(row["id"] for row in orders.to_pylist())


def metadata_of(result: ExecuteInProcessResult, name: str) -> Mapping[str, Any]:
    (event,) = result.asset_materializations_for_node(name)
    return {key: value.value for key, value in event.metadata.items()}


# Loading.


def test_orders_load_as_an_arrow_table(storage: World) -> None:
    @asset
    def taken(orders: pa.Table) -> None:
        assert isinstance(orders, pa.Table)
        assert orders.num_rows == 10
        assert orders.schema.field("id").type == pa.int64()
        assert orders.schema.field("settled_gross").type == pa.decimal128(18, 4)
        assert orders.schema.field("created_at").type == pa.timestamp("us", tz="UTC")
        assert orders.schema.field("gateway_transaction_ids").type == pa.list_(pa.string())
        assert orders.schema.field("refunded").type == pa.bool_()
        first = orders.sort_by("id").slice(0, 1).to_pylist()[0]
        assert first["settled_gross"] == Decimal("12.3456")
        assert first["created_at"] == datetime(2024, 3, 9, tzinfo=UTC)

    assert run(storage, taken).success


def test_orders_load_as_a_polars_frame(storage: World) -> None:
    @asset
    def taken(orders: pl.DataFrame) -> None:
        assert isinstance(orders, pl.DataFrame)
        assert orders.height == 10
        assert orders.schema["settled_gross"] == pl.Decimal(18, 4)
        assert orders.schema["created_at"] == pl.Datetime("us", "UTC")
        assert orders.schema["gateway_transaction_ids"] == pl.List(pl.String)
        first = orders.sort("id").row(0, named=True)
        assert first["settled_gross"] == Decimal("12.3456")
        assert first["created_at"] == datetime(2024, 3, 9, tzinfo=UTC)
        assert json.loads(first["cart"]) == {"n": 1}

    assert run(storage, taken).success


def test_orders_load_as_a_pandas_frame(storage: World) -> None:
    @asset
    def taken(orders: pd.DataFrame) -> None:
        assert isinstance(orders, pd.DataFrame)
        assert len(orders) == 10
        assert str(orders["created_at"].dtype) == "datetime64[us, UTC]"
        first = orders.sort_values("id").iloc[0]
        assert first["settled_gross"] == Decimal("12.3456")
        assert first["created_at"] == pd.Timestamp("2024-03-09", tz="UTC")
        assert list(first["gateway_transaction_ids"]) == ["a", "b"]

    assert run(storage, taken).success


@pytest.mark.parametrize("zone", ZONES, indirect=True)
def test_a_relation_outlives_the_connection_and_keeps_to_utc(storage: World, zone: str) -> None:
    """Fault 59."""

    @asset
    def taken(orders: duckdb.DuckDBPyRelation) -> None:
        assert isinstance(orders, duckdb.DuckDBPyRelation)
        assert opens_elsewhere(storage.path)
        assert orders.aggregate("sum(settled_gross)").fetchall() == [(Decimal("123.4560"),)]
        per_day = orders.aggregate("CAST(created_at AS DATE) AS day, count(*)").order("day").fetchall()
        assert per_day == [(date(2024, 3, day), 2) for day in range(9, 14)]
        assert orders.filter("id = 901").project("created_at").fetchall() == [(datetime(2024, 3, 9, tzinfo=UTC),)]

    assert run(storage, taken).success, zone


def test_without_an_annotation_orders_load_as_a_relation(storage: World) -> None:
    @asset
    def taken(orders) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        assert isinstance(orders, duckdb.DuckDBPyRelation)
        assert orders.aggregate("count(*)").fetchall() == [(10,)]

    assert run(storage, taken).success


def test_the_metadata_columns_selects_columns(storage: World) -> None:
    @asset(ins={"orders": AssetIn(metadata={"columns": ["created_at", "id"]})})
    def taken(orders: pa.Table) -> None:
        assert orders.column_names == ["created_at", "id"]

    assert run(storage, taken).success


def test_an_unknown_type_is_refused_with_the_known_ones(storage: World) -> None:
    @asset
    def taken(orders: Path) -> None:
        raise AssertionError(orders)

    with pytest.raises(Exception, match=r"Path is not the type of a frame.*Fix:.*DuckDBPyRelation"):
        run(storage, taken)


# Partitions.


@pytest.mark.parametrize("zone", ["America/New_York"], indirect=True)
@pytest.mark.parametrize(
    ("mapping", "key", "taken_days"),
    [
        (None, "2024-03-10", [10]),
        (None, "2024-03-09", [9]),
        (None, "2024-03-08", []),
        (TimeWindowPartitionMapping(start_offset=-2), "2024-03-12", [10, 11, 12]),
        (TimeWindowPartitionMapping(start_offset=-1, end_offset=-1), "2024-03-11", [10]),
        (AllPartitionMapping(), "2024-03-10", [9, 10, 11, 12, 13]),
    ],
    ids=["the same day", "the first day", "an empty day", "the last three days", "the day before", "all days"],
)
def test_a_daily_asset_loads_the_days_of_its_mapping(
    storage: World, zone: str, mapping: PartitionMapping | None, key: str, taken_days: Sequence[int]
) -> None:
    """Fault 59."""
    seen: list[int] = []

    @asset(ins={"orders": AssetIn(partition_mapping=mapping)}, partitions_def=DAILY)
    def taken(orders: pa.Table) -> None:
        seen.extend(ids_of(orders))

    assert run(storage, taken, partition_key=key).success, zone
    assert seen == of_days(*taken_days)


@pytest.mark.parametrize("zone", ZONES, indirect=True)
def test_an_unpartitioned_asset_loads_every_day(storage: World, zone: str) -> None:
    """Fault 59."""

    @asset
    def taken(orders: pa.Table) -> None:
        assert ids_of(orders) == list(MOMENTS)

    assert run(storage, taken).success, zone


def test_an_unpartitioned_asset_can_load_the_last_day_alone(storage: World) -> None:
    assert DAILY.get_last_partition_key() == "2024-03-13"

    @asset(ins={"orders": AssetIn(partition_mapping=LastPartitionMapping())})
    def taken(orders: pa.Table) -> None:
        assert ids_of(orders) == of_days(13)

    assert run(storage, taken).success


# Storing.


def frames(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    table = pa.Table.from_pylist([dict(row) for row in rows])
    return {
        "arrow": table,
        "polars": pl.DataFrame(table),
        "pandas": table.to_pandas(),
        "relation": duckdb.connect().from_arrow(table),
    }


@pytest.mark.parametrize("kind", ["arrow", "polars", "pandas", "relation"])
def test_a_frame_replaces_the_table_and_is_counted(own: World, kind: str) -> None:
    frame: dict[str, Any] = {}

    @asset(name="revenue")
    def revenue() -> Any:
        return frame["value"]

    first = [{"id": 1, "gross": Decimal("1.2500"), "at": datetime(2024, 3, 10, tzinfo=UTC)}]
    for rows in (first * 3, first):
        frame["value"] = frames(rows)[kind]
        result = run(own, revenue)
        assert metadata_of(result, "revenue")["dagster/row_count"] == len(rows)
    assert own.query("FROM commerce.revenue") == [(1, Decimal("1.2500"), datetime(2024, 3, 10, tzinfo=UTC))]
    assert own.query("SELECT count(*) FROM commerce.orders") == [(1,)]


def test_columns_are_matched_by_name_and_new_ones_are_added(own: World) -> None:
    frame: dict[str, pa.Table] = {}

    @asset
    def revenue() -> pa.Table:
        return frame["value"]

    for row in ({"id": 1, "name": "a"}, {"name": "b", "id": 2}, {"added": 2.5, "NAME": "c", "id": 3}, {"id": 4}):
        frame["value"] = pa.Table.from_pylist([row])
        run(own, revenue)
        if row["id"] == 3:
            assert own.query("SELECT id, name, added FROM commerce.revenue") == [(3, "c", 2.5)]
    assert own.query("FROM commerce.revenue") == [(4, None, None)]


@pytest.mark.parametrize("zone", ZONES, indirect=True)
def test_a_frame_of_a_partition_replaces_its_slice_alone(own: World, zone: str) -> None:
    """Fault 55. Fault 59."""
    rows: list[dict[str, Any]] = []

    @asset(partitions_def=DAILY, metadata={"partition_expr": "sold_at"})
    def revenue() -> pa.Table:
        return pa.Table.from_pylist(rows)

    def stored() -> list[tuple[Any, ...]]:
        return own.query("SELECT sold_at, note FROM commerce.revenue ORDER BY sold_at")

    def moments(day: int) -> list[datetime]:
        midnight = datetime(2024, 3, day, tzinfo=UTC)
        return [midnight, midnight + timedelta(hours=12), midnight + timedelta(hours=24) - timedelta(microseconds=1)]

    for day in (9, 10, 11):
        rows[:] = [{"sold_at": at, "note": "first"} for at in moments(day)]
        result = run(own, revenue, partition_key=f"2024-03-{day:02}")
        assert metadata_of(result, "revenue")["dagster/partition_row_count"] == 3
    rows[:] = [{"sold_at": at, "note": "second"} for at in moments(10)]
    for _ in range(2):
        run(own, revenue, partition_key="2024-03-10")
    assert stored() == [
        *((at, "first") for at in moments(9)),
        *((at, "second") for at in moments(10)),
        *((at, "first") for at in moments(11)),
    ], zone


@pytest.mark.parametrize("hostile", ["a'; DROP TABLE commerce.orders; --", 'b" OR 1=1', "c' OR 'x'='x"])
def test_a_partition_key_with_quotes_selects_its_own_rows(own: World, hostile: str) -> None:
    """Fault 60."""
    keys = StaticPartitionsDefinition(["plain", hostile])

    @asset(partitions_def=keys, metadata={"partition_expr": "key"})
    def labelled(context) -> pa.Table:  # type: ignore[no-untyped-def]  # noqa: ANN001
        return pa.Table.from_pylist([{"key": context.partition_key}])

    run(own, labelled, partition_key="plain")
    for _ in range(2):
        run(own, labelled, partition_key=hostile)
    assert own.query("SELECT key FROM commerce.labelled ORDER BY key = 'plain'") == [(hostile,), ("plain",)]
    assert own.query("SELECT count(*) FROM commerce.orders") == [(1,)]


# Failures.


def test_a_failed_store_leaves_the_rows_and_a_free_file(own: World) -> None:
    """Fault 51."""
    frame = {"value": pa.table({"day": ["2024-03-09"], "id": [1]})}

    @asset(partitions_def=DAILY, metadata={"partition_expr": "day"})
    def revenue() -> pa.Table:
        return frame["value"]

    run(own, revenue, partition_key="2024-03-09")
    frame["value"] = pa.table({"day": ["2024-03-10"], "id": [2]})
    run(own, revenue, partition_key="2024-03-10")
    frame["value"] = pa.table({"day": ["2024-03-10"], "id": ["no number"]})
    with pytest.raises(KnownError, match="column id is BIGINT"):
        run(own, revenue, partition_key="2024-03-10")
    assert opens_elsewhere(own.path)
    assert own.query("SELECT id FROM commerce.revenue ORDER BY id") == [(1,), (2,)]


def test_a_missing_database_is_an_error_with_a_fix(tmp_path: Path) -> None:
    @asset
    def taken(orders: pa.Table) -> None:
        raise AssertionError(orders)

    with pytest.raises(KnownError, match=r"no database at .*materialize an asset first"):
        run(World(tmp_path), taken)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_table_is_named(own: World) -> None:
    @asset(deps=[], ins={"refunds": AssetIn(metadata={})})
    def taken(refunds: pa.Table) -> None:
        raise AssertionError(refunds)

    refunds = AssetSpec("refunds").with_io_manager_key("io_manager")
    manager = CommerceDuckDBIOManager(database=str(own.path), schema="commerce")
    with pytest.raises(Exception, match=r"(?s)refunds.*does not exist"):
        materialize([refunds, taken], resources={"io_manager": manager}, selection=[taken])


def test_a_locked_file_is_waited_for_as_long_as_configured(own: World) -> None:
    """Fault 53."""

    @asset
    def taken(orders: pa.Table) -> None:
        raise AssertionError(orders)

    with held(own.path) as holder, pytest.raises(KnownError, match=rf"pid {holder.process.pid}"):
        run(own, taken)
