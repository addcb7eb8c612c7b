"""Health checks: freshness, completeness and change tracking, queried from the warehouse whatever ran last."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest
from dagster import AssetCheckEvaluation, ExecuteInProcessResult

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse import freshness
from commerce_assets.warehouse.check_queries import CheckOutcome
from commerce_assets.warehouse.load_log import Kind, days_never_loaded, write_note
from commerce_assets_tests.support.items import BY_NAME, ORDERS, PRODUCTS, days, order, product
from commerce_assets_tests.support.world import World
from sample_store.shop import Shop, build_orders

NOW = datetime(2024, 3, 16, 12, tzinfo=UTC)
START, YESTERDAY = "2024-03-11", "2024-03-15"

Check = Callable[[duckdb.DuckDBPyConnection, Endpoint, date, datetime], CheckOutcome]


def outcome(
    storage: World, check: Check, endpoint: Endpoint = ORDERS, *, start: str = START, now: datetime = NOW
) -> CheckOutcome:
    with storage.file.read() as connection:
        return check(connection, endpoint, date.fromisoformat(start), now)


def date_loads(storage: World, at: datetime) -> None:
    """Set the time of every load so far."""
    storage.execute(f"UPDATE commerce_loads.loads SET loaded_at = TIMESTAMPTZ '{at.isoformat()}'")


def load_days(storage: World, *, at: datetime, refreshed: bool = True) -> None:
    storage.load(ORDERS, [order(1)], window=days(START, YESTERDAY))
    if refreshed:
        storage.load(ORDERS, [order(1)], updated_after=NOW - timedelta(days=2))
    date_loads(storage, at)


def note(storage: World, kind: Kind, **value: object) -> None:
    with storage.file.write() as connection:
        write_note(connection, ORDERS, kind, value)


# Days that were never loaded


@pytest.mark.parametrize(
    ("loaded", "missing"),
    [
        ([], "11 12 13 14 15"),
        ([("2024-03-11", "2024-03-15")], ""),
        ([("2024-03-01", "2024-03-31")], ""),
        ([("2024-03-12", "2024-03-12"), ("2024-03-14", "2024-03-14")], "11 13 15"),
        ([("2024-03-13", "2024-03-20"), ("2024-03-13", "2024-03-13"), ("2024-03-01", "2024-03-11")], "12"),
        ([("2024-04-01", "2024-04-02"), ("2024-02-01", "2024-02-02")], "11 12 13 14 15"),
    ],
)
def test_days_never_loaded_are_in_no_loaded_window(storage: World, loaded: list[tuple[str, str]], missing: str) -> None:
    storage.load(PRODUCTS, [product(1)])
    for first, last in loaded:
        storage.load(ORDERS, [order(1, f"{first}T00:00:00Z")], window=days(first, last))

    with storage.file.read() as connection:
        found = days_never_loaded(
            connection, ORDERS, first=date.fromisoformat(START), last=date.fromisoformat(YESTERDAY)
        )

    assert found == [date(2024, 3, int(day)) for day in missing.split()]


def test_a_day_loaded_before_its_end_was_never_loaded(storage: World) -> None:
    """Fault 83: by the store's clock, two hours of the last day were still to come."""
    storage.load(ORDERS, [order(1)], window=days("2024-03-14", YESTERDAY))
    storage.execute("UPDATE commerce_loads.loads SET began_at_store = TIMESTAMPTZ '2024-03-15 22:00:00Z'")

    with storage.file.read() as connection:
        found = days_never_loaded(connection, ORDERS, first=date(2024, 3, 14), last=date(2024, 3, 15))

    assert found == [date(2024, 3, 15)]


@pytest.mark.parametrize("check", [freshness.fresh, freshness.complete])
def test_days_never_loaded_fail_with_the_command_that_helps(storage: World, check: Check) -> None:
    """Fault 83."""
    storage.load(ORDERS, [order(1)], window=days("2024-03-14", YESTERDAY))
    storage.load(ORDERS, [order(1)], updated_after=NOW - timedelta(days=2))
    date_loads(storage, NOW)

    found = outcome(storage, check, start="2023-11-24")

    assert not found.passed
    assert found.summary == (
        "111 days from 2023-11-24 were never loaded: backfill orders "
        "(`commerce-assets pull orders --from 2023-11-24 --to 2024-03-13`, or "
        "Materialize `[2023-11-24...2024-03-13]` in the UI)"
    )


