"""Compare staged rows with stored ones: which rows vanish, and which fields of which rows change."""

import contextlib
from dataclasses import dataclass
from datetime import date

import duckdb

from commerce_assets.endpoint import EXTRACTED_AT, Endpoint
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse import casts
from commerce_assets.warehouse.ddl import covered, day_of, exists, table_of
from commerce_assets.warehouse.parse import explained_memory, pieces
from commerce_assets.warehouse.sql import MERGE_PLAN, SCHEMA, STAGED, identifier, instant, within

FieldCounts = dict[str, int]

_EXTRACTED = "temp.main.extracted_keys"


@dataclass(frozen=True, slots=True)
class Vanished:
    """Stored rows of a window or a full list, compared with the staged ones.

    Attributes:
        stored: Rows that the table holds.
        extracted: Rows that the store returned, one per key.
        keys: Keys of the stored rows that it did not return.
    """

    stored: int
    extracted: int
    keys: frozenset[int] = frozenset()


def vanished_rows(connection: duckdb.DuckDBPyConnection, staged: StagedPages) -> Vanished:
    """Find the stored rows that are missing from a complete extraction of the same window or list.

    Rows that another extraction stored after this one began are not counted, because this one cannot contain them.
    """
    endpoint, window = staged.pull.endpoint, staged.pull.window
    nothing = Vanished(stored=0, extracted=staged.count)
    if not exists(connection, SCHEMA, endpoint.name):
        return nothing
    is_covered, key = covered(endpoint, window), identifier(endpoint.primary_key)
    if not connection.execute(f"SELECT 1 FROM {table_of(endpoint)} WHERE {is_covered} LIMIT 1").fetchone():
        return nothing
    names = [endpoint.primary_key, *([endpoint.cursor] if endpoint.cursor else [])]
    columns = [endpoint.column(name) for name in names]
    typed = ", ".join(f"{casts.typed(column)} AS {identifier(column.name)}" for column in columns)
    inside = within(identifier(endpoint.cursor), window.start, window.end) if window and endpoint.cursor else "TRUE"
    query = f"""
        SELECT count(*), (SELECT count(DISTINCT {key}) FROM {_EXTRACTED}),
            list({key}) FILTER ({identifier(EXTRACTED_AT.name)} <= {instant(staged.manifest.began_at)}
                AND {key} NOT IN (FROM {_EXTRACTED}))
        FROM {table_of(endpoint)} WHERE {is_covered}"""
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE extracted_keys ({key} BIGINT NOT NULL)")
        with explained_memory(connection, staged), contextlib.closing(pieces(connection, staged)) as parsed:
            for piece in parsed:
                source = f"(SELECT {typed} FROM {piece.source(columns)})"
                connection.execute(f"INSERT INTO {_EXTRACTED} SELECT DISTINCT {key} FROM {source} WHERE {inside}")
        row = connection.execute(query).fetchone()
    except duckdb.InvalidInputException:
        # An item cannot be parsed. The load refuses it, without quoting it.
        return nothing
    stored, extracted, keys = row or (0, 0, None)
    return Vanished(stored, extracted, frozenset(keys or ()))


def count_changed_fields(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, segment: int
) -> dict[date | None, FieldCounts]:
    """Count the rows that a segment will update, per changed field and per day of the stored version.

    Call it before the segment is written. The day is None for an endpoint without a cursor.
    """
    key = identifier(endpoint.primary_key)
    names = [column.name for column in endpoint.stored_columns if column != EXTRACTED_AT]
    differing = ", ".join(f"count_if({column_differs(endpoint, name)})" for name in names)
    # A row that is also in an earlier segment was counted there, against the stored version.
    updated = (
        f"SELECT key FROM {MERGE_PLAN} WHERE segment = {segment} AND action = 'updated' "
        f"AND key NOT IN (SELECT key FROM {MERGE_PLAN} WHERE segment < {segment})"
    )
    if not connection.execute(f"{updated} LIMIT 1").fetchone():
        return {}
    rows = connection.execute(f"""
        SELECT {day_of(endpoint, "t")}, {differing}
        FROM {STAGED} s JOIN {table_of(endpoint)} t USING ({key}) WHERE {key} IN ({updated}) GROUP BY 1""").fetchall()
    return {day: {name: count for name, count in zip(names, counts, strict=True) if count} for day, *counts in rows}


def column_differs(endpoint: Endpoint, name: str) -> str:
    """The SQL condition that a column of the staged row `s` differs from that of the stored row `t`.

    An item of the list that lacks the column of a lookup says nothing about it.
    """
    column, lookup = identifier(name), endpoint.item_lookup
    condition = f"s.{column} IS DISTINCT FROM t.{column}"
    if lookup and lookup.column == name:
        return f"({condition} AND ({lacks(f's.{column}')} AND NOT {lacks(f't.{column}')}) IS NOT TRUE)"
    return condition


def lacks(value: str) -> str:
    """The SQL condition that a JSON list is missing or empty."""
    return f"(coalesce(len(json_extract({value}, '$[*]')), 0) = 0)"
