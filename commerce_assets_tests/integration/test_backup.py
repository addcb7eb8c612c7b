"""Backups, and each procedure of docs/operations.md after a kill."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commerce_assets.warehouse.database import WarehouseError
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support import killed_writes as kills
from commerce_assets_tests.support.killed_writes import killed_write, version_in, write_version
from commerce_assets_tests.support.other_programs import held, leave_a_wal
from commerce_assets_tests.support.procedures import follow, restore, rows_of
from commerce_assets_tests.support.units import BACKUP, UNITS, Services, read_unit

DAYS = [datetime.now(UTC).date() - timedelta(days=days) for days in (3, 2, 1)]


@pytest.fixture
def services(tmp_path: Path) -> Services:
    (tmp_path / "data").mkdir()
    return Services(tmp_path, port=0)


def database_of(services: Services) -> Path:
    return services.folder / "data" / "shop.duckdb"


def test_the_unit_executes_the_backup() -> None:
    assert read_unit(UNITS / "commerce-assets-backup.service").settings["ExecStart"] == [BACKUP]


def test_a_backup_is_one_file_also_beside_a_leftover_wal(services: Services) -> None:
    with DatabaseFile(path=database_of(services)).write() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id")
    leave_a_wal(database_of(services), "INSERT INTO t VALUES (99)")

    said = services.run(BACKUP)

    (backup,) = (services.folder / "backups").iterdir()
    assert said.startswith(f"backups/{backup.name}: ")
    assert [path.name for path in backup.iterdir()] == ["shop.duckdb"]
    assert rows_of(backup / "shop.duckdb", "main.t") == 2
    assert [path.stat().st_mode & 0o077 for path in (backup, backup / "shop.duckdb")] == [0, 0]


def test_a_backup_waits_neither_for_readers_nor_for_a_load(services: Services) -> None:
    database = DatabaseFile(path=database_of(services))
    with database.write() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id")
    with database.read(), database.write() as connection:
        connection.execute("INSERT INTO t VALUES (2)")
        services.run(BACKUP, COMMERCE_DUCKDB_LOCK_TIMEOUT="0")
    (backup,) = (services.folder / "backups").iterdir()
    assert rows_of(backup / "shop.duckdb", "main.t") == 1


def test_no_backup_is_made_of_a_file_that_is_open_for_writing(services: Services) -> None:
    with DatabaseFile(path=database_of(services)).write():
        pass
    with (
        held(database_of(services)),
        pytest.raises(AssertionError, match=r"no backup was made: .* has been held by .* Fix: open it read-only"),
    ):
        services.run(BACKUP, COMMERCE_DUCKDB_LOCK_TIMEOUT="0")
    assert [*(services.folder / "backups").iterdir()] == []


def test_no_backup_is_made_without_a_database(services: Services) -> None:
    with pytest.raises(AssertionError, match=r"no backup was made: there is no database at .* Fix: "):
        services.run(BACKUP)


# The page's instructions, after a kill.


def fill(database: DatabaseFile) -> None:
    write_version(database, 1)
    with database.write() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id")


KILLS = [
    kills.during_the_copy,
    kills.during_the_load,
    kills.during_the_checkpoint,
    kills.at_the_replace,
    kills.after_the_replace,
    kills.at_the_cleaning,
]


@pytest.mark.parametrize("leaves_wal", [False, True], ids=["no WAL", "a WAL"])
@pytest.mark.parametrize("step", KILLS, ids=lambda step: step.__name__)
def test_a_restore_after_a_kill_gives_the_rows_of_the_backup(
    services: Services, step: Callable[[], None], *, leaves_wal: bool
) -> None:
    """Fault 104."""
    database = DatabaseFile(path=database_of(services))
    fill(database)
    services.run(BACKUP)
    write_version(database, 2)
    assert killed_write(database.path, 3, step)[0] < 0
    if leaves_wal:
        leave_a_wal(database.path, "INSERT INTO t VALUES (99)")

    restore(services)

    assert version_in(database) == 1
    write_version(database, 4)
    assert version_in(database) == 4
    assert rows_of(database.path, "main.t") == 1
    assert [path.name for path in database.path.parent.iterdir()] == ["shop.duckdb"]


@pytest.mark.parametrize("step", KILLS, ids=lambda step: step.__name__)
def test_a_deleted_file_is_created_again_beside_its_leftovers(services: Services, step: Callable[[], None]) -> None:
    """Fault 105."""
    database = DatabaseFile(path=database_of(services))
    fill(database)
    assert killed_write(database.path, 2, step)[0] < 0
    leave_a_wal(database.path, "INSERT INTO t VALUES (99)")
    database.path.unlink()

    with (
        pytest.raises(WarehouseError, match=r"there is no database at .* Fix: materialize an asset first"),
        database.read(),
    ):
        pytest.fail("it was opened")
    # The next load may be killed, too.
    killed_write(database.path, 3, kills.after_the_replace)

    assert version_in(database) == 3
    write_version(database, 4)
    assert version_in(database) == 4
    assert [path.name for path in database.path.parent.iterdir()] == ["shop.duckdb"]


def test_a_restore_leaves_an_open_reader_its_rows(services: Services) -> None:
    database = DatabaseFile(path=database_of(services))
    fill(database)
    services.run(BACKUP)
    write_version(database, 2)
    with database.read() as reader:
        restore(services)
        assert reader.execute("SELECT DISTINCT version FROM rows_of_a_version").fetchall() == [(2,)]
    assert version_in(database) == 1


@pytest.mark.parametrize("step", [kills.during_the_load, kills.after_the_replace], ids=lambda step: step.__name__)
def test_a_file_moved_after_a_kill_is_complete(services: Services, tmp_path: Path, step: Callable[[], None]) -> None:
    database = DatabaseFile(path=database_of(services))
    fill(database)
    assert killed_write(database.path, 2, step)[0] < 0
    before = version_in(database)
    (tmp_path / "srv").mkdir()
    follow(services, "mv data/shop.duckdb", **{"/srv/shop": str(tmp_path / "srv")})

    moved = DatabaseFile(path=tmp_path / "srv" / "shop.duckdb")
    assert version_in(moved) == before
    write_version(moved, 3)
    assert version_in(moved) == 3


def test_a_folder_moved_whole_after_a_kill_works(services: Services, tmp_path: Path) -> None:
    database = DatabaseFile(path=database_of(services))
    fill(database)
    assert killed_write(database.path, 2, kills.during_the_load)[0] < 0
    database.path.parent.rename(tmp_path / "elsewhere")

    moved = DatabaseFile(path=tmp_path / "elsewhere" / "shop.duckdb")
    assert version_in(moved) == 1
    write_version(moved, 3)
    assert [path.name for path in moved.path.parent.iterdir()] == ["shop.duckdb"]


def test_a_restored_history_has_the_runs_of_the_backup(services: Services) -> None:
    fill(DatabaseFile(path=database_of(services)))
    history = services.folder / "data" / "dagster" / "history" / "runs.db"
    history.parent.mkdir(parents=True)
    with closing(sqlite3.connect(history)) as connection:
        connection.execute("CREATE TABLE runs AS SELECT 1 AS id")
        connection.commit()
    services.run(BACKUP)
    # A process that is killed in the middle of a transaction leaves its journal.
    code = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")
connection.execute("INSERT INTO runs SELECT value FROM (WITH RECURSIVE n(value) AS (SELECT 2 UNION ALL "
                   "SELECT value + 1 FROM n LIMIT 100000) SELECT value FROM n)")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code, str(history)], check=True)
    assert Path(f"{history}-journal").exists()

    follow(services, "rm -r data/dagster")

    with closing(sqlite3.connect(history)) as connection:
        assert connection.execute("SELECT id FROM runs").fetchall() == [(1,)]


def test_old_backups_are_removed_and_other_files_kept(services: Services) -> None:
    with DatabaseFile(path=database_of(services)).write():
        pass
    folder = services.folder / "backups"
    for name in ("2026-01-01T042500Z", "2026-01-02T042500Z", "before the move"):
        (folder / name).mkdir(parents=True)

    services.run(f"{BACKUP} --keep 2")

    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 3
    assert names[0] == "2026-01-02T042500Z"
    assert names[-1] == "before the move"


def test_a_backup_after_a_kill_has_the_rows_of_the_file(services: Services) -> None:
    database = DatabaseFile(path=database_of(services))
    fill(database)
    assert killed_write(database.path, 2, kills.during_the_load)[0] < 0
    services.run(BACKUP)
    (backup,) = (services.folder / "backups").iterdir()
    assert version_in(DatabaseFile(path=backup / "shop.duckdb")) == 1
