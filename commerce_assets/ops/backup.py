"""Back up the DuckDB file and Dagster's history while runs go on: `python -m commerce_assets.ops.backup FOLDER`.

Run it in the project's working directory. Each backup is a folder named after its time, complete or absent:
FOLDER/2026-01-31T042500Z with the database under its own name, and dagster/ as in data/.
"""

import argparse
import logging
import shutil
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from commerce_assets.cli.session import Session
from commerce_assets.warehouse.file import WarehouseError

HISTORY = Path("data/dagster")
NAMES = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9][0-9][0-9][0-9][0-9]Z"
LOG = logging.getLogger("backup")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to keep backups; created if missing")
    parser.add_argument(
        "--keep", type=int, default=14, help="number of backups to keep; older ones are removed (default: 14)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    folder: Path = arguments.folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    try:
        database = Session().database(LOG)
        database.copy_to(part / database.path.name)
        copy_history(HISTORY, part / "dagster")
    except (OSError, sqlite3.Error, WarehouseError) as error:
        shutil.rmtree(part, ignore_errors=True)
        LOG.error("no backup was made: %s", error)  # noqa: TRY400 - a person reads it
        return 1
    part.rename(target)
    for old in sorted(folder.glob(NAMES))[: -max(arguments.keep, 1)]:
        shutil.rmtree(old)
    LOG.info("%s: %.1f MB", target, sum(path.stat().st_size for path in target.rglob("*")) / 1e6)
    return 0


def copy_history(history: Path, folder: Path) -> None:
    """Copy Dagster's SQLite files, each as of one moment, without the output of runs."""
    for path in history.rglob("*.db"):
        target = folder / path.relative_to(history)
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as db,
        ):
            source.backup(db)


if __name__ == "__main__":
    sys.exit(main())
