"""The first half hour with a store of one's own, by the words of the README, in a real browser.

The store is on loopback, but not the sample: its orders have amounts, states and addresses that the sample's have not.
The tests are the steps, in their order. They leave numbered pictures in build/screenshots/own for a person to look at.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import ViewportSize, expect

from commerce_assets_tests.support.pages import ROOT, blocks
from commerce_assets_tests.support.second_store import build_second_store
from commerce_assets_tests.support.ui import (
    BUILT,
    EXTRACTED,
    SCREENSHOTS,
    SENSOR,
    Ui,
    bare_environment,
    chromium,
    clone,
    launch,
    opened,
    switch_on,
    until,
)
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.server import serve
from sample_store.store import SampleStore

pytestmark = pytest.mark.browser

README = (ROOT / "README.md").read_text()
DAYS = 40
TALL: ViewportSize = {"width": 1500, "height": 1800}


def words(*phrases: str) -> str:
    """Return the last phrase; the README has them all, in italics and in this order."""
    assert re.search(".+?".join(re.escape(f"*{phrase}*") for phrase in phrases), README, re.DOTALL), phrases
    return phrases[-1]


@pytest.fixture(scope="module")
def store() -> SampleStore:
    return SampleStore(build_second_store(datetime.now(UTC), days=DAYS, orders=400).shop, now=lambda: datetime.now(UTC))


@pytest.fixture(scope="module")
def folder(store: SampleStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone with the `.env` of the README, filled in, but for the secret: a slip of the hand."""
    shutil.rmtree(SCREENSHOTS / "own", ignore_errors=True)
    folder = clone(tmp_path_factory.mktemp("clone"))
    (block,) = [block for block in blocks(ROOT / "README.md") if block.startswith("COMMERCE_API_BASE_URL=")]
    shutil.copy(folder / ".env.example", folder / ".env")
    with serve(store) as server:
        filled_in = {
            "COMMERCE_API_BASE_URL": server.base_url,
            "COMMERCE_API_ORDERS_PATH": ORDERS_PATH,
            "COMMERCE_API_KEY": SAMPLE_API_KEY,
            "COMMERCE_API_SECRET": "a-slip-of-the-hand",
            "COMMERCE_ORDERS_START_DATE": str((datetime.now(UTC) - timedelta(days=DAYS)).date()),
        }
        assert [line.partition("=")[0] for line in block.splitlines()] == [*filled_in]
        for name, value in filled_in.items():
            write_dotenv(folder, name, value)
        yield folder


def follow(ui: Ui, name: str, *, leads_to: str) -> None:
    """Click a name in the navigation until its page is there: a page that still loads may redirect to another one."""
    ui.open("/deployment/locations")

    def is_there() -> bool:
        # By its text: the names of the icons are part of the names of the links.
        ui.page.get_by_role("link").filter(has_text=name).first.click()
        ui.page.wait_for_timeout(2000)
        return leads_to in ui.page.url

    until(is_there, lambda: ui.page.url)


def write_dotenv(folder: Path, name: str, value: str) -> None:
    """Fill in a line of `.env`, which may be commented out."""
    text, count = re.subn(rf"(?m)^#?{name}=.*$", f"{name}={value}", (folder / ".env").read_text())
    assert count == 1, name
    (folder / ".env").write_text(text)