def test_completeness_names_missing_days_beside_a_good_report(storage: World) -> None:
    storage.load(ORDERS, [order(1)], window=days(YESTERDAY))
    note(storage, Kind.RECONCILIATION, **FOUND, differences=[])

    found = outcome(storage, freshness.complete, start="2024-03-14", now=NOW)

    assert not found.passed
    assert found.summary.startswith("2024-03-14 was never loaded: backfill orders")
    assert found.evidence["days_never_loaded"] == 1


@pytest.mark.parametrize(("hour", "passed"), [(0, True), (1, True), (2, True), (3, False), (12, False), (23, False)])
def test_yesterday_is_due_three_hours_after_midnight(storage: World, hour: int, *, passed: bool) -> None:
    now = datetime(2024, 3, 17, hour, tzinfo=UTC)
    load_days(storage, at=now)

    assert outcome(storage, freshness.fresh, now=now).passed is passed
    assert outcome(storage, freshness.complete, now=now).passed is passed


def test_no_day_before_the_start_date_is_due(storage: World) -> None:
    storage.load(ORDERS, [order(1)], window=days(YESTERDAY))
    for hour in range(24):
        now = datetime(2024, 3, 16, hour, tzinfo=UTC)
        date_loads(storage, now)
        assert outcome(storage, freshness.fresh, start=YESTERDAY, now=now).passed
        assert outcome(storage, freshness.complete, start=YESTERDAY, now=now).passed


# Freshness


def test_orders_with_all_days_and_a_recent_refresh_are_fresh(storage: World) -> None:
    load_days(storage, at=NOW - timedelta(hours=2))

    found = outcome(storage, freshness.fresh)

    assert found == CheckOutcome(passed=True, summary="every day up to 2024-03-15 is loaded; refreshed 2 hours ago")


def test_a_backfill_of_an_old_day_does_not_make_orders_fresh(storage: World) -> None:
    storage.load(ORDERS, [order(1, "2024-03-12T12:00:00Z")], window=days("2024-03-11", "2024-03-14"))
    date_loads(storage, NOW)

    found = outcome(storage, freshness.fresh)

    assert not found.passed
    assert found.summary.startswith("2024-03-15 was never loaded: backfill orders")


@pytest.mark.parametrize(("minutes", "passed"), [(0, True), (179, True), (181, False), (6000, False)])
def test_a_refresh_that_never_ran_is_not_yet_due_for_three_hours(storage: World, minutes: int, *, passed: bool) -> None:
    load_days(storage, at=NOW - timedelta(minutes=minutes), refreshed=False)

    found = outcome(storage, freshness.fresh)

    assert (found.passed, found.pending) == (passed, passed)
    assert found.summary == (
        "not yet refreshed; every day up to 2024-03-15 is loaded"
        if passed
        else "never refreshed: run the job orders_refresh"
    )


def test_orders_not_refreshed_for_hours_are_not_fresh(storage: World) -> None:
    load_days(storage, at=NOW - timedelta(hours=3, minutes=1))

    found = outcome(storage, freshness.fresh)

    assert not found.passed
    assert found.summary == "last refreshed 3 hours ago: run the job orders_refresh"


@pytest.mark.parametrize(("hours", "passed"), [(0, True), (26, True), (27, False), (200, False)])
def test_an_unpartitioned_list_is_fresh_for_a_day(storage: World, hours: int, *, passed: bool) -> None:
    storage.load(PRODUCTS, [product(1)])
    date_loads(storage, NOW - timedelta(hours=hours))

    assert outcome(storage, freshness.fresh, PRODUCTS).passed is passed


def test_an_endpoint_that_was_never_loaded_is_not_fresh(storage: World) -> None:
    storage.load(PRODUCTS, [product(1)])

    packages = outcome(storage, freshness.fresh, BY_NAME["packages"])
    assert packages == CheckOutcome(passed=False, summary="never loaded: run the job catalog")
    assert outcome(storage, freshness.fresh).summary.startswith("5 days from 2024-03-11 were never loaded")


# Completeness

FOUND = {"first_day": "2024-01-01", "last_day": "2024-03-15", "in_store": 1200, "stored": 1200, "requests": 7}


@pytest.mark.parametrize(("age", "passed"), [(0, True), (7, True), (9, False)])
def test_a_reconciliation_that_never_ran_is_due_in_a_week(storage: World, age: int, *, passed: bool) -> None:
    load_days(storage, at=NOW - timedelta(days=age))

    found = outcome(storage, freshness.complete)

    assert (found.passed, found.pending) == (passed, passed)
    assert found.summary == (
        "not yet compared with the store" if passed else "never compared with the store: run the job reconcile"
    )


