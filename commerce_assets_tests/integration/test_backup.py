"""Backups: made while others use the file, whole or not at all, and enough to be in step with the store again."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import duckdb
import pytest

from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.project import Project, endpoint_named
from commerce_assets_tests.support.pulling import order
from commerce_assets_tests.support.units import BACKUP, ROOT, UNITS, Services, read_unit

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    (tmp_path / "data").mkdir()
    return Services(tmp_path, port=0)


def database_of(services: Services) -> Path:
    return services.folder / "data" / "commerce.duckdb"


def rows_of(path: Path, table: str) -> int:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS copy (READ_ONLY)")
        (count,) = connection.execute(f"SELECT count(*) FROM copy.{table}").fetchone() or (0,)
        return int(count)


def test_the_unit_executes_the_backup() -> None:
    assert read_unit(UNITS / "commerce-assets-backup.service").settings["ExecStart"] == [BACKUP]


def test_a_backup_is_one_file_also_where_a_killed_writer_has_left_its_log(services: Services) -> None:
    writer = f"""
import os, pathlib
from commerce_assets.warehouse.file import DatabaseFile
with DatabaseFile(path=pathlib.Path({str(database_of(services))!r})).write() as connection:
    connection.execute("CREATE TABLE t AS SELECT 1 AS id")
    connection.commit()
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", writer], cwd=ROOT, check=False).returncode == -9
    assert Path(f"{database_of(services)}.wal").exists()

    said = services.run(BACKUP)

    (backup,) = (services.folder / "backups").iterdir()
    assert said.startswith(f"backups/{backup.name}: ")
    assert [path.name for path in backup.iterdir()] == ["commerce.duckdb"]
    assert rows_of(backup / "commerce.duckdb", "main.t") == 1
    assert [path.stat().st_mode & 0o077 for path in (backup, backup / "commerce.duckdb")] == [0, 0]


def test_a_backup_is_made_while_others_read_and_not_of_a_file_that_is_being_written_to(services: Services) -> None:
    database = DatabaseFile(path=database_of(services))
    with database.write() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id")
        with pytest.raises(AssertionError, match=r"no backup was made: .* has been held by .* What to do"):
            services.run(BACKUP, COMMERCE_DUCKDB_LOCK_TIMEOUT="0")
    assert [*(services.folder / "backups").iterdir()] == []

    with database.read():
        services.run(BACKUP, COMMERCE_DUCKDB_LOCK_TIMEOUT="0")
    assert len([*(services.folder / "backups").iterdir()]) == 1


def test_so_many_backups_are_kept_and_whatever_else_lies_there(services: Services) -> None:
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


def test_what_was_restored_is_in_step_with_the_store_after_a_refresh_and_a_comparison(project: Project) -> None:
    noon = datetime.combine(YESTERDAY, time(12), UTC)
    days = (YESTERDAY - timedelta(days=2), YESTERDAY)
    for number in range(1, 4):
        project.store.add_order(order(number, noon - timedelta(days=number - 1)))
    project.run("orders", days=days)
    project.run("orders_refresh")
    services = Services(project.folder, port=0)
    services.run(BACKUP, COMMERCE_DUCKDB_PATH=str(project.database))
    (backup,) = project.folder.glob("backups/*")
    # What the file of the backup does not know of.
    project.store.update_order(1, refunded=True, tag="late")
    project.store.add_order(order(4, noon, updated_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"))
    project.store.delete("orders", 3)
    project.run("orders_refresh")

    shutil.copy(backup / project.database.name, project.database)
    project.run("orders_refresh")
    project.run("reconcile")

    stored = project.rows(endpoint_named("orders"))
    assert {number: row["tag"] for number, row in stored.items()} == {1: "late", 2: None, 4: None}
