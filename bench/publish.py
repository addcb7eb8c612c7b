"""What publishing costs, beside the ways that were not taken.

    .venv/bin/python -m bench.publish [rows ...]        (100,000 and 1,000,000 unless given)

Prints seconds and megabytes for so many orders: filling the table, publishing, finding the copy current, and a plain
file copy and DuckDB's own COPY FROM DATABASE, each synced to disk.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from commerce_assets.endpoint import EXTRA, INVALID, Column, ColumnType
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.publish import PublishedCopy
from commerce_assets.warehouse.schema import create_internal_tables, create_or_migrate, table_of

ORDERS = next(endpoint for endpoint in ENDPOINTS if endpoint.name == "orders")
MADE_UP = {
    ColumnType.BIGINT: "hash(i, '{name}') % 1000",
    ColumnType.DECIMAL: "(hash(i, '{name}') % 10000) / 100",
    ColumnType.BOOLEAN: "i % 7 = 0",
    ColumnType.TIMESTAMP: "TIMESTAMPTZ '2024-01-01 00:00:00Z' + to_seconds(i * 30)",
    ColumnType.TEXT: "CASE WHEN i % 3 > 0 THEN '{name} ' || hash(i, '{name}') END",
    ColumnType.TEXT_LIST: "['pi_' || hash(i)]",
    ColumnType.JSON: """CASE WHEN i % 2 > 0 THEN '[{{"item":{{"id":' || hash(i, '{name}') || '}}}}]' END""",
}


def made_up(column: Column) -> str:
    if column.name == ORDERS.primary_key:
        return "i"
    return "NULL" if column in {EXTRA, INVALID} else MADE_UP[column.type].format(name=column.name)


def fill(database: DatabaseFile, rows: int) -> None:
    values = ", ".join(f"{made_up(column)} AS {column.name}" for column in ORDERS.stored_columns)
    with database.write() as connection:
        create_internal_tables(connection)
        create_or_migrate(connection, ORDERS)
        connection.execute("INSERT INTO commerce_loads.loads (pull_id, endpoint) VALUES ('made up', 'orders')")
        connection.execute(f"INSERT INTO {table_of(ORDERS)} BY NAME SELECT {values} FROM range({rows}) r(i)")


def file_copy(database: DatabaseFile, target: Path) -> None:
    shutil.copyfile(database.path, target)
    with target.open("rb") as copy:
        os.fsync(copy.fileno())


def copy_from_database(database: DatabaseFile, target: Path) -> None:
    with database.read() as connection:
        connection.execute(f"ATTACH '{target}' AS copy (STORAGE_VERSION 'v1.5.0')")
        connection.execute("COPY FROM DATABASE warehouse TO copy")
        connection.execute("DETACH copy")


def measure(what: str, action: Callable[[], object], file: Path) -> None:
    began = time.monotonic()
    action()
    print(f"  {what:<28}{time.monotonic() - began:8.2f} s{file.stat().st_size / 1e6:10.1f} MB")


def bench(rows: int, folder: Path) -> None:
    database = DatabaseFile(path=folder / "commerce.duckdb")
    published = PublishedCopy(path=folder / "shop.duckdb", source=database)
    copied, rewritten = folder / "copied.duckdb", folder / "rewritten.duckdb"
    print(f"{rows:,} orders")
    measure("fill the table", lambda: fill(database, rows), database.path)
    measure("publish", published.renew, published.path)
    measure("publish, current already", published.renew, published.path)
    measure("(plain file copy)", lambda: file_copy(database, copied), copied)
    measure("(COPY FROM DATABASE)", lambda: copy_from_database(database, rewritten), rewritten)


def main() -> None:
    for rows in [int(argument) for argument in sys.argv[1:]] or [100_000, 1_000_000]:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            bench(rows, Path(folder))


if __name__ == "__main__":
    main()
