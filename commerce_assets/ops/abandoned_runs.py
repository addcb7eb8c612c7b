"""Prepare an instance before Dagster starts: fail the runs that no process works on, and limit the pools.

A run whose process was killed holds its pool for ever. Dagster's run monitoring does not notice: the default run
launcher cannot check run workers. A run's events name its processes, also those of `dagster asset materialize`.
"""

import os
import time
from pathlib import Path

import dagster as dg

from commerce_assets.defs.pools import API_POOL, WAREHOUSE_POOL

_UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_MESSAGE = (
    "The process of this run was killed, alone or with `make dev` or the machine. Marked as failed at the next start."
    " Fix: launch the run again."
)
# The kernel's start times and the stamps of events come from two clocks.
_TOLERANCE_SECONDS = 2.0


def fail_abandoned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark each unfinished run without a living process as failed; return their ids."""
    abandoned = [
        run for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)) if not _is_owned(instance, run.run_id)
    ]
    for run in abandoned:
        instance.report_run_failed(run, _MESSAGE)
    return [run.run_id for run in abandoned]


def limit_pools(instance: dg.DagsterInstance) -> None:
    """Give each pool the limit of `dagster.yaml`.

    Dagster sets it when it first dequeues a run of a pool, but only after it has dequeued all runs that wait, such as
    those of the first *Materialize all*.
    """
    for pool in (API_POOL, WAREHOUSE_POOL):
        instance.event_log_storage.initialize_concurrency_limit_to_default(pool)


def _is_owned(instance: dg.DagsterInstance, run_id: str) -> bool:
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


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        for run_id in fail_abandoned_runs(instance):
            print(f"Run {run_id}: its process was killed; marked as failed.")  # noqa: T201
        limit_pools(instance)