@pytest.mark.parametrize(
    ("differences", "later", "summary"),
    [
        ([], timedelta(0), "1,200 rows in the store and here (2024-01-01...2024-03-15, compared 0 minutes ago)"),
        (
            ["2024-02-03: 24 in the store, 23 here"],
            timedelta(0),
            "2024-02-03: 24 in the store, 23 here (2024-01-01...2024-03-15, compared 0 minutes ago): run the job",
        ),
        ([], timedelta(days=9), "last compared with the store 9 days ago: run the job reconcile"),
    ],
)
def test_completeness_is_the_last_report_until_it_is_too_old(
    storage: World, differences: list[str], later: timedelta, summary: str
) -> None:
    now = datetime.now(UTC) + later
    storage.load(ORDERS, [order(1)], window=days(YESTERDAY))
    note(storage, Kind.RECONCILIATION, **FOUND, differences=differences)

    found = outcome(storage, freshness.complete, start=now.date().isoformat(), now=now)

    assert found.summary.startswith(summary)
    assert found.passed is (not differences and not later)
    assert not found.pending


# Change tracking


@pytest.mark.parametrize("honoured", [True, False])
def test_an_ignored_filter_is_a_warning(storage: World, *, honoured: bool) -> None:
    storage.load(ORDERS, [order(1)], window=days(YESTERDAY))
    note(storage, Kind.UPDATE_FILTER, is_supported=honoured)

    found = outcome(storage, freshness.updated_after_supported, now=datetime.now(UTC))

    assert found.passed is honoured
    assert ("COMMERCE_ORDERS_LOOKBACK_DAYS" in found.summary) is not honoured


def test_a_filter_that_was_never_requested_is_not_yet_known(storage: World) -> None:
    load_days(storage, at=NOW, refreshed=False)

    found = outcome(storage, freshness.updated_after_supported)

    assert (found.passed, found.pending) == (True, True)
    assert found.summary == "updated_after was not yet requested"


# The job


def results(result: ExecuteInProcessResult) -> dict[tuple[str, str], AssetCheckEvaluation]:
    return {
        (check.asset_key.to_user_string(), check.check_name): check for check in result.get_asset_check_evaluations()
    }


def set_up_days(project: World, *, per_day: int) -> tuple[date, date]:
    """Let the shop have five days of orders, from its start date to yesterday."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=5)
    project.settings["COMMERCE_ORDERS_START_DATE"] = start.date().isoformat()
    project.store.shop = Shop(orders=build_orders(start=start, days=5, per_day=per_day))
    project.store.touch()
    return start.date(), (today - timedelta(days=1)).date()


def test_a_perfect_first_load_is_green(project: World) -> None:
    all_days = set_up_days(project, per_day=3)
    project.run("catalog")
    project.run("orders", days=all_days)
    requests = project.requests()

    first = results(project.run("health_checks"))
    assert project.requests() == requests
    project.run("orders_refresh")
    project.run("reconcile")
    second = results(project.run("health_checks"))

    assert first.keys() == second.keys()
    assert all(check.passed for check in [*first.values(), *second.values()])
    orders = [first["orders", name] for name in ("fresh", "complete", "updated_after_supported")]
    assert all("not yet" in str(check.description) for check in orders)
    assert not any("not yet" in str(check.description) for check in second.values())


def test_before_the_first_load_the_checks_say_what_to_load(project: World) -> None:
    set_up_days(project, per_day=3)

    result = project.run("health_checks")

    checks = results(result)
    assert result.success
    assert checks["products", "fresh"].description == "never loaded: run the job catalog"
    for name in ("fresh", "complete"):
        assert not checks["orders", name].passed
        assert "commerce-assets pull orders --from " in str(checks["orders", name].description)
    assert checks["orders", "updated_after_supported"].passed
    assert not project.path.exists()


def test_a_store_that_ignores_the_filter_warns_and_is_fresh(project: World) -> None:
    all_days = set_up_days(project, per_day=30)
    project.store.dialect.ignores_updated_after = True
    project.run("orders", days=all_days)
    for item in project.store.shop.orders[:40]:
        item["updated_at"] = "2020-01-01T00:00:00Z"
    project.store.touch()

    project.run("orders_refresh")

    checks = results(project.run("health_checks"))
    assert not checks["orders", "updated_after_supported"].passed
    assert checks["orders", "fresh"].passed
