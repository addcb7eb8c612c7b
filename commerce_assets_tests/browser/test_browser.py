"""A newcomer's first ten minutes: `make dev` without credentials, and the UI in a real browser.

The tests are the steps, in their order. Each leaves a numbered picture in build/screenshots for a person to look at.
"""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from commerce_assets.analytics.tables import MODELS
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.load_log import set_mark
from commerce_assets_tests.support.processes import free_port

pytestmark = pytest.mark.browser

SOURCE = Path(__file__).parents[2]
SCREENSHOTS = SOURCE / "build" / "screenshots"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# As root in a container, and without the calls home that a browser makes of itself.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_SECONDS = 150
ORDINARY: ViewportSize = {"width": 1500, "height": 1100}
TALL: ViewportSize = {"width": 1280, "height": 1400}
RAW = ("products", "packages", "orders", "subscriptions")
ANALYTICS = tuple(model.name for model in MODELS if not model.needs_history)
SENSOR = "default_automation_condition_sensor"


def until(is_so: Callable[[], object], what: Callable[[], object] = lambda: "it did not come to be") -> None:
    """Waits for what Dagster's daemon does in its own time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)


class Ui:
    """The UI of a running `make dev`."""

    def __init__(self, url: str, page: Page, folder: Path) -> None:
        self.url = url
        self.page = page
        self.database = DatabaseFile(path=folder / "data" / "sample.duckdb")
        self._pictures = 0

    def open(self, path: str) -> None:
        self.page.goto(self.url + path, wait_until="networkidle")

    def open_graph(self) -> None:
        """The whole graph, its groups opened."""
        self.open("/asset-groups?expanded=global%40global%3Aanalytics%2Cglobal%40global%3Acommerce")
        expect(self.page.get_by_text("subscription_orders", exact=True).first).to_be_visible()

    def picture(self, name: str) -> None:
        self.page.wait_for_load_state("networkidle")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self._pictures += 1
        self.page.screenshot(path=SCREENSHOTS / f"{self._pictures:02}-{name}.png", animations="disabled")

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def ask(self, query: str) -> Any:
        answer = requests.post(f"{self.url}/graphql", json={"query": query}, timeout=30)
        return answer.json()["data"]

    def backfills(self) -> list[str]:
        query = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { status } } } }"
        statuses = [row["status"] for row in self.ask(query)["partitionBackfillsOrError"]["results"]]
        assert "FAILED" not in "".join(statuses), statuses
        return statuses

    def wait_for_backfills(self, count: int) -> None:
        """Wait until this many backfills have ended, all successfully."""
        until(lambda: self.backfills() == ["COMPLETED_SUCCESS"] * count, self.backfills)

    def runs(self) -> list[dict[str, Any]]:
        query = (
            "{ runsOrError { ... on Runs { results "
            "{ runId jobName status assetSelection { path } tags { key value } } } } }"
        )
        results: list[dict[str, Any]] = self.ask(query)["runsOrError"]["results"]
        return results

    def wait_for_run(self, job: str) -> str:
        """Until the run of a job has ended well; its id."""

        def found() -> list[dict[str, Any]]:
            return [run for run in self.runs() if run["jobName"] == job]

        until(lambda: [run["status"] for run in found()] == ["SUCCESS"], found)
        run_id: str = found()[0]["runId"]
        return run_id

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """What the sample store's tables hold."""
        with self.database.read() as connection:
            return connection.execute(query).fetchall()

    def count(self, table: str) -> int:
        ((count,),) = self.query(f"SELECT count(*) FROM {table}")
        return int(count)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def ui(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """`make dev` without credentials, in its own folder."""
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    folder = tmp_path_factory.mktemp("clone")
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(SOURCE / name, folder)
    (folder / "commerce_assets").symlink_to(SOURCE / "commerce_assets")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COMMERCE_", "DAGSTER_"))}
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "commerce_assets.dev", "--port", str(port)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if "Ctrl-C ends it" in line:
                    break
            page = browser.new_page(viewport=ORDINARY)
            page.set_default_timeout(60_000)
            expect.set_options(timeout=60_000)
            yield Ui(f"http://127.0.0.1:{port}", page, folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def switch_beside(name: Locator, page: Page) -> Locator:
    """The switch in the row of a name: of all check boxes to its right, the one at its height."""

    def distance(box: Locator) -> float:
        here, there = name.bounding_box(), box.bounding_box()
        assert here
        return abs(there["y"] - here["y"]) if there and there["x"] > here["x"] + here["width"] else math.inf

    return min(page.locator("label:has(input[type=checkbox])").all(), key=distance)


def switch_on(ui: Ui, name: str) -> None:
    row = ui.page.get_by_text(name).first
    row.wait_for()
    switch_beside(row, ui.page).click()
    selector = f'repositoryName: "__repository__", repositoryLocationName: "commerce_assets", name: "{name}"'
    query = f"{{ instigationStateOrError(instigationSelector: {{{selector}}}) "
    query += "{ ... on InstigationState { status } } }"
    until(lambda: ui.ask(query)["instigationStateOrError"].get("status") == "RUNNING")


def launch(ui: Ui, job: str) -> str:
    """Launches a job from its launchpad, as it is filled in; the id of the run, once it has ended well."""
    ui.open(f"/locations/commerce_assets/jobs/{job}/playground")
    ui.page.get_by_role("button", name="Launch Run").click()
    return ui.wait_for_run(job)


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

    for asset in (*RAW, *ANALYTICS):
        expect(ui.page.get_by_text(asset, exact=True).first).to_be_visible()
    expect(ui.page.get_by_text("Python", exact=True)).to_have_count(len(RAW))
    expect(ui.page.get_by_text("SQL", exact=True)).to_have_count(len(ANALYTICS))
    expect(ui.page.get_by_text("DuckDB", exact=True)).to_have_count(len(RAW) + len(ANALYTICS))
    ui.picture("graph")


def test_materialize_all_fills_every_table_of_both_groups(ui: Ui) -> None:
    ui.page.set_viewport_size(ORDINARY)
    ui.open("/asset-groups")
    ui.page.get_by_role("button", name="Materialize all").click()
    ui.dialog.get_by_role("button", name="All", exact=True).click()
    expect(ui.dialog.get_by_text("Launch runs to materialize 13 assets")).to_be_visible()
    ui.picture("materialize-all")

    ui.dialog.get_by_role("button", name="Launch backfill").click()
    ui.wait_for_backfills(1)

    assert [ui.count(f"commerce.{name}") for name in ("products", "packages", "subscriptions")] == [25, 8, 5]
    assert ui.count("commerce.orders") > 0
    assert all(ui.count(f"analytics.{name}") for name in ANALYTICS)
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
