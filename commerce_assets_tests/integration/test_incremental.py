"""Late changes: the real refresh job against a store whose orders change after they were loaded."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetCheckEvaluation, AssetKey, DagsterRunStatus, ExecuteInProcessResult

from commerce_assets.defs.checks import build_check_specs
from commerce_assets_tests.support.clock import TwoClocks
from commerce_assets_tests.support.items import ORDERS
from commerce_assets_tests.support.machine import Machine, machine_of
from commerce_assets_tests.support.simulation import SimulatedShop
from commerce_assets_tests.support.world import World, copied, running
from sample_store.shop import Shop, build_orders
from sample_store.store import SampleStore
from sample_store.transport import Answer

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = 70
FIRST = TODAY - timedelta(days=DAYS)
ALL_DAYS = (FIRST.date(), (TODAY - timedelta(days=1)).date())


@pytest.fixture(scope="module")
def seventy_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    orders = build_orders(start=FIRST, days=DAYS, per_day=10)
    # The first refresh requests the newest row, too, if nothing has changed for a day, as late in the evening.
    orders[-1]["updated_at"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    folder = tmp_path_factory.mktemp("seventy-days")
    with pytest.MonkeyPatch.context() as patch, running(SampleStore(Shop(orders=orders)), folder, patch) as project:
        project.settings["COMMERCE_ORDERS_START_DATE"] = FIRST.date().isoformat()
        project.run("orders", days=ALL_DAYS)
        yield project


@pytest.fixture
def loaded(seventy_days: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Seventy days of ten orders each, up to yesterday, loaded; the store's request log is empty."""
    with copied(seventy_days, tmp_path, monkeypatch) as project:
        yield project


def touched(result: ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """The partitions that were reported as materialized, with their numbers."""
    events = [event.materialization for event in result.get_asset_materialization_events()]
    return {event.partition or "": {name: value.value for name, value in event.metadata.items()} for event in events}


def order_of(project: World, day: date) -> int:
    found = next(order for order in project.store.shop.orders if order["created_at"].startswith(day.isoformat()))
    return int(found["id"])


def order_of_now(number: int) -> dict[str, Any]:
    (order,) = build_orders(start=TODAY, days=1, per_day=1, first_id=number)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**order, "created_at": now, "updated_at": now}


