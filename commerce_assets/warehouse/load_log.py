"""What has been loaded, and up to where changes have been followed: kept in the transactions of the loads."""

from datetime import UTC, date, datetime
from typing import NamedTuple

import duckdb

from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse.notes import Kind, read_note
from commerce_assets.warehouse.schema import day_of, exists, table_of
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA, identifier, table, within
from commerce_assets.window import Window

_LOADS = table(INTERNAL_SCHEMA, "loads")
_MARKS = table(INTERNAL_SCHEMA, "high_water_marks")


class Followed(NamedTuple):
    """From where changes of an endpoint have to be followed.

    Attributes:
        mark: Up to where they have been; None before the first refresh.
        oldest_pull: When the oldest pull of what is stored began, by the store's clock; None if nothing is stored.
        newest_change: The newest `updated_at` that is stored.
        wide_at: When changes were last followed with the wide overlap; None if they never were.
    """

    mark: datetime | None
    oldest_pull: datetime | None
    newest_change: datetime | None
    wide_at: datetime | None


def record_load(connection: duckdb.DuckDBPyConnection, staged: StagedPages, rows: int) -> None:
    window = staged.pull.window
    connection.execute(
        f"INSERT INTO {_LOADS} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            staged.manifest.pull_id,
            staged.pull.endpoint.name,
            window.start if window else None,
            window.end if window else None,
            staged.manifest.began_at,
            staged.began_at_store,
            datetime.now(UTC),
            rows,
            staged.manifest.store,
        ],
    )


def has_loaded(connection: duckdb.DuckDBPyConnection, pull_id: str) -> bool:
    """Whether this very pull is in the table already: its staged items were left behind by a crash."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return False
    return connection.execute(f"SELECT 1 FROM {_LOADS} WHERE pull_id = ?", [pull_id]).fetchone() is not None


def last_store(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> str | None:
    """The store and account that the endpoint was last loaded from, else any other endpoint; None before a load."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return None
    row = connection.execute(
        f"SELECT store FROM {_LOADS} WHERE store IS NOT NULL ORDER BY endpoint = ? DESC, loaded_at DESC LIMIT 1",
        [endpoint.name],
    ).fetchone()
    return row[0] if row else None


def loaded_endpoints(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The names of the endpoints that have been loaded, which are those of their tables."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return set()
    return {name for (name,) in connection.execute(f"SELECT DISTINCT endpoint FROM {_LOADS}").fetchall()}


def followed(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> Followed:
    """From where the next refresh of a partitioned endpoint has to follow changes."""
    if not exists(connection, INTERNAL_SCHEMA, "loads") or not exists(connection, SCHEMA, endpoint.name):
        return Followed(None, None, None, None)
    mark, oldest_pull, newest_change = connection.execute(
        f"""
        SELECT (SELECT max(changed_up_to) FROM {_MARKS} WHERE endpoint = $endpoint),
            (SELECT min(began_at_store) FROM {_LOADS} WHERE endpoint = $endpoint AND window_start IS NOT NULL),
            (SELECT max({identifier(endpoint.updated_at)}) FROM {table_of(endpoint)})""",
        {"endpoint": endpoint.name},
    ).fetchall()[0]
    note = read_note(connection, endpoint, Kind.UPDATE_FILTER)
    wide_at = note.value.get("wide_at") if note else None
    return Followed(mark, oldest_pull, newest_change, datetime.fromisoformat(wide_at) if wide_at else None)


def set_mark(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, changed_up_to: datetime) -> None:
    """Notes that every change before this instant is in the table. A mark never goes back."""
    connection.execute(
        f"INSERT INTO {_MARKS} SELECT $endpoint, $mark WHERE NOT EXISTS (FROM {_MARKS} WHERE endpoint = $endpoint)",
        {"endpoint": endpoint.name, "mark": changed_up_to},
    )
    connection.execute(
        f"UPDATE {_MARKS} SET changed_up_to = $mark WHERE endpoint = $endpoint AND changed_up_to < $mark",
        {"endpoint": endpoint.name, "mark": changed_up_to},
    )


def last_loaded(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> datetime | None:
    """When something of the endpoint was loaded last, by this machine's clock; None before the first time."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return None
    row = connection.execute(f"SELECT max(loaded_at) FROM {_LOADS} WHERE endpoint = ?", [endpoint.name]).fetchone()
    return row[0] if row else None


def loaded_windows(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> list[Window]:
    """The windows that have been loaded whole, as far as they were over then; in no order, and they may overlap."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return []
    rows = connection.execute(
        f"""
        SELECT DISTINCT window_start, least(window_end, date_trunc('day', began_at_store)) AS over
        FROM {_LOADS} WHERE endpoint = ? AND window_start < over""",
        [endpoint.name],
    ).fetchall()
    return [Window(start.astimezone(UTC), end.astimezone(UTC)) for start, end in rows]


def last_followed(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> datetime | None:
    """When a list was last loaded whole, or, of one that has days, its late changes were; None if never."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return None
    row = connection.execute(
        f"SELECT max(loaded_at) FROM {_LOADS} WHERE endpoint = ? AND window_start IS NULL", [endpoint.name]
    ).fetchone()
    return row[0] if row else None


def count_by_day(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, window: Window | None = None
) -> dict[date, int]:
    """How many rows are stored of each UTC day that has any: of a window's days, or of all."""
    if not endpoint.cursor or not exists(connection, SCHEMA, endpoint.name):
        return {}
    cursor = identifier(endpoint.cursor)
    # By instants, whose bounds DuckDB knows of each part of the table, and not by days, which it would have to compute.
    kept = within(cursor, window.start, window.end) if window else f"{cursor} IS NOT NULL"
    rows = connection.execute(
        f"SELECT {day_of(endpoint, 't')}, count(*) FROM {table_of(endpoint)} t WHERE {kept} GROUP BY 1"
    ).fetchall()
    return dict(rows)
