"""Which stored rows lack what only a request for the single row returns, and the answers to such requests.

A row is looked up once per version: every write of a row sets `_extracted_at`, so the key and this instant identify a
version. An answer fills one column and leaves `_extracted_at` alone, in the table and in the open version of the
history: the row has not changed in the store.
"""

import contextlib
import time
from collections.abc import Collection
from datetime import UTC, datetime

import duckdb

from commerce_assets.endpoint import EXTRACTED_AT, Endpoint, ItemLookup
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse import casts
from commerce_assets.warehouse.ddl import create_internal_tables, day_of, describe, exists, table_of
from commerce_assets.warehouse.diff import lacks
from commerce_assets.warehouse.load import DayCounts, LoadResult
from commerce_assets.warehouse.parse import explained_memory, pieces
from commerce_assets.warehouse.privacy.expressions import bind_key, masked
from commerce_assets.warehouse.privacy.policy import PersonalDataPolicy
from commerce_assets.warehouse.row_history import VALID_TO, history_of, versions_of
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA, identifier, scalar, table, text

_LOOKUPS = table(INTERNAL_SCHEMA, "item_lookups")
_ANSWERS = "temp.main.item_answers"
_MATCHING = "temp.main.matching_answers"


def rows_to_look_up(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> list[int]:
    """Return the keys of the rows that lack the column and were not answered: the newest first, failed ones last."""
    lookup = endpoint.item_lookup
    if lookup is None or not exists(connection, SCHEMA, endpoint.name):
        return []
    key, extracted_at = identifier(endpoint.primary_key), identifier(EXTRACTED_AT.name)
    states = ", ".join(text(state) for state in sorted(lookup.states)) or "NULL"
    state = "lower(trim(t.state, chr(32) || chr(9) || chr(13) || chr(10)))"
    asked = "(SELECT NULL::BIGINT AS key, NULL::TIMESTAMPTZ AS version, NULL::TIMESTAMPTZ AS asked_at)"
    if exists(connection, INTERNAL_SCHEMA, "item_lookups"):
        asked = f"(FROM {_LOOKUPS} WHERE endpoint = {text(endpoint.name)})"
    rows = connection.execute(f"""
        SELECT t.{key} FROM {table_of(endpoint)} t LEFT JOIN {asked} l ON l.key = t.{key}
        WHERE (t.{identifier(lookup.flag)} OR {state} IN ({states})) AND {lacks(f"t.{identifier(lookup.column)}")}
            AND (l.version = t.{extracted_at}) IS NOT TRUE
        ORDER BY l.asked_at NULLS FIRST, t.{identifier(endpoint.cursor or endpoint.primary_key)} DESC, 1""").fetchall()
    return [number for (number,) in rows]


def count_not_looked_up(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> int:
    """Return how many rows the next refreshes will look up."""
    stored = {column.name for column in describe(connection, endpoint.name)}
    # A table of an older version may lack a column; the check `columns_match_schema` says so.
    is_whole = stored >= {column.name for column in endpoint.stored_columns}
    return len(rows_to_look_up(connection, endpoint)) if is_whole else 0


def load_items(
    connection: duckdb.DuckDBPyConnection, staged: StagedPages, asked: Collection[int], *, policy: PersonalDataPolicy
) -> LoadResult:
    """Add the staged answers to their stored rows, and record which rows were asked for.

    An answer counts if its `updated_at` is that of the stored row: of another version, the amounts would not fit the
    rest of the row. The next refresh brings that version, and it is looked up then.

    Args:
        connection: In a transaction.
        staged: The answers, one per page.
        asked: The keys of all rows that were requested, also in vain.
        policy: What is hashed or dropped.
    """
    began = time.monotonic()
    endpoint, lookup = staged.pull.endpoint, staged.pull.endpoint.item_lookup
    assert lookup is not None  # noqa: S101 - only such an endpoint has an ItemRequest
    create_internal_tables(connection)
    if policy.key:
        bind_key(connection, policy.key)
    _create_matching(connection, staged, lookup, policy)
    result = LoadResult()
    key, column, version = (identifier(name) for name in (endpoint.primary_key, lookup.column, EXTRACTED_AT.name))
    changed = (
        f"{_MATCHING} m WHERE m.key = t.{key} AND m.version = t.{version} "
        f"AND m.is_filled AND m.value IS DISTINCT FROM t.{column}"
    )
    days = connection.execute(f"""
        SELECT {day_of(endpoint, "t")}, count(*) FROM {table_of(endpoint)} t, {changed} GROUP BY 1""").fetchall()
    connection.execute(f"UPDATE {table_of(endpoint)} t SET {column} = m.value FROM {changed}")
    if exists(connection, SCHEMA, history_of(endpoint)):
        is_open = f"t.{identifier(VALID_TO.name)} IS NULL"
        connection.execute(f"UPDATE {versions_of(endpoint)} t SET {column} = m.value FROM {changed} AND {is_open}")
    for day, count in days:
        result.days[day] = DayCounts(updated=count, fields_changed={lookup.column: count})
        result.updated += count
    if result.updated:
        result.fields_changed = {lookup.column: result.updated}
    result.loaded = scalar(connection, f"SELECT count(*) FROM {_MATCHING}")
    result.unchanged = result.loaded - result.updated
    _record(connection, endpoint, asked)
    result.total = scalar(connection, f"SELECT count(*) FROM {table_of(endpoint)}")
    connection.execute(f"DROP TABLE {_MATCHING}")
    connection.execute(f"DROP TABLE {_ANSWERS}")
    result.seconds = time.monotonic() - began
    return result


def _create_matching(
    connection: duckdb.DuckDBPyConnection, staged: StagedPages, lookup: ItemLookup, policy: PersonalDataPolicy
) -> None:
    """Create the table of the answers that belong to the stored version of their row, the last one of each key."""
    endpoint = staged.pull.endpoint
    key, updated_at, value = (
        endpoint.column(name) for name in (endpoint.primary_key, endpoint.updated_at, lookup.column)
    )
    stored = masked(identifier(value.name), value, policy.masking_of(endpoint, value))
    connection.execute(
        "CREATE TEMP TABLE item_answers (key BIGINT, updated_at TIMESTAMPTZ, value JSON, number INTEGER)"
    )
    with explained_memory(connection, staged), contextlib.closing(pieces(connection, staged)) as parsed:
        for number, piece in enumerate(parsed):
            columns = (key, updated_at, value)
            typed = ", ".join(f"{casts.typed(each, piece.mark)} AS {identifier(each.name)}" for each in columns)
            connection.execute(f"""
                INSERT INTO {_ANSWERS}
                SELECT {identifier(key.name)}, {identifier(updated_at.name)}, {stored}, {number}
                FROM (SELECT {typed} FROM {piece.source(columns)})""")
    connection.execute(f"""
        CREATE TEMP TABLE matching_answers AS
        SELECT a.key, t.{identifier(EXTRACTED_AT.name)} AS version, a.value, NOT {lacks("a.value")} AS is_filled
        FROM {_ANSWERS} a JOIN {table_of(endpoint)} t ON t.{identifier(key.name)} = a.key
        WHERE t.{identifier(updated_at.name)} IS NOT DISTINCT FROM a.updated_at
        QUALIFY row_number() OVER (PARTITION BY a.key ORDER BY number DESC) = 1""")


def _record(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, asked: Collection[int]) -> None:
    """Record the rows that were asked for; one without a matching answer has no version."""
    name, now = text(endpoint.name), datetime.now(UTC)
    keys = f"(SELECT unnest($keys::BIGINT[]) AS key UNION SELECT key FROM {_MATCHING})"
    connection.execute(
        f"DELETE FROM {_LOOKUPS} WHERE endpoint = {name} AND key IN (SELECT key FROM {keys})", {"keys": [*asked]}
    )
    connection.execute(
        f"INSERT INTO {_LOOKUPS} "
        f"SELECT {name}, k.key, m.version, $now FROM {keys} k LEFT JOIN {_MATCHING} m USING (key)",
        {"keys": [*asked], "now": now},
    )
