"""The versions that a row has had: one row for each in `<endpoint>_history`, in the transactions of the loads.

A version is valid from the instant at which the store changed the row, `valid_from`, up to the one at which it changed
it again or no longer had it, `valid_to`; the version that is stored now has no `valid_to`. What the store changed twice
between two loads is one change here: nobody has seen the version between.
"""

from datetime import datetime

import duckdb

from commerce_assets.endpoint import EXTRACTED_AT, Column, ColumnType, Endpoint
from commerce_assets.warehouse.schema import add_missing_columns, exists, table_of
from commerce_assets.warehouse.sql import MERGE_PLAN, SCHEMA, identifier, instant, table

VALID_FROM = Column(name="valid_from", type=ColumnType.TIMESTAMP, description="When the store made it so (UTC).")
VALID_TO = Column(
    name="valid_to",
    type=ColumnType.TIMESTAMP,
    description="When the store changed it again, or no longer had it (UTC); NULL while it is so.",
)


def history_of(endpoint: Endpoint) -> str:
    """The name of the table of versions."""
    return f"{endpoint.name}_history"


def versions_of(endpoint: Endpoint) -> str:
    """The table of versions, qualified and quoted."""
    return table(SCHEMA, history_of(endpoint))


def prepare(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> None:
    """Makes the table, with a version of each row that is stored already; or adds the columns that it lacks."""
    name = history_of(endpoint)
    if exists(connection, SCHEMA, name):
        add_missing_columns(connection, name, endpoint.stored_columns)
        return
    connection.execute(
        f"CREATE TABLE {versions_of(endpoint)} AS SELECT t.*, {_since(endpoint)} AS {identifier(VALID_FROM.name)}, "
        f"CAST(NULL AS {VALID_TO.type}) AS {identifier(VALID_TO.name)} FROM {table_of(endpoint)} t"
    )


def follow(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, segment: int) -> None:
    """Adds the versions that a segment has just written, and ends those that they follow."""
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
    """Ends the versions of rows that the store no longer has."""
    connection.execute(f"""
        UPDATE {versions_of(endpoint)} SET {identifier(VALID_TO.name)} = {instant(at)}
        WHERE {identifier(VALID_TO.name)} IS NULL
        AND {identifier(endpoint.primary_key)} IN (SELECT key FROM {MERGE_PLAN} WHERE action = 'removed')""")


def _since(endpoint: Endpoint) -> str:
    """When a stored row became what it is; when it was pulled, where the store does not say."""
    return f"coalesce(t.{identifier(endpoint.updated_at)}, t.{identifier(EXTRACTED_AT.name)})"
