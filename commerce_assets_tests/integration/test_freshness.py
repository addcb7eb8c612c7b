"""How things stand with a table, asked of the warehouse: no run makes fresh, complete or in step what is not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from dagster import AssetCheckEvaluation, ExecuteInProcessResult

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse import freshness
from commerce_assets.warehouse.check_queries import CheckOutcome
from commerce_assets.warehouse.notes import Kind, write_note
from commerce_assets_tests.support.project import Project, endpoint_named
from commerce_assets_tests.support.staged import ORDERS, PRODUCTS, Storage, days, order, product
from sample_store.shop import Shop, build_orders

NOW = datetime(2024, 3, 16, 12, tzinfo=UTC)
YESTERDAY = "2024-03-15"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def ask(
    storage: Storage,
    question: Callable[[duckdb.DuckDBPyConnection, Endpoint, datetime], CheckOutcome],
    endpoint: Endpoint = ORDERS,
    *,
    now: datetime = NOW,
) -> CheckOutcome:
    with storage.database.read() as connection:
        return question(connection, endpoint, now)


def loaded_at(storage: Storage, at: datetime) -> None:
    """Has every load so far have been at that time."""
    storage.execute(f"UPDATE commerce_loads.loads SET loaded_at = TIMESTAMPTZ '{at.isoformat()}'")


def load_yesterday_and_changes(storage: Storage, *, at: datetime) -> None:
    storage.load(ORDERS, [order(1)], window=days(YESTERDAY))
    storage.load(ORDERS, [order(1)], updated_after=NOW - timedelta(days=2))
    loaded_at(storage, at)


def test_orders_are_fresh_when_yesterday_is_loaded_and_changes_were_followed_within_hours(storage: Storage) -> None:
    load_yesterday_and_changes(storage, at=NOW - timedelta(hours=2))

    finding = ask(storage, freshness.fresh)

    assert finding == CheckOutcome(passed=True, summary="2024-03-15 is loaded; late changes were followed 2 hours ago")


def test_a_backfill_of_an_old_day_makes_no_orders_fresh(storage: Storage) -> None:
    storage.load(ORDERS, [order(1, "2024-02-01T12:00:00Z")], window=days("2024-02-01"))
    loaded_at(storage, NOW)

    finding = ask(storage, freshness.fresh)

    assert not finding.passed
    missing, late = finding.summary.split("; ")
    assert missing == "2024-03-15 is not loaded: run the job orders"
    assert late == "late changes were never followed: run the job orders_refresh"


@pytest.mark.parametrize(("hour", "passed"), [(1, True), (2, True), (3, False), (12, False)])
def test_yesterday_is_due_three_hours_after_midnight(storage: Storage, hour: int, *, passed: bool) -> None:
    now = datetime(2024, 3, 17, hour, tzinfo=UTC)
    load_yesterday_and_changes(storage, at=now)

    assert ask(storage, freshness.fresh, now=now).passed is passed


def test_orders_whose_changes_were_not_followed_for_hours_are_stale(storage: Storage) -> None:
    load_yesterday_and_changes(storage, at=NOW - timedelta(hours=3, minutes=1))

    finding = ask(storage, freshness.fresh)

    assert finding.summary == "late changes were last followed 3 hours ago: run the job orders_refresh"


@pytest.mark.parametrize(("hours", "passed"), [(0, True), (26, True), (27, False), (200, False)])
def test_a_whole_list_is_fresh_for_a_day(storage: Storage, hours: int, *, passed: bool) -> None:
    storage.load(PRODUCTS, [product(1)])
    loaded_at(storage, NOW - timedelta(hours=hours))

    assert ask(storage, freshness.fresh, PRODUCTS).passed is passed


def test_what_was_never_loaded_is_not_fresh(storage: Storage) -> None:
    storage.load(PRODUCTS, [product(1)])

    assert ask(storage, freshness.fresh, endpoint_named("packages")).summary == "never read: run the job catalog"
    assert not ask(storage, freshness.fresh, ORDERS).passed


def note(storage: Storage, kind: Kind, **value: object) -> None:
    with storage.database.write() as connection:
        write_note(connection, ORDERS, kind, value)


def test_orders_that_were_never_compared_with_the_store_are_not_called_complete(storage: Storage) -> None:
    storage.load(ORDERS, [order(1)], window=days(YESTERDAY))

    finding = ask(storage, freshness.complete)

    assert finding == CheckOutcome(passed=False, summary="never compared with the store: run the job reconcile")


FOUND = {"first_day": "2024-01-01", "last_day": "2024-03-15", "in_store": 1200, "stored": 1200, "requests": 7}


@pytest.mark.parametrize(
    ("differences", "later", "said"),
    [
        ([], timedelta(0), "1,200 rows in the store and here (2024-01-01...2024-03-15, compared 0 minutes ago)"),
        (
            ["2024-02-03: 24 in the store, 23 here"],
            timedelta(0),
            "2024-02-03: 24 in the store, 23 here (2024-01-01...2024-03-15, compared 0 minutes ago); run the job",
        ),
        ([], timedelta(days=9), "last compared with the store 9 days ago: run the job reconcile"),
    ],
)
def test_completeness_is_what_the_last_comparison_found_as_long_as_it_is_not_too_old(
    storage: Storage, differences: list[str], later: timedelta, said: str
) -> None:
    storage.load(ORDERS, [order(1)], window=days(YESTERDAY))
    note(storage, Kind.RECONCILIATION, **FOUND, differences=differences)

    finding = ask(storage, freshness.complete, now=datetime.now(UTC) + later)

    assert finding.summary.startswith(said)
    assert finding.passed is (not differences and not later)


@pytest.mark.parametrize("heeded", [True, False])
def test_a_filter_that_the_store_did_not_heed_is_told(storage: Storage, *, heeded: bool) -> None:
    storage.load(ORDERS, [order(1)], window=days(YESTERDAY))
    note(storage, Kind.UPDATE_FILTER, is_supported=heeded)

    finding = ask(storage, freshness.updated_after_supported, now=datetime.now(UTC))

    assert finding.passed is heeded
    assert ("COMMERCE_ORDERS_LOOKBACK_DAYS" in finding.summary) is not heeded


def standing_results(result: ExecuteInProcessResult) -> dict[tuple[str, str], AssetCheckEvaluation]:
    return {
        (check.asset_key.to_user_string(), check.check_name): check for check in result.get_asset_check_evaluations()
    }


def test_the_job_standing_asks_about_every_table_without_a_request_and_a_refresh_and_a_comparison_turn_it_green(
    project: Project,
) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=5)
    project.store.shop = Shop(orders=build_orders(start=start, days=5, per_day=3))
    project.store.touch()
    project.run("catalog")
    project.run("orders", days=(start.date(), (today - timedelta(days=1)).date()))
    project.store.forget_requests()

    before = standing_results(project.run("health_checks"))
    assert project.requests() == 0
    project.run("orders_refresh")
    project.run("reconcile")
    after = standing_results(project.run("health_checks"))

    assert before.keys() == after.keys()
    assert before["products", "fresh"].passed
    assert [before["orders", name].passed for name in ("fresh", "complete", "updated_after_supported")] == [
        False,
        False,
        True,
    ]
    assert all(check.passed for check in after.values()), after


def test_before_anything_is_loaded_the_job_standing_says_so_and_does_not_fail(project: Project) -> None:
    result = project.run("health_checks")

    assert result.success
    assert {check.description for check in standing_results(result).values()} == {
        "nothing has been loaded yet: materialize the asset"
    }
    assert not project.database.exists()


def test_a_store_that_does_not_heed_the_filter_turns_the_check_yellow_and_the_days_count_as_followed(
    project: Project,
) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=5)
    project.store.shop = Shop(orders=build_orders(start=start, days=5, per_day=30))
    project.store.dialect.ignores_updated_after = True
    project.store.touch()
    project.run("orders", days=(start.date(), (today - timedelta(days=1)).date()))
    for item in project.store.shop.orders[:40]:
        item["updated_at"] = "2020-01-01T00:00:00Z"
    project.store.touch()

    project.run("orders_refresh")

    results = standing_results(project.run("health_checks"))
    assert not results["orders", "updated_after_supported"].passed
    assert results["orders", "fresh"].passed
