"""Reconciliation: count the store's rows by a search of its list, and extract the days again that differ."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dagster import AssetCheckKey, AssetKey, ExecuteInProcessResult

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.offset_search import BudgetSpentError, NotInOrderError, OffsetSearch
from commerce_assets.api.request import ListRequest
from commerce_assets.hints import program
from commerce_assets.ingest.reconciliation import reconcile
from commerce_assets.window import Window
from commerce_assets_tests.support.faulty_store import Exchange
from commerce_assets_tests.support.items import BY_NAME, order, orders, store_of
from commerce_assets_tests.support.world import World, copied, running, serving
from sample_store.dialect import Dialect
from sample_store.shop import Shop, build_orders
from sample_store.store import SampleStore
from sample_store.transport import Answer
from sample_store.values import timestamp

ORDERS = BY_NAME["orders"]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = 100
FIRST = TODAY - timedelta(days=DAYS)
COMPLETE = AssetCheckKey(AssetKey("orders"), "complete")
MIDNIGHT = datetime(2024, 3, 15, tzinfo=UTC)


# The search


def serve_evenly(start: datetime, every: timedelta, count: int, *, clamp: int = 50, hidden: int | None = None) -> Any:
    """A store of any number of orders, one at each tick of a clock: what a page holds is computed, not kept.

    The order `hidden`, from 0, is left out after its page has been cut out.
    """

    def serve(exchange: Exchange) -> None:
        query = exchange.request.query
        size = min(int(query["per_page"]), clamp)
        first = (int(query["page"]) - 1) * size
        numbers = range(first, min(first + size, count))
        items = [{"order": order(number + 1, start + number * every)} for number in numbers if number != hidden]
        exchange.send_answer(Answer(HTTPStatus.OK, {"content-type": "application/json"}, json.dumps(items).encode()))

    return serve


def positions(puller: World, window: Window, budget: int) -> OffsetSearch:
    client, decoder = puller.client(), PageDecoder(ORDERS)
    pull = ListRequest(endpoint=ORDERS, window=window)
    return OffsetSearch(lambda number: client.page(pull, decoder, number), per_page=50, budget=budget)


@pytest.fixture
def puller(tmp_path: Path) -> Iterator[World]:
    with serving(store_of(), tmp_path) as puller:
        yield puller


@pytest.mark.parametrize("clamp", [50, 20, 15, 1])
@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 100, 730])
def test_the_rows_before_an_instant_are_found_whatever_the_guess(puller: World, count: int, clamp: int) -> None:
    """Faults 70 and 83."""
    every = timedelta(minutes=10)
    puller.server.script(otherwise=serve_evenly(MIDNIGHT, every, count, clamp=clamp))
    window = Window.of_days(MIDNIGHT.date(), MIDNIGHT.date() + timedelta(days=10))
    for about in (0, count, count // 2, 10 * count + 1_000):
        found = positions(puller, window, 1_000)
        for before in {0, 1, 49, 50, 51, 99, 100, count - 1, count, count + 1}:
            instant = MIDNIGHT + before * every
            assert found.before(instant, about=about) == min(max(before, 0), count), (about, before)


def test_a_row_hidden_after_limit_moves_no_position(puller: World) -> None:
    """Faults 69 and 83: only the last page of the list shows by its length where the list ends."""
    every = timedelta(minutes=10)
    puller.server.script(otherwise=serve_evenly(MIDNIGHT, every, 140, hidden=70))
    found = positions(puller, Window.of_days(MIDNIGHT.date(), MIDNIGHT.date()), 1_000)
    assert [found.before(MIDNIGHT + before * every, about=before) for before in (100, 200)] == [100, 140]


@pytest.mark.parametrize("clamp", [50, 25])
def test_one_order_missing_among_a_million_is_found_by_day(puller: World, clamp: int) -> None:
    """Fault 83."""
    every, count = timedelta(seconds=90), 1_000_000
    first, days = datetime(2023, 1, 1, tzinfo=UTC), 1_041
    puller.server.script(otherwise=serve_evenly(first, every, count, clamp=clamp))
    window = Window.of_days(first.date(), first.date() + timedelta(days=days - 1))
    stored = {first.date() + timedelta(days=n): 960 for n in range(days)}
    missing = first.date() + timedelta(days=777)
    stored[missing] -= 1

    found = reconcile(positions(puller, window, 200), stored, window)

    assert [(d.window.first_day, d.window.last_day, d.in_store, d.stored) for d in found.differences] == [
        (missing, missing, 960, 959)
    ]
    assert (found.in_store, found.stored) == (days * 960, days * 960 - 1)
    assert found.requests == len(puller.server.requests) <= 100


def test_a_surplus_order_does_not_hide_one_missing_elsewhere(puller: World) -> None:
    puller.server.script(otherwise=serve_evenly(MIDNIGHT, timedelta(hours=1), 24 * 90))
    window = Window.of_days(MIDNIGHT.date(), MIDNIGHT.date() + timedelta(days=89))
    days = [MIDNIGHT.date() + timedelta(days=n) for n in range(90)]
    stored = dict.fromkeys(days, 24) | {days[3]: 23, days[80]: 25}

    found = reconcile(positions(puller, window, 200), stored, window)

    assert [difference.window.first_day for difference in found.differences] == [days[3], days[80]]


def test_a_spent_budget_leaves_a_wider_difference(puller: World) -> None:
    puller.server.script(otherwise=serve_evenly(MIDNIGHT, timedelta(minutes=3), 480 * 64))
    window = Window.of_days(MIDNIGHT.date(), MIDNIGHT.date() + timedelta(days=63))
    days = [MIDNIGHT.date() + timedelta(days=n) for n in range(64)]

    found = reconcile(positions(puller, window, 12), dict.fromkeys(days, 480) | {days[50]: 0}, window)

    assert not found.within_budget
    (difference,) = found.differences
    assert difference.window.start < datetime.combine(days[50], MIDNIGHT.time(), UTC) < difference.window.end
    assert difference.in_store - difference.stored == 480
    assert found.requests == 12


def test_a_budget_below_the_two_ends_is_an_error(puller: World) -> None:
    puller.server.script(otherwise=serve_evenly(MIDNIGHT, timedelta(minutes=1), 10_000))
    window = Window.of_days(MIDNIGHT.date(), MIDNIGHT.date() + timedelta(days=5))
    with pytest.raises(BudgetSpentError, match="raise COMMERCE_RECONCILE_REQUESTS"):
        reconcile(positions(puller, window, 2), {}, window)


@pytest.mark.parametrize("oldest_first", [True, False])
def test_a_list_that_is_not_oldest_first_is_an_error(puller: World, *, oldest_first: bool) -> None:
    items = orders(300, start=MIDNIGHT)
    if oldest_first:
        items[120], items[121] = items[121], items[120]
        puller.server.store.shop.orders[:] = items
    else:
        puller.server.store.shop.orders[:] = items
        puller.server.store.dialect = Dialect(oldest_first=False)
    puller.server.store.touch()
    window = Window.of_days(MIDNIGHT.date(), MIDNIGHT.date() + timedelta(days=1))
    found = positions(puller, window, 100)
    if oldest_first:  # the store sorts what it has
        assert found.before(MIDNIGHT + timedelta(days=1), about=300) == 300
        return
    with pytest.raises(NotInOrderError, match="is not in the order of creation"):
        found.before(MIDNIGHT + timedelta(minutes=100), about=100)


# The job


@pytest.fixture(scope="module")
def hundred_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    store = SampleStore(Shop(orders=build_orders(start=FIRST, days=DAYS, per_day=24)))
    folder = tmp_path_factory.mktemp("hundred-days")
    with pytest.MonkeyPatch.context() as patch, running(store, folder, patch) as project:
        project.settings["COMMERCE_ORDERS_START_DATE"] = FIRST.date().isoformat()
        project.run("orders", days=(FIRST.date(), (TODAY - timedelta(days=1)).date()))
        yield project


@pytest.fixture
def loaded(hundred_days: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A hundred days of 24 orders each, up to yesterday, loaded; the store's request log is empty."""
    with copied(hundred_days, tmp_path, monkeypatch) as project:
        yield project


