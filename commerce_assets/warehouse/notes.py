"""What the project has found out about an endpoint, and when: the latest of each kind, beside the loads."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import duckdb

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.schema import create_internal_tables, exists
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, table

_NOTES = table(INTERNAL_SCHEMA, "notes")


class Kind(StrEnum):
    """What a note is about."""

    RECONCILIATION = "reckoning"
    """How many rows the store and the warehouse had, and where they differed."""
    UPDATE_FILTER = "update_filter"
    """Whether the store heeded the filter for changed rows."""


@dataclass(frozen=True, slots=True)
class Note:
    at: datetime
    value: dict[str, Any]


def write_note(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, kind: Kind, value: dict[str, Any]) -> None:
    """Replaces the note of its kind."""
    create_internal_tables(connection)
    connection.execute(f"DELETE FROM {_NOTES} WHERE endpoint = ? AND kind = ?", [endpoint.name, kind])
    connection.execute(
        f"INSERT INTO {_NOTES} VALUES (?, ?, ?, ?)", [endpoint.name, kind, datetime.now(UTC), json.dumps(value)]
    )


def read_note(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, kind: Kind) -> Note | None:
    """The latest note of its kind; None if there is none."""
    if not exists(connection, INTERNAL_SCHEMA, "notes"):
        return None
    row = connection.execute(
        f"SELECT noted_at, value FROM {_NOTES} WHERE endpoint = ? AND kind = ?", [endpoint.name, kind]
    ).fetchone()
    return Note(row[0], json.loads(row[1])) if row else None
