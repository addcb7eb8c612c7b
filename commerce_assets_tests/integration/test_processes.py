"""Real processes, as people and schedules start them: killed, three at once, ended while they wait."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import DagsterInstance

from commerce_assets.analytics.tables import MODELS
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.processes import DAYS, materialize, start, wait_until
from commerce_assets_tests.support.world import World, running
from sample_store.shop import Shop, build_orders
from sample_store.store import SampleStore

# A request each third of a second.
SLOWLY = {"COMMERCE_API_REQUESTS_PER_SECOND": "3"}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A store with ten days of sixty orders each: their window is twelve pages."""
    store = SampleStore(Shop(orders=build_orders(start=datetime(2026, 1, 1, tzinfo=UTC), days=10, per_day=60)))
    with running(store, tmp_path, monkeypatch) as project:
        yield project


def test_three_pulls_at_once_stay_below_the_rate_together(shop: World) -> None:
    """Fault 27."""
    rate = 8.0
    ranges = [("2026-01-01", "2026-01-03"), ("2026-01-04", "2026-01-06"), ("2026-01-07", "2026-01-10")]
    processes = [
        materialize(
            shop,
            *("--select", "orders", "--partition-range", "...".join(days)),
            COMMERCE_API_REQUESTS_PER_SECOND=str(rate),
        )
        for days in ranges
    ]

    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output

    times = sorted(request.at_monotonic for request in shop.store.requests)
    assert len(times) >= 15
    # In whatever second one looks: a request each interval, counted at the server.
    for index, began in enumerate(times):
        within = [moment for moment in times[index:] if moment < began + 1]
        assert len(within) <= rate
    assert (len(times) - 1) / (times[-1] - times[0]) < rate
    assert shop.query("SELECT count(*), count(DISTINCT id) FROM orders") == [(600, 600)]


def test_one_command_materializes_everything_or_a_range(shop: World) -> None:
    process = materialize(shop, "--select", "*", "--partition-range", "...".join(DAYS))

    output, _ = process.communicate()

    assert process.returncode == 0, output
    assert shop.query("SELECT count(*) FROM orders") == [(600,)]
    assert shop.query("SELECT count(*) FROM products") == [(0,)]


def test_checks_of_a_backfill_killed_hard_are_green_again(shop: World) -> None:
    """The table is unharmed, so the next run that succeeds says so of every check, also of those it does not plan."""
    home = shop.folder / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    process = start(shop, "commerce_assets", "pull", "orders", DAGSTER_HOME=str(home), **SLOWLY)
    wait_until(lambda: shop.requests() > 6)
    process.kill()
    process.communicate()
    ended = start(shop, "commerce_assets.ops.abandoned_runs", DAGSTER_HOME=str(home))
    assert "its process was killed" in ended.communicate()[0]
    with contextlib.chdir(shop.folder), DagsterInstance.from_config(str(home)) as shop.running_instance:
        dead = shop.check_statuses("orders")
        shop.run("health_checks")
        after = shop.check_statuses("orders")

    assert set(dead.values()) == {"EXECUTION_FAILED"}
    # The history is still to be loaded.
    assert {name for name, status in after.items() if status != "SUCCEEDED"} == {"fresh", "complete"}
    assert {after[name] for name in ("fresh", "complete")} == {"FAILED"}


def run_in(folder: Path, *arguments: str, source: Path = ROOT) -> str:
    """Run a Python module; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_pulls_checks_and_shows_every_table(tmp_path: Path) -> None:
    shown = run_in(tmp_path, "sample_store.demo")

    assert re.search(r"^(\d+) of \1 checks passed", shown, re.MULTILINE)
    tables = [f"commerce.{endpoint.name}" for endpoint in ENDPOINTS]
    tables += [f"analytics.{model.name}" for model in MODELS if not model.needs_history]
    assert re.findall(r"│ (\w+\.\w+) +│ +[1-9]", shown) == tables


def test_the_fifth_endpoint_of_the_readme_is_one_edit(tmp_path: Path) -> None:
    """In a copy of the project: the demo pulls its rows, and what iterates over the table stays green."""
    for name in ("commerce_assets", "commerce_assets_tests", "sample_store", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    (entry,) = re.findall(r"```python\n(Endpoint\(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    table = tmp_path / "commerce_assets/endpoints.py"
    table.write_text(f"{table.read_text().rstrip().removesuffix(')')}{entry})\n")

    assert re.search(r"commerce\.affiliates +│ +120 ", run_in(tmp_path, "sample_store.demo", source=tmp_path))
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "endpoint or described or what_a_row_is")
    run_in(tmp_path, "pytest", *options, "commerce_assets_tests/integration/test_definitions.py", source=tmp_path)
