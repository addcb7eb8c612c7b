"""Row history: one row per version in `<endpoint>_history`, written in the transactions of the loads.

A version is valid from `valid_from`, when the store changed the row, to `valid_to`, when it changed the row again or
deleted it. The open versions, whose `valid_to` is NULL, are the rows of the table. Two changes between two loads are
one version, because the first one was never extracted; so are the changes of a time in which the history was off.
"""

from datetime import datetime

import duckdb

from commerce_assets.endpoint import EXTRACTED_AT, Column, ColumnType, Endpoint
from commerce_assets.warehouse.ddl import add_missing_columns, covered, exists, table_of
from commerce_assets.warehouse.sql import MERGE_PLAN, SCHEMA, identifier, instant, table

VALID_FROM = Column(
    name="valid_from", type=ColumnType.TIMESTAMP, description="When the store changed the row to this version (UTC)."
)
VALID_TO = Column(
    name="valid_to",
    type=ColumnType.TIMESTAMP,
    description="When the store changed the row again or deleted it (UTC); NULL for the current version.",
)

_IS_OPEN = f"{identifier(VALID_TO.name)} IS NULL"


def history_of(endpoint: Endpoint) -> str:
    """Return the name of the history table."""
    return f"{endpoint.name}_history"


def versions_of(endpoint: Endpoint) -> str:
    """Return the history table, qualified and quoted."""
    return table(SCHEMA, history_of(endpoint))


def prepare(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, at: datetime) -> None:
    """Create the history with a version per stored row, or bring an existing one up to date with the table.

    Args:
        connection: With a transaction begun.
        endpoint: Whose history it is.
        at: When rows ended that vanished while the history was off.
    """
    name = history_of(endpoint)
    if exists(connection, SCHEMA, name):
        add_missing_columns(connection, name, endpoint.stored_columns)
        if _is_behind(connection, endpoint):
            _catch_up(connection, endpoint, at)
        return
    connection.execute(
        f"CREATE TABLE {versions_of(endpoint)} AS SELECT t.*, {_since(endpoint)} AS {identifier(VALID_FROM.name)}, "
        f"CAST(NULL AS {VALID_TO.type}) AS {identifier(VALID_TO.name)} FROM {table_of(endpoint)} t"
    )


def _is_behind(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> bool:
    """Return whether the table was loaded while the history was off.

    Every write of a row sets `_extracted_at`, so keys and these instants tell two versions apart without a join.
    """
    state = f"count(*), bit_xor(hash({identifier(endpoint.primary_key)}, {identifier(EXTRACTED_AT.name)}))"
    row = connection.execute(f"""
        SELECT (SELECT ({state}) FROM {table_of(endpoint)} WHERE {covered(endpoint, None)})
            IS DISTINCT FROM (SELECT ({state}) FROM {versions_of(endpoint)} WHERE {_IS_OPEN})""").fetchone()
    return bool(row and row[0])


def _catch_up(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, at: datetime) -> None:
    """End the open versions that are no longer stored, and add a version of each row that has no open one."""
    key, extracted_at = identifier(endpoint.primary_key), identifier(EXTRACTED_AT.name)
    stored = f"(FROM {table_of(endpoint)} WHERE {covered(endpoint, None)})"
    # A version cannot end before it began, whatever the store's stamps say.
    connection.execute(f"""
        UPDATE {versions_of(endpoint)} v
        SET {identifier(VALID_TO.name)} = greatest(coalesce(ends.at, {instant(at)}), v.{identifier(VALID_FROM.name)})
        FROM (
            SELECT o.{key} AS key, {_since(endpoint)} AS at
            FROM {versions_of(endpoint)} o LEFT JOIN {stored} t ON o.{key} = t.{key}
            WHERE o.{_IS_OPEN} AND o.{extracted_at} IS DISTINCT FROM t.{extracted_at}
        ) ends
        WHERE v.{key} = ends.key AND v.{_IS_OPEN}""")
    connection.execute(f"""
        INSERT INTO {versions_of(endpoint)} BY NAME
        SELECT t.*, {_since(endpoint)} AS {identifier(VALID_FROM.name)}
        FROM {stored} t ANTI JOIN (FROM {versions_of(endpoint)} WHERE {_IS_OPEN}) v USING ({key})""")


def follow(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, segment: int) -> None:
    """Add the versions that a segment has just written, and end those that they follow."""
    key = identifier(endpoint.primary_key)
    written = f"SELECT key FROM {MERGE_PLAN} WHERE segment = {segment} AND action IN ('inserted', 'updated')"
    ends = f"(SELECT t.{key} AS key, {_since(endpoint)} AS at FROM {table_of(endpoint)} t WHERE t.{key} IN ({written}))"
    # A version cannot end before it began, whatever the store's stamps say.
    connection.execute(f"""
        UPDATE {versions_of(endpoint)} v
        SET {identifier(VALID_TO.name)} = greatest(ends.at, v.{identifier(VALID_FROM.name)})
        FROM {ends} ends WHERE v.{key} = ends.key AND v.{identifier(VALID_TO.name)} IS NULL""")
    connection.execute(f"""
        INSERT INTO {versions_of(endpoint)} BY NAME
        SELECT t.*, {_since(endpoint)} AS {identifier(VALID_FROM.name)}
        FROM {table_of(endpoint)} t WHERE t.{key} IN ({written})""")


def close_removed(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, at: datetime) -> None:
    """End the versions of rows that were deleted upstream."""
    # A version cannot end before it began, whatever the store's stamps say.
    connection.execute(f"""
        UPDATE {versions_of(endpoint)}
        SET {identifier(VALID_TO.name)} = greatest({instant(at)}, {identifier(VALID_FROM.name)})
        WHERE {identifier(VALID_TO.name)} IS NULL
        AND {identifier(endpoint.primary_key)} IN (SELECT key FROM {MERGE_PLAN} WHERE action = 'removed')""")


def _since(endpoint: Endpoint) -> str:
    """Return the expression of when a row became what it is: `updated_at`, else when it was extracted."""
    return f"coalesce(t.{identifier(endpoint.updated_at)}, t.{identifier(EXTRACTED_AT.name)})"
