"""Dagster's daemon itself: every schedule and every sensor of the project ticks in it, and what they start succeeds."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus, DefaultSensorStatus
from dagster._core.remote_representation.external import RemoteRepository
from dagster._core.scheduler.instigation import (
    InstigatorTick,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickStatus,
)
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from commerce_assets_tests.support.items import order, product
from commerce_assets_tests.support.receiver import Receiver, receiving
from commerce_assets_tests.support.world import World, running
from sample_store.shop import Shop
from sample_store.store import SampleStore

SOURCE = Path(__file__).parents[2]
YESTERDAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
PATIENCE = 180.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def shop(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A project that is in use, in its own folder with its own workspace and instance configuration.

    Its store has a field that nobody has declared: a check warns, in a run that does not fail.
    """
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(SOURCE / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    store = SampleStore(Shop(products=[product(1, colour="red")], orders=[order(1, YESTERDAY), order(2, YESTERDAY)]))
    with running(store, tmp_path, monkeypatch) as project:
        project.run("catalog")
        settings = {
            "COMMERCE_ALERT_WEBHOOK_URL": receiver.url,
            "COMMERCE_ORDERS_START_DATE": (YESTERDAY - timedelta(days=3)).date().isoformat(),
            "DAGSTER_HOME": str(tmp_path),
            "PYTHONPATH": str(SOURCE),
            "PYTHONWARNINGS": "ignore",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield project


@contextlib.contextmanager
def running_daemon(folder: Path) -> Iterator[None]:
    """`dagster-daemon run`, with whatever it starts; all of it is killed in the end."""
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", "workspace.yaml"]
    with (
        (folder / "daemon.log").open("w") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True) as daemon,
    ):
        try:
            yield
            assert daemon.poll() is None
        finally:
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, (folder / "daemon.log").read_text()[-5000:]
        time.sleep(0.5)


def switch_all_on(instance: DagsterInstance, repository: RemoteRepository) -> None:
    """Each schedule as if that had been done just before it was due the last time: it has one tick to catch up with."""
    for sensor in repository.get_sensors():
        if sensor.default_status != DefaultSensorStatus.RUNNING:
            instance.start_sensor(sensor)
    for schedule in repository.get_schedules():
        state = instance.start_schedule(schedule)
        due = next(schedule.execution_time_iterator(time.time(), ascending=False))
        data = ScheduleInstigatorData(schedule.cron_schedule, due.timestamp() - 1)
        instance.update_instigator_state(state.with_data(data))


def ticks_of(instance: DagsterInstance) -> dict[str, list[InstigatorTick]]:
    return {
        state.instigator_name: [*instance.get_ticks(state.instigator_origin_id, state.selector_id)]
        for state in instance.all_instigator_state()
    }


def tick_at_once(instance: DagsterInstance, sensor: str) -> None:
    """Has the daemon evaluate a sensor although its interval is not over."""
    (state,) = [state for state in instance.all_instigator_state() if state.instigator_name == sensor]
    data = state.instigator_data
    assert isinstance(data, SensorInstigatorData)
    instance.update_instigator_state(state.with_data(SensorInstigatorData(cursor=data.cursor)))


@pytest.mark.slow
def test_every_schedule_and_sensor_ticks_and_its_runs_succeed(shop: World, receiver: Receiver) -> None:
    folder = shop.folder
    with DagsterInstance.get() as instance:
        target = WorkspaceFileTarget([str(folder / "workspace.yaml")])
        with WorkspaceProcessContext(instance, target) as process:
            (location,) = process.create_request_context().code_locations
            (repository,) = location.get_repositories().values()
            schedules = {schedule.name for schedule in repository.get_schedules()}
            names = {*schedules, *(sensor.name for sensor in repository.get_sensors())}
        with running_daemon(folder):
            # It alerts on what happens after its first tick.
            wait_for(lambda: any(map(is_well, ticks_of(instance).get("alerts", []))), folder)
            switch_all_on(instance, repository)
            wait_for(lambda: all(any(map(is_well, ticks_of(instance).get(name, []))) for name in names), folder)
            wait_for(lambda: all(run.is_finished for run in instance.get_runs()), folder)
            runs = [run for run in instance.get_runs() if run.is_finished]
            tick_at_once(instance, "alerts")
            warning = "check no_undeclared_fields on products warns: "
            wait_for(lambda: any(warning in text for text in receiver.texts), folder)

        ticks = ticks_of(instance)
    failed = {name: [tick.error for tick in ticks[name] if tick.status == TickStatus.FAILURE] for name in names}
    launched = {name for name in names if any(tick.run_ids for tick in ticks[name])}
    assert failed == {name: [] for name in names}
    assert {"orders_daily", "orders_refresh_hourly", "catalog_daily"} <= launched
    # What a sensor launches names no schedule: of the tables downstream, say.
    assert {run.tags.get("dagster/schedule_name") for run in runs} >= launched & schedules
    assert {run.status for run in runs} == {DagsterRunStatus.SUCCESS}
    assert shop.query("SELECT id FROM orders ORDER BY id") == [(1,), (2,)]


def is_well(tick: InstigatorTick) -> bool:
    return tick.status in {TickStatus.SUCCESS, TickStatus.SKIPPED}
