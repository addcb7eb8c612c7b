"""`status`: what is stored, how new it is, which days are missing and which checks fail."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import click
import duckdb

from commerce_assets.cli.command import Command
from commerce_assets.cli.console import build_table, show
from commerce_assets.cli.exits import NOT_SO, OK
from commerce_assets.cli.session import Session, database_option, pass_session
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.findings import (
    Question,
    Scope,
    blocking_questions,
    columns_match_schema,
    questions,
)
from commerce_assets.warehouse.history import followed, last_loaded, loaded_windows
from commerce_assets.warehouse.sql import SCHEMA, identifier
from commerce_assets.warehouse.tables import exists, table_of

_HEADINGS = ("table", "rows", "newest (UTC)", "last loaded", "changes up to")


@dataclass(frozen=True, slots=True)
class TableStatus:
    """What is known of a table.

    Attributes:
        rows: How many there are, those that the store no longer has included.
        newest: The latest creation, or change where the endpoint is not cut by day.
        loaded_at: When something was loaded last.
        changes_up_to: Up to where late changes have been followed; None before the first refresh.
        missing: The days that no pull has brought, of those that are over; empty where it is not cut by day.
        failing: The checks that fail.
    """

    rows: int
    newest: datetime | None
    loaded_at: datetime | None
    changes_up_to: datetime | None
    missing: Sequence[date]
    failing: Sequence[Question]


@click.command(cls=Command, examples=[("status", "a row for each table")])
@database_option
@pass_session
def command(session: Session) -> int:
    """Show what is stored, how new it is, which days are missing and which checks fail.

    Days are UTC days, from COMMERCE_ORDERS_START_DATE to yesterday; one is missing until a pull has covered it.

    Exit status 1 if a check fails that stops what is downstream; missing days and warnings leave it 0.
    """
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    statuses: dict[Endpoint, TableStatus | None] = {}
    with session.database(session.log).read() as connection, session.aside.status("") as told:
        for endpoint in ENDPOINTS:
            told.update(f"looking at {endpoint.name}")
            statuses[endpoint] = _status_of(connection, endpoint, session.settings.orders_start, yesterday)
    show(session.out, build_table(session.out, _HEADINGS, [_cells(*item) for item in statuses.items()]))
    remarks = [remark for item in statuses.items() for remark in _remarks(*item)]
    click.echo("\n".join(remarks) or "no day is missing, and no check fails")
    blocked = any(
        question in blocking_questions(endpoint)
        for endpoint, status in statuses.items()
        for question in (status.failing if status else ())
    )
    return NOT_SO if blocked else OK


def _status_of(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: date, yesterday: date
) -> TableStatus | None:
    """None if the endpoint has never been pulled."""
    if not exists(connection, SCHEMA, endpoint.name):
        return None
    loaded_at = last_loaded(connection, endpoint)
    scope = Scope(endpoint, None, loaded_at or datetime.now(UTC))
    # First of all the columns: the other questions name some of them.
    asked = questions(endpoint) if columns_match_schema(connection, scope).passed else (columns_match_schema,)
    failing = [question for question in asked if not question(connection, scope).passed]
    stamp = identifier(endpoint.cursor or endpoint.updated_at)
    row = connection.execute(f"SELECT count(*), max({stamp}) FROM {table_of(endpoint)}").fetchone()
    rows, newest = row or (0, None)
    return TableStatus(
        rows=rows,
        newest=newest,
        loaded_at=loaded_at,
        changes_up_to=followed(connection, endpoint).mark if endpoint.update_filter else None,
        missing=list(_missing_days(connection, endpoint, start, yesterday)) if endpoint.is_partitioned else [],
        failing=failing,
    )


def _missing_days(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: date, yesterday: date
) -> Iterator[date]:
    """The days from `start` to `yesterday` that lie in no window that has been loaded, oldest first."""
    covered = sorted((window.first_day, window.last_day) for window in loaded_windows(connection, endpoint))
    day = start
    for first, last in [*covered, (yesterday + timedelta(days=1), yesterday)]:
        while day < first and day <= yesterday:
            yield day
            day += timedelta(days=1)
        day = max(day, last + timedelta(days=1))


def _cells(endpoint: Endpoint, status: TableStatus | None) -> list[str]:
    if status is None:
        return [endpoint.name, "", "never pulled", "", ""]
    return [
        endpoint.name,
        f"{status.rows:,}",
        _minute(status.newest),
        _minute(status.loaded_at),
        _minute(status.changes_up_to),
    ]


def _remarks(endpoint: Endpoint, status: TableStatus | None) -> Iterator[str]:
    """What a person should know of a table."""
    if status and status.missing:
        yield f"{endpoint.name}: days missing: {ranges(status.missing)}"
    for question in status.failing if status else ():
        yield f"{endpoint.name}: check failing: {question.__name__}"


def _minute(instant: datetime | None) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if instant else ""


def ranges(days: Iterable[date]) -> str:
    """Days in few words: "33 (2024-01-01...2024-02-01, 2024-03-15)"; of many ranges, the first ones."""
    found: list[tuple[date, date]] = []
    count = 0
    for count, day in enumerate(days, start=1):  # noqa: B007 - the last one counts
        if found and found[-1][1] + timedelta(days=1) == day:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    told = [f"{first}" if first == last else f"{first}...{last}" for first, last in found[:3]]
    more = f", and {len(found) - len(told)} more ranges" if len(found) > len(told) else ""
    return f"{count:,} ({', '.join(told)}{more})"
