"""The procedures of docs/operations.md that need a store or Dagster, each after a kill."""

import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from threading import Event

import pytest

from commerce_assets_tests.support import killed_writes as kills
from commerce_assets_tests.support.faulty_store import faulty
from commerce_assets_tests.support.items import BY_NAME, order, product
from commerce_assets_tests.support.killed_writes import killed_write
from commerce_assets_tests.support.other_programs import leave_a_wal
from commerce_assets_tests.support.procedures import beside, block_with, restore, rows_of
from commerce_assets_tests.support.processes import wait_until
from commerce_assets_tests.support.shell import Shell, settings_for
from commerce_assets_tests.support.units import BACKUP, Services
from commerce_assets_tests.support.world import World
from sample_store import SAMPLE_API_SECRET
from sample_store.shop import Shop, build_orders
from sample_store.store import SampleStore

DAYS = [datetime.now(UTC).date() - timedelta(days=days) for days in (3, 2, 1)]


@pytest.fixture
def in_use(project: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project with a product, and an order on each of three days; all is loaded, then a write is killed."""
    (project.folder / "data").mkdir()
    project.name = "data/shop.duckdb"
    monkeypatch.setenv("COMMERCE_DUCKDB_PATH", str(project.path))
    project.settings["COMMERCE_ORDERS_START_DATE"] = DAYS[0].isoformat()
    project.store.shop.products = [product(1)]
    for number, day in enumerate(DAYS, 1):
        project.store.add_order(order(number, datetime.combine(day, time(12), UTC)))
    load_all(project)
    Services(project.folder, port=0).run(BACKUP, COMMERCE_DUCKDB_PATH=str(project.path))
    assert killed_write(project.path, 1, kills.during_the_load)[0] < 0
    return project


def load_all(project: World) -> None:
    project.run("orders", days=(DAYS[0], DAYS[-1]))
    project.run("catalog")
    project.run("orders_refresh")


def tags(project: World) -> dict[int, str | None]:
    return {number: row["tag"] for number, row in project.rows(BY_NAME["orders"]).items()}


@pytest.mark.slow
def test_a_restore_equals_the_store_after_the_documented_jobs(in_use: World) -> None:
    # What the file of the backup does not know of.
    in_use.store.update_order(1, refunded=True, tag="late")
    in_use.store.add_order(
        order(4, datetime.combine(DAYS[-1], time(12), UTC), updated_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    )
    in_use.store.delete("orders", 3)
    in_use.store.delete("products", 1)

    restore(Services(in_use.folder, port=0))
    for job in re.findall(r"-j (\w+)", block_with("-j reconcile")):
        in_use.run(job)

    assert tags(in_use) == {1: "late", 2: None, 4: None}
    assert in_use.rows(BY_NAME["products"])[1]["_deleted_at"]
    assert beside(in_use.path) == []


@pytest.mark.slow
def test_after_a_deletion_the_checks_name_the_days_to_load(in_use: World) -> None:
    """Fault 105."""
    leave_a_wal(in_use.path)
    in_use.path.unlink()

    in_use.run("orders_refresh")
    checks = {
        (check.asset_key.to_user_string(), check.check_name): str(check.description)
        for check in in_use.run("health_checks").get_asset_check_evaluations()
    }
    load_all(in_use)

    # To yesterday, or in the first three hours of a day to the day before.
    assert f"commerce-assets pull orders --from {DAYS[0]} --to " in checks["orders", "fresh"]
    assert checks["products", "fresh"] == "never loaded: run the job catalog"
    assert tags(in_use) == {1: None, 2: None, 3: None}
    assert beside(in_use.path) == []


@pytest.mark.slow
def test_a_new_key_loads_once_a_person_has_confirmed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    orders = build_orders(start=datetime.combine(DAYS[0], time(), UTC), days=3, per_day=50)
    store = SampleStore(Shop(products=[product(1)], orders=orders))
    with faulty(store) as server:
        shell = Shell(tmp_path, settings_for(server.base_url) | {"COMMERCE_ORDERS_START_DATE": DAYS[0].isoformat()})
        assert shell.run("pull", "products").exit_code == 0
        process = shell.start("pull", "orders", COMMERCE_API_REQUESTS_PER_SECOND="1")
        wait_until(lambda: [*tmp_path.glob("shop.staging/orders/*/pages.jsonl")] != [])
        process.kill()
        process.communicate()
        shell.settings["COMMERCE_API_KEY"] = "new-key"
        store.credentials = ("new-key", SAMPLE_API_SECRET)
        refused = shell.run("pull", "products")
        assert refused.exit_code == 1
        assert "--store-moved" in refused.stderr
        for line in block_with("--store-moved").replace("2026-01-30", str(DAYS[0])).splitlines():
            assert shell.run(*shlex.split(line)[3:]).exit_code == 0, line
    assert rows_of(tmp_path / "shop.duckdb", "commerce.orders") == 150


@pytest.mark.slow
def test_a_reader_open_all_the_while_delays_no_run(in_use: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job is run under a reader that keeps the file open, and that looks again and again."""
    monkeypatch.setenv("COMMERCE_DUCKDB_LOCK_TIMEOUT", "0")
    in_use.settings["COMMERCE_DUCKDB_LOCK_TIMEOUT"] = "0"
    in_use.run("orders_refresh")
    seen: list[tuple[int, int]] = []
    done = Event()

    with in_use.file.read() as early, ThreadPoolExecutor(1) as pool:

        def look() -> None:
            while not done.wait(0.01):
                seen.extend(early.execute("SELECT count(*), count(tag) FROM commerce.orders").fetchall())

        looking = pool.submit(look)
        try:
            for number in (1, 2, 3):
                in_use.store.update_order(number, tag="new")
            for job in ("orders_refresh", "reconcile", "catalog"):
                in_use.run(job)
            for job in ("orders", "analytics"):
                in_use.run(job, days=(DAYS[0], DAYS[-1]))
        finally:
            done.set()
        looking.result()

    assert set(seen) == {(3, 0)}
    assert len(seen) > 10
    assert tags(in_use) == {1: "new", 2: "new", 3: "new"}
    assert beside(in_use.path) == []
