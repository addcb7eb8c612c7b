"""The event log of dagster.yaml stores what the stock one stores, in batches."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage

from commerce_assets.defs.event_log import BATCH_SIZE, BatchedSqliteEventLogStorage

PROJECT = Path(__file__).parents[2]
DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-03-01")
FIRST, LAST, COUNT = "2024-01-10", "2024-02-08", 30
COLUMNS = "dagster_event_type, step_key, asset_key, partition"


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("is_there", asset="days")],
)
def days(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    for key in context.partition_keys:
        context.add_asset_metadata({"rows": int(key[-2:])}, partition_key=key)
    yield dg.MaterializeResult(tags={"kind": "sample"})
    yield dg.AssetCheckResult(passed=True)


JOB = dg.Definitions(assets=[days], jobs=[dg.define_asset_job("job", [days])]).resolve_job_def("job")


@contextmanager
def instance_in(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


@contextmanager
def stock_instance(history: Path, home: Path) -> Iterator[dg.DagsterInstance]:
    """Open an instance with the stock storage."""
    home.mkdir()
    storage = {"storage": {"sqlite": {"base_dir": str(history)}}}
    with dg.DagsterInstance.local_temp(str(home), overrides=storage) as instance:
        yield instance


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the project's dagster.yaml, as the working directory."""
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(BATCH_SIZE, "1000")
    return tmp_path


def run(instance: dg.DagsterInstance) -> str:
    tags = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
    return JOB.execute_in_process(instance=instance, tags=tags).run_id


def rows_of(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def stored(shards: Path, run_id: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a run stored in both files, without timestamps and ids."""
    index = shards / "index.db"
    return {
        "run": rows_of(shards / f"{run_id}.db", f"SELECT {COLUMNS} FROM event_logs ORDER BY id"),
        "index": rows_of(index, f"SELECT {COLUMNS} FROM event_logs ORDER BY id"),
        "asset": rows_of(index, "SELECT asset_key, last_materialization IS NOT NULL FROM asset_keys"),
        "tags": rows_of(
            index,
            "SELECT l.partition, t.asset_key, t.key, CASE WHEN t.key LIKE 'dagster/%' THEN '' ELSE t.value END "
            "FROM asset_event_tags t JOIN event_logs l ON l.id = t.event_id ORDER BY l.id, t.key",
        ),
        "checks": rows_of(
            index, "SELECT asset_key, check_name, partition, execution_status FROM asset_check_executions"
        ),
    }


@contextmanager
def materialized(
    home: Path,
) -> Iterator[tuple[dg.DagsterInstance, BatchedSqliteEventLogStorage, str, Sequence[EventLogEntry]]]:
    """Yield the instance after a run, the event log, the run's id and its materializations."""
    with instance_in(home) as instance:
        run_id = run(instance)
        log = instance.event_log_storage
        assert isinstance(log, BatchedSqliteEventLogStorage)
        yield instance, log, run_id, instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)


def test_it_stores_what_the_stock_storage_stores(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with instance_in(home) as instance:
        batched = stored(home / "data/dagster/history/runs", run(instance))
    monkeypatch.delenv(BATCH_SIZE)
    with stock_instance(home / "stock", home / "other") as instance:
        stock = stored(home / "stock/history/runs", run(instance))

    assert batched == stock
    assert len([row for row in batched["index"] if row[0] == "ASSET_MATERIALIZATION"]) == COUNT


def test_each_day_of_a_run_is_an_entry_of_the_events_tab(home: Path) -> None:
    """The UI groups events by asset and millisecond; stored in one run, the days differ, and keep their order."""
    with materialized(home) as (instance, _, _, _):
        records = instance.fetch_materializations(days.key, limit=1000, ascending=True).records

    milliseconds = [int(record.timestamp * 1000) for record in records]
    assert len(milliseconds) == COUNT
    assert milliseconds == sorted({*milliseconds})
    assert [record.partition_key for record in records] == sorted(str(record.partition_key) for record in records)


def test_a_run_stores_its_days_in_two_batches(home: Path) -> None:
    sizes = []
    opened: list[int] = []

    class Counted(BatchedSqliteEventLogStorage):
        def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
            sizes.append(len(events))
            before = connect.call_count
            super().store_event_batch(events)
            opened.append(connect.call_count - before)

    with (
        mock.patch("commerce_assets.defs.event_log.BatchedSqliteEventLogStorage", Counted),
        mock.patch("sqlite3.dbapi2.connect", wraps=sqlite3.connect) as connect,
        instance_in(home) as instance,
    ):
        run(instance)

    # All that is planned, a check included, and then what was materialized.
    assert sizes == [COUNT + 1, COUNT]
    # The first one makes the run's file; the tags of each materialization are looked for in a table that must be there.
    assert 2 <= opened[1] <= COUNT + 2


def test_dagster_stores_in_batches_by_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BATCH_SIZE)
    with (
        instance_in(home) as instance,
        mock.patch.object(
            BatchedSqliteEventLogStorage,
            "store_event_batch",
            autospec=True,
            side_effect=BatchedSqliteEventLogStorage.store_event_batch,
        ) as batches,
    ):
        run(instance)

    assert batches.call_count == 2


def test_the_stock_storage_reads_its_files(home: Path) -> None:
    with instance_in(home) as instance:
        run_id = run(instance)
        assert type(instance.event_log_storage) is BatchedSqliteEventLogStorage

    with stock_instance(home / "data/dagster", home / "other") as stock:
        assert type(stock.event_log_storage) is SqliteEventLogStorage
        assert isinstance(stock.run_storage, SqliteRunStorage)
        assert isinstance(stock.schedule_storage, SqliteScheduleStorage)
        assert [run.run_id for run in stock.get_runs()] == [run_id]
        assert len(stock.get_materialized_partitions(dg.AssetKey("days"))) == COUNT
        assert len(stock.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)) == COUNT
    assert (home / "data/dagster/schedules/schedules.db").exists()


