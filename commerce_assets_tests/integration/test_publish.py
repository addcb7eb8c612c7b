"""The copy for readers: whole, current, swapped in at once, and never in the way of a load."""

import json
import logging
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from filelock import FileLock

from commerce_assets.defs.checks import build_check_specs
from commerce_assets.warehouse.publish import PublishedCopy, PublishError
from commerce_assets_tests.support.project import Project
from commerce_assets_tests.support.staged import ORDERS, PRODUCTS, Storage, days, held, order, product, python
from sample_store.shop import Shop, build_orders

LOG = logging.getLogger("publish")
WINDOW = days("2024-03-15")
MANY = 500

# A process that has imported everything and is forked from.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one order."""
    storage = Storage(tmp_path_factory.mktemp("loaded"), name="commerce.duckdb")
    storage.load(ORDERS, [order(1)], window=WINDOW)
    return storage.path


@pytest.fixture
def storage(loaded: Path, tmp_path: Path) -> Storage:
    """With one order stored."""
    shutil.copy(loaded, tmp_path)
    storage = Storage(tmp_path, name=loaded.name)
    storage.stage(ORDERS, [])  # pulls have begun at different times
    return storage


@pytest.fixture
def copy(storage: Storage) -> PublishedCopy:
    """In a folder of its own, and not yet made."""
    (storage.folder / "bi").mkdir()
    return copy_of(storage.folder)


def copy_of(folder: Path, **fields: Any) -> PublishedCopy:
    return PublishedCopy(
        path=folder / "bi" / "shop.duckdb", source=Storage(folder, name="commerce.duckdb").database, log=LOG, **fields
    )


def read(path: Path, query: str) -> list[tuple[Any, ...]]:
    """What a client is answered that opens the file by its path."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(query).fetchall()


def ids(path: Path) -> list[int]:
    return [number for (number,) in read(path, "SELECT id FROM commerce.orders ORDER BY id")]


class Reader:
    """A BI tool: another process that has opened a file by its path and asks it whenever it is told to."""

    def __init__(self, path: Path, *, read_only: bool = True) -> None:
        code = (
            f"import sys, json, duckdb; c = duckdb.connect(sys.argv[1], read_only={read_only}); print(flush=True)\n"
            "for query in sys.stdin: print(json.dumps(c.execute(query).fetchall()), flush=True)"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "\n"

    def ask(self, query: str) -> list[list[Any]]:
        assert self.process.stdin is not None
        print(query, file=self.process.stdin, flush=True)
        rows: list[list[Any]] = json.loads(self._line())
        return rows

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@contextmanager
def reading(path: Path, *, read_only: bool = True) -> Iterator[Reader]:
    reader = Reader(path, read_only=read_only)
    try:
        yield reader
    finally:
        reader.process.communicate()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def identity(path: Path) -> tuple[int, int]:
    """Another one if the file was written or replaced."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


# What readers see.


def test_an_open_reader_keeps_the_old_copy_and_the_next_open_sees_the_new(
    storage: Storage, copy: PublishedCopy
) -> None:
    assert copy.renew()
    with copy.path.open("rb") as old, reading(copy.path) as reader:
        content = old.read()
        storage.load(ORDERS, [order(1), order(2)], window=WINDOW)
        assert copy.renew()

        old.seek(0)
        assert old.read() == content
        assert reader.ask("SELECT id FROM commerce.orders") == [[1]]
        assert ids(copy.path) == [1, 2]
    assert names(copy.path.parent) == {"shop.duckdb", ".shop.duckdb.lock"}


def test_whoever_has_the_copy_open_does_not_stop_a_load_or_the_next_copy(storage: Storage, copy: PublishedCopy) -> None:
    copy.renew()
    with held(copy.path):
        storage.load(ORDERS, [order(2)], window=WINDOW)
        assert copy.renew()
    assert ids(copy.path) == [2]


