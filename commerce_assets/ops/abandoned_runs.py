"""Prepare an instance before Dagster starts: fail runs without a process, limit the pools, compare the history.

A run whose process was killed holds its pool for ever. Dagster's run monitoring does not notice: the default run
launcher cannot check run workers. With `COMMERCE_POSTGRES_URL`, a run's process holds a lock, which any machine can
see. Without it, a run's events name its processes, also those of `dagster asset materialize`.

    python -m commerce_assets.ops.abandoned_runs [FILE ...]

prepares the shop of the environment and `.env` or, of several shops on an instance, that of each environment file.
"""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log.base import PoolLimit
from dagster._core.storage.runs import SqliteRunStorage
from sqlalchemy.exc import DBAPIError

from commerce_assets.coordination import Coordination, CoordinationError
from commerce_assets.defs.executor import HOLDER_TAG
from commerce_assets.defs.pools import API_POOL, WAREHOUSE_POOL
from commerce_assets.defs.shop import UNNAMED, Shop
from commerce_assets.ops.foreign_history import report_foreign_history, report_not_loaded
from commerce_assets.settings import CommerceSettings, SettingError, load_environment
from commerce_assets.warehouse.database import WarehouseError

_UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_MESSAGE = (
    "The process of this run was killed, alone or with `make dev` or the machine. Marked as failed at the next start."
    " Fix: launch the run again."
)
# The kernel's start times and the stamps of events come from two clocks.
_TOLERANCE_SECONDS = 2.0
# A run frees its lock just before its last event, and has it back within some seconds of a restart of PostgreSQL.
_GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.5


def fail_abandoned_runs(instance: dg.DagsterInstance, coordination: Coordination) -> list[str]:
    """Mark each unfinished run without a living process as failed; return their ids.

    Leaves the runs alone whose process may be on another machine: Dagster's history is on a database server, and no
    lock shows whether it lives.

    Raises:
        CoordinationError: PostgreSQL cannot be used.
    """
    unfinished = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
    with ThreadPoolExecutor() as threads:
        answers = threads.map(lambda run: is_abandoned(instance, coordination, run), unfinished)
        abandoned = [run for run, answer in zip(unfinished, answers, strict=True) if answer]
    for run in abandoned:
        instance.report_run_failed(run, _MESSAGE)
    return [run.run_id for run in abandoned]


def is_abandoned(instance: dg.DagsterInstance, coordination: Coordination, run: dg.DagsterRun) -> bool:
    """Return whether no process works on a run; with PostgreSQL, after looking for its lock for 15 seconds.

    A run without a holder has not come to its steps, or is another project's: Dagster's run monitoring times it out.

    Raises:
        CoordinationError: PostgreSQL cannot be used.
    """
    held = coordination.is_run_held(run.run_id)
    if held is None:
        return isinstance(instance.run_storage, SqliteRunStorage) and not _has_living_process(instance, run.run_id)
    deadline = time.monotonic() + _GRACE_SECONDS
    while not held:
        current = instance.get_run_by_id(run.run_id)
        if current is None or current.is_finished or HOLDER_TAG not in current.tags:
            return False
        if time.monotonic() > deadline:
            return True
        time.sleep(_POLL_SECONDS)
        held = coordination.is_run_held(run.run_id)
    return False


def limit_pools(instance: dg.DagsterInstance, shop: Shop = UNNAMED) -> None:
    """Give each pool of the shop the limit of `dagster.yaml`, unless a person has set another.

    Dagster sets it when it first dequeues a run of a pool, but only after it has dequeued all runs that wait, such as
    those of the first *Materialize all*.
    """
    storage = instance.event_log_storage
    for pool in map(shop.named, (API_POOL, WAREHOUSE_POOL)):
        limit = _limit_of(instance, pool)
        if limit and (not limit.from_default or limit.limit == instance.global_op_concurrency_default_limit):
            continue
        if limit:
            # Dagster cannot initialize a limit again on PostgreSQL.
            storage.delete_concurrency_limit(pool)
        try:
            storage.initialize_concurrency_limit_to_default(pool)
        except DBAPIError:
            if not _limit_of(instance, pool):  # else another machine has just done it
                raise