def test_a_failed_batch_stores_nothing(home: Path) -> None:
    with materialized(home) as (_, log, run_id, events):
        before = stored(home / "data/dagster/history/runs", run_id)

        torn: list[Any] = [*events[:-1], mock.Mock(spec=EventLogEntry, run_id=run_id)]
        with pytest.raises(Exception, match="Mock"):
            log.store_event_batch(torn)
        assert stored(home / "data/dagster/history/runs", run_id) == before

        log.store_event_batch(events)
        after = stored(home / "data/dagster/history/runs", run_id)
    for shard in ("run", "index"):
        assert len(after[shard]) == len(before[shard]) + COUNT


def test_together_stores_all_events_or_none(home: Path) -> None:
    with materialized(home) as (_, log, run_id, events):
        shards = home / "data/dagster/history/runs"
        before = stored(shards, run_id)

        def tell_and_fail() -> None:
            with log.together(run_id):
                log.store_event(events[0])
                raise InterruptedError

        with pytest.raises(InterruptedError):
            tell_and_fail()
        assert stored(shards, run_id) == before

        with log.together(run_id):
            for event in events:
                log.store_event(event)
            assert stored(shards, run_id) == before
        assert len(stored(shards, run_id)["index"]) == len(before["index"]) + COUNT


def test_another_thread_reads_the_state_before_the_batch(home: Path) -> None:
    with materialized(home) as (instance, log, run_id, events):
        seen: list[int] = []

        def look() -> None:
            seen.append(len(instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)))

        def look_meanwhile(event: EventLogEntry) -> None:
            stock_store_event(event)
            reader = threading.Thread(target=look)
            reader.start()
            reader.join(timeout=10)

        stock_store_event = log.store_event
        with mock.patch.object(log, "store_event", look_meanwhile):
            log.store_event_batch(events[:2])
        look()

    assert seen == [COUNT, COUNT, COUNT + 2]


def test_wiped_files_are_created_again(home: Path) -> None:
    with instance_in(home) as instance:
        run_id = run(instance)
        (first, *_) = instance.all_logs(run_id)
        instance.event_log_storage.wipe()
        assert instance.all_logs(run_id) == []

        instance.event_log_storage.store_event(first)

        assert instance.all_logs(run_id) == [first]
