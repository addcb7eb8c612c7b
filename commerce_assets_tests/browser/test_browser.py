"""A newcomer's first ten minutes: `make dev` without credentials, and the UI in a real browser.

The tests are the steps, in their order. Each leaves a numbered picture in build/screenshots for a person to look at.
"""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import ViewportSize, expect

from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.load_log import set_mark
from commerce_assets_tests.support.ui import (
    BUILT,
    EXTRACTED,
    ORDINARY,
    SCREENSHOTS,
    SENSOR,
    Ui,
    chromium,
    clone,
    launch,
    opened,
    switch_on,
    until,
)

pytestmark = pytest.mark.browser

# The graph of both groups, which the UI draws only where it is visible.
TALL: ViewportSize = {"width": 1500, "height": 3200}


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """`make dev` without credentials, in its own folder."""
    shutil.rmtree(SCREENSHOTS / "sample", ignore_errors=True)
    folder = clone(tmp_path_factory.mktemp("clone"))
    with chromium() as browser, opened(browser, folder, database="data/sample.duckdb", pictures="sample") as ui:
        yield ui


@pytest.fixture(scope="module")
def late_refund(ui: Ui) -> int:
    """An order that the store has refunded, in a warehouse that has not heard of it: as if changes had been followed up
    to just before the refund."""
    ((order, changed_at),) = ui.query(
        "SELECT id, updated_at FROM commerce.orders WHERE refunded ORDER BY updated_at DESC LIMIT 1"
    )
    (orders,) = (endpoint for endpoint in ENDPOINTS if endpoint.name == "orders")
    with ui.database.write() as connection:
        connection.execute(
            "UPDATE commerce.orders SET refunded = false, refund_transactions = NULL, updated_at = created_at "
            f"WHERE id = {order}"
        )
        connection.execute(f"DELETE FROM analytics.refunds WHERE order_id = {order}")
        set_mark(connection, orders, changed_at - timedelta(hours=1))
    return int(order)


def shown_pictures(ui: Ui) -> dict[str, int]:
    """The charts that a page shows where they stand, by what they say they are, and how wide the browser found them."""
    charts = ui.page.locator('img[src^="data:image/svg+xml"]')
    charts.first.scroll_into_view_if_needed()
    widths: dict[str, int] = {}
    for chart in charts.all():
        assert chart.is_visible()
        until(lambda chart=chart: chart.evaluate("image => image.complete"))  # type: ignore[misc]
        widths[chart.get_attribute("alt") or ""] = chart.evaluate("image => image.naturalWidth")
    return widths


def test_the_graph_shows_both_groups_with_kinds_and_lineage(ui: Ui) -> None:
    ui.page.set_viewport_size(TALL)
    ui.open_graph()

    for asset in (*EXTRACTED, *BUILT):
        expect(ui.page.get_by_text(asset, exact=True).first).to_be_visible()
    expect(ui.page.get_by_text("Python", exact=True)).to_have_count(len(EXTRACTED))
    expect(ui.page.get_by_text("SQL", exact=True)).to_have_count(len(BUILT))
    expect(ui.page.get_by_text("DuckDB", exact=True)).to_have_count(len(EXTRACTED) + len(BUILT))
    ui.picture("graph")


def test_materialize_all_fills_every_table_of_both_groups(ui: Ui) -> None:
    ui.page.set_viewport_size(ORDINARY)
    ui.open("/asset-groups")
    ui.page.get_by_role("button", name="Materialize all").click()
    ui.dialog.get_by_role("button", name="All", exact=True).click()
    expect(
        ui.dialog.get_by_text(f"Launch runs to materialize {len(EXTRACTED) + len(BUILT) + 1} assets")
    ).to_be_visible()
    ui.picture("materialize-all")

    ui.dialog.get_by_role("button", name="Launch backfill").click()
    ui.wait_for_backfills(1)

    assert [ui.count(f"commerce.{name}") for name in ("products", "packages", "subscriptions")] == [25, 8, 5]
    assert ui.count("commerce.orders") > 0
    assert all(ui.count(f"analytics.{name}") for name in BUILT)
    assert ui.failed_checks() == {}
    ui.open("/assets")
    expect(ui.page.get_by_text("Never materialized")).to_have_count(0)
    ui.picture("catalog")


def test_daily_revenue_shows_a_chart_of_two_weeks_per_currency(ui: Ui) -> None:
    ui.open("/assets/daily_revenue?view=events")
    expect(ui.page.get_by_text("last_14_days", exact=True)).to_be_visible()

    widths = shown_pictures(ui)
    assert sorted(widths) == [f"Net revenue per day, {currency}" for currency in ("EUR", "GBP", "USD")]
    assert all(widths.values())
    ((newest, orders),) = ui.query(
        "SELECT day, sum(orders) FROM analytics.daily_revenue GROUP BY 1 ORDER BY 1 DESC LIMIT 1"
    )
    table = ui.page.locator("table", has=ui.page.get_by_text("new_customers", exact=True)).last
    rows = [row.locator("td").all_inner_texts() for row in table.locator("tr").all()]
    assert sum(int(row[2]) for row in rows if row and row[0] == newest.isoformat()) == orders
    ui.picture("daily-revenue")
    ui.open("/assets/daily_revenue")
    assert all(shown_pictures(ui).values())
    ui.picture("daily-revenue-overview")


