"""Back up the DuckDB file and Dagster's history while runs go on.

Each backup is a folder named after its time, complete or absent: FOLDER/2026-01-31T042500Z with the database under its
own name, and dagster/ as in data/.
"""

import shutil
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from commerce_assets.warehouse.file import DatabaseFile, WarehouseError, short_error

HISTORY = Path("data/dagster")
NAMES = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z"


class BackupError(Exception):
    """The backup failed; the message says why, and earlier backups are unchanged."""


def back_up(database: DatabaseFile, folder: Path, *, keep: int) -> Path:
    """Make a backup in `folder`, and remove the oldest ones there but `keep`.

    Raises:
        BackupError: The database, the history or the folder cannot be used.
    """
    part = folder / ".part"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Two backups within a second would have one name.
        while (target := folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}").exists():
            time.sleep(0.1)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        database.copy_to(part / database.path.name)
        _copy_history(HISTORY, part / "dagster")
        part.rename(target)
    except WarehouseError as error:
        raise BackupError(f"no backup was made: {error}") from error
    except (OSError, sqlite3.Error) as error:
        raise BackupError(
            f"no backup was made: {short_error(error)}. Fix: check that {folder} can be written to and has room."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for old in sorted(folder.glob(NAMES))[:-keep]:
        shutil.rmtree(old)
    return target


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
