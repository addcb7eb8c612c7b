"""The tables: made from the endpoint's columns, and brought up to date when those have grown."""

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
    """The endpoint's table, qualified and quoted."""
    return table(SCHEMA, endpoint.name)


def day_of(endpoint: Endpoint, alias: str) -> str:
    """The UTC day that a row belongs to, as an expression; NULL for an endpoint without days."""
    if not endpoint.cursor:
        return "CAST(NULL AS DATE)"
    # A cast to DATE asks for the rules of a time zone, row by row, and takes ten times as long as to reconcile.
    since_year_1 = f"epoch_us({alias}.{identifier(endpoint.cursor)}) + {_DAYS_TO_1970 * _MICROSECONDS_A_DAY}"
    return f"(DATE '0001-01-01' + CAST(({since_year_1}) // {_MICROSECONDS_A_DAY} AS INTEGER))"


def create_or_migrate(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> list[str]:
    """Makes the table, or adds the columns that an older version of the endpoint did not declare.

    There is no PRIMARY KEY: its index doubles the size and slows every load; the load writes one row a key, and a
    check proves it. Returns the names of the columns that were added to an existing table.
    """
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(SCHEMA)}")
    definitions = ", ".join(f"{identifier(column.name)} {column.type}" for column in endpoint.stored_columns)
    if not exists(connection, SCHEMA, endpoint.name):
        connection.execute(f"CREATE TABLE {table_of(endpoint)} ({definitions})")
        return []
    return add_missing_columns(connection, endpoint.name, endpoint.stored_columns)


def add_missing_columns(connection: duckdb.DuckDBPyConnection, name: str, columns: Sequence[Column]) -> list[str]:
    """Adds the columns that a table of the endpoints' schema lacks; returns their names."""
    existing = {column.name for column in describe(connection, name)}
    missing = [column for column in columns if column.name not in existing]
    for column in missing:
        connection.execute(f"ALTER TABLE {table(SCHEMA, name)} ADD COLUMN {identifier(column.name)} {column.type}")
    return [column.name for column in missing]


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column as the database has it; `type` is DuckDB's name of it."""

    name: str
    type: str


def describe(connection: duckdb.DuckDBPyConnection, name: str, *, schema: str = SCHEMA) -> list[StoredColumn]:
    """The columns that a table has, by default one of the endpoints; empty if there is no such table."""
    rows = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = ? AND table_name = ? ORDER BY column_index",
        [schema, name],
    ).fetchall()
    return [StoredColumn(column, kind) for column, kind in rows]


def create_internal_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """The project's own tables: what was loaded, up to where changes were followed, how rows were masked; notes."""
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


def exists(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    found = connection.execute(
        f"SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() "
        f"AND schema_name = {text(schema)} AND table_name = {text(name)}"
    ).fetchone()
    return bool(found and found[0])


def covered(endpoint: Endpoint, window: Window | None) -> str:
    """The condition of the stored rows that a window, or the whole list, covers."""
    if window is None:
        return "TRUE" if endpoint.is_partitioned else f"{identifier(DELETED_AT.name)} IS NULL"
    return within(identifier(endpoint.cursor or ""), window.start, window.end)
