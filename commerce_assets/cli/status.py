"""`status`: what is stored, how new it is, which days are missing and which checks fail."""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import click
from rich.text import Text

from commerce_assets.cli.command import Command
from commerce_assets.cli.console import build_table, say, show
from commerce_assets.cli.exits import NOT_SO, OK
from commerce_assets.cli.session import NOTHING_YET, Session, database_option, pass_session
from commerce_assets.cli.standings import TableStatus, standings
from commerce_assets.warehouse.check_queries import CheckOutcome

_PULLED = ("table", "rows", "newest (UTC)", "refreshed", "fresh", "complete", "in step")
_BUILT = ("table", "rows", "newest (UTC)", "in step")
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@click.command(
    cls=Command,
    examples=[
        ("status", "a row for each table, and a line for whatever is not well"),
        ("status --strict", "for a script: status 1 unless all is well"),
        ("status --format json", "the same for a program, with times and the days that are missing"),
    ],
)
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--strict", is_flag=True, help="Exit status 1 unless all is well: nothing is missing, late or failing.")
@database_option
@pass_session
def command(session: Session, *, form: str, strict: bool) -> int:
    """Show what is stored, how new it is, which days are missing and which checks fail.

    A table is fresh if what is due has been loaded: every day up to yesterday, changes within three hours, a whole
    list within a day. It is complete if every day was loaded and had as many rows as in the store when the job
    reconcile compared them; "not yet" if that has not run. It is in step if the store heeds the request for changes,
    or, in the analytics layer, if it holds what the orders of the loaded days come to now. No request is made.

    Days are UTC days, from COMMERCE_ORDERS_START_DATE to yesterday; one is missing until a pull has covered it.

    Exit status 1 if nothing is stored, or if a check fails that stops what is downstream. Whatever else is not well
    leaves it 0, unless --strict is said.
    """
    now = datetime.now(UTC)
    tables: list[TableStatus] = []
    with session.database(session.log).read() as connection, session.aside.status("looking at the tables") as told:
        for table in standings(connection, session.settings.orders_start_date, now):
            tables.append(table)
            told.update(f"looking at the tables, {table.table} done")
    if all(table.rows is None for table in tables):
        raise click.ClickException(NOTHING_YET)
    if form == "json":
        say(json.dumps(_as_json(tables, now), indent=2))
    else:
        _show(session, tables, now)
    is_so = all(table.is_well for table in tables) if strict else not any(table.is_blocked for table in tables)
    return OK if is_so else NOT_SO


def _show(session: Session, tables: Sequence[TableStatus], now: datetime) -> None:
    pulled = [table for table in tables if not table.is_built]
    show(session.out, build_table(session.out, _PULLED, [_pulled_cells(table, now) for table in pulled]))
    if built := [table for table in tables if table.is_built]:
        say("")
        show(session.out, build_table(session.out, _BUILT, [_built_cells(table) for table in built]))
    say("")
    remarks = [remark for table in tables for remark in _remarks(table)]
    say("\n".join(remarks) or "no day is missing, and no check fails")


def _pulled_cells(table: TableStatus, now: datetime) -> list[str | Text]:
    if table.rows is None:
        return [table.table, "", "never pulled", "", "", "", ""]
    refreshed = _ago(now - table.refreshed) if table.refreshed else ""
    marks = [_mark(table.fresh), _mark(table.complete), _mark(table.in_step)]
    return [table.table, f"{table.rows:,}", _minute(table.newest), refreshed, *marks]


def _built_cells(table: TableStatus) -> list[str | Text]:
    return [table.table, f"{table.rows:,}", _minute(table.newest)[:10], _mark(table.in_step)]


def _mark(outcome: CheckOutcome | None) -> Text:
    if outcome is None:
        return Text("-", style="dim")
    if outcome.pending:
        return Text("not yet", style="dim")
    return Text("yes", style="green") if outcome.passed else Text("no", style="bold yellow")


def _remarks(table: TableStatus) -> Iterator[str]:
    """What a person should know of a table."""
    if table.rows is None:
        yield f"{table.table}: never pulled"
    if table.missing:
        yield f"{table.table}: days missing: {ranges(table.missing)}"
    for said, finding in (("not fresh", table.fresh), ("not complete", table.complete), ("not in step", table.in_step)):
        if finding and not finding.passed:
            yield f"{table.table}: {said}: {finding.summary}"
    for name, finding in table.failing.items():
        yield f"{table.table}: check failing: {name}: {finding.summary}"


def _as_json(tables: Sequence[TableStatus], now: datetime) -> dict[str, object]:
    return {
        "at": _instant(now),
        "is_well": all(table.is_well for table in tables),
        "is_blocked": any(table.is_blocked for table in tables),
        "tables": [
            {
                "table": table.table,
                "rows": table.rows,
                "newest": _instant(table.newest),
                "refreshed": _instant(table.refreshed),
                "changes_up_to": _instant(table.changes_up_to),
                "days_missing": [day.isoformat() for day in table.missing],
                "fresh": _finding(table.fresh),
                "complete": _finding(table.complete),
                "in_step": _finding(table.in_step),
                "checks_failing": {name: finding.summary for name, finding in table.failing.items()},
                "is_well": table.is_well,
                "is_blocked": table.is_blocked,
            }
            for table in tables
        ],
    }


def _finding(finding: CheckOutcome | None) -> dict[str, object] | None:
    return {"passed": finding.passed, "summary": finding.summary} if finding else None


def _instant(value: datetime | None) -> str | None:
    return value.astimezone(UTC).isoformat(timespec="seconds") if value else None


def _minute(instant: datetime | None) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if instant else ""


def _ago(age: timedelta) -> str:
    """An age in a unit: "59 min ago", "47 h ago", "3 d ago"."""
    if age < _MINUTE:
        return "just now"
    if age < _HOUR:
        return f"{age // _MINUTE} min ago"
    return f"{age // _HOUR} h ago" if age < 2 * _DAY else f"{age // _DAY} d ago"


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
