"""All processes of the machine together ask no faster than they may: measured at the server."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from commerce_assets.api import rate_limit
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.coordination import CoordinationError, lock_files
from commerce_assets.coordination.lock_files import LockFiles
from commerce_assets.ingest.stage import stage
from commerce_assets_tests.support.clock import Clock
from commerce_assets_tests.support.faulty_store import Redirect, Status
from commerce_assets_tests.support.items import PRODUCT_LIST, store_of
from commerce_assets_tests.support.world import LOG, serving

ROOT = Path(__file__).resolve().parents[2]
SHOP = "http://shop.example/api/v1/"

HOLD = """
import sys
from pathlib import Path
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.coordination.lock_files import LockFiles

pacer = RateLimiter(base_url=sys.argv[1], requests_per_second=0.01, coordination=LockFiles(Path(sys.argv[2])))
pacer.wait_for_slot()
print("first slot taken", flush=True)
pacer.wait_for_slot()
"""


def pacer(directory: Path, *, rate: float = 1, base_url: str = SHOP) -> RateLimiter:
    return RateLimiter(base_url=base_url, requests_per_second=rate, coordination=LockFiles(directory))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (rate_limit, lock_files):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_threads_that_share_a_pacer_keep_the_rate_together(tmp_path: Path) -> None:
    """Fault 27."""
    shared = pacer(tmp_path, rate=50)
    instants: list[float] = []

    def ask() -> None:
        for _ in range(5):
            shared.wait_for_slot()
            instants.append(time.monotonic())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    instants.sort()
    assert instants[-1] - instants[0] >= 14 / 50


def test_retries_and_redirects_wait_for_a_slot_too(tmp_path: Path, clock: Clock) -> None:
    """Fault 27."""
    with serving(store_of(products=60), tmp_path) as puller:
        puller.server.script(Status(503), Redirect("/api/v1/products?page=1&per_page=50"), None, Status(500))
        began = clock.now
        pulled = puller.pull(pacer=pacer(tmp_path / "slots", base_url=puller.server.base_url))
        assert pulled.ids == [*range(1, 61)]
        assert pulled.cost.requests == len(puller.server.requests) == 6
        # The first request need not wait; the pauses of the retries are not on this clock.
        assert clock.now - began == pytest.approx(5 * 1.02)


@pytest.mark.parametrize(
    ("rate", "pauses"),
    [(1, [0, 1.02, 1.02]), (0.5, [0, 2.04, 2.04]), (4, [0, 0.255, 0.255]), (0, [0, 0, 0])],
)
def test_a_slot_is_waited_for_and_0_means_no_pacing(
    tmp_path: Path, clock: Clock, rate: float, pauses: list[float]
) -> None:
    paced = pacer(tmp_path / "slots", rate=rate)
    assert [paced.wait_for_slot() for _ in pauses] == pytest.approx(pauses)
    assert clock.now - 1_000_000 == pytest.approx(sum(pauses))
    assert (tmp_path / "slots").exists() is (rate > 0)


def test_a_slot_long_past_is_no_reason_to_wait(tmp_path: Path, clock: Clock) -> None:
    paced = pacer(tmp_path)
    paced.wait_for_slot()
    clock.now += 0.5
    assert paced.wait_for_slot() == pytest.approx(0.52)
    clock.now += 10
    assert paced.wait_for_slot() == 0


@pytest.mark.parametrize("content", ["1000050.0", "1e300", "inf", "nan", "", "12:00", "\0" * 30, "-1"])
def test_an_old_or_invalid_slot_file_is_ignored(tmp_path: Path, clock: Clock, content: str) -> None:
    paced = pacer(tmp_path)
    paced.wait_for_slot()
    (slot,) = tmp_path.glob("*.slot")
    slot.write_text(content)
    assert paced.wait_for_slot() == 0
    assert paced.wait_for_slot() == pytest.approx(1.02)
    assert clock.now == pytest.approx(1_000_001.02)


def test_a_process_killed_while_waiting_gives_its_slot_back(tmp_path: Path) -> None:
    """Fault 27."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, SHOP, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first slot taken\n"
        time.sleep(0.1)
        process.kill()
    began = time.monotonic()
    pacer(tmp_path, rate=10).wait_for_slot()
    assert time.monotonic() - began < 1


def test_stores_are_paced_by_host_and_not_by_path(tmp_path: Path, clock: Clock) -> None:
    pacer(tmp_path, base_url="https://shop.example/api/v1/").wait_for_slot()
    assert pacer(tmp_path, base_url="https://other.example/api/v1/").wait_for_slot() == 0
    assert pacer(tmp_path, base_url="https://SHOP.example/api/v1_3/").wait_for_slot() == pytest.approx(1.02)
    assert clock.now == pytest.approx(1_000_001.02)


def test_a_negative_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        pacer(tmp_path, rate=-1)


def test_files_in_the_slot_directory_are_private(tmp_path: Path) -> None:
    """Fault 68."""
    pacer(tmp_path / "slots", rate=100).wait_for_slot()
    assert (tmp_path / "slots").stat().st_mode & 0o777 == 0o700


def test_a_slot_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody_else = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody_else)
    with pytest.raises(CoordinationError, match=r"belongs to another user\. Fix: .* TMPDIR"):
        RateLimiter(base_url=SHOP, requests_per_second=1, coordination=LockFiles(tmp_path))


def test_the_time_spent_pacing_is_logged(tmp_path: Path, clock: Clock) -> None:
    with serving(store_of(products=120), tmp_path) as puller:
        paced = pacer(tmp_path / "slots", base_url=puller.server.base_url)
        with puller.client(pacer=paced) as client, puller.hold(PRODUCT_LIST) as staged:
            cost = stage(client, staged, log=LOG)
        assert client.tally.seconds_paced == cost.seconds_waited == pytest.approx(3.06)
        assert clock.now == pytest.approx(1_000_003.06)
