"""A newcomer's first ten minutes: `make dev`, and the UI in a real browser. Screenshots go to build/screenshots."""

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

pytestmark = pytest.mark.browser

SOURCE = Path(__file__).parents[1]
SCREENSHOTS = SOURCE / "build" / "screenshots"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# As root in a container, and without the calls home that a browser makes of itself.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_SECONDS = 150
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Ui:
    """The UI of a running `make dev`."""

    def __init__(self, url: str, page: Page, folder: Path) -> None:
        self.url = url
        self.page = page
        self.folder = folder

    def open(self, path: str) -> None:
        self.page.goto(self.url + path, wait_until="networkidle")

    def picture(self, name: str) -> None:
        self.page.wait_for_load_state("networkidle")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def ask(self, query: str) -> Any:
        answer = requests.post(f"{self.url}/graphql", json={"query": query}, timeout=30)
        return answer.json()["data"]

    def wait_for_backfills(self, count: int) -> None:
        """Until so many backfills have ended, all of them well."""
        query = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { status } } } }"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            statuses = [row["status"] for row in self.ask(query)["partitionBackfillsOrError"]["results"]]
            assert "FAILED" not in "".join(statuses), statuses
            if statuses == ["COMPLETED_SUCCESS"] * count:
                return
            assert time.monotonic() < deadline, statuses
            time.sleep(0.5)

    def runs(self) -> list[dict[str, Any]]:
        query = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"
        results: list[dict[str, Any]] = self.ask(query)["runsOrError"]["results"]
        return results

    def count(self, table: str) -> int:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{self.folder / 'data' / 'sample.duckdb'}' AS shop (READ_ONLY)")
            row = connection.execute(f"SELECT count(*) FROM shop.commerce.{table}").fetchone()
            assert row
            return int(row[0])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def ui(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """`make dev` without credentials, in a folder of its own."""
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
            page = browser.new_page(viewport={"width": 1500, "height": 1100})
            page.set_default_timeout(30_000)
            yield Ui(f"http://127.0.0.1:{port}", page, folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


def test_the_asset_graph_shows_the_four_assets_in_their_group(ui: Ui) -> None:
    ui.open("/locations/commerce_assets/asset-groups/commerce")

    for asset in ("products", "packages", "orders", "subscriptions"):
        expect(ui.page.get_by_text(asset, exact=True).first).to_be_visible()
    ui.picture("1-asset-graph")


def test_materialize_all_from_the_graph_fills_every_table(ui: Ui) -> None:
    ui.open("/locations/commerce_assets/asset-groups/commerce")
    ui.page.get_by_role("button", name="Materialize all").click()
    ui.dialog.get_by_role("button", name="All", exact=True).click()
    ui.picture("2-materialize-all")

    ui.dialog.get_by_role("button", name="Launch backfill").click()
    ui.wait_for_backfills(1)

    assert (ui.count("products"), ui.count("packages"), ui.count("subscriptions")) == (25, 8, 5)
    assert ui.count("orders") > 0
    ui.open("/locations/commerce_assets/asset-groups/commerce")
    ui.picture("3-materialized")


def test_a_backfill_of_thirty_days_from_the_dialog_is_one_run_and_leaves_every_partition_green(ui: Ui) -> None:
    first = YESTERDAY - timedelta(days=29)
    runs_before = len(ui.runs())
    ui.open("/assets/orders")
    ui.page.get_by_role("button", name="Materialize").first.click()
    days = ui.dialog.get_by_role("textbox").first
    days.fill(f"[{first}...{YESTERDAY}]")
    days.press("Enter")
    expect(ui.dialog.get_by_text("30 partitions").first).to_be_visible()
    ui.picture("4-backfill-dialog")

    ui.dialog.get_by_role("button", name="Launch").click()
    ui.wait_for_backfills(2)

    assert len(ui.runs()) == runs_before + 1
    ui.open("/assets/orders?view=partitions")
    expect(ui.page.get_by_text("Materialized (60)")).to_be_visible()
    expect(ui.page.get_by_text("Failed (0)")).to_be_visible()
    ui.picture("5-partitions")


def test_the_checks_of_orders_are_green_with_their_evidence_but_for_those_that_nobody_has_seen_to_yet(ui: Ui) -> None:
    ui.open("/assets/orders?view=checks")

    expect(ui.page.get_by_text("Checks (9)")).to_be_visible()
    # Before the first refresh and the first comparison, orders are neither fresh nor known to be complete.
    assert ui.page.get_by_text("Succeeded", exact=True).count() == 7
    ui.page.get_by_text("id_is_unique_and_present").first.click()
    expect(ui.page.get_by_text("each with an id of its own")).to_be_visible()
    ui.picture("6-checks")


def test_the_asset_page_answers_when_how_many_and_what_a_column_means(ui: Ui) -> None:
    ui.open("/assets/orders")

    expect(ui.page.get_by_text("Row count")).to_be_visible()
    expect(ui.page.get_by_text("The buyer's e-mail address.")).to_be_visible()
    ui.picture("7-asset")


def test_the_log_of_a_run_tells_what_was_pulled_and_loaded(ui: Ui) -> None:
    run = next(run for run in ui.runs() if run["assetSelection"] == [{"path": ["orders"]}])
    ui.open(f"/runs/{run['runId']}")
    ui.page.get_by_placeholder("Filter").last.fill("rows")
    ui.page.keyboard.press("Enter")

    expect(ui.page.get_by_text("rows loaded in").first).to_be_visible()
    ui.picture("8-run")


def switch_beside(name: Locator, page: Page) -> Locator:
    """The switch of the row that a name stands in: of all check boxes to its right, the one at its height."""

    def distance(box: Locator) -> float:
        here, there = name.bounding_box(), box.bounding_box()
        assert here
        return abs(there["y"] - here["y"]) if there and there["x"] > here["x"] + here["width"] else math.inf

    return min(page.locator("label:has(input[type=checkbox])").all(), key=distance)


def test_a_schedule_can_be_switched_on(ui: Ui) -> None:
    ui.open("/automation")
    name = ui.page.get_by_text("orders_refresh_hourly").first
    name.wait_for()
    ui.picture("9-automation")
    switch_beside(name, ui.page).click()

    selector = '{repositoryName: "__repository__", repositoryLocationName: "commerce_assets"}'
    query = (
        f"{{ schedulesOrError(repositorySelector: {selector}) "
        "{ ... on Schedules { results { name scheduleState { status } } } } }"
    )
    deadline = time.monotonic() + 30
    while True:
        states = {row["name"]: row["scheduleState"]["status"] for row in ui.ask(query)["schedulesOrError"]["results"]}
        if states["orders_refresh_hourly"] == "RUNNING":
            break
        assert time.monotonic() < deadline, states
        time.sleep(0.5)
    ui.picture("10-schedule-on")
