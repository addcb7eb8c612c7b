"""Measure the cost of the copy of the database file in a load, and what a lake costs instead.

    .venv/bin/python -m bench.copy_cost [--folder FOLDER] [rows ...]     (1, 2 and 10 million orders unless given)

For each number of orders: the size of the database, then the seconds and the bytes written to the disk for the copy
alone, for a write that changes one order (copy, commit, checkpoint, sync and swap), for the same change in place, and
for opening the file to add up the orders of a month. On a file system with reflink (btrfs, XFS) the copy shares its
blocks. With BENCH_POSTGRES_URL and in .venv-cluster, also for a lake: its creation, such a change, such a sum, and
tidying after 24 further changes.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import duckdb

from commerce_assets.warehouse.database import Database
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.swap import copy_file

# About 0.45 KB per row in DuckDB's format, the size of orders with personal data, carts and transactions. Hashes,
# because DuckDB compresses repeated values.
_COLUMNS = ", ".join(f"hash(range, {number}) AS value_{number}" for number in range(54))
_ORDERS = f"""
CREATE TABLE orders AS SELECT
    range AS id, TIMESTAMPTZ '2020-01-01 00:00:00Z' + to_seconds(range * 17) AS created_at,
    CAST(hash(range) % 10000 / 100 AS DECIMAL(18, 4)) AS settled_gross, false AS refunded, {_COLUMNS}
FROM range(?)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int, nargs="*", default=[1_000_000, 2_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, default=Path("bench/.work/copy"), help="on the file system to measure")
    arguments = parser.parse_args()
    print(f"{'orders':>12} {'MB':>7}   {'':<22} {'seconds':>8} {'MB written':>11}")
    for rows in arguments.rows:
        shutil.rmtree(arguments.folder, ignore_errors=True)
        arguments.folder.mkdir(parents=True)
        measured = _measured(arguments.folder / "shop.duckdb", rows)
        if url := os.environ.get("BENCH_POSTGRES_URL"):
            measured = chain(measured, _measured_lake(arguments.folder / "lake", rows, url))
        for label, seconds, written in measured:
            place = arguments.folder / ("lake" if "lake" in label else "shop.duckdb")
            size = sum(path.stat().st_size for path in (place, *place.rglob("*")) if path.is_file()) / 1e6
            print(f"{rows:>12,} {size:>7.0f}   {label:<22} {seconds:>8.2f} {written / 1e6:>11.1f}", flush=True)
    shutil.rmtree(arguments.folder, ignore_errors=True)


def _measured(path: Path, rows: int) -> Iterator[tuple[str, float, int]]:
    database = DatabaseFile(path=path)
    with database.write() as connection:
        connection.execute(_ORDERS, [rows])
    yield "copy and sync", *_cost(path, lambda: _copy(path, path.with_name("copy")))
    yield "write with swap", *_cost(path, lambda: _change(database, rows // 2))
    yield "write in place", *_cost(path, lambda: _change_in_place(path, rows // 2))
    yield "open and add up", *_cost(path, lambda: _add_up(database))


def _measured_lake(data: Path, rows: int, url: str) -> Iterator[tuple[str, float, int]]:
    from commerce_assets.warehouse.lake import Lake

    lake = Lake(data=str(data), postgres_url=url, schema="bench_lake")

    def create() -> None:
        with lake.write() as connection:
            connection.execute("DROP TABLE IF EXISTS orders")
            connection.execute(_ORDERS, [rows])

    yield "create lake", *_cost(data, create)
    yield "write to lake", *_cost(data, lambda: _change(lake, rows // 2))
    yield "open lake and add up", *_cost(data, lambda: _add_up(lake))
    for number in range(24):
        _change(lake, number)
    yield "open lake after 24", *_cost(data, lambda: _add_up(lake))
    yield "tidy lake", *_cost(data, lambda: lake.tidy() and None)
    yield "open tidied lake", *_cost(data, lambda: _add_up(lake))


def _copy(path: Path, target: Path) -> None:
    with path.open("rb") as source:
        copy_file(source.fileno(), target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    target.unlink()


def _add_up(database: Database) -> None:
    with database.read() as connection:
        connection.execute(
            "SELECT sum(settled_gross) FROM orders WHERE created_at BETWEEN '2020-01-01' AND '2020-02-01'"
        ).fetchall()


def _change(database: Database, number: int) -> None:
    with database.write() as connection:
        connection.execute("UPDATE orders SET refunded = NOT refunded WHERE id = ?", [number])


def _change_in_place(path: Path, number: int) -> None:
    settings = {"memory_limit": "160MB", "temp_directory": str(path.with_name("spill"))}
    with duckdb.connect(config=settings) as connection:
        connection.execute(f"ATTACH '{path}' AS shop")
        connection.execute("UPDATE shop.orders SET refunded = NOT refunded WHERE id = ?", [number])
        connection.execute("CHECKPOINT shop")


def _cost(path: Path, action: Callable[[], None]) -> tuple[float, int]:
    """Return seconds, and the bytes written to the file system's device meanwhile."""
    os.sync()
    written, began = _written(path), time.monotonic()
    action()
    seconds = time.monotonic() - began
    os.sync()
    return seconds, _written(path) - written


def _written(path: Path) -> int:
    # Of a file system on several devices, stat names none of them; the mount's source does.
    source = max(
        (line.split() for line in Path("/proc/self/mounts").read_text().splitlines()),
        key=lambda fields: len(fields[1]) if path.absolute().is_relative_to(fields[1]) else -1,
    )[0]
    device = os.stat(source).st_rdev if source.startswith("/dev/") and Path(source).exists() else path.stat().st_dev
    stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    return int(stat.read_text().split()[6]) * 512 if stat.exists() else 0


if __name__ == "__main__":
    main()
