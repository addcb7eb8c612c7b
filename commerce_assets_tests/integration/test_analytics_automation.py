"""Automation of the marts: which partitions are requested after a run, and their health before the first build."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from dagster import AssetKey, DagsterRunStatus, evaluate_automation_conditions
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor

from commerce_assets.analytics.tables import MODELS
from commerce_assets_tests.support.shell import Shell
from commerce_assets_tests.support.world import World, running
from sample_store.shop import Shop, build_orders
from sample_store.store import SampleStore

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
FIRST = TODAY - timedelta(days=20)
ALL_DAYS = (FIRST.date(), (TODAY - timedelta(days=1)).date())
# The marts that need the history of orders are not built without it.
DEFINED = [model for model in MODELS if not model.needs_history]
WHOLE: dict[str, set[str | None]] = {
    **{model.name: {None} for model in DEFINED if not model.is_partitioned},
    "shop_report": {None},
}


class Sensor:
    """The automation conditions, evaluated tick by tick without launching a run."""

    def __init__(self, project: World) -> None:
        self.project = project
        self._cursor: AssetDaemonCursor | None = None
        # The first tick only initialises the cursor.
        assert self.tick() == {}

    def tick(self) -> dict[str, set[str | None]]:
        """Return the requested partitions by asset; an unpartitioned one has the partition None."""
        evaluated = evaluate_automation_conditions(
            defs=self.project.definitions, instance=self.project.instance, cursor=self._cursor
        )
        self._cursor = evaluated.cursor
        names = (*(model.name for model in DEFINED), "shop_report")
        requested = {name: set(evaluated.get_requested_partitions(AssetKey(name))) for name in names}
        return {name: keys for name, keys in requested.items() if keys}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Load twenty days of three orders each, up to yesterday; each test starts from where the last one ended."""
    store = SampleStore(Shop(orders=build_orders(start=FIRST, days=20, per_day=3)))
    with (
        pytest.MonkeyPatch.context() as patch,
        running(store, tmp_path_factory.mktemp("shop"), patch) as project,
    ):
        project.settings["COMMERCE_ORDERS_START_DATE"] = FIRST.date().isoformat()
        project.run("orders", days=ALL_DAYS)
        yield project


def test_a_refresh_requests_the_days_it_touched_and_whole_marts(loaded: World) -> None:
    sensor = Sensor(loaded)
    days = [(FIRST + timedelta(days=number)).date().isoformat() for number in (2, 3, 11)]
    for day in days:
        order = next(order for order in loaded.store.shop.orders if order["created_at"].startswith(day))
        loaded.store.update_order(order["id"], settled_gross="0.01")

    loaded.run("orders_refresh")

    assert sensor.tick() == {"order_items": {*days}, **WHOLE}
    # A request is not repeated, also before its run.
    assert sensor.tick() == {}


def test_a_refresh_without_changes_requests_nothing(loaded: World) -> None:
    sensor = Sensor(loaded)

    loaded.run("orders_refresh")

    assert sensor.tick() == {}


def test_a_day_extracted_again_requests_that_day(loaded: World) -> None:
    sensor = Sensor(loaded)
    day = (FIRST + timedelta(days=7)).date()

    loaded.run("orders", days=(day, day))

    assert sensor.tick() == {"order_items": {day.isoformat()}, **WHOLE}


def test_the_catalog_requests_marts_with_names_not_order_items(loaded: World) -> None:
    sensor = Sensor(loaded)

    loaded.run("catalog")

    # The report waits for the marts that were never built.
    assert sensor.tick() == {"product_performance": {None}, "subscription_orders": {None}}


def test_a_build_by_hand_leaves_nothing_to_request(loaded: World) -> None:
    sensor = Sensor(loaded)
    day = (FIRST + timedelta(days=7)).date()
    loaded.run("orders", days=(day, day))

    loaded.run("analytics", days=(day, day))

    assert sensor.tick() == {}


def test_a_change_during_a_load_is_requested_after_the_load(loaded: World) -> None:
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


def execute(project: World, sql: str) -> None:
    """Change the database without the project."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{project.path}' AS shop")
        connection.execute(sql)


def test_checks_of_a_mart_that_was_never_built_pass_as_not_yet(loaded: World) -> None:
    name = "subscription_orders"
    keys = {key for key in loaded.definitions.resolve_asset_graph().asset_check_keys if key.asset_key == AssetKey(name)}
    job = loaded.definitions.resolve_implicit_global_asset_job_def()
    job = job.get_subset(asset_selection=set(), asset_check_selection=keys)
    execute(loaded, f"DROP TABLE IF EXISTS shop.analytics.{name}")

    before = job.execute_in_process(instance=loaded.instance).get_asset_check_evaluations()
    execute(loaded, f"CREATE SCHEMA IF NOT EXISTS shop.analytics; CREATE TABLE shop.analytics.{name} (order_id BIGINT)")
    outdated = job.execute_in_process(instance=loaded.instance, raise_on_error=False).get_asset_check_evaluations()

    assert {(check.passed, check.description) for check in before} == {(True, "not yet built")}
    assert {check.passed for check in outdated} == {False}
    assert {check.check_name for check in before} == {key.name for key in keys}


def test_status_and_ui_agree_on_days_with_changes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SampleStore(Shop(orders=build_orders(start=FIRST, days=20, per_day=3)))
    loaded_day = (FIRST + timedelta(days=15)).date()
    monkeypatch.chdir(tmp_path)
    with running(store, tmp_path, monkeypatch) as project:
        project.settings["COMMERCE_ORDERS_START_DATE"] = FIRST.date().isoformat()
        project.run("orders", days=(loaded_day, loaded_day))
        project.run("orders_refresh")
        order = next(
            order for order in store.shop.orders if order["created_at"] > (FIRST + timedelta(days=17)).isoformat()
        )
        store.update_order(order["id"], settled_gross="0.01")
        project.run("orders_refresh")
        result = project.run("analytics", days=(loaded_day, loaded_day))
        in_ui = {
            check.check_name: check.passed
            for check in result.get_asset_check_evaluations()
            if check.asset_key == AssetKey("order_items")
        }
        status = json.loads(Shell(tmp_path, project.environment).run("status", "--format", "json").stdout)

    assert project.query(f"SELECT count(*) FROM orders WHERE id = {order['id']}") == [(1,)]
    assert set(in_ui.values()) == {True}
    (row,) = [table for table in status["tables"] if table["table"] == "analytics.order_items"]
    assert row["in_step"] == {"passed": True, "summary": "in step"}
