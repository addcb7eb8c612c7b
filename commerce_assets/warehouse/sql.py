"""Pieces of SQL: quoted identifiers and literals that mean the same in every time zone."""

from datetime import UTC, datetime

SCHEMA = "commerce"
"""Where the endpoints' tables lie."""

INTERNAL_SCHEMA = "commerce_loads"
"""Where the project keeps what it has loaded, in the same transactions as the rows."""


STAGED = "temp.main.staged"
"""During a load: the rows of the segment at hand."""

MERGE_PLAN = "temp.main.merge_plan"
"""During a load: what happens to each staged key."""


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def table(schema: str, name: str) -> str:
    return f"{identifier(schema)}.{identifier(name)}"


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def within(expression: str, start: datetime | None, end: datetime | None) -> str:
    """Whether an instant lies from `start` up to, and not including, `end`; a bound that is None does not bound."""
    bounds = [f"{expression} >= {instant(start)}"] if start else []
    bounds += [f"{expression} < {instant(end)}"] if end else []
    return " AND ".join(bounds) or "TRUE"


def instant(value: datetime) -> str:
    """A TIMESTAMPTZ literal with an explicit offset: a naive one would be read in the session's zone."""
    return f"TIMESTAMPTZ {text(value.astimezone(UTC).isoformat(sep=' '))}"