def test_the_copy_can_be_attached_and_opened_by_its_path_as_any_client_does(copy: PublishedCopy) -> None:
    copy.renew()
    assert read(copy.path, "SELECT id FROM commerce.orders") == [(1,)]
    with duckdb.connect(str(copy.path)) as connection:
        assert connection.execute("SELECT id FROM commerce.orders").fetchall() == [(1,)]
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{copy.path}' AS shop (READ_ONLY)")
        assert connection.execute("SELECT id FROM shop.commerce.orders").fetchall() == [(1,)]


def test_the_copy_has_the_format_that_the_readers_of_today_can_open(copy: PublishedCopy) -> None:
    copy.renew()
    ((version,),) = read(
        copy.path, "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'shop'"
    )
    assert version.startswith("v1.5")


def test_the_copy_holds_every_schema_and_view_but_the_projects_own_tables(
    storage: Storage, copy: PublishedCopy
) -> None:
    storage.execute(
        "CREATE SCHEMA models",
        "CREATE TABLE models.days AS SELECT 7 AS day",
        "CREATE VIEW models.revenue AS SELECT count(*) AS n FROM commerce.orders",
    )
    copy.renew()
    assert read(copy.path, "SELECT day, n FROM models.days, models.revenue") == [(7, 1)]
    own = read(copy.path, "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'commerce_loads'")
    assert own == [("published",)]
    assert read(copy.path, "SELECT now() - published_at < INTERVAL 1 MINUTE FROM commerce_loads.published") == [(True,)]


def test_the_copy_is_for_its_owner_alone_unless_its_mode_was_changed_which_is_kept(
    storage: Storage, copy: PublishedCopy
) -> None:
    """Fault 68."""
    copy.renew()
    assert {path.stat().st_mode & 0o777 for path in copy.path.parent.iterdir()} == {0o600}
    copy.path.chmod(0o640)
    storage.load(ORDERS, [order(2)], window=WINDOW)
    assert copy.renew()
    assert copy.path.stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed(storage: Storage, copy: PublishedCopy) -> None:
    target = storage.folder / "target.duckdb"
    copy.path.symlink_to(target)
    copy.renew()
    assert copy.path.is_symlink()
    assert ids(target) == [1]


# When it is renewed.


def test_a_load_that_changes_nothing_does_not_rewrite_the_copy(storage: Storage, copy: PublishedCopy) -> None:
    copy.renew()
    before = identity(copy.path)
    for _ in range(2):
        storage.load(ORDERS, [order(1)], window=WINDOW)
        assert not copy.renew()
    assert identity(copy.path) == before


def test_whatever_changes_what_is_stored_makes_a_new_copy_once(storage: Storage, copy: PublishedCopy) -> None:
    """Each change in its turn, and the copy is current after it."""
    storage.execute(
        "CREATE TABLE commerce.model AS SELECT 1 AS value, _extracted_at FROM commerce.orders",
        "CREATE VIEW commerce.seen AS SELECT 1 AS value",
        "CREATE TABLE commerce_loads.remarks AS SELECT 1 AS value",
    )
    copy.renew()
    edited = order(1, tag="edited", updated_at="2024-03-16T00:00:00Z")
    changes: dict[str, Callable[[], object]] = {
        "a row is updated": lambda: storage.load(ORDERS, [edited], window=WINDOW),
        "one row is replaced by another": lambda: storage.load(ORDERS, [order(2)], window=WINDOW),
        "a row is deleted from its window": lambda: storage.load(ORDERS, [], window=WINDOW),
        "a list is new": lambda: storage.load(PRODUCTS, [product(1), product(2)]),
        "a row vanishes from a list": lambda: storage.load(PRODUCTS, [product(1)]),
        "a table has a column more": lambda: storage.execute("ALTER TABLE commerce.orders ADD COLUMN more INTEGER"),
        "a model that carries the stamps of its rows": lambda: storage.execute("UPDATE commerce.model SET value = 2"),
        "a view": lambda: storage.execute("CREATE OR REPLACE VIEW commerce.seen AS SELECT 2 AS value"),
        "a note on stored rows": lambda: storage.execute("INSERT INTO commerce_loads.remarks VALUES (2)"),
    }
    for what, change in changes.items():
        change()
        assert copy.renew(), what
        assert not copy.renew(), what
    assert read(copy.path, "SELECT id FROM commerce.products WHERE _deleted_at IS NOT NULL") == [(2,)]


