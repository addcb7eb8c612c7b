"""Dagster's UI of a `make dev` in its own folder, in headless Chromium, and what a person does in it."""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from commerce_assets.analytics.tables import MODELS
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.processes import free_port

SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# As root in a container, and without the calls home that a browser makes of itself.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE_SECONDS = 150
ORDINARY: ViewportSize = {"width": 1500, "height": 1100}
SENSOR = "default_automation_condition_sensor"
EXTRACTED = tuple(endpoint.name for endpoint in ENDPOINTS)
BUILT = tuple(model.name for model in MODELS if not model.needs_history)


def until(is_so: Callable[[], object], what: Callable[[], object] = lambda: "it did not come to be") -> None:
    """Waits for what Dagster's daemon does in its own time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what()
        time.sleep(0.5)


class Ui:
    """The UI of a running `make dev`."""

    def __init__(self, url: str, page: Page, database: DatabaseFile, pictures: Path) -> None:
        self.url = url
        self.page = page
        self.database = database
        self._pictures = pictures

    def open(self, path: str) -> None:
        self.page.goto(self.url + path, wait_until="networkidle")

    def open_graph(self) -> None:
        """The whole graph, its groups opened."""
        self.open("/asset-groups?expanded=global%40global%3Aanalytics%2Cglobal%40global%3Acommerce")
        expect(self.page.get_by_text("subscription_orders", exact=True).first).to_be_visible()

    def picture(self, name: str) -> None:
        self.page.wait_for_load_state("networkidle")
        self._pictures.mkdir(parents=True, exist_ok=True)
        number = len([*self._pictures.iterdir()]) + 1
        self.page.screenshot(path=self._pictures / f"{number:02}-{name}.png", animations="disabled")

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
        """Until the run of a job that was launched by hand has ended well; its id. A schedule may start one, too."""

        def found() -> list[dict[str, Any]]:
            by_hand = {"key": "dagster/from_ui", "value": "true"}
            return [run for run in self.runs() if run["jobName"] == job and by_hand in run["tags"]]

        until(lambda: [run["status"] for run in found()] == ["SUCCESS"], found)
        run_id: str = found()[0]["runId"]
        return run_id

    def failed_checks(self) -> dict[str, str]:
        """Return the checks that are not green, with their severity; without an evaluation, with their status."""
        query = (
            "{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks { name "
            "executionForLatestMaterialization { status evaluation { severity success } } } } } } }"
        )
        found: dict[str, str] = {}
        for node in self.ask(query)["assetNodes"]:
            for check in node["assetChecksOrError"].get("checks", []):
                latest = check["executionForLatestMaterialization"] or {"status": "never", "evaluation": None}
                evaluation = latest["evaluation"] or {"severity": latest["status"], "success": False}
                if not evaluation["success"]:
                    found[f"{node['assetKey']['path'][-1]}: {check['name']}"] = evaluation["severity"]
        return found

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """What the tables hold."""
        with self.database.read() as connection:
            return connection.execute(query).fetchall()

    def count(self, table: str) -> int:
        ((count,),) = self.query(f"SELECT count(*) FROM {table}")
        return int(count)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


def clone(folder: Path) -> Path:
    """Put what `make dev` needs of a clone of the project into a folder."""
    for name in ("workspace.yaml", "dagster.yaml", ".env.example"):
        shutil.copy(ROOT / name, folder)
    (folder / "commerce_assets").symlink_to(ROOT / "commerce_assets")
    return folder


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("COMMERCE_", "DAGSTER_"))}


@contextmanager
def make_dev(folder: Path, python: Path | None = None, introduction: list[str] | None = None) -> Iterator[str]:
    """Run `make dev` in a folder; yields the UI's URL.

    Args:
        folder: A `clone`.
        python: The interpreter; this one unless given.
        introduction: Receives the lines that it says.
    """
    port = free_port()
    with subprocess.Popen(
        [python or sys.executable, "-m", "commerce_assets.dev", "--port", str(port)],
        cwd=folder,
        env=bare_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if introduction is not None:
                    introduction.append(line)
                if "Ctrl-C ends it" in line:
                    break
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


@contextmanager
def opened(browser: Browser, folder: Path, *, database: str, pictures: str) -> Iterator[Ui]:
    """Run `make dev` and open a page of its UI.

    Args:
        browser: The browser.
        folder: A `clone`.
        database: The database's file in it.
        pictures: The folder of the screenshots, in build/screenshots.
    """
    with make_dev(folder) as url:
        page = browser.new_page(viewport=ORDINARY)
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield Ui(url, page, DatabaseFile(path=folder / database), SCREENSHOTS / pictures)
        page.close()


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
