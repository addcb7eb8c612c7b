"""A lake: several writers, tidying, readers meanwhile, and what stays secret."""

import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from commerce_assets.defs.failures import KnownError
from commerce_assets.defs.io_manager import CommerceDuckDBIOManager
from commerce_assets.defs.resources import WAREHOUSE, build_resources
from commerce_assets.defs.shop import Shop
from commerce_assets.settings import CommerceSettings
from commerce_assets.warehouse import lake as lakes
from commerce_assets.warehouse.database import DatabaseLockedError, WarehouseError
from commerce_assets.warehouse.privacy.policy import PersonalDataPolicy
from commerce_assets_tests.support.items import NOON, ORDERS, days, order
from commerce_assets_tests.support.lake import LakeWorld
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.servers import PASSWORD, PostgresServer
from commerce_assets_tests.support.shell import Shell
from commerce_assets_tests.support.world import LOG, World, running, serving
from sample_store.shop import build_shop
from sample_store.store import SampleStore

DAYS = 8
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
FIRST = (TODAY - timedelta(days=DAYS)).date()
INGEST = """
import logging, os, sys
from datetime import date
import duckdb
from commerce_assets.api.request import ListRequest
from commerce_assets.ingest import ingest
from commerce_assets.settings import CommerceSettings
from commerce_assets.warehouse import lake
from commerce_assets.window import Window

settings = CommerceSettings.read(dict(os.environ))
orders = next(endpoint for endpoint in settings.endpoints if endpoint.name == "orders")
if sys.argv[3] == "killed":
    # After the commit's files are written, before the catalog names them.
    lake._check_held = lambda lock: os._exit(9)
with settings.build_client(logging.getLogger("writer")) as client:
    request = ListRequest(endpoint=orders, window=Window.of_days(*map(date.fromisoformat, sys.argv[1:3])))
    ingest.ingest(request, client=client, warehouse=settings.warehouse(logging.getLogger("writer")),
                  log=logging.getLogger("writer"))
"""


TERMINATE_LOCKS = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@pytest.fixture
def lake(tmp_path: Path, url: str) -> LakeWorld:
    return LakeWorld(tmp_path, url=url)


@pytest.fixture
def shop(tmp_path: Path, url: str) -> Iterator[World]:
    """A shop of eight days, whose lake does not exist yet."""
    store = SampleStore(build_shop(now=TODAY, days=DAYS, orders_per_day=20))
    with serving(store, tmp_path, partial(LakeWorld, url=url)) as world:
        yield world


def write(world: World, number: int, first: int, last: int, how: str = "") -> "subprocess.Popen[bytes]":
    """Ingest days in another process, as another machine does, with its own staged pages."""
    environment = world.environment | {
        "COMMERCE_STAGING_DIR": str(world.folder / f"staging-{number}"),
        "PYTHONPATH": str(ROOT),
    }
    days = [(FIRST + timedelta(days=day)).isoformat() for day in (first, last)]
    return subprocess.Popen([sys.executable, "-c", INGEST, *days, how], env={**os.environ, **environment})


def ids(world: World) -> list[int]:
    return [number for (number,) in world.query("SELECT id FROM commerce.orders ORDER BY id")]


def test_eight_writers_store_every_order_once(shop: World) -> None:
    same_days = [write(shop, number, 0, 3) for number in range(4)]
    killed = write(shop, 4, 0, 7, "killed")
    other_days = [write(shop, number, *days) for number, days in enumerate([(4, 5), (5, 6), (7, 7)], start=5)]
    assert [process.wait(300) for process in (*same_days, *other_days)] == [0] * 7
    assert killed.wait(300) == 9

    expected = sorted(item["id"] for item in shop.store.shop.orders)
    assert ids(shop) == expected
    lake: Any = shop.file
    lake.tidy()
    assert ids(shop) == expected


def add_orders(storage: LakeWorld, count: int) -> None:
    """Load one order at a time, as refreshes do."""
    for number in range(count):
        storage.load(ORDERS, [order(number)], updated_after=NOON)


def test_tidying_leaves_few_files_and_every_row(lake: LakeWorld) -> None:
    add_orders(lake, 24)
    lake.load(ORDERS, [order(3, tag="changed")], window=days("2024-03-15"))
    rows = lake.query("FROM commerce.orders ORDER BY id")
    before, after = lake.file.tidy()
    assert before > 24
    assert after <= 4
    assert lake.query("FROM commerce.orders ORDER BY id") == rows


