"""SIGKILL at any moment of pull, staging, load and commit: old rows or new rows, and the next ordinary run is right."""

import logging
import multiprocessing
import random
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from commerce_assets.api.client import CommerceClient
from commerce_assets.api.pacing import Pacer
from commerce_assets.api.pull import Pull
from commerce_assets.extract import pull_into_staging
from commerce_assets.sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from commerce_assets.sample_store.server import serve
from commerce_assets.sample_store.shop import Shop, build_orders
from commerce_assets.sample_store.store import SampleStore
from commerce_assets.staging import Staging
from commerce_assets.warehouse.database import Database
from commerce_assets.warehouse.history import has_loaded
from commerce_assets.warehouse.load import load
from commerce_assets.window import Window
from commerce_assets_tests.project import endpoint_named

ORDERS = endpoint_named("orders")
WINDOW = Window.of_days(datetime(2026, 1, 1, tzinfo=UTC).date(), datetime(2026, 1, 5, tzinfo=UTC).date())
ROWS = 300
LOG = logging.getLogger(__name__)

# A process that has imported everything and is forked from: a run then takes a tenth of a second, not three.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def pull_and_load(base_url: str, folder: Path) -> None:
    """What a run of the asset does, from the first request to the end of the staged pages."""
    pull = Pull(endpoint=ORDERS, window=WINDOW)
    database = Database(path=folder / "commerce.duckdb")
    pacer = Pacer(base_url=base_url, requests_per_second=0)
    with (
        CommerceClient(
            base_url=base_url, key=SAMPLE_API_KEY, secret=SAMPLE_API_SECRET, pacer=pacer, paths={"orders": ORDERS_PATH}
        ) as client,
        Staging(folder / "staging", log=LOG).hold(pull, store=base_url, wait_seconds=5) as staged,
    ):
        if staged.is_complete and database.path.exists():
            with database.read() as connection:
                stored = has_loaded(connection, staged.manifest.pull_id)
            if stored:
                staged.clear()
        pull_into_staging(client, staged, log=LOG)
        with database.write() as connection:
            load(connection, staged)
        staged.discard()


def versions(folder: Path) -> list[tuple[str | None, int]]:
    """How many rows of each version the table holds."""
    database = Database(path=folder / "commerce.duckdb")
    if not database.path.exists():
        return []
    with database.read() as connection:
        tables = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'orders'").fetchone()
        if not tables or not tables[0]:
            return []
        return connection.execute("SELECT tag, count(*) FROM commerce.orders GROUP BY tag").fetchall()


def survive_kills(folder: Path, *, kills: int, seed: int) -> dict[str, int]:
    """Kills so many runs, each with a new version of every row to bring; returns what was found afterwards, counted."""
    moments = random.Random(seed)
    found = {"nothing": 0, "old": 0, "new": 0}
    orders = build_orders(start=WINDOW.start, days=5, per_day=ROWS // 5)
    for order in orders:
        order["tag"] = "first"
    store = SampleStore(Shop(orders=orders))
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    with serve(store) as server:
        seconds = ordinary_run(server.base_url, folder)
        old: str | None = "first"
        for number in range(kills):
            if moments.random() < 0.2:
                (folder / "commerce.duckdb").unlink()
                old = None
            new = f"version {number}"
            for order in orders:
                order["tag"] = new
            store.touch()
            process = PROCESSES.Process(target=pull_and_load, args=(server.base_url, folder))
            process.start()
            # From the first import to well after the end of a run that takes as long as the one before it.
            time.sleep(moments.uniform(0, 1.5 * seconds))
            process.kill()
            process.join()

            rows = versions(folder)
            if not rows:
                found["nothing"] += 1
                assert old is None, f"kill {number}: the old rows are gone"
            else:
                ((version, count),) = rows
                assert count == ROWS, f"kill {number}"
                assert version in {old, new}, f"kill {number}"
                found["new" if version == new else "old"] += 1
            seconds = ordinary_run(server.base_url, folder)
            assert versions(folder) == [(new, ROWS)], f"the run after kill {number}"
            old = new
    return found


def ordinary_run(base_url: str, folder: Path) -> float:
    """A run that nobody disturbs; returns the seconds that it took."""
    began = time.monotonic()
    process = PROCESSES.Process(target=pull_and_load, args=(base_url, folder))
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def test_a_dozen_kills_at_random_moments_leave_old_rows_or_new_ones_and_the_next_run_is_right(tmp_path: Path) -> None:
    """Fault 52."""
    found = survive_kills(tmp_path, kills=12, seed=1)

    assert sum(found.values()) == 12


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_hundreds_of_kills_at_random_moments_leave_old_rows_or_new_ones_and_the_next_run_is_right(
    tmp_path: Path, seed: int
) -> None:
    """Fault 52."""
    found = survive_kills(tmp_path, kills=100, seed=seed)

    assert all(found.values()), found
