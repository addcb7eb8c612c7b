"""The log of loads, the high-water marks and the notes on an endpoint, written in the transactions of the loads."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import duckdb

from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse.database import Database
from commerce_assets.warehouse.ddl import create_internal_tables, day_of, exists, table_of
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA, identifier, table, within
from commerce_assets.window import Window, join_windows

_LOADS = table(INTERNAL_SCHEMA, "loads")
_MARKS = table(INTERNAL_SCHEMA, "high_water_marks")
_NOTES = table(INTERNAL_SCHEMA, "notes")


class Kind(StrEnum):
    """The kind of a note; the latest note of each kind is kept."""

    RECONCILIATION = "reconciliation"
    """The row counts of the store and the warehouse, and the days on which they differ."""
    UPDATE_FILTER = "update_filter"
    """Whether the API honours the filter for changed rows."""
    DAY_BEFORE = "day_before"
    """Whether a request for a window has to ask for the day before it, too."""


@dataclass(frozen=True, slots=True)
class Note:
    """A finding about an endpoint, and when it was made."""

    at: datetime
    value: dict[str, Any]


class Followed(NamedTuple):
    """Where the next refresh of an endpoint starts from.

    Attributes:
        mark: The high-water mark; None before the first refresh.
        oldest_pull: When the oldest load began, by the store's clock; None if nothing is stored.
        newest_change: The newest stored `updated_at`.
        wide_at: When a refresh last used the wide overlap; None if none did.
    """

    mark: datetime | None
    oldest_pull: datetime | None
    newest_change: datetime | None
    wide_at: datetime | None


def record_load(connection: duckdb.DuckDBPyConnection, staged: StagedPages, rows: int) -> None:
    """Add a load to the log."""
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
    """Return whether this pull has been loaded already; a crash then left its staged items behind."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return False
    return connection.execute(f"SELECT 1 FROM {_LOADS} WHERE pull_id = ?", [pull_id]).fetchone() is not None


def last_store(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> str | None:
    """Return the store and account of the endpoint's last load, else of any last load; None before a load."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return None
    row = connection.execute(
        f"SELECT store FROM {_LOADS} WHERE store IS NOT NULL ORDER BY endpoint = ? DESC, loaded_at DESC LIMIT 1",
        [endpoint.name],
    ).fetchone()
    return row[0] if row else None


def stores_of(database: Database) -> set[str]:
    """Return the stores and accounts that the database was loaded from; none if it does not exist."""
    with database.read_or_empty() as connection:
        if not exists(connection, INTERNAL_SCHEMA, "loads"):
            return set()
        return {name for (name,) in connection.execute(f"SELECT DISTINCT store FROM {_LOADS}").fetchall()}


def loaded_endpoints(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Return the names of the endpoints that have been loaded, which are also the names of their tables."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return set()
    return {name for (name,) in connection.execute(f"SELECT DISTINCT endpoint FROM {_LOADS}").fetchall()}


def followed(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> Followed:
    """Return where the next refresh of a partitioned endpoint starts from."""
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
    """Move the high-water mark: every change before it is in the table. A mark never goes back."""
    connection.execute(
        f"INSERT INTO {_MARKS} SELECT $endpoint, $mark WHERE NOT EXISTS (FROM {_MARKS} WHERE endpoint = $endpoint)",
        {"endpoint": endpoint.name, "mark": changed_up_to},
    )
    connection.execute(
        f"UPDATE {_MARKS} SET changed_up_to = $mark WHERE endpoint = $endpoint AND changed_up_to < $mark",
        {"endpoint": endpoint.name, "mark": changed_up_to},
    )


def first_loaded(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> datetime | None:
    """Return when the endpoint was first loaded, by this machine's clock; None before the first load."""
    return _loaded_at(connection, endpoint, "min")


def last_loaded(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> datetime | None:
    """Return when the endpoint was last loaded, by this machine's clock; None before the first load."""
    return _loaded_at(connection, endpoint, "max")


def last_followed(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> datetime | None:
    """Return when a whole list, or the changes of a partitioned one, was last loaded; None if never."""
    return _loaded_at(connection, endpoint, "max", "AND window_start IS NULL")


def _loaded_at(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, aggregate: str, condition: str = ""
) -> datetime | None:
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return None
    row = connection.execute(
        f"SELECT {aggregate}(loaded_at) FROM {_LOADS} WHERE endpoint = ? {condition}", [endpoint.name]
    ).fetchone()
    return row[0] if row else None


def loaded_windows(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> list[Window]:
    """Return the windows that were loaded, each up to the last midnight before its load; see `join_windows`."""
    if not exists(connection, INTERNAL_SCHEMA, "loads"):
        return []
    rows = connection.execute(
        f"""
        SELECT DISTINCT window_start, least(window_end, date_trunc('day', began_at_store)) AS over
        FROM {_LOADS} WHERE endpoint = ? AND window_start < over""",
        [endpoint.name],
    ).fetchall()
    return join_windows(Window(start.astimezone(UTC), end.astimezone(UTC)) for start, end in rows)


def days_never_loaded(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, *, first: date, last: date
) -> list[date]:
    """Return the days from `first` to `last` that no load has covered, oldest first."""
    windows = loaded_windows(connection, endpoint)
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    loaded = {day for window in windows for day in window.days}
    return [day for day in days if day not in loaded]


def count_by_day(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, window: Window | None = None
) -> dict[date, int]:
    """Return the number of stored rows per UTC day that has any: of a window's days, or of all days."""
    if not endpoint.cursor or not exists(connection, SCHEMA, endpoint.name):
        return {}
    cursor = identifier(endpoint.cursor)
    # A filter on the column itself lets DuckDB skip row groups; a filter on a computed day would not.
    kept = within(cursor, window.start, window.end) if window else f"{cursor} IS NOT NULL"
    rows = connection.execute(
        f"SELECT {day_of(endpoint, 't')}, count(*) FROM {table_of(endpoint)} t WHERE {kept} GROUP BY 1"
    ).fetchall()
    return dict(rows)


def write_note(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, kind: Kind, value: dict[str, Any]) -> None:
    """Replace the endpoint's note of this kind."""
    create_internal_tables(connection)
    connection.execute(f"DELETE FROM {_NOTES} WHERE endpoint = ? AND kind = ?", [endpoint.name, kind])
    connection.execute(
        f"INSERT INTO {_NOTES} VALUES (?, ?, ?, ?)", [endpoint.name, kind, datetime.now(UTC), json.dumps(value)]
    )


def read_note(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, kind: Kind) -> Note | None:
    """Return the endpoint's latest note of this kind; None if there is none."""
    if not exists(connection, INTERNAL_SCHEMA, "notes"):
        return None
    row = connection.execute(
        f"SELECT noted_at, value FROM {_NOTES} WHERE endpoint = ? AND kind = ?", [endpoint.name, kind]
    ).fetchone()
    return Note(row[0], json.loads(row[1])) if row else None


def needs_day_before(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> bool:
    """Return whether a request for a window has to ask for the day before it, too; True until a load shows it."""
    note = read_note(connection, endpoint, Kind.DAY_BEFORE)
    return note is None or bool(note.value["is_needed"])


def note_day_before(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, *, is_needed: bool) -> None:
    """Record what the next windows need, if it is another than before."""
    if is_needed != needs_day_before(connection, endpoint):
        write_note(connection, endpoint, Kind.DAY_BEFORE, {"is_needed": is_needed})