def test_what_a_killed_writer_has_committed_but_not_yet_moved_into_the_file_is_in_the_copy(
    storage: Storage, copy: PublishedCopy
) -> None:
    code = """
import os, sys
from pathlib import Path
from commerce_assets_tests.support.staged import Storage
with Storage(Path(sys.argv[1]), name="commerce.duckdb").database.write() as connection:
    connection.execute("UPDATE commerce.orders SET id = 7, _extracted_at = now()")
    connection.commit()
    os.kill(os.getpid(), 9)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, str(storage.folder)], cwd=Path(__file__).parents[2], check=False
    )
    assert killed.returncode == -9
    assert (storage.folder / "commerce.duckdb.wal").exists()

    copy.renew()

    assert ids(copy.path) == [7]
    assert names(copy.path.parent) == {"shop.duckdb", ".shop.duckdb.lock"}


def test_what_a_client_wrote_into_the_copy_does_not_make_the_next_one_unreadable(
    storage: Storage, copy: PublishedCopy
) -> None:
    """DuckDB opens no file beside which the log of another lies."""
    copy.renew()
    with reading(copy.path, read_only=False) as client:
        client.ask("CREATE TABLE mine AS SELECT 1")
        client.process.kill()
    assert "shop.duckdb.wal" in names(copy.path.parent)
    storage.load(ORDERS, [order(2)], window=WINDOW)

    assert copy.renew()

    assert ids(copy.path) == [2]


def test_a_client_that_writes_into_an_old_copy_spoils_the_new_one_only_until_the_next_renewal(
    storage: Storage, copy: PublishedCopy
) -> None:
    copy.renew()
    with reading(copy.path, read_only=False) as client:
        storage.load(ORDERS, [order(2)], window=WINDOW)
        assert copy.renew()
        client.ask("CREATE TABLE mine AS SELECT 1")
        client.process.kill()
    with pytest.raises(duckdb.IOException, match="WAL"):
        ids(copy.path)

    assert copy.renew()

    assert ids(copy.path) == [2]


# Kills, and two at once.


def change_and_publish(folder: Path, version: str) -> None:
    storage = Storage(folder, name="commerce.duckdb")
    storage.execute(f"UPDATE commerce.orders SET tag = '{version}', _extracted_at = now()")
    copy_of(folder).renew()


@pytest.mark.slow
def test_kills_at_random_moments_leave_an_old_copy_or_a_new_one_and_the_next_renewal_works(
    storage: Storage, copy: PublishedCopy
) -> None:
    storage.load(ORDERS, [order(number, tag="first") for number in range(MANY)], window=WINDOW)
    copy.renew()
    moments, seconds, old = random.Random(1), 0.0, "first"
    for number in range(7):
        new = f"version {number}"
        began = time.monotonic()
        process = PROCESSES.Process(target=change_and_publish, args=(storage.folder, new))
        process.start()
        if number:
            process.join(moments.uniform(0, 1.2 * seconds))
            process.kill()
        process.join()
        # The first is not killed: it says how long it takes.
        seconds = seconds or time.monotonic() - began

        ((found, count),) = read(copy.path, "SELECT tag, count(*) FROM commerce.orders GROUP BY tag")
        assert count == MANY
        assert found in {old, new}
        storage.execute(f"UPDATE commerce.orders SET tag = '{new}', _extracted_at = now()")
        assert copy.renew()
        assert read(copy.path, "SELECT DISTINCT tag FROM commerce.orders") == [(new,)]
        assert names(copy.path.parent) == {"shop.duckdb", ".shop.duckdb.lock"}
        old = new


def test_what_a_killed_renewal_left_is_removed_and_not_taken_for_a_part_of_the_next(
    storage: Storage, copy: PublishedCopy
) -> None:
    """Fault 68."""
    copy.renew()
    for is_new in (False, True):
        with reading(copy.path, read_only=False) as client:
            client.ask("CREATE TABLE mine AS SELECT 1")
            client.process.kill()
        copy.path.with_name("shop.duckdb.wal").rename(copy.path.with_name(".shop.duckdb.part.wal"))
        copy.path.with_name(".shop.duckdb.part").write_text("a buyer")
        if is_new:
            storage.load(ORDERS, [order(2)], window=WINDOW)

        assert copy.renew() == is_new

        assert read(copy.path, "SELECT table_name FROM duckdb_tables() WHERE table_name = 'mine'") == []
        assert names(copy.path.parent) == {"shop.duckdb", ".shop.duckdb.lock"}


def test_one_renewal_waits_for_another_and_gives_up_at_the_deadline(storage: Storage) -> None:
    (storage.folder / "bi").mkdir()
    impatient = PublishedCopy(
        path=storage.folder / "bi" / "shop.duckdb",
        source=replace(storage.database, lock_timeout=0.1),
    )
    with (
        FileLock(storage.folder / "bi" / ".shop.duckdb.lock"),
        pytest.raises(PublishError, match=r"the load is stored.*the next load of any asset tries again"),
    ):
        impatient.renew()
    assert impatient.renew()


# What cannot be published.


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("commerce.duckdb", "is the database itself"),
        ("bi/../commerce.duckdb", "is the database itself"),
        ("commerce.duckdb.wal", "is the database itself"),
        ("a link", "is the database itself"),
        ("nowhere/shop.duckdb", "a folder that does not exist.*create the folder"),
        ("commerce.duckdb/shop.duckdb", "a folder that does not exist"),
        ("bi", "is no file. What to do: move away"),
        ("other.duckdb", "something else than a published copy.*move that away"),
        ("hard link.duckdb", "something else than a published copy"),
        ("notes.txt", "something else than a published copy"),
    ],
)
def test_a_place_that_will_not_do_is_refused_and_what_lies_there_is_left_alone(
    storage: Storage, copy: PublishedCopy, place: str, says: str
) -> None:
    folder = storage.folder
    (folder / "a link").symlink_to(storage.path)
    (folder / "hard link.duckdb").hardlink_to(storage.path)
    (folder / "notes.txt").write_text("mine")
    with duckdb.connect(str(folder / "other.duckdb")) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1")
    before = names(folder)
    misplaced = PublishedCopy(path=folder / place, source=copy.source)

    for use in (misplaced.prepare, misplaced.renew):
        with pytest.raises(PublishError, match=f"COMMERCE_DUCKDB_PUBLISH_PATH, .*{says}"):
            use()

    assert names(folder) == before
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


def test_another_database_that_is_in_use_is_not_taken_for_a_copy(copy: PublishedCopy) -> None:
    with duckdb.connect(str(copy.path)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1")
    with held(copy.path), pytest.raises(PublishError, match="something else than a published copy"):
        copy.renew()
    assert read(copy.path, "FROM mine") == [(1,)]


def test_a_folder_that_cannot_be_written_to_is_refused(copy: PublishedCopy, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, _: path != copy.path.parent)
    with pytest.raises(PublishError, match=r"a folder that cannot be written to.*allow it"):
        copy.prepare()


def test_an_empty_file_put_there_for_its_mode_becomes_the_copy(copy: PublishedCopy) -> None:
    copy.path.touch()
    copy.path.chmod(0o644)
    assert copy.renew()
    assert copy.path.stat().st_mode & 0o777 == 0o644
    assert ids(copy.path) == [1]


@pytest.mark.parametrize("step", ["_copy", "_strip"])
def test_a_disk_that_is_full_leaves_the_copy_as_it_was_and_says_that_the_load_is_stored(
    storage: Storage, copy: PublishedCopy, step: str
) -> None:
    """Fault 54."""
    copy.renew()
    storage.load(ORDERS, [order(number, tag=f"{number**9:x}" * 9) for number in range(MANY)], window=WINDOW)
    code = """