def report_configuration(instance: dg.DagsterInstance) -> Iterator[str]:
    """Yield a sentence if the instance lacks what this project's `dagster.yaml` sets."""
    lacks = [
        setting
        for setting, is_missing in {
            "telemetry: enabled: false": instance.telemetry_enabled,
            "concurrency: pools: default_limit: 1": instance.global_op_concurrency_default_limit != 1,
            "retention": not instance.get_settings("retention"),
        }.items()
        if is_missing
    ]
    if lacks:
        yield (
            f"dagster.yaml in DAGSTER_HOME, {instance.root_directory}, does not have the settings of this project "
            f"({'; '.join(lacks)}). Fix: copy them from the project's dagster.yaml."
        )


def _limit_of(instance: dg.DagsterInstance, pool: str) -> PoolLimit | None:
    return next((limit for limit in instance.event_log_storage.get_pool_limits() if limit.name == pool), None)


def _has_living_process(instance: dg.DagsterInstance, run_id: str) -> bool:
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    return any(_names_living_process(entry) for entry in entries)


def _names_living_process(entry: dg.EventLogEntry) -> bool:
    event = entry.dagster_event
    pid = event.engine_event_data.metadata.get("pid") if event else None
    started_at = _started_at(int(str(pid.value))) if pid else None
    return started_at is not None and started_at <= entry.timestamp + _TOLERANCE_SECONDS


def _started_at(pid: int) -> float | None:
    """Return when the process was started, in seconds since the epoch; None if there is no such process.

    Process ids are reused, at the latest after a reboot. Without /proc, every living process counts as the run's own:
    better to leave a run alone than to fail one that works.
    """
    try:
        os.kill(pid, 0)
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (ProcessLookupError, PermissionError):  # another user's process is not one of ours
        return None
    except FileNotFoundError:
        return 0.0
    if state == "Z":  # a zombie
        return None
    return time.time() - uptime + int(fields[18]) / os.sysconf("SC_CLK_TCK")


def _main() -> None:
    try:
        shops = [CommerceSettings.read(load_environment(file)) for file in map(Path, sys.argv[1:])]
        shops = shops or [CommerceSettings.read()]
    except SettingError as error:
        # Dagster starts all the same: its code location fails with the same sentence.
        sys.stderr.write(f"Killed runs were not looked for, and the run history was not compared: {error}\n")
        return
    coordination = shops[0].coordination
    with dg.DagsterInstance.get() as instance:
        try:
            for run_id in fail_abandoned_runs(instance, coordination):
                print(f"Run {run_id}: its process was killed; marked as failed.")  # noqa: T201
        except CoordinationError as error:
            # Dagster starts all the same: the next run fails with the same sentence.
            sys.stderr.write(f"Killed runs were not looked for: {error}\n")
        for sentence in report_configuration(instance):
            print(sentence)  # noqa: T201
        if not isinstance(instance.run_storage, SqliteRunStorage) and not coordination.holds_runs:
            print(  # noqa: T201
                "Dagster's history is on a database server, where runs of other machines look like killed ones: none "
                "was marked as failed. Fix: set COMMERCE_POSTGRES_URL."
            )
        for settings in shops:
            limit_pools(instance, Shop.of(settings))
            try:
                # What a foreign history shows is not repeated.
                sentences = [*report_foreign_history(instance, settings)] or report_not_loaded(settings)
                for sentence in sentences:
                    print(sentence)  # noqa: T201
            except (SettingError, WarehouseError) as error:
                # Dagster starts all the same: the next run fails with the same sentence.
                sys.stderr.write(f"The run history was not compared with the database: {error}\n")


if __name__ == "__main__":
    _main()
