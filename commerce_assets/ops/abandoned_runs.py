"""What must be so before Dagster starts: no run that nobody works on holds a pool, and every pool has its limit.

Runs are marked as failed that no living process can finish, so that they do not block the pool for ever.

Dagster's run monitoring cannot: the default run launcher has no way to ask after a run worker. But a run's events name
the processes that worked on it, also for a run started with `dagster asset materialize` in another terminal.
"""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter

from commerce_assets.defs.pools import API_POOL, WAREHOUSE_POOL

if TYPE_CHECKING:
    from dagster import EventLogEntry

_UNFINISHED = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
_MESSAGE = (
    "The process of this run is gone without a word: it, `make dev` or the machine was killed."
    " The next `make dev` found that out and marked the run as failed. Launch it again."
)
# The clock that processes are started by and the one that events are stamped with may differ a little.
_TOLERANCE_SECONDS = 2.0


def fail_abandoned_runs(instance: DagsterInstance) -> list[str]:
    """Mark as failed every unfinished run none of whose processes is alive; return their ids."""
    abandoned = [
        run for run in instance.get_runs(RunsFilter(statuses=_UNFINISHED)) if not _is_owned(instance, run.run_id)
    ]
    for run in abandoned:
        instance.report_run_failed(run, _MESSAGE)
    return [run.run_id for run in abandoned]


def limit_pools(instance: DagsterInstance) -> None:
    """Give each pool the limit of `dagster.yaml`.

    Dagster does so itself when it first meets a run of a pool, but too late for that very round: it lets in all runs
    that wait then, such as those of a newcomer's first *Materialize all*.
    """
    for pool in (API_POOL, WAREHOUSE_POOL):
        instance.event_log_storage.initialize_concurrency_limit_to_default(pool)


def _is_owned(instance: DagsterInstance, run_id: str) -> bool:
    entries = instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)
    return any(_names_living_process(entry) for entry in entries)


def _names_living_process(entry: "EventLogEntry") -> bool:
    event = entry.dagster_event
    pid = event.engine_event_data.metadata.get("pid") if event else None
    started_at = _started_at(int(str(pid.value))) if pid else None
    return started_at is not None and started_at <= entry.timestamp + _TOLERANCE_SECONDS


def _started_at(pid: int) -> float | None:
    """Tell when the process was started, in seconds since the epoch; None if there is none.

    A number is given to a new process sooner or later, at the latest after a reboot: hence the time. Where there is no
    /proc, every living process counts as the run's own, which errs on the side of leaving a run alone.
    """
    try:
        os.kill(pid, 0)
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (ProcessLookupError, PermissionError):  # another user's process is not one of ours
        return None
    except FileNotFoundError:
        return 0.0
    if state == "Z":  # dead, and nobody has asked how it ended
        return None
    return time.time() - uptime + int(fields[18]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    with DagsterInstance.get() as instance:
        for run_id in fail_abandoned_runs(instance):
            print(f"Run {run_id} was cut off by a kill: marked as failed.")  # noqa: T201
        limit_pools(instance)
