"""SQL fragments: quoted identifiers, and literals that do not depend on the session's time zone."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

SCHEMA = "commerce"
"""The schema of the endpoints' tables."""

INTERNAL_SCHEMA = "commerce_loads"
"""The schema of the internal tables: the load log, notes and maskings, written in the transactions of the loads."""

STAGED = "temp.main.staged"
"""During a load: the rows of the current segment."""

MERGE_PLAN = "temp.main.merge_plan"
"""During a load: the action for each staged key."""


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def table(schema: str, name: str) -> str:
    return f"{identifier(schema)}.{identifier(name)}"


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def scalar(connection: "duckdb.DuckDBPyConnection", query: str) -> int:
    """Return the number that a query returns in its first column; 0 if it returns no row."""
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def within(expression: str, start: datetime | None, end: datetime | None) -> str:
    """Return the condition start <= expression < end; a bound that is None is left out."""
    bounds = [f"{expression} >= {instant(start)}"] if start else []
    bounds += [f"{expression} < {instant(end)}"] if end else []
    return " AND ".join(bounds) or "TRUE"


def instant(value: datetime) -> str:
    """Return a TIMESTAMPTZ literal with an explicit offset, which the session's time zone does not affect."""
    return f"TIMESTAMPTZ {text(value.astimezone(UTC).isoformat(sep=' '))}"
