"""Real processes, as people and schedules start them: killed, three at once, ended while they wait."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

import pytest

from commerce_assets.analytics.tables import MODELS
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.crashing import rows_of
from commerce_assets_tests.support.project import Project, running_project
from sample_store.shop import Shop, build_orders
from sample_store.store import SampleStore

SOURCE = Path(__file__).parents[2]
DAYS = ("2026-01-01", "2026-01-10")
PATIENCE = 60.0


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A store with ten days of sixty orders each: their window is twelve pages."""
    store = SampleStore(Shop(orders=build_orders(start=datetime(2026, 1, 1, tzinfo=UTC), days=10, per_day=60)))
    with running_project(store, tmp_path, monkeypatch) as project:
        yield project


def materialize(project: Project, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
    """`dagster asset materialize`, as typed in a terminal, with a history of its own."""
    return dagster(project, "asset", "materialize", *arguments, **settings)


def dagster(project: Project, *command: str, **settings: str) -> "subprocess.Popen[str]":
    """A command on the project's definitions; its history is its own.

    Dagster makes its SQLite files in a way that only one process at a time can.
    """
    home = Path(mkdtemp(dir=project.folder))
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    what, verb, *arguments = command
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "dagster", what, verb),
            *("-m", "commerce_assets.definitions", *arguments),
        ],
        cwd=project.folder,
        env={
            **os.environ,
            **project.environment,
            "PYTHONPATH": str(SOURCE),
            "DAGSTER_HOME": str(home),
            "TMPDIR": str(project.folder),
            **settings,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


ORDERS = ("--select", "orders", "--partition-range", "...".join(DAYS))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_pull_is_resumed_after_its_last_page(
    shop: Project,
) -> None:
    """Fault 52."""
    # So slowly that each page is on the disk before the next one comes, as at the pace of the API.
    killed = materialize(shop, *ORDERS, COMMERCE_API_REQUESTS_PER_SECOND="1.8")
    wait_until(lambda: shop.requests() >= 6)
    killed.kill()
    killed.communicate()
    asked = shop.requests()
    assert not shop.database.exists()

    ended = materialize(shop, *ORDERS)
    output, _ = ended.communicate()

    assert ended.returncode == 0, output
    assert shop.query("SELECT count(*), count(DISTINCT id) FROM orders") == [(600, 600)]
    # Thirteen pages in all (the twelfth is full), the last staged one asked for again, and the one that was under way.
    assert shop.requests() <= 13 + 2
    assert shop.requests() - asked < 13
    assert not list(shop.folder.glob("**/items-*.jsonl"))


@pytest.mark.slow
def test_sigterm_during_a_wait_ends_the_run_at_once(shop: Project) -> None:
    """Fault 28."""
    process = materialize(shop, *ORDERS, COMMERCE_API_REQUESTS_PER_SECOND="0.05")
    wait_until(lambda: shop.requests() >= 1)
    time.sleep(0.5)
    began = time.monotonic()

    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)

    assert time.monotonic() - began < 5
    assert process.returncode != 0
    assert not shop.database.exists()
    again = materialize(shop, *ORDERS)
    assert again.wait(PATIENCE) == 0, output
    assert shop.query("SELECT count(*) FROM orders") == [(600,)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_ended_at_any_moment_leaves_old_rows_or_new_ones(shop: Project, number: signal.Signals) -> None:
    """Faults 28 and 52. Alone: pytest -m slow -k ended_at_any_moment"""
    database = DatabaseFile(path=shop.database)
    moments = random.Random(7)
    for run in range(4):
        old = rows_of(database)
        for order in shop.store.shop.orders:
            order["tag"] = f"version {run}"
        shop.store.touch()
        process = materialize_until_first_request(shop)
        after = moments.uniform(0, 1.5)
        time.sleep(after)
        began = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=PATIENCE)
        case = f"{number.name} of run {run}, {after:.2f} s after its first request: {output}"
        # A terminate signal takes Dagster a second or two of tidying up, and more where the machine is busy.
        assert time.monotonic() - began < 15, case

        found = rows_of(database)
        again = materialize(shop, *ORDERS)
        output, _ = again.communicate(timeout=PATIENCE)
        assert again.returncode == 0, output
        new = rows_of(database)
        assert [row[1] for row in new] == [f"version {run}"] * 600, case
        assert found in (old, new), case


