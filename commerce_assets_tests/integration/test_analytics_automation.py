"""The tables follow their dependencies: which of them are asked for, by whatever run brought the change."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from dagster import AssetKey, DagsterRunStatus, evaluate_automation_conditions
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor

from commerce_assets.analytics.tables import MODELS
from commerce_assets_tests.support.world import World, running
from sample_store.shop import Shop, build_orders
from sample_store.store import SampleStore

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
FIRST = TODAY - timedelta(days=20)
ALL_DAYS = (FIRST.date(), (TODAY - timedelta(days=1)).date())
WHOLE: dict[str, set[str | None]] = {model.name: {None} for model in MODELS if not model.is_partitioned}


class Sensor:
    """What the sensor of the automation conditions asks for, tick after tick, without running any of it."""

    def __init__(self, project: World) -> None:
        self.project = project
        self._cursor: AssetDaemonCursor | None = None
        # The first tick takes what there is for granted.
        assert self.tick() == {}

    def tick(self) -> dict[str, set[str | None]]:
        """The partitions asked for, by asset; a table that is rebuilt whole has the one partition None."""
        evaluated = evaluate_automation_conditions(
            defs=self.project.definitions, instance=self.project.instance, cursor=self._cursor
        )
        self._cursor = evaluated.cursor
        asked = {model.name: set(evaluated.get_requested_partitions(AssetKey(model.name))) for model in MODELS}
        return {name: keys for name, keys in asked.items() if keys}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Twenty days of three orders each, up to yesterday; each test looks at what happens from where it begins."""
    store = SampleStore(Shop(orders=build_orders(start=FIRST, days=20, per_day=3)))
    with (
        pytest.MonkeyPatch.context() as patch,
        running(store, tmp_path_factory.mktemp("shop"), patch) as project,
    ):
        project.settings["COMMERCE_ORDERS_START_DATE"] = FIRST.date().isoformat()
        project.run("orders", days=ALL_DAYS)
        yield project


def test_a_refresh_requests_its_days_and_the_full_rebuilds(loaded: World) -> None:
    sensor = Sensor(loaded)
    days = [(FIRST + timedelta(days=number)).date().isoformat() for number in (2, 3, 11)]
    for day in days:
        order = next(order for order in loaded.store.shop.orders if order["created_at"].startswith(day))
        loaded.store.update_order(order["id"], settled_gross="0.01")

    loaded.run("orders_refresh")

    assert sensor.tick() == {"order_items": {*days}, **WHOLE}
    # What has been asked for is not asked for again, also before it has run.
    assert sensor.tick() == {}


def test_a_refresh_that_touches_nothing_asks_for_nothing(loaded: World) -> None:
    sensor = Sensor(loaded)

    loaded.run("orders_refresh")

    assert sensor.tick() == {}


def test_a_day_that_is_pulled_again_asks_for_that_day(loaded: World) -> None:
    sensor = Sensor(loaded)
    day = (FIRST + timedelta(days=7)).date()

    loaded.run("orders", days=(day, day))

    assert sensor.tick() == {"order_items": {day.isoformat()}, **WHOLE}


def test_the_catalogue_requests_no_day_of_order_items(loaded: World) -> None:
    sensor = Sensor(loaded)

    loaded.run("catalog")

    assert sensor.tick() == {"product_performance": {None}, "subscription_orders": {None}}


def test_a_rebuild_by_hand_leaves_nothing_to_ask_for(loaded: World) -> None:
    sensor = Sensor(loaded)
    day = (FIRST + timedelta(days=7)).date()
    loaded.run("orders", days=(day, day))

    loaded.run("analytics", days=(day, day))

    assert sensor.tick() == {}


def test_changes_during_a_pull_are_requested_when_it_ends(loaded: World) -> None:
    sensor = Sensor(loaded)
    day = (FIRST + timedelta(days=5)).date()
    loaded.run("orders", days=(day, day))
    orders = loaded.definitions.resolve_job_def("orders")
    pull = loaded.instance.create_run_for_job(
        orders, status=DagsterRunStatus.STARTED, tags={"dagster/partition": day.isoformat()}
    )
    assert sensor.tick() == {}

    loaded.instance.report_run_failed(pull)

    assert sensor.tick() == {"order_items": {day.isoformat()}, **WHOLE}
