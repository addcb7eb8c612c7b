"""Real processes, as people and schedules start them: killed, two at once, ended while they wait."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.crashing import rows_of
from commerce_assets_tests.support.processes import ORDERS, PATIENCE, dagster, materialize, wait_until
from commerce_assets_tests.support.world import World, running
from sample_store.shop import Shop, build_orders
from sample_store.store import SampleStore


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A store with ten days of sixty orders each: their window is twelve pages."""
    store = SampleStore(Shop(orders=build_orders(start=datetime(2026, 1, 1, tzinfo=UTC), days=10, per_day=60)))
    with running(store, tmp_path, monkeypatch) as project:
        yield project


@pytest.mark.slow
def test_a_killed_pull_is_resumed_after_its_last_page(
    shop: World,
) -> None:
    """Fault 52."""
    # So slowly that each page is on the disk before the next one comes, as at the pace of the API.
    killed = materialize(shop, *ORDERS, COMMERCE_API_REQUESTS_PER_SECOND="1.8")
    wait_until(lambda: shop.requests() >= 6)
    killed.kill()
    killed.communicate()
    asked = shop.requests()
    assert not shop.path.exists()

    ended = materialize(shop, *ORDERS)
    output, _ = ended.communicate()

    assert ended.returncode == 0, output
    assert shop.query("SELECT count(*), count(DISTINCT id) FROM orders") == [(600, 600)]
    # Thirteen pages in all (the twelfth is full), the last staged one asked for again, and the one that was under way.
    assert shop.requests() <= 13 + 2
    assert shop.requests() - asked < 13
    assert not list(shop.folder.glob("**/items-*.jsonl"))


@pytest.mark.slow
def test_sigterm_during_a_wait_ends_the_run_at_once(shop: World) -> None:
    """Fault 28."""
    process = materialize(shop, *ORDERS, COMMERCE_API_REQUESTS_PER_SECOND="0.05")
    wait_until(lambda: shop.requests() >= 1)
    time.sleep(0.5)
    began = time.monotonic()

    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)

    assert time.monotonic() - began < 5
    assert process.returncode != 0
    assert not shop.path.exists()
    again = materialize(shop, *ORDERS)
    assert again.wait(PATIENCE) == 0, output
    assert shop.query("SELECT count(*) FROM orders") == [(600,)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_ended_at_any_moment_leaves_old_rows_or_new_ones(shop: World, number: signal.Signals) -> None:
    """Faults 28 and 52. Alone: pytest -m slow -k ended_at_any_moment"""
    database = DatabaseFile(path=shop.path)
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


def materialize_until_first_request(shop: World) -> "subprocess.Popen[str]":
    before = shop.requests()
    process = materialize(shop, *ORDERS)
    wait_until(lambda: shop.requests() > before)
    return process


@pytest.mark.slow
def test_two_refreshes_at_once_load_every_change(shop: World) -> None:
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
    assert shop.query("SELECT count(*) FROM commerce_loads.high_water_marks") == [(1,)]
    # Each requests its mark, nine overlapping pages and the end's proof: the second one waited, and read all again.
    assert len(shop.store.requests_to("/orders")) == 2 * 11


@pytest.mark.slow
def test_a_hundred_thousand_orders_take_at_most_400_megabytes(shop: World) -> None:
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