def materialize_until_first_request(shop: Project) -> "subprocess.Popen[str]":
    before = shop.requests()
    process = materialize(shop, *ORDERS)
    wait_until(lambda: shop.requests() > before)
    return process


def test_three_pulls_at_once_stay_below_the_rate_together(shop: Project) -> None:
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


@pytest.mark.slow
def test_two_refreshes_at_once_load_every_change(shop: Project) -> None:
    assert materialize(shop, *ORDERS).wait(PATIENCE) == 0
    for number in range(1, 301):
        shop.store.update_order(number, tag="sale")
    shop.store.forget_requests()

    # Six pages and a half, two a second: each is far from done when the other begins.
    processes = [
        dagster(shop, "job", "execute", "-j", "orders_refresh", COMMERCE_API_REQUESTS_PER_SECOND="2") for _ in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output

    assert shop.query("SELECT count(*), count(DISTINCT id), count_if(tag = 'sale') FROM orders") == [(600, 600, 300)]
    assert shop.query("SELECT count(*) FROM shop.commerce_loads.high_water_marks") == [(1,)]
    # Each has asked for its mark and for nine overlapping pages: the second one waited, and read them all again.
    assert len(shop.store.requests_to("/orders")) == 2 * 10


def test_one_command_materializes_everything_or_a_range(shop: Project) -> None:
    process = materialize(shop, "--select", "*", "--partition-range", "...".join(DAYS))

    output, _ = process.communicate()

    assert process.returncode == 0, output
    assert shop.query("SELECT count(*) FROM orders") == [(600,)]
    assert shop.query("SELECT count(*) FROM products") == [(0,)]


def run_in(folder: Path, *arguments: str, source: Path = SOURCE) -> str:
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
    tables = [f"commerce.{endpoint.name}" for endpoint in ENDPOINTS] + [f"analytics.{model.name}" for model in MODELS]
    assert re.findall(r"│ (\w+\.\w+) +│ +[1-9]", shown) == tables


def test_the_fifth_endpoint_of_the_readme_is_one_edit(tmp_path: Path) -> None:
    """In a copy of the project: the demo pulls its rows, and what iterates over the table stays green."""
    for name in ("commerce_assets", "commerce_assets_tests", "sample_store", "docs"):
        shutil.copytree(SOURCE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(SOURCE / name, tmp_path)
    (entry,) = re.findall(r"```python\n(Endpoint\(.+?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    table = tmp_path / "commerce_assets/endpoints.py"
    table.write_text(f"{table.read_text().rstrip().removesuffix(')')}{entry})\n")

    assert re.search(r"commerce\.affiliates +│ +120 ", run_in(tmp_path, "sample_store.demo", source=tmp_path))
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "endpoint or described or what_a_row_is")
    run_in(tmp_path, "pytest", *options, "commerce_assets_tests/integration/test_definitions.py", source=tmp_path)


@pytest.mark.slow
def test_a_hundred_thousand_orders_take_at_most_400_megabytes(shop: Project) -> None:
    shop.store.shop = Shop(orders=build_orders(start=datetime(2025, 1, 1, tzinfo=UTC), days=100, per_day=1000))
    shop.store.touch()

    process = materialize(shop, "--select", "orders", "--partition-range", "2025-01-01...2025-04-10")
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_megabytes(process.pid))
        time.sleep(0.02)
    output, _ = process.communicate()

    assert process.returncode == 0, output
    assert shop.query("SELECT count(*) FROM orders") == [(100_000,)]
    assert 100 < peak <= 400


def peak_megabytes(pid: int) -> int:
    """The most memory that a process has held so far; that of `wait4` would include this process, its parent."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peaks[0]) * 1024 // 1_000_000 if peaks else 0
