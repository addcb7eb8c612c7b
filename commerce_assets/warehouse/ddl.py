"""Create the tables from the endpoint's columns, add new columns, and describe what is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from commerce_assets.endpoint import DELETED_AT, Column, Endpoint
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA, identifier, table, text, within
from commerce_assets.window import Window

_DAYS_TO_1970 = date(1970, 1, 1).toordinal() - 1
_MICROSECONDS_A_DAY = 86_400_000_000


def table_of(endpoint: Endpoint) -> str:
    """Return the endpoint's table name, qualified and quoted."""
    return table(SCHEMA, endpoint.name)


def day_of(endpoint: Endpoint, alias: str) -> str:
    """Return the SQL expression of a row's UTC day; NULL for an endpoint without a cursor."""
    if not endpoint.cursor:
        return "CAST(NULL AS DATE)"
    # Integer arithmetic: a cast of TIMESTAMPTZ to DATE applies time zone rules per row and takes ten times as long.
    since_year_1 = f"epoch_us({alias}.{identifier(endpoint.cursor)}) + {_DAYS_TO_1970 * _MICROSECONDS_A_DAY}"
    return f"(DATE '0001-01-01' + CAST(({since_year_1}) // {_MICROSECONDS_A_DAY} AS INTEGER))"


def create_or_migrate(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> list[str]:
    """Create the table, or add the columns that an older version of the endpoint did not declare.

    There is no PRIMARY KEY: its index doubles the size and slows every load. The load writes one row per key, and a
    check proves it.

    Returns:
        The names of the columns that were added to an existing table.
    """
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(SCHEMA)}")
    definitions = ", ".join(f"{identifier(column.name)} {column.type}" for column in endpoint.stored_columns)
    if not exists(connection, SCHEMA, endpoint.name):
        connection.execute(f"CREATE TABLE {table_of(endpoint)} ({definitions})")
        return []
    return add_missing_columns(connection, endpoint.name, endpoint.stored_columns)


def add_missing_columns(connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[Column]) -> list[str]:
    """Add the missing columns to a table of the schema `commerce`; return their names."""
    existing = {column.name for column in describe(connection, name)}
    missing = [column for column in columns if column.name not in existing]
    for column in missing:
        connection.execute(f"ALTER TABLE {table(SCHEMA, name)} ADD COLUMN {identifier(column.name)} {column.type}")
    return [column.name for column in missing]


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column of a stored table; `type` is a DuckDB type."""

    name: str
    type: str


def describe(connection: duckdb.DuckDBPyConnection, name: str, *, schema: str = SCHEMA) -> list[StoredColumn]:
    """Return the columns of a table, by default of the schema `commerce`; empty if there is no such table."""
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = ? AND table_name = ? ORDER BY column_index",
        [schema, name],
    ).fetchall()
    return [StoredColumn(column, kind) for column, kind in rows]


def create_internal_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the internal tables: loads, high-water marks, notes, maskings and lookups of items."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(INTERNAL_SCHEMA)}")
    connection.execute(f"""
        CREATE TABLE IF NOT EXISTS {table(INTERNAL_SCHEMA, "loads")} (
            pull_id VARCHAR, endpoint VARCHAR, window_start TIMESTAMPTZ, window_end TIMESTAMPTZ,
            began_at TIMESTAMPTZ, began_at_store TIMESTAMPTZ, loaded_at TIMESTAMPTZ, rows_loaded BIGINT, store VARCHAR
        )""")
    connection.execute(f"""
        CREATE TABLE IF NOT EXISTS {table(INTERNAL_SCHEMA, "high_water_marks")} (
            endpoint VARCHAR, changed_up_to TIMESTAMPTZ
        )""")
    connection.execute(f"""
        CREATE TABLE IF NOT EXISTS {table(INTERNAL_SCHEMA, "notes")} (
            endpoint VARCHAR, kind VARCHAR, noted_at TIMESTAMPTZ, value JSON
        )""")
    connection.execute(f"""
        CREATE TABLE IF NOT EXISTS {table(INTERNAL_SCHEMA, "maskings")} (
            endpoint VARCHAR, column_name VARCHAR, masking VARCHAR, key_id VARCHAR
        )""")
    connection.execute(f"""
        CREATE TABLE IF NOT EXISTS {table(INTERNAL_SCHEMA, "item_lookups")} (
            endpoint VARCHAR, key BIGINT, version TIMESTAMPTZ, asked_at TIMESTAMPTZ
        )""")


def exists(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    found = connection.execute(
        f"SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() "
        f"AND schema_name = {text(schema)} AND table_name = {text(name)}"
    ).fetchone()
    return bool(found and found[0])


def covered(endpoint: Endpoint, window: Window | None) -> str:
    """Return the SQL condition for the stored rows that a window, or the full list, covers."""
    if window is None:
        return "TRUE" if endpoint.is_partitioned else f"{identifier(DELETED_AT.name)} IS NULL"
    return within(identifier(endpoint.cursor or ""), window.start, window.end)