import resource, sys
from pathlib import Path
from commerce_assets.warehouse.publish import PublishedCopy, PublishError
from commerce_assets_tests.support.staged import Storage
folder = Path(sys.argv[1])
copy = PublishedCopy(
    path=folder / "bi" / "shop.duckdb", source=Storage(folder, name="commerce.duckdb").database
)
step = getattr(PublishedCopy, sys.argv[2])
def step_on_a_full_disk(copy):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    return step(copy)
setattr(PublishedCopy, sys.argv[2], step_on_a_full_disk)
try:
    copy.renew()
except PublishError as error:
    print(error)
"""
    message = python(code, storage.folder, step)
    assert f"the load is stored, but the published copy {copy.path} could not be renewed" in message
    assert "it is as it was. What to do: see that its folder can be written to and its disk has room" in message
    assert ids(copy.path) == [1]
    assert names(copy.path.parent) == {"shop.duckdb", ".shop.duckdb.lock"}
    copy.renew()
    assert len(ids(copy.path)) == MANY


# In runs.

NEW_YEAR = date(2026, 1, 1)


@pytest.fixture
def publishing(project: Project) -> Project:
    """A project with an order a day for five days, which publishes."""
    project.store.shop = Shop(orders=build_orders(start=datetime(2026, 1, 1, tzinfo=UTC), days=5, per_day=1))
    project.store.touch()
    (project.folder / "bi").mkdir()
    project.settings["COMMERCE_DUCKDB_PUBLISH_PATH"] = str(project.folder / "bi" / "shop.duckdb")
    return project


def test_runs_of_assets_and_the_refresh_publish_and_a_quiet_one_does_not(publishing: Project) -> None:
    path = publishing.folder / "bi" / "shop.duckdb"
    publishing.run("orders", days=(NEW_YEAR, date(2026, 1, 5)))
    assert ids(path) == [1, 2, 3, 4, 5]
    publishing.run("catalog")
    assert read(path, "SELECT count(*) FROM commerce.products") == [(0,)]
    publishing.store.update_order(2, tag="late")
    publishing.run("orders_refresh")
    assert read(path, "SELECT id FROM commerce.orders WHERE tag = 'late'") == [(2,)]
    before = identity(path)

    publishing.run("orders_refresh")
    publishing.run("orders", days=(NEW_YEAR, date(2026, 1, 5)))

    assert identity(path) == before


def test_a_place_that_will_not_do_is_known_before_anything_is_pulled(publishing: Project) -> None:
    publishing.settings["COMMERCE_DUCKDB_PUBLISH_PATH"] = str(publishing.folder / "nowhere" / "shop.duckdb")
    for job in ("catalog", "orders_refresh"):
        assert not publishing.run(job, expect_success=False).success
    assert publishing.requests() <= 1
    assert not publishing.database.exists()


def test_a_copy_that_cannot_be_renewed_fails_the_run_and_what_was_loaded_is_recorded_as_such(
    publishing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("commerce_assets.warehouse.publish.shutil.copyfileobj", no_room)
        result = publishing.run("orders", days=(NEW_YEAR, NEW_YEAR), expect_success=False)

    assert not result.success
    assert [event.partition for event in result.get_asset_materialization_events()] == ["2026-01-01"]
    assert len(result.get_asset_check_evaluations()) == len(build_check_specs(endpoint=ORDERS))
    assert publishing.query("SELECT id FROM orders") == [(1,)]
    assert not (publishing.folder / "bi" / "shop.duckdb").exists()

    publishing.run("catalog")

    assert ids(publishing.folder / "bi" / "shop.duckdb") == [1]
