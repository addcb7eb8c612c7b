"""Several machines share one rate limit, one load at a time, and see whose runs are alive."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from commerce_assets.coordination import CoordinationError
from commerce_assets.coordination.postgres import Postgres
from commerce_assets.warehouse.database import DatabaseLockedError, WarehouseError
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.faulty_store import faulty
from commerce_assets_tests.support.items import store_of
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.processes import wait_until
from commerce_assets_tests.support.servers import PASSWORD, PostgresServer

TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""

REQUEST = """
import sys
from commerce_assets.api.client import CommerceClient
from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.coordination.postgres import Postgres
from commerce_assets_tests.support.items import PRODUCT_LIST

base_url, url, rate, count = sys.argv[1:]
pacer = RateLimiter(base_url=base_url, requests_per_second=float(rate), coordination=Postgres(url))
print("ready", flush=True)
sys.stdin.readline()
with CommerceClient(base_url=base_url, key="sample-key", secret="sample-secret", pacer=pacer) as client:
    for _ in range(int(count)):
        client.page(PRODUCT_LIST, PageDecoder(PRODUCT_LIST.endpoint), 1)
"""
TAKE_AND_WAIT = """
import sys
from commerce_assets.coordination.postgres import Postgres

slot = Postgres(sys.argv[1]).slot("store.example")
slot.take(100)
print("taken", flush=True)
slot.take(100)
"""
LOAD = """
import sys
from pathlib import Path
from commerce_assets.coordination.postgres import Postgres
from commerce_assets.warehouse.file import DatabaseFile

with DatabaseFile(path=Path(sys.argv[2]), coordination=Postgres(sys.argv[1])).write():
    print("loading", flush=True)
    sys.stdin.readline()
"""
HOLD_RUN = """
import sys
from commerce_assets.coordination.postgres import Postgres

with Postgres(sys.argv[1]).hold_run(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def machine(code: str, *arguments: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process with a process-id namespace and a temporary folder that no other process shares."""
    folder.mkdir()
    alone = ["unshare", "--pid", "--fork", "--kill-child"]
    if os.getuid():
        alone += ["--map-root-user"]
    with subprocess.Popen(
        [*alone, sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_three_machines_together_never_exceed_the_rate(url: str, tmp_path: Path) -> None:
    """Fault 27, on several machines: measured at the store."""
    rate, count = 20, 10
    with faulty(store_of(products=1)) as store:
        arguments = (store.base_url, url, str(rate), str(count))
        with (
            machine(REQUEST, *arguments, folder=tmp_path / "a") as first,
            machine(REQUEST, *arguments, folder=tmp_path / "b") as second,
            machine(REQUEST, *arguments, folder=tmp_path / "c") as third,
        ):
            for process in (first, second, third):
                go_on(process)
            assert [process.wait(30) for process in (first, second, third)] == [0, 0, 0]
        instants = [request.at for request in store.requests]
    assert len(instants) == 3 * count
    seconds = instants[-1] - instants[0]
    # One more, and a tenth of a second, for what a busy machine adds to the way to the server.
    assert max(sum(start <= instant < start + 1 for instant in instants) for start in instants) <= rate + 1
    assert len(instants) - 1 <= rate * (seconds + 0.1)
    assert len(instants) - 1 > rate / 2 * seconds


def test_a_machine_killed_while_waiting_gives_its_slot_back(url: str, tmp_path: Path) -> None:
    with machine(TAKE_AND_WAIT, url, folder=tmp_path / "a") as waiting:
        time.sleep(0.2)
        waiting.kill()
    began = time.monotonic()
    Postgres(url).slot("store.example").take(0.1)
    assert time.monotonic() - began < 5


def test_a_wait_for_a_slot_survives_a_restart_of_the_server(url: str, postgres: PostgresServer) -> None:
    slot = Postgres(url).slot("store.example")
    slot.take(1)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(slot.take, 2)
        time.sleep(0.2)
        postgres.stop()
        postgres.start()
        waiting.result(timeout=30)
    began = time.monotonic()
    slot.take(1)
    assert time.monotonic() - began > 0.8


def test_stores_are_limited_by_host(url: str) -> None:
    coordination = Postgres(url)
    coordination.slot("store.example").take(60)
    began = time.monotonic()
    coordination.slot("other.example").take(60)
    assert time.monotonic() - began < 5


def test_a_second_machine_waits_for_a_load_and_names_the_first(url: str, tmp_path: Path) -> None:
    """Even where lock files are not shared, as on two mounts of one folder without locks."""
    path = tmp_path / "shop.duckdb"
    with machine(LOAD, url, str(path), folder=tmp_path / "a") as loading:
        (tmp_path / ".shop.duckdb.lock").unlink()
        with (
            pytest.raises(DatabaseLockedError, match=r"python\S* \(pid 1 on "),
            DatabaseFile(path=path, lock_timeout=0, coordination=Postgres(url)).write(),
        ):
            pass
        loading.kill()
        loading.wait()
    with DatabaseFile(path=path, lock_timeout=20, coordination=Postgres(url)).write() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id")


def test_a_load_whose_lock_was_lost_changes_nothing(url: str, tmp_path: Path, postgres: PostgresServer) -> None:
    database = DatabaseFile(path=tmp_path / "shop.duckdb", coordination=Postgres(url))
    with database.write() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id")

    def lose_the_lock() -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO t VALUES (2)")
            postgres.execute(TERMINATE)

    with pytest.raises(WarehouseError, match="the lock of the load was lost"):
        lose_the_lock()
    with database.read() as connection:
        assert connection.execute("FROM t").fetchall() == [(1,)]


def test_a_run_is_held_until_its_process_is_killed(url: str, tmp_path: Path) -> None:
    run_id = str(uuid4())
    coordination = Postgres(url)
    assert not coordination.is_run_held(run_id)
    with machine(HOLD_RUN, url, run_id, folder=tmp_path / "a") as holder:
        assert coordination.is_run_held(run_id)
        assert not coordination.is_run_held(str(uuid4()))
        with pytest.raises(CoordinationError, match=r"python\S* \(pid 1 on .*\) already works on it"):
            coordination.hold_run(run_id).__enter__()
        holder.send_signal(signal.SIGKILL)
        wait_until(lambda: not coordination.is_run_held(run_id))


def test_a_run_is_held_again_after_a_lost_connection(url: str, postgres: PostgresServer) -> None:
    coordination, run_id = Postgres(url), str(uuid4())
    with coordination.hold_run(run_id):
        postgres.execute(TERMINATE)
        wait_until(lambda: not coordination.is_run_held(run_id), seconds=2)
        wait_until(lambda: coordination.is_run_held(run_id))
    assert not coordination.is_run_held(run_id)


@pytest.mark.parametrize("change", [("s3cret-password", "wrong-canary"), ("127.0.0.1:", "127.0.0.1:1")])
def test_a_server_that_refuses_is_named_without_the_password(
    url: str, change: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commerce_assets.coordination.postgres._OUTAGE_SECONDS", 0.1)
    coordination = Postgres(url.replace(*change))
    for use in (
        lambda: coordination.slot("store.example").take(1),
        lambda: coordination.is_run_held("run"),
        lambda: coordination.load_lock(Path("shop.duckdb")).acquire(),
    ):
        with pytest.raises(CoordinationError, match=r"^PostgreSQL cannot be used .* Fix: ") as caught:
            use()
        assert PASSWORD not in str(caught.value)
        assert "canary" not in str(caught.value)
