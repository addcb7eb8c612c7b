"""Runs on Celery workers: Dagster's run launcher, which notices killed workers, and the workers themselves.

`dagster.yaml` configures both. A worker is `python -m commerce_assets.ops.celery_launcher`, with the arguments of
`celery worker`.
"""

import sys

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tasks import create_execute_job_task

from commerce_assets.defs.executor import HOLDER_TAG
from commerce_assets.ops.abandoned_runs import is_abandoned
from commerce_assets.settings import CommerceSettings


class LockingCeleryRunLauncher(CeleryRunLauncher):  # type: ignore[misc] # in .venv, it is not installed
    """Dagster's launcher, with a run's lock in PostgreSQL instead of its task's state as the sign of life.

    Celery reports a task as started for ever if its worker was killed, and forgets tasks after a day, which an
    extraction may take. Dagster's run monitoring asks every `poll_interval_seconds`.
    """

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if HOLDER_TAG not in run.tags:
            health: CheckRunHealthResult = super().check_run_worker_health(run)
            return health
        if is_abandoned(self._instance, CommerceSettings.read().coordination, run):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"Its worker was killed ({run.tags[HOLDER_TAG]}).")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _main() -> None:
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        if not isinstance(launcher, CeleryRunLauncher):
            sys.exit(
                "commerce_assets: dagster.yaml names no Celery run launcher. Fix: see deploy/cluster/dagster.yaml."
            )
        create_execute_job_task(launcher.celery)
        launcher.celery.worker_main(["worker", *sys.argv[1:]])


if __name__ == "__main__":
    _main()