def test_a_reader_keeps_its_rows_while_others_load_and_tidy(lake: LakeWorld) -> None:
    add_orders(lake, 3)
    with lake.file.read() as reader:
        assert reader.execute("SELECT count(*) FROM commerce.orders").fetchall() == [(3,)]
        add_orders(lake, 5)
        lake.file.tidy()
        assert reader.execute("SELECT count(*) FROM commerce.orders").fetchall() == [(3,)]
    assert ids(lake) == [0, 1, 2, 3, 4]


def test_tidying_deletes_what_is_old_and_not_named(lake: LakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a killed load, and those of old snapshots; a reader may still need young ones."""
    add_orders(lake, 5)
    young = files_of(lake)
    lake.file.tidy()
    assert young <= files_of(lake)
    monkeypatch.setattr(lakes, "READERS_END_WITHIN", timedelta(0))
    orphan = lake.folder / "lake" / "shop" / "commerce" / "orders" / "of-a-killed-load.parquet"
    shutil.copy(next(iter(files_of(lake))), orphan)
    lake.file.tidy()
    assert len(files_of(lake)) <= 4
    assert ids(lake) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("type_", [pa.duration("us"), pa.list_(pa.duration("us")), pa.list_(pa.int32(), 2)], ids=str)
def test_a_type_that_a_lake_does_not_hold_exactly_is_refused(lake: LakeWorld, type_: Any) -> None:
    frame = pa.table({"value": pa.nulls(1, type_)})
    manager = CommerceDuckDBIOManager(**lake.warehouse_fields, schema="commerce")

    @dg.asset
    def returned() -> pa.Table:
        return frame

    with pytest.raises(KnownError, match=r"which a lake does not hold exactly\. Fix: return a decimal"):
        dg.materialize([returned], resources={"io_manager": manager})


def test_a_stricter_policy_leaves_no_raw_value_in_any_file(lake: LakeWorld) -> None:
    """Fault 106."""
    items = [order(number, buyer_email=f"{number}-canary@example.com") for number in range(500)]
    lake.load(ORDERS, items, window=days("2024-03-15"))
    assert holding(lake, b"canary")
    lake.load(ORDERS, [], window=days("2024-03-20"), policy=PersonalDataPolicy.parse("drop"))
    assert lake.query("SELECT count(*), count(buyer_email) FROM commerce.orders") == [(500, 0)]
    assert holding(lake, b"canary") == set()


def test_the_password_is_in_no_statement_and_no_error(lake: LakeWorld) -> None:
    """Fault 65."""
    add_orders(lake, 1)
    assert PASSWORD not in str(lake.query("FROM duckdb_databases()"))
    assert PASSWORD not in repr(lake.file)
    elsewhere = replace(lake.file, postgres_url=lake.url.rpartition(":")[0] + ":1/shop")
    with pytest.raises(WarehouseError, match=r"cannot be opened: .* Fix: check COMMERCE_LAKE_DATA") as raised:
        elsewhere.exists()
    assert PASSWORD not in "".join(traceback.format_exception(raised.value))


def test_a_lake_that_nobody_has_loaded_is_named(lake: LakeWorld) -> None:
    assert not lake.file.exists()
    with (
        pytest.raises(WarehouseError, match=r"does not exist yet\. Fix: materialize an asset first"),
        lake.file.read(),
    ):
        pytest.fail("it was opened")
    with lake.file.read_or_empty() as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_writer_waits_for_another_and_names_it(lake: LakeWorld) -> None:
    with lake.file.write(), pytest.raises(DatabaseLockedError, match=r"the lake .* has been held by .*pid"):
        replace(lake.file, lock_timeout=0).check()


def test_a_load_that_lost_its_lock_is_not_committed(lake: LakeWorld, postgres: PostgresServer) -> None:
    add_orders(lake, 1)

    def lose_the_lock() -> None:
        with lake.file.write() as connection:
            connection.execute("DELETE FROM commerce.orders")
            postgres.execute(TERMINATE_LOCKS)

    with pytest.raises(WarehouseError, match="the lock of the load was lost"):
        lose_the_lock()
    assert ids(lake) == [0]


def test_every_command_works_on_a_lake(shop: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path, settings=shop.environment | {"COMMERCE_ORDERS_START_DATE": FIRST.isoformat()})

    def run(*arguments: str, exit_code: int = 0) -> str:
        result = shell.run(*arguments)
        assert result.exit_code == exit_code, result.output
        return result.stdout if not exit_code else result.output

    assert "will be created by the first pull" in run("check")
    for command in (["pull", "products"], ["pull", "packages"], ["pull", "subscriptions"], ["pull", "orders"]):
        run(*command)
    run("refresh")
    run("reconcile")
    run("build")
    assert "can be written to" in run("check")
    count = len(shop.store.shop.orders)
    assert run("query", "SELECT count(*) FROM commerce.orders", "--format", "csv") == f"count_star()\n{count}\n"
    run("query", "FROM analytics.daily_revenue LIMIT 1")
    run("status", "--strict")
    run("export", "exported", "orders", "analytics.daily_revenue")
    exported = duckdb.read_parquet(f"{tmp_path}/exported/orders/**/*.parquet")
    assert len(exported.fetchall()) == count
    assert "back up the server of COMMERCE_POSTGRES_URL" in run("backup", "backups", exit_code=1)
    assert not (tmp_path / "shop.duckdb").exists()


def test_the_job_tidies_the_lake(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SampleStore(build_shop(now=TODAY, days=DAYS, orders_per_day=20))
    with running(store, tmp_path, monkeypatch, partial(LakeWorld, url=url)) as world:
        world.run("catalog")
        world.run("orders", days=(FIRST, FIRST + timedelta(days=DAYS - 1)))
        world.run("tidy_lake")
        assert len(ids(world)) == len(store.shop.orders)


def test_a_file_moves_into_a_lake_and_back(lake: LakeWorld, tmp_path: Path) -> None:
    """By the commands of docs/scaling.md."""
    file = World(tmp_path)
    file.load(ORDERS, [order(number) for number in range(100)], window=days("2024-03-15"))
    page = (ROOT / "docs" / "scaling.md").read_text()
    there, back = re.findall(r"```python\n(from commerce_assets.*?)```", page, re.DOTALL)
    settings = {"COMMERCE_POSTGRES_URL": lake.url, "COMMERCE_LAKE_DATA": str(tmp_path / "lake")}
    for script, name in ((there, "shop.duckdb"), (back, "back.duckdb")):
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env=os.environ | settings | {"COMMERCE_DUCKDB_PATH": name, "PYTHONPATH": str(ROOT)},
            check=True,
        )
    rows = file.query("FROM commerce.orders ORDER BY id")
    assert lake.query("FROM commerce.orders ORDER BY id") == rows
    returned = World(tmp_path, name="back.duckdb")
    assert returned.query("FROM commerce.orders ORDER BY id") == rows
    assert returned.query("FROM commerce_loads.loads") == file.query("FROM commerce_loads.loads")


def test_shops_in_one_folder_keep_their_files(lake: LakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tidying deletes files that no catalog of the shop names, and the other shops' files are not in its catalog."""
    monkeypatch.setattr(lakes, "READERS_END_WITHIN", timedelta(0))
    monkeypatch.setenv("COMMERCE_POSTGRES_URL", lake.url)
    settings = {"COMMERCE_POSTGRES_URL": lake.url, "COMMERCE_LAKE_DATA": str(lake.folder / "lake")}
    shops = {name: CommerceSettings.read(settings | {"COMMERCE_SHOP": name}) for name in ("", "acme", "bolt")}
    lakes_of = {name: shop.database(LOG) for name, shop in shops.items()}
    for number, database in enumerate(lakes_of.values(), start=1):
        with database.write() as connection:
            connection.execute(f"CREATE SCHEMA commerce; CREATE TABLE commerce.orders AS FROM range({number})")
    for database in lakes_of.values():
        assert isinstance(database, lakes.Lake)
        database.tidy()
    for number, (name, database) in enumerate(lakes_of.items(), start=1):
        with database.read() as connection:
            # Not a count, which the catalog knows without the files.
            assert connection.execute("SELECT list(range) FROM commerce.orders").fetchall() == [([*range(number)],)]
        # Runs open the same lake as commands do.
        resource = build_resources(shops[name])[Shop(name).named(WAREHOUSE)]
        with resource.process_config_and_initialize_cm() as warehouse:
            assert str(warehouse.open(LOG).database) == str(database)


def files_of(world: World) -> set[Path]:
    return set((world.folder / "lake").rglob("*.parquet"))


def holding(world: World, text: bytes) -> set[Path]:
    """The files that hold a text; they are not compressed."""
    return {
        path
        for path in files_of(world)
        if any(text in str(row).encode() for row in duckdb.read_parquet(str(path)).fetchall())
    }
