"""Runs on Celery workers, by the dagster.yaml of deploy/cluster: spread, killed, and scheduled."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.scheduler.instigation import ScheduleInstigatorData
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from commerce_assets.ops.abandoned_runs import limit_pools
from commerce_assets_tests.support.cluster import Cluster, kill
from commerce_assets_tests.support.processes import wait_until
from commerce_assets_tests.support.servers import running_redis
from commerce_assets_tests.support.world import serving
from sample_store.shop import build_shop
from sample_store.store import SampleStore

FIRST_DAY = datetime.now(UTC).date() - timedelta(days=365)
WORKER = ("-m", "commerce_assets.ops.celery_launcher", "--concurrency", "1", "--loglevel", "WARNING")
DAEMON = ("-m", "dagster._daemon", "run", "-w", "workspace.yaml")
LAUNCH = ("-m", "dagster", "job", "launch", "-w", "workspace.yaml", "-j")
HOLDER = "commerce_assets/process"


@pytest.fixture
def cluster(url: str, tmp_path: Path) -> Iterator[Cluster]:
    """A shop of a year, PostgreSQL, Redis and Dagster's daemon; the test starts the workers."""
    store = SampleStore(build_shop(now=datetime.now(UTC), days=370))
    with running_redis() as broker, serving(store, tmp_path) as world:
        world.settings["COMMERCE_ORDERS_START_DATE"] = FIRST_DAY.isoformat()
        cluster = Cluster(world, postgres_url=url, broker_url=broker)
        with cluster.instance() as instance:
            limit_pools(instance)
        with cluster.running(*DAEMON):
            yield cluster


def launch(cluster: Cluster, instance: DagsterInstance, job: str, **tags: str) -> str:
    """Put a run into the queue, and return its id."""
    before = {run.run_id for run in instance.get_runs()}
    options = [f"--tags={json.dumps(tags)}"] if tags else []
    cluster.run(*LAUNCH, job, *options)
    (run,) = [run for run in instance.get_runs() if run.run_id not in before]
    return run.run_id


def run_of(instance: DagsterInstance, run_id: str) -> DagsterRun:
    run = instance.get_run_by_id(run_id)
    assert run
    return run


def is_working(instance: DagsterInstance, run_id: str) -> bool:
    return HOLDER in run_of(instance, run_id).tags


def wait_for_end(instance: DagsterInstance, run_id: str, *, seconds: float = 240) -> DagsterRunStatus:
    wait_until(lambda: run_of(instance, run_id).is_finished, seconds=seconds)
    return run_of(instance, run_id).status


def test_runs_are_spread_and_a_schedule_runs_on_a_worker(cluster: Cluster) -> None:
    """The catalog on one worker, a backfill of a year on the other, both at once; then a tick of a schedule."""
    cluster.world.settings["COMMERCE_API_REQUESTS_PER_SECOND"] = "4"
    year = {
        "dagster/asset_partition_range_start": FIRST_DAY.isoformat(),
        "dagster/asset_partition_range_end": (datetime.now(UTC).date() - timedelta(days=1)).isoformat(),
    }
    with cluster.instance() as instance, ExitStack() as workers:
        instance.event_log_storage.set_concurrency_slots("commerce_api", 2)
        for name in ("first", "second"):
            workers.enter_context(cluster.running(*WORKER, "--hostname", name))
        backfill, catalog = launch(cluster, instance, "orders", **year), launch(cluster, instance, "catalog")
        assert [wait_for_end(instance, run) for run in (catalog, backfill)] == [DagsterRunStatus.SUCCESS] * 2
        assert run_of(instance, backfill).tags[HOLDER] != run_of(instance, catalog).tags[HOLDER]
        # Together they were no faster than one may be.
        instants = [request.at for request in cluster.world.server.requests]
        assert len(instants) - 1 <= 4 * (instants[-1] - instants[0] + 0.1)
        stored = cluster.world.query("SELECT count(DISTINCT id), count(*) FROM orders")
        days = [order["created_at"][:10] for order in cluster.world.store.shop.orders]
        expected = sum(FIRST_DAY.isoformat() <= day < datetime.now(UTC).date().isoformat() for day in days)
        assert stored == [(expected, expected)]

        start_at_last_tick(cluster, instance, "orders_refresh_hourly")
        scheduled = RunsFilter(tags={"dagster/schedule_name": "orders_refresh_hourly"})
        wait_until(lambda: any(run.is_finished for run in instance.get_runs(scheduled)), seconds=240)
        (run,) = instance.get_runs(scheduled)
        assert run.status == DagsterRunStatus.SUCCESS


def start_at_last_tick(cluster: Cluster, instance: DagsterInstance, name: str) -> None:
    """Switch a schedule on as if just before it was due the last time: it has one tick to catch up with."""
    target = WorkspaceFileTarget([str(cluster.folder / "workspace.yaml")])
    with WorkspaceProcessContext(instance, target) as process:
        (location,) = process.create_request_context().code_locations
        (repository,) = location.get_repositories().values()
        (schedule,) = [each for each in repository.get_schedules() if each.name == name]
        state = instance.start_schedule(schedule)
        due = next(schedule.execution_time_iterator(time.time(), ascending=False))
        data = ScheduleInstigatorData(schedule.cron_schedule, due.timestamp() - 1)
        instance.update_instigator_state(state.with_data(data))


def test_a_killed_workers_run_fails_and_frees_its_slot(cluster: Cluster) -> None:
    """Fault 109."""
    cluster.world.settings["COMMERCE_API_REQUESTS_PER_SECOND"] = "0.1"
    with cluster.instance() as instance:
        with cluster.running(*WORKER, "--hostname", "first") as worker:
            lost = launch(cluster, instance, "catalog")
            wait_until(lambda: is_working(instance, lost), seconds=240)
            kill(worker)
        began = time.monotonic()
        cluster.world.settings["COMMERCE_API_REQUESTS_PER_SECOND"] = "0"
        with cluster.running(*WORKER, "--hostname", "second"):
            # It waits for the slot that the lost run still has.
            following = launch(cluster, instance, "catalog")
            assert wait_for_end(instance, lost) == DagsterRunStatus.FAILURE
            assert time.monotonic() - began < 120
            assert wait_for_end(instance, following) == DagsterRunStatus.SUCCESS
    assert cluster.world.query("SELECT count(*) FROM products") == [(len(cluster.world.store.shop.products),)]