def after_the_next_answer(store: SampleStore, change: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    respond, changes = store.respond, [change]

    def answer(path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        answered = respond(path, query, headers)
        if changes:
            changes.pop()()
        return answered

    monkeypatch.setattr(store, "respond", answer)


def test_a_refresh_without_changes_costs_at_most_two_requests(loaded: World) -> None:
    result = loaded.run("orders_refresh")

    assert loaded.requests() <= 2
    assert touched(result) == {}


def test_a_refund_of_an_old_order_arrives_with_the_next_refresh(loaded: World) -> None:
    """Fault 62."""
    day = (TODAY - timedelta(days=60)).date()
    order = order_of(loaded, day)
    loaded.store.update_order(order, refunded=True, settled_gross="0.00")
    before = loaded.query("SELECT count(*) FROM orders")

    result = loaded.run("orders_refresh")

    assert loaded.requests() <= 3
    assert loaded.query(f"SELECT refunded, settled_gross FROM orders WHERE id = {order}") == [(True, 0)]
    assert loaded.query("SELECT count(*) FROM orders") == before
    assert touched(result).keys() == {day.isoformat()}
    numbers = touched(result)[day.isoformat()]
    assert (numbers["rows_updated"], numbers["dagster/partition_row_count"]) == (1, 10)


def test_a_refresh_with_changes_evaluates_every_check(loaded: World) -> None:
    loaded.store.update_order(order_of(loaded, ALL_DAYS[0]), settled_gross="a lot")

    result = loaded.run("orders_refresh")

    passed = {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}
    every = loaded.definitions.resolve_asset_graph().asset_check_keys
    assert passed.keys() == {key.name for key in every if key.asset_key == AssetKey("orders")}
    assert {name for name, is_well in passed.items() if not is_well} == {"values_fit_their_types"}


@pytest.mark.parametrize("job", ["orders_refresh", "reconcile", "health_checks"])
def test_checks_of_a_killed_run_pass_after_the_next_run(loaded: World, job: str) -> None:
    """Whichever job runs next, and although it stores nothing."""
    killed = loaded.instance.create_run_for_job(
        loaded.definitions.resolve_job_def("orders"),
        status=DagsterRunStatus.STARTED,
        tags={
            "dagster/asset_partition_range_start": str(ALL_DAYS[0]),
            "dagster/asset_partition_range_end": str(ALL_DAYS[1]),
        },
    )
    own = {spec.name for spec in build_check_specs(endpoint=ORDERS)}
    running = loaded.check_statuses("orders")
    loaded.run(job)
    while_running = loaded.check_statuses("orders")
    loaded.instance.report_run_failed(killed)
    dead = loaded.check_statuses("orders")
    changed = touched(loaded.run(job))
    after = loaded.check_statuses("orders")

    assert set(running.values()) == {"IN_PROGRESS"}
    assert {while_running[name] for name in own} == {"IN_PROGRESS"}
    assert {dead[name] for name in own} == {"EXECUTION_FAILED"}
    assert changed == {}
    assert set(after.values()) == {"SUCCEEDED"}
    # Once is enough: a refresh without changes costs no checks.
    assert loaded.run("orders_refresh").get_asset_check_evaluations() == []


@pytest.mark.slow
def test_a_refund_400_days_late_rewrites_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = TODAY - timedelta(days=420)
    store = SampleStore(Shop(orders=build_orders(start=start, days=420, per_day=2)))
    with running(store, tmp_path, monkeypatch) as project:
        project.settings["COMMERCE_ORDERS_START_DATE"] = start.date().isoformat()
        project.run("orders", days=(start.date(), (TODAY - timedelta(days=1)).date()))
        day = (TODAY - timedelta(days=400)).date()
        order = order_of(project, day)
        store.update_order(order, refunded=True, settled_gross="0.00")
        store.forget_requests()
        before = dict(project.query("SELECT id, hash(o) FROM orders o"))

        result = project.run("orders_refresh")

        assert project.requests() <= 3
        after = project.query("SELECT id, hash(o) FROM orders o")
        assert len(after) == len(before)
        # `_extracted_at` is hashed with the rest: the row would differ if it had only been written again as it was.
        assert [number for number, hashed in after if before[number] != hashed] == [order]
        assert project.query(f"SELECT refunded, settled_gross FROM orders WHERE id = {order}") == [(True, 0)]
        assert touched(result).keys() == {day.isoformat()}
        assert touched(result)[day.isoformat()]["rows_updated"] == 1


def test_changes_on_many_days_report_just_those_partitions(loaded: World) -> None:
    days = [(TODAY - timedelta(days=back)).date() for back in (3, 17, 44)]
    for day in days:
        loaded.store.update_order(order_of(loaded, day), tag="looked at")

    result = loaded.run("orders_refresh")

    assert touched(result).keys() == {day.isoformat() for day in days}


def test_more_changes_than_a_page_holds_all_arrive(loaded: World) -> None:
    for order in range(1, 121):
        loaded.store.update_order(order, tag="sale")

    loaded.run("orders_refresh")

    assert loaded.query("SELECT count(*) FROM orders WHERE tag = 'sale'") == [(120,)]


def test_an_order_of_today_is_stored_but_today_no_partition(loaded: World) -> None:
    loaded.store.add_order(order_of_now(9_000))

    result = loaded.run("orders_refresh")

    assert loaded.query("SELECT count(*) FROM orders WHERE id = 9000") == [(1,)]
    assert TODAY.date().isoformat() not in touched(result)


def test_totals_of_a_refresh_are_reported_once(loaded: World) -> None:
    loaded.store.add_order(order_of_now(9_000))
    days = [(TODAY - timedelta(days=back)).date() for back in (9, 2)]
    for day in days:
        loaded.store.update_order(order_of(loaded, day), tag="looked at")

    result = loaded.run("orders_refresh")

    older, newest = (touched(result)[day.isoformat()] for day in days)
    (today,) = [
        {name: value.value for name, value in event.asset_observation_data.asset_observation.metadata.items()}
        for event in result.all_events
        if event.is_asset_observation
    ]
    assert [name for name in (*older, *today) if name.startswith("run/")] == []
    assert (newest["rows_updated"], newest["run/rows_updated"], newest["run/rows_inserted"]) == (1, 2, 1)
    assert today == {"rows_inserted": 1, "rows_updated": 0, "rows_unchanged": 0, "rows_removed": 0}


def test_a_day_with_only_late_changes_is_not_materialized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SampleStore(Shop(orders=build_orders(start=FIRST, days=DAYS, per_day=10)))
    with running(store, tmp_path, monkeypatch) as project:
        project.settings["COMMERCE_ORDERS_START_DATE"] = FIRST.date().isoformat()
        loaded_day, other_day = ((TODAY - timedelta(days=back)).date() for back in (20, 30))
        project.run("orders", days=(loaded_day, loaded_day))
        for day in (loaded_day, other_day):
            store.update_order(order_of(project, day), tag="looked at")

        result = project.run("orders_refresh")

        assert touched(result).keys() == {loaded_day.isoformat()}
        project.run("orders", days=(other_day, other_day))
        assert project.query(f"SELECT count(*) FROM orders WHERE created_at::DATE = '{other_day}'") == [(10,)]


def test_orders_of_before_the_first_partition_are_left_out(loaded: World) -> None:
    (order,) = build_orders(start=FIRST - timedelta(days=9), days=1, per_day=1, first_id=9_001)
    loaded.store.add_order({**order, "updated_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")})

    loaded.run("orders_refresh")

    assert loaded.query("SELECT count(*) FROM orders WHERE id = 9001") == [(0,)]


def test_an_ignored_filter_is_noticed_at_the_first_request(
    loaded: World,
) -> None:
    loaded.store.dialect.ignores_updated_after = True
    seen, too_old = ((TODAY - timedelta(days=back)).date() for back in (5, 60))
    for day in (seen, too_old):
        loaded.store.update_order(order_of(loaded, day), tag="looked at")

    result = loaded.run("orders_refresh")

    assert touched(result).keys() == {seen.isoformat()}
    first, *others = (request.query for request in loaded.store.requests_to("/orders"))
    assert "updated_after" in first
    assert all("from" in query for query in others)
    # Thirty days and the one before, in pages of fifty; a day less if the store was filled before midnight.
    # The last page may be empty, and one more request proves the end.
    rows = sum(order["created_at"][:10] >= others[0]["from"] for order in loaded.store.shop.orders)
    assert len(others) == rows // 50 + 2


def test_an_ignored_filter_is_in_the_log_and_in_a_check(loaded: World, capfd: pytest.CaptureFixture[str]) -> None:
    def evaluation() -> AssetCheckEvaluation:
        checks = loaded.run("health_checks").get_asset_check_evaluations()
        return next(check for check in checks if check.check_name == "updated_after_supported")

    loaded.store.dialect.ignores_updated_after = True
    loaded.run("orders_refresh")
    ignored = evaluation()

    assert "the store ignores updated_after; extracting" in capfd.readouterr().err
    assert not ignored.passed
    assert "COMMERCE_ORDERS_LOOKBACK_DAYS" in (ignored.description or "")

    loaded.store.dialect.ignores_updated_after = False
    loaded.run("orders_refresh")

    assert evaluation().passed


def test_older_changes_arrive_once_the_filter_is_honoured_again(loaded: World) -> None:
    loaded.run("orders_refresh")
    loaded.store.dialect.ignores_updated_after = True
    order = order_of(loaded, (TODAY - timedelta(days=60)).date())
    loaded.store.update_order(order, tag="out of reach")
    loaded.run("orders_refresh")
    assert loaded.query("SELECT count(*) FROM orders WHERE tag = 'out of reach'") == [(0,)]
    loaded.store.dialect.ignores_updated_after = False

    loaded.run("orders_refresh")

    assert loaded.query(f"SELECT tag FROM orders WHERE id = {order}") == [("out of reach",)]


def test_changes_during_a_refresh_arrive_with_the_next_one(loaded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 121):
        loaded.store.update_order(number, tag="sale")

    def change() -> None:
        for number in (10, 110):  # on a page that has been read, and on one that has not
            loaded.store.update_order(number, tag="changed again")

    after_the_next_answer(loaded.store, change, monkeypatch)

    loaded.run("orders_refresh")
    assert loaded.query("SELECT id, tag FROM orders WHERE id IN (10, 110) ORDER BY id") == [
        (10, "sale"),
        (110, "changed again"),
    ]

    loaded.run("orders_refresh")
    assert loaded.query("SELECT tag, count(*) FROM orders WHERE id <= 120 GROUP BY 1 ORDER BY 1") == [
        ("changed again", 2),
        ("sale", 118),
    ]


def test_a_refresh_continues_from_the_last_one_after_a_month(loaded: World) -> None:
    day = (TODAY - timedelta(days=40)).date()
    loaded.store.update_order(order_of(loaded, day), tag="first")
    loaded.run("orders_refresh")
    (mark,) = loaded.query("SELECT changed_up_to FROM commerce_loads.high_water_marks")
    loaded.store.forget_requests()
    loaded.store.update_order(order_of(loaded, day), tag="second")

    loaded.run("orders_refresh")

    request, _ = loaded.store.requests_to("/orders")
    asked = datetime.fromisoformat(request.query["updated_after"])
    # The first one has looked a whole day back; once a day is enough for that.
    assert asked == (mark[0] - timedelta(hours=1)).replace(microsecond=0)
    assert loaded.query("SELECT count(*) FROM orders WHERE tag = 'second'") == [(1,)]


def test_an_edit_of_the_same_second_as_the_last_one_is_seen(loaded: World) -> None:
    order = order_of(loaded, (TODAY - timedelta(days=2)).date())
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    loaded.store.update_order(order, tag="one", updated_at=stamp)
    loaded.run("orders_refresh")
    loaded.store.update_order(order, tag="two", updated_at=stamp)

    loaded.run("orders_refresh")

    assert loaded.query(f"SELECT tag FROM orders WHERE id = {order}") == [("two",)]


def test_a_store_with_old_orders_is_refreshed_from_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = datetime(2024, 3, 1, tzinfo=UTC)
    store = SampleStore(Shop(orders=build_orders(start=start, days=10, per_day=4)))
    with running(store, tmp_path, monkeypatch) as project:
        project.run("orders", days=(start.date(), date(2024, 3, 10)))
        store.forget_requests()
        store.update_order(1, refunded=True, updated_at="2024-03-11T08:00:00Z")

        result = project.run("orders_refresh")

        assert project.requests() <= 3
        assert touched(result).keys() == {"2024-03-01"}


def test_a_refresh_of_an_empty_warehouse_materializes_nothing(project: World) -> None:
    project.store.add_order(order_of_now(1))

    result = project.run("orders_refresh")

    assert project.query("SELECT count(*) FROM orders") == [(1,)]
    assert touched(result) == {}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine that has followed the changes of a shop up to this afternoon; the shop does not change from then on."""
    shop = SimulatedShop(TwoClocks(datetime(2024, 1, 1, tzinfo=UTC)), orders_a_day=10, seed=7)
    with machine_of(shop, tmp_path, monkeypatch) as machine:
        machine.api.is_alive = False
        shop.live_until(datetime(2024, 1, 2, 0, 10, tzinfo=UTC))
        machine.run_scheduled_day()
        shop.live_until(datetime(2024, 1, 2, 14, tzinfo=UTC))
        machine.run("orders_refresh")
        yield machine


def mark_of(machine: Machine) -> datetime:
    ((mark,),) = machine.project.query("SELECT changed_up_to FROM commerce_loads.high_water_marks")
    assert isinstance(mark, datetime)
    return mark


def asked_for(machine: Machine) -> datetime:
    """From which instant on the last refresh has asked for changes."""
    machine.run("orders_refresh")
    return datetime.fromisoformat(machine.server.requests[0].query["updated_after"])


def test_an_order_visible_an_hour_late_arrives(machine: Machine) -> None:
    mark = mark_of(machine)
    (order,) = build_orders(start=mark - timedelta(hours=1), days=1, per_day=1, first_id=9_000)
    stamp = (mark - timedelta(minutes=55)).strftime("%Y-%m-%dT%H:%M:%SZ")
    machine.clocks.store += timedelta(hours=1)
    machine.shop.store.add_order({**order, "created_at": stamp, "updated_at": stamp})

    assert asked_for(machine) == mark - timedelta(hours=1)
    assert machine.project.query("SELECT count(*) FROM orders WHERE id = 9000") == [(1,)]


def test_once_a_day_a_refresh_requests_a_whole_day_again(machine: Machine) -> None:
    mark = mark_of(machine)

    machine.clocks.store += timedelta(hours=19)
    assert asked_for(machine) == mark - timedelta(hours=1)
    machine.clocks.store += timedelta(hours=2)
    assert asked_for(machine) == mark - timedelta(days=1)
    machine.clocks.store += timedelta(hours=2)
    assert asked_for(machine) == mark - timedelta(hours=1)


def test_a_clock_once_a_year_ahead_still_requests_a_whole_day(machine: Machine) -> None:
    mark = mark_of(machine)
    machine.clocks.skew = timedelta(days=365)
    assert asked_for(machine) == mark - timedelta(days=1)

    machine.clocks.skew = timedelta()
    assert asked_for(machine) == mark - timedelta(days=1)
    assert mark_of(machine) == mark


def test_with_history_a_refund_is_a_new_version_of_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SampleStore(Shop(orders=build_orders(start=TODAY - timedelta(days=2), days=2, per_day=3)))
    with running(store, tmp_path, monkeypatch) as project:
        project.settings["COMMERCE_ORDER_HISTORY"] = "true"
        days = [(TODAY - timedelta(days=back)).date() for back in (2, 1)]
        project.settings["COMMERCE_ORDERS_START_DATE"] = days[0].isoformat()
        project.run("orders", days=(days[0], days[1]))
        order = order_of(project, days[0])
        store.update_order(order, refunded=True, tag="refunded")

        result = project.run("orders_refresh")

        versions = "SELECT tag = 'refunded', valid_to IS NULL FROM orders_history WHERE id = "
        assert project.query(f"{versions} {order} ORDER BY valid_from") == [(None, False), (True, True)]
        assert project.query("SELECT count(*) FROM orders_history") == [(7,)]
        assert touched(result)[days[0].isoformat()]["fields_changed"].keys() >= {"refunded", "tag", "updated_at"}