def check(folder: Path) -> "subprocess.CompletedProcess[str]":
    assert ".venv/bin/commerce-assets check" in README
    command = [sys.executable, "-m", "commerce_assets", "check"]
    return subprocess.run(command, cwd=folder, env=bare_environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def ui(folder: Path) -> Iterator[Ui]:
    """`make dev`, after the secret was corrected."""
    write_dotenv(folder, "COMMERCE_API_SECRET", SAMPLE_API_SECRET)
    with chromium() as browser, opened(browser, folder, database="data/shop.duckdb", pictures="own") as ui:
        yield ui


def test_a_wrong_secret_is_one_sentence_in_terminal_and_ui(folder: Path) -> None:
    found = check(folder)
    assert found.returncode != 0
    assert "COMMERCE_API_SECRET" in found.stdout + found.stderr

    with chromium() as browser, opened(browser, folder, database="data/shop.duckdb", pictures="own") as ui:
        ui.open("/")
        ui.picture("start")
        ui.open("/assets/products")
        ui.picture("asset-never-loaded")
        ui.page.get_by_role("button", name="Materialize").first.click()
        until(lambda: [run["status"] for run in ui.runs()] == ["FAILURE"], ui.runs)
        (run,) = ui.runs()
        ui.open(f"/runs/{run['runId']}")
        expect(ui.page.get_by_text("401 Unauthorized").first).to_be_visible()
        ui.picture("run-with-a-wrong-secret")
        # The whole of it: nothing is cut off, and no stack trace has to be opened.
        expect(
            ui.page.get_by_text(re.compile("correct COMMERCE_API_KEY and COMMERCE_API_SECRET")).first
        ).to_be_visible()
        expect(ui.page.get_by_text(re.compile("View full message|Stack Trace|site-packages"))).to_have_count(0)
        ui.open("/assets/products?view=checks")
        ui.picture("checks-after-a-failed-run")


def test_the_check_passes_once_the_secret_is_right(ui: Ui, folder: Path) -> None:
    found = check(folder)
    assert found.returncode == 0, found.stdout + found.stderr
    ui.open("/deployment/locations")
    ui.picture("deployment")


def test_the_first_load_fills_every_table(ui: Ui) -> None:
    follow(ui, words("Lineage"), leads_to="/asset-groups")
    ui.picture("lineage")
    ui.page.get_by_role("button", name=words("Lineage", "Materialize all…")).click()
    ui.dialog.get_by_role("button", name=words("Lineage", "Materialize all…", "All"), exact=True).click()
    ui.picture("first-load")
    ui.dialog.get_by_role("button", name=words("Materialize all…", "All", "Launch backfill")).click()
    ui.wait_for_backfills(1)

    assert [ui.count(f"commerce.{name}") for name in ("products", "packages", "subscriptions")] == [8, 1, 6]
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    assert ui.query(
        "SELECT min(created_at)::DATE >= DATE '2020-01-01', max(created_at)::DATE FROM commerce.orders"
    ) == [(True, yesterday)]
    assert all(ui.count(f"analytics.{name}") for name in BUILT)
    ui.open("/runs-feed")
    ui.picture("runs-after-the-first-load")
    ui.open("/runs")
    ui.picture("runs")


def test_after_the_first_load_nothing_is_red(ui: Ui) -> None:
    """The store sends amounts that are no numbers and undeclared fields: checks warn, and no other does."""
    assert ui.failed_checks() == {
        "orders: no_undeclared_fields": "WARN",
        "orders: values_fit_their_types": "WARN",
        "orders_enriched: amounts_are_readable": "WARN",
        "orders_enriched: only_sales_have_amounts": "WARN",
    }
    ui.page.set_viewport_size(TALL)
    ui.open("/assets/orders?view=events")
    for days in range(1, 11):
        day = (datetime.now(UTC) - timedelta(days=days)).date()
        expect(ui.page.get_by_text(str(day), exact=True).first).to_be_visible()
    for name in (*EXTRACTED, *BUILT):
        ui.open(f"/assets/{name}?view=checks")
        ui.page.get_by_text("Checks (").first.wait_for()
        ui.picture(f"checks-{name}")
    for name in EXTRACTED:
        ui.open(f"/assets/{name}")
        ui.picture(f"overview-{name}")
        ui.open(f"/assets/{name}?view=events")
        ui.picture(f"events-{name}")
    for name in BUILT:
        ui.open(f"/assets/{name}?view=events")
        ui.picture(f"events-{name}")
    ui.open("/assets/orders?view=partitions")
    ui.picture("partitions")
    ui.open("/assets/orders?view=lineage")
    ui.picture("lineage-orders")
    ui.open("/assets/orders?view=automation")
    ui.picture("automation-orders")
    ui.open("/assets")
    ui.picture("catalog")
    ui.open_graph()
    ui.picture("graph")


def test_the_schedules_and_the_sensor_are_switched_on(ui: Ui) -> None:
    schedules = re.findall(r"^\| `(\w+_(?:daily|hourly|weekly))` ", README, re.MULTILINE)
    assert len(schedules) == 5
    follow(ui, words("Automation"), leads_to="/automation")
    ui.page.get_by_text("catalog_daily").first.wait_for()
    ui.picture("automation")
    for name in (*schedules, SENSOR):
        switch_on(ui, name)
    ui.picture("automation-on")


def test_a_refund_arrives_in_the_marts(ui: Ui, store: SampleStore) -> None:
    ((order, gross),) = ui.query(
        "SELECT order_id, gross FROM analytics.orders_enriched WHERE is_sale AND gross > 0 "
        "AND order_id NOT IN (SELECT order_id FROM analytics.refunds) ORDER BY order_id LIMIT 1"
    )
    refund = {"amount": f"-{gross}", "currency": None, "occurred_at": None, "reason": None}
    store.update_order(order, refunded=True, settled_gross="0", refund_transactions=[{"refund_transaction": refund}])

    launch(ui, "orders_refresh")

    until(lambda: ui.query(f"SELECT amount FROM analytics.refunds WHERE order_id = {order}"))
    until(lambda: all(run["status"] == "SUCCESS" for run in ui.runs() if run["jobName"] != "__ASSET_JOB"))
    for job in ("orders_refresh", "reconcile", "health_checks", "analytics", "catalog", "orders"):
        ui.open(f"/locations/commerce_assets/jobs/{job}")
        ui.picture(f"job-{job}")
    ui.open("/assets/orders?view=events")
    ui.picture("events-orders-after-a-refund")
    ui.open("/locations/commerce_assets/sensors/alerts")
    ui.picture("sensor-alerts")
    ui.open("/locations/commerce_assets/schedules/orders_daily")
    ui.picture("schedule-orders-daily")