def ids(project: World) -> set[int]:
    return {row[0] for row in project.query("SELECT id FROM orders")}


def in_store(project: World) -> set[int]:
    return {item["id"] for item in project.store.shop.orders}


def lose(project: World, *order_ids: int) -> None:
    """Delete rows from the warehouse without the project."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{project.path}' AS shop")
        connection.execute(f"DELETE FROM shop.commerce.orders WHERE id IN ({', '.join(map(str, order_ids))})")


def completeness(project: World) -> tuple[bool, str]:
    (record,) = project.instance.event_log_storage.get_asset_check_execution_history(COMPLETE, limit=1)
    assert record.event is not None
    assert record.event.dagster_event is not None
    evaluation = record.event.dagster_event.asset_check_evaluation_data
    return evaluation.passed, str(evaluation.description)


def warnings(project: World, result: ExecuteInProcessResult) -> list[str]:
    return [entry.user_message for entry in project.instance.all_logs(result.run_id) if entry.level == logging.WARNING]


def reported(result: ExecuteInProcessResult) -> list[str]:
    return [str(event.materialization.partition) for event in result.get_asset_materialization_events()]


def test_a_complete_warehouse_costs_a_few_requests(loaded: World) -> None:
    result = loaded.run("reconcile")

    # Two ends, and fifteen weeks between them.
    assert loaded.requests() <= 2 * 17
    assert reported(result) == []
    passed, summary = completeness(loaded)
    assert passed
    assert summary.startswith("2,400 rows in the store and here (")
    ((value,),) = loaded.query("SELECT value FROM commerce_loads.notes WHERE kind = 'reconciliation'")
    found = json.loads(value)
    assert (found["in_store"], found["stored"], found["differences"]) == (2_400, 2_400, [])


def test_days_that_differ_are_extracted_again_and_complete(loaded: World) -> None:
    lost, deleted = loaded.store.shop.orders[5 * 24 + 3], loaded.store.shop.orders[60 * 24 + 7]
    lose(loaded, lost["id"])
    loaded.store.delete("orders", deleted["id"])
    loaded.store.add_order({**order(999_999, FIRST + timedelta(days=90, hours=3)), "updated_at": timestamp(FIRST)})

    result = loaded.run("reconcile")

    assert ids(loaded) == in_store(loaded)
    days = [(FIRST + timedelta(days=n)).date().isoformat() for n in (5, 60, 90)]
    assert reported(result) == days
    assert completeness(loaded)[0]
    # The report is written once, after the repair.
    (noted_at, value, loaded_at), *others = loaded.query(
        "SELECT noted_at, value, (SELECT max(loaded_at) FROM commerce_loads.loads) "
        "FROM commerce_loads.notes WHERE kind = 'reconciliation'"
    )
    assert not others
    assert noted_at >= loaded_at
    assert json.loads(value)["differences"] == []
    # The reported days are newer than any check, so every check is evaluated again.
    every = loaded.definitions.resolve_asset_graph().asset_check_keys
    evaluated = {evaluation.check_name for evaluation in result.get_asset_check_evaluations()}
    assert evaluated == {key.name for key in every if key.asset_key == AssetKey("orders")}
    assert loaded.requests() <= 100


def test_differences_can_be_reported_without_a_repair(loaded: World) -> None:
    lose(loaded, loaded.store.shop.orders[5 * 24 + 3]["id"])

    result = loaded.run("reconcile", config={"ops": {"reconcile_orders": {"config": {"repair": False}}}})

    assert len(ids(loaded)) == 2_399
    assert reported(result) == []
    day = (FIRST + timedelta(days=5)).date()
    passed, summary = completeness(loaded)
    assert not passed
    assert summary.startswith(f"{day}: 24 in the store, 23 here (")
    assert warnings(loaded, result) == [f"orders of {day}: 24 in the store, 23 here"]


def sort_by_id(project: World) -> None:
    """Import a back-dated order into the store, which lists orders by id."""
    project.store.dialect.sorted_by_id = True
    project.store.add_order({**order(999_999, FIRST + timedelta(days=9, hours=3)), "updated_at": timestamp(FIRST)})


def test_a_list_that_is_not_sorted_is_extracted_again(loaded: World) -> None:
    """Fault 75."""
    sort_by_id(loaded)
    loaded.store.delete("orders", loaded.store.shop.orders[60 * 24 + 7]["id"])

    result = loaded.run("reconcile")

    assert ids(loaded) == in_store(loaded)
    assert len(reported(result)) == DAYS
    passed, summary = completeness(loaded)
    assert passed
    assert summary.startswith("2,400 rows in the store and here (")
    # A deleted order takes a second reading.
    assert loaded.requests() <= 2 * (2_400 // 50 + 2) + 4


@pytest.mark.parametrize("config", [{"requests": 49}, {"repair": False}])
def test_an_unsorted_list_beyond_the_budget_is_an_error(loaded: World, config: dict[str, Any]) -> None:
    sort_by_id(loaded)

    result = loaded.run("reconcile", config={"ops": {"reconcile_orders": {"config": config}}}, expect_success=False)

    assert not result.success
    assert loaded.requests() < 49
    assert len(ids(loaded)) == 2_400


def is_of(item: dict[str, Any], n: int) -> bool:
    return bool(item["created_at"].startswith((FIRST + timedelta(days=n)).date().isoformat()))


def test_gaps_are_filled_and_days_before_the_first_load_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of day 43 the store has no order: it differs from nothing, and was never loaded either.
    orders = [item for item in build_orders(start=FIRST, days=DAYS, per_day=3) if not is_of(item, 43)]
    store = SampleStore(Shop(orders=orders))
    with running(store, tmp_path, monkeypatch) as project:
        project.settings["COMMERCE_ORDERS_START_DATE"] = FIRST.date().isoformat()
        for n in (40, 44, 45):
            day = (FIRST + timedelta(days=n)).date()
            project.run("orders", days=(day, day))

        result = project.run("reconcile")

        assert ids(project) == {item["id"] for item in store.shop.orders[40 * 3 :]}
        assert reported(result)[:3] == [(FIRST + timedelta(days=n)).date().isoformat() for n in (41, 42, 43)]
        passed, summary = completeness(project)
        assert not passed
        first, last = FIRST.date(), (FIRST + timedelta(days=39)).date()
        assert summary == (
            f"40 days from {first} were never loaded: backfill orders "
            f"(`{program()} pull orders --from {first} --to {last}`, or Materialize `[{first}...{last}]` in the UI)"
        )
        assert f"orders: {summary}" in warnings(project, result)


def test_before_the_first_load_reconcile_names_the_days_to_load(project: World) -> None:
    result = project.run("reconcile")

    assert result.success
    assert project.requests() == 0
    (warning,) = warnings(project, result)
    assert "days from 2024-01-01 were never loaded: backfill orders (`" in warning
