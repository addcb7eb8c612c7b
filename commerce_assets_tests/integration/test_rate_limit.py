"""All processes of the machine together stay below the rate: measured at the server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commerce_assets_tests.support.faulty_store import FaultyStore, faulty
from commerce_assets_tests.support.items import store_of
from commerce_assets_tests.support.pages import ROOT

ASK = """
import sys
from pathlib import Path
from commerce_assets.api.client import CommerceClient
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.coordination.lock_files import LockFiles
from commerce_assets.api.decoding import PageDecoder
from commerce_assets_tests.support.items import PRODUCT_LIST

base_url, directory, rate, count = sys.argv[1:]
pacer = RateLimiter(base_url=base_url, requests_per_second=float(rate), coordination=LockFiles(Path(directory)))
print("ready", flush=True)
sys.stdin.readline()
with CommerceClient(base_url=base_url, key="sample-key", secret="sample-secret", pacer=pacer) as client:
    for number in range(int(count)):
        client.page(PRODUCT_LIST, PageDecoder(PRODUCT_LIST.endpoint), 1)
"""


@pytest.fixture
def server() -> Iterator[FaultyStore]:
    with faulty(store_of(products=1)) as server:
        yield server


def test_three_processes_together_never_exceed_the_rate(server: FaultyStore, tmp_path: Path) -> None:
    """Fault 27."""
    rate, count = 20, 10
    command = [sys.executable, "-c", ASK, server.base_url, str(tmp_path), str(rate), str(count)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(20) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    instants = [request.at for request in server.requests]
    assert len(instants) == 3 * count
    seconds = instants[-1] - instants[0]
    # One more, and a tenth of a second, for what a busy machine adds to the way to the server.
    assert requests_in_any_second(instants) <= rate + 1
    assert len(instants) - 1 <= rate * (seconds + 0.1)
    # The pace is not undercut by half, either.
    assert len(instants) - 1 > rate / 2 * seconds


def requests_in_any_second(instants: list[float]) -> int:
    return max(sum(start <= instant < start + 1 for instant in instants) for start in instants)