def test_schedule_and_automation_can_be_switched_on(ui: Ui) -> None:
    ui.open("/automation")

    switch_on(ui, "catalog_daily")
    switch_on(ui, SENSOR)

    ui.open("/automation")
    ui.page.get_by_text(SENSOR).first.wait_for()
    ui.picture("automation-on")


def test_a_backfill_of_a_month_is_one_run_with_green_partitions(ui: Ui) -> None:
    runs_before = [run["runId"] for run in ui.runs()]
    ui.open("/assets/orders")
    ui.page.get_by_role("button", name="Materialize").first.click()
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    days = ui.dialog.get_by_role("textbox").first
    days.fill(f"[{yesterday - timedelta(days=29)}...{yesterday}]")
    days.press("Enter")
    expect(ui.dialog.get_by_text("30 partitions").first).to_be_visible()
    ui.picture("backfill-dialog")

    ui.dialog.get_by_role("button", name="Launch").click()
    until(lambda: len(ui.backfills()) > 1)
    ui.wait_for_backfills(len(ui.backfills()))

    pulled = [run for run in ui.runs() if run["assetSelection"] == [{"path": ["orders"]}]]
    assert len([run for run in pulled if run["runId"] not in runs_before]) == 1
    ui.open("/assets/orders?view=partitions")
    # Sixty days, and one more if midnight has passed since.
    expect(ui.page.get_by_text(re.compile(r"^Materialized \(6[01]\)$"))).to_be_visible()
    expect(ui.page.get_by_text("Failed (0)")).to_be_visible()
    ui.picture("partitions")


def test_orders_show_a_chart_of_their_rows_a_day(ui: Ui) -> None:
    ui.open("/assets/orders?view=events")
    ui.page.get_by_text("rows_per_day", exact=True).wait_for()

    assert [*shown_pictures(ui)] == ["Rows per day"]
    assert all(shown_pictures(ui).values())
    ui.picture("orders-rows-a-day")


def test_a_check_that_is_not_green_says_what_to_run(ui: Ui) -> None:
    ui.open("/assets/orders?view=checks")
    expect(ui.page.get_by_text("Checks (11)")).to_be_visible()
    ui.page.get_by_text("fresh", exact=True).first.click()

    expect(ui.page.get_by_text(re.compile("not yet refreshed; every day up to"))).to_be_visible()
    ui.picture("check-not-fresh")


def test_a_late_refund_arrives_with_the_refresh(ui: Ui, late_refund: int) -> None:
    assert ui.query(f"SELECT refunded FROM commerce.orders WHERE id = {late_refund}") == [(False,)]

    launch(ui, "orders_refresh")

    assert ui.query(f"SELECT refunded FROM commerce.orders WHERE id = {late_refund}") == [(True,)]


def test_orders_are_fresh_and_complete_after_both_jobs(ui: Ui) -> None:
    launch(ui, "reconcile")

    ui.open("/assets/orders?view=checks")
    expect(ui.page.get_by_text("Succeeded", exact=True)).to_have_count(11)
    ui.page.get_by_text("complete", exact=True).first.click()
    expect(ui.page.get_by_text("rows in the store and here")).to_be_visible()
    ui.picture("checks")


def test_the_asset_page_shows_health_row_counts_and_columns(ui: Ui) -> None:
    ui.open("/assets/orders")

    expect(ui.page.get_by_text("Row count").first).to_be_visible()
    expect(ui.page.get_by_text("commerce.orders", exact=True).first).to_be_visible()
    expect(ui.page.get_by_role("link", name="endpoint table")).to_be_visible()
    expect(ui.page.get_by_text("The buyer's email address.")).to_be_visible()
    ui.picture("asset")


def test_the_run_log_shows_requests_rows_and_loads(ui: Ui) -> None:
    run = next(run for run in ui.runs() if run["assetSelection"] == [{"path": ["orders"]}])
    ui.open(f"/runs/{run['runId']}")
    ui.page.get_by_placeholder("Filter").last.fill("orders of 20")
    ui.page.keyboard.press("Enter")

    for text in ("GET http://127.0.0.1:", "requests (0 retries)", "rows loaded in"):
        expect(ui.page.get_by_text(text).first).to_be_visible()
    ui.picture("run")


def test_a_late_refund_goes_on_downstream_by_itself(ui: Ui, late_refund: int) -> None:
    until(lambda: ui.query(f"SELECT kind FROM analytics.refunds WHERE order_id = {late_refund}") == [("refund",)])

    ui.page.set_viewport_size(TALL)
    ui.open_graph()
    expect(ui.page.get_by_text("11 / 11 Passed")).to_be_visible()
    ui.picture("graph-at-the-end")
