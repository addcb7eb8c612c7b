"""Back up the DuckDB file and Dagster's history while runs go on.

Each backup is a folder named after its time, complete or absent: FOLDER/2026-01-31T042500Z with the database under its
own name, and Dagster's history: dagster/ as in data/, or postgres.dump.
"""

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from commerce_assets.warehouse.database import Database, WarehouseError, short_error
from commerce_assets.warehouse.file import DatabaseFile

HISTORY = Path("data/dagster")
DUMP = "postgres.dump"
_PART = ".part-"
_LONGEST_SECONDS = 86_400
NAMES = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z"


class BackupError(Exception):
    """The backup failed; the message says why, and earlier backups are unchanged."""


def back_up(database: Database, folder: Path, *, keep: int, postgres_url: str = "", history: bool = True) -> Path:
    """Make a backup in `folder`, and remove the oldest ones there but `keep`.

    Args:
        database: The DuckDB file; a lake is refused, with what to back up instead.
        folder: Where the backups are kept.
        keep: How many.
        postgres_url: The PostgreSQL database with Dagster's history; without one, the history is in `HISTORY`.
        history: Whether to back up Dagster's history too.

    Raises:
        BackupError: The database, the history or the folder cannot be used.
    """
    if history and not postgres_url and _is_on_a_server():
        raise BackupError(
            "no backup was made: Dagster's history is on a database server, by its dagster.yaml. "
            "Fix: set COMMERCE_POSTGRES_URL, or back up the server and give --no-history."
        )
    if not isinstance(database, DatabaseFile):
        raise BackupError(
            f"no backup was made: {database} is Parquet files and a catalog in PostgreSQL. "
            "Fix: back up the server of COMMERCE_POSTGRES_URL, Dagster's history included, and after it the files."
        )
    part = None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(folder)
        # Two backups within a second would have one name.
        while (target := folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}").exists():
            time.sleep(0.1)
        # Of this backup alone: another one may run.
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=folder))
        database.copy_to(part / database.path.name)
        if history:
            _copy_history(HISTORY, part / "dagster")
        if history and postgres_url:
            _dump(postgres_url, part / DUMP)
        part.rename(target)
    except WarehouseError as error:
        raise BackupError(f"no backup was made: {error}") from error
    except (OSError, sqlite3.Error) as error:
        raise BackupError(
            f"no backup was made: {short_error(error)}. Fix: check that {folder} can be written to and has room."
        ) from error
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)
    for old in sorted(folder.glob(NAMES))[:-keep]:
        shutil.rmtree(old)
    return target


def _sweep(folder: Path) -> None:
    """Remove what killed backups have left; none takes a day."""
    for left in folder.glob(f"{_PART}*"):
        if time.time() - left.stat().st_mtime > _LONGEST_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _copy_history(history: Path, folder: Path) -> None:
    """Copy Dagster's SQLite files, each as of one moment, without the output of runs."""
    for path in history.rglob("*.db"):
        target = folder / path.relative_to(history)
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as db,
        ):
            source.backup(db)


def _is_on_a_server() -> bool:
    """Return whether the instance's dagster.yaml names a storage other than SQLite's."""
    configuration = Path(os.environ.get("DAGSTER_HOME") or ".") / "dagster.yaml"
    try:
        lines = configuration.read_text().splitlines()
    except OSError:
        return False
    return any(re.match(r"\s*(postgres|mysql):|.*dagster_(postgres|mysql)", line) for line in lines)


def _dump(url: str, target: Path) -> None:
    """Dump the PostgreSQL database, as of one moment, in the format of pg_restore.

    Raises:
        BackupError: pg_dump is missing or fails.
    """
    parts = urlsplit(url)
    # Arguments show in the list of processes, the environment does not.
    public = parts._replace(scheme="postgresql", netloc=parts.netloc.replace(f":{parts.password}@", "@", 1))
    command = ["pg_dump", "--format=custom", f"--file={target}", f"--dbname={public.geturl()}"]
    environment = {**os.environ, "PGPASSWORD": unquote(parts.password or "")}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        problem = done.stderr.strip().replace("\n", " ") if done.returncode else ""
    except FileNotFoundError:
        problem = "there is no pg_dump here"
    if problem:
        raise BackupError(
            f"no backup was made: PostgreSQL could not be dumped: {problem}. Fix: install the server's version of "
            "pg_dump and check COMMERCE_POSTGRES_URL, or back up the server and give --no-history."
        )
    target.chmod(0o600)
