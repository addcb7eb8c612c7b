"""`status`: what is stored, how new it is, which days are missing, which checks fail, and the commands that fix it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import click
import duckdb
from rich.text import Text

from commerce_assets.analytics.build import inspect
from commerce_assets.analytics.tables import MODELS, Model
from commerce_assets.analytics.tables import SCHEMA as ANALYTICS
from commerce_assets.cli.command import Command, format_option
from commerce_assets.cli.console import build_table, say, show
from commerce_assets.cli.exits import NOT_SO, OK
from commerce_assets.cli.session import NOTHING_YET, Session, database_option, pass_session, say_json
from commerce_assets.endpoint import EXTRA, INVALID, Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import CommerceSettings
from commerce_assets.warehouse.check_queries import CheckOutcome, Scope, check_queries
from commerce_assets.warehouse.ddl import exists, table_of
from commerce_assets.warehouse.freshness import (
    complete,
    describe_never_loaded,
    due_days_never_loaded,
    fresh,
    updated_after_supported,
)
from commerce_assets.warehouse.item_lookups import count_not_looked_up
from commerce_assets.warehouse.load_log import followed, last_loaded
from commerce_assets.warehouse.row_history import VALID_FROM, history_of, versions_of
from commerce_assets.warehouse.sql import SCHEMA, identifier, table
from commerce_assets.wording import counted

_LOADED = ("table", "rows", "newest (UTC)", "refreshed", "fresh", "complete", "in step")
_BUILT = ("table", "rows", "newest (UTC)", "in step")
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_STAMPS = frozenset({"DATE", "TIMESTAMP WITH TIME ZONE"})
_SHOWN_RANGES = 3
_BUILD = "commerce-assets build"
# Where the load keeps the values that these checks count.
_KEPT_IN = {"values_fit_their_types": INVALID, "no_undeclared_fields": EXTRA}
# The checks name jobs of the UI; here are commands instead.
_JOB = re.compile(r"[:;] run the job \w+")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a table, and the command that fixes it, or shows it where only the store or the code can."""

    text: str
    command: str
    fixes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """The state of a stored table; None is unknown, or does not apply.

    Attributes:
        table: Its name, with its schema unless that is the endpoints'.
        endpoint: The endpoint that it is loaded from. None: a history or a mart.
        rows: Its rows, soft-deleted ones included. None: never loaded, or not built.
        newest: The latest creation, or change where it is not partitioned.
        refreshed: The time of the last load.
        changes_up_to: The high-water mark of changes.
        missing: The days due that no load covers.
        fresh: Whether what is due is loaded.
        complete: Whether the row counts equalled the store's when they were last compared.
        in_step: Whether changes arrive: from the store, or, for a mart, from its tables.
        failing: The failing checks by name.
        is_blocked: A failing check stops downstream assets.
        is_mart: It is a mart.
        not_looked_up: The rows that lack a column which the refresh will look up.
    """

    table: str
    endpoint: Endpoint | None = None
    rows: int | None = None
    newest: datetime | None = None
    refreshed: datetime | None = None
    changes_up_to: datetime | None = None
    missing: Sequence[date] = ()
    fresh: CheckOutcome | None = None
    complete: CheckOutcome | None = None
    in_step: CheckOutcome | None = None
    failing: Mapping[str, CheckOutcome] = field(default_factory=dict)
    is_blocked: bool = False
    is_mart: bool = False
    not_looked_up: int = 0

    @property
    def is_well(self) -> bool:
        states = [self.fresh, self.complete, self.in_step]
        return (
            self.rows is not None
            and not self.missing
            and not self.failing
            and not self.not_looked_up
            and all(state is None or state.passed for state in states)
        )

    def findings(self) -> Iterator[Finding]:
        """Yield everything that is wrong, each with its fix."""
        if self.rows is None:
            yield Finding("not built", _BUILD) if self.is_mart else Finding("never loaded", _pull(self))
            return
        said = ""
        if self.missing and self.endpoint:
            yield Finding(f"days missing: {_days_text(self.missing)}", _pull(self, ranges(self.missing)))
            said = describe_never_loaded(self.endpoint, self.missing)
        refreshes = self.endpoint and self.endpoint.update_filter
        for label, outcome, command in (
            ("not fresh", self.fresh, "commerce-assets refresh" if refreshes else _pull(self)),
            ("not complete", self.complete, "commerce-assets reconcile"),
            ("not in step", self.in_step, _BUILD if self.is_mart else _pull(self)),
        ):
            reasons = [reason for reason in outcome.summary.split("; ") if reason != said] if outcome else []
            if outcome and not outcome.passed and reasons:
                yield Finding(f"{label}: {_JOB.sub('', '; '.join(reasons))}", command)
        if self.not_looked_up and self.endpoint and (lookup := self.endpoint.item_lookup):
            yield Finding(
                f"{lookup.column} not looked up yet: {counted(self.not_looked_up, 'row')}", "commerce-assets refresh"
            )
        for name, outcome in self.failing.items():
            fixes = name not in _KEPT_IN
            yield Finding(
                f"check failing: {name}: {outcome.summary}", _pull(self) if fixes else self._show(name), fixes
            )

    def _show(self, check: str) -> str:
        """The command that shows the values behind a check that no load can fix."""
        column = _KEPT_IN[check].name
        key = self.endpoint.primary_key if self.endpoint else "*"
        return f'commerce-assets query "SELECT {key}, {column} FROM {self.table} WHERE {column} IS NOT NULL"'


@click.command(
    cls=Command,
    examples=[
        ("status", "a row for each table, and a line and a command for each finding"),
        ("status --strict", "for a script: exit status 1 unless all is well"),
        ("status --format json", "the same for a program, with times and missing days"),
    ],
)
@format_option
@click.option("--strict", is_flag=True, help="Exit status 1 unless all is well: nothing is missing, late or failing.")
@database_option
@pass_session
def command(session: Session, *, form: str, strict: bool) -> int:
    """Show what is stored, how new it is, which days are missing and which checks fail.

    Fresh: what is due is loaded: yesterday, changes within three hours, an unpartitioned list within a day. Complete:
    every day had as many rows as the store when `reconcile` compared them; "not yet" if that has not run. In step: the
    API honours updated_after or, for a mart, the mart equals its tables. Each finding comes with the command that fixes
    it or, where the store sent an unexpected value, shows it. No request is made.

    Days are UTC days, from COMMERCE_ORDERS_START_DATE to yesterday, which is due at 03:00.

    Exit status 1 if nothing is stored, or if a blocking check fails; with --strict, on any finding.
    """
    now = datetime.now(UTC)
    tables: list[TableStatus] = []
    with (
        session.settings.database(session.log).read() as connection,
        session.aside.status("reading the tables") as progress,
    ):
        for each in table_statuses(connection, session.settings, now):
            tables.append(each)
            progress.update(f"reading the tables, {each.table} done")
    if all(each.rows is None for each in tables):
        raise click.ClickException(NOTHING_YET)
    if form == "json":
        say_json({"shop": session.settings.shop, **_as_json(session, tables, now)})
    else:
        _show(session, tables, now)
    is_so = all(each.is_well for each in tables) if strict else not any(each.is_blocked for each in tables)
    return OK if is_so else NOT_SO


def _show(session: Session, tables: Sequence[TableStatus], now: datetime) -> None:
    if session.settings.shop:
        say(f"shop {session.settings.shop}\n")
    loaded = [each for each in tables if not each.is_mart]
    show(session.out, build_table(session.out, _LOADED, [_loaded_cells(each, now) for each in loaded]))
    if marts := [each for each in tables if each.is_mart]:
        say("")
        show(session.out, build_table(session.out, _BUILT, [_mart_cells(each) for each in marts]))
    say("")
    lines = []
    for each in tables:
        for finding in each.findings():
            lines.append(f"{each.table}: {finding.text}")
            lines.append(f"  {'Fix' if finding.fixes else 'See'}: {session.typed(finding.command)}")
    say("\n".join(lines) or "no day is missing, and no check fails")


def _loaded_cells(each: TableStatus, now: datetime) -> list[str | Text]:
    if each.rows is None:
        return [each.table, "", "never loaded", "", "", "", ""]
    refreshed = _ago(now - each.refreshed) if each.refreshed else ""
    marks = [_mark(each.fresh), _mark(each.complete), _mark(each.in_step)]
    return [each.table, f"{each.rows:,}", _minute(each.newest), refreshed, *marks]


def _mart_cells(each: TableStatus) -> list[str | Text]:
    if each.rows is None:
        return [each.table, "", "not built", ""]
    return [each.table, f"{each.rows:,}", _minute(each.newest)[:10], _mark(each.in_step)]


def _mark(outcome: CheckOutcome | None) -> Text:
    if outcome is None:
        return Text("-", style="dim")
    if outcome.pending:
        return Text("not yet", style="dim")
    return Text("yes", style="green") if outcome.passed else Text("no", style="bold yellow")


def _as_json(session: Session, tables: Sequence[TableStatus], now: datetime) -> dict[str, object]:
    return {
        "at": _instant(now),
        "is_well": all(each.is_well for each in tables),
        "is_blocked": any(each.is_blocked for each in tables),
        "tables": [
            {
                "table": each.table,
                "rows": each.rows,
                "newest": _instant(each.newest),
                "refreshed": _instant(each.refreshed),
                "changes_up_to": _instant(each.changes_up_to),
                "days_missing": [day.isoformat() for day in each.missing],
                "fresh": _outcome(each.fresh),
                "complete": _outcome(each.complete),
                "in_step": _outcome(each.in_step),
                "not_looked_up": each.not_looked_up,
                "checks_failing": {name: outcome.summary for name, outcome in each.failing.items()},
                "findings": [
                    {"finding": finding.text, "command": session.typed(finding.command), "fixes": finding.fixes}
                    for finding in each.findings()
                ],
                "is_well": each.is_well,
                "is_blocked": each.is_blocked,
            }
            for each in tables
        ],
    }


def _outcome(outcome: CheckOutcome | None) -> dict[str, object] | None:
    return {"passed": outcome.passed, "summary": _JOB.sub("", outcome.summary)} if outcome else None


def _instant(value: datetime | None) -> str | None:
    return value.astimezone(UTC).isoformat(timespec="seconds") if value else None


def _minute(instant: datetime | None) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if instant else ""


def _ago(age: timedelta) -> str:
    """An age in one unit: "59 min ago", "47 h ago", "3 d ago"."""
    if age < _MINUTE:
        return "just now"
    if age < _HOUR:
        return f"{age // _MINUTE} min ago"
    return f"{age // _HOUR} h ago" if age < 2 * _DAY else f"{age // _DAY} d ago"


def _pull(status: TableStatus, days: Sequence[tuple[date, date]] = ()) -> str:
    """The command that loads a table: the days of each range, or of one that spans them if there are many."""
    name = status.endpoint.name if status.endpoint else status.table.removesuffix("_history")
    if len(days) > _SHOWN_RANGES:
        days = [(days[0][0], days[-1][1])]
    return (
        " && ".join(f"commerce-assets pull {name} --from {first} --to {last}" for first, last in days)
        or f"commerce-assets pull {name}"
    )


def ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """Join consecutive days, given oldest first, to ranges."""
    found: list[tuple[date, date]] = []
    for day in days:
        if found and found[-1][1] + _DAY == day:
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found


def _days_text(days: Sequence[date]) -> str:
    """Days in few words: "33 (2024-01-01...2024-02-01, 2024-03-15)"; the first of many ranges."""
    found = ranges(days)
    shown = [f"{first}" if first == last else f"{first}...{last}" for first, last in found[:_SHOWN_RANGES]]
    more = f", and {len(found) - len(shown)} more ranges" if len(found) > len(shown) else ""
    return f"{len(days):,} ({', '.join(shown)}{more})"


def table_statuses(
    connection: duckdb.DuckDBPyConnection, settings: CommerceSettings, now: datetime
) -> Iterator[TableStatus]:
    """Yield the state of each endpoint's table and history, and of each mart.

    Args:
        connection: May be read-only.
        settings: The first partition, and the time zone of the marts.
        now: The time to compare with.
    """
    start = settings.orders_start_date
    for endpoint in ENDPOINTS:
        if not exists(connection, SCHEMA, endpoint.name):
            yield TableStatus(table=endpoint.name, endpoint=endpoint)
            continue
        status = _of_endpoint(connection, endpoint, start, now)
        # With 0, a person has decided that they stay unknown.
        yield (
            replace(status, not_looked_up=count_not_looked_up(connection, endpoint))
            if settings.refund_requests
            else status
        )
        if exists(connection, SCHEMA, history_of(endpoint)):
            rows, newest = _extent(connection, versions_of(endpoint), VALID_FROM.name)
            yield TableStatus(table=history_of(endpoint), rows=rows, newest=newest)
    for model in MODELS:
        if exists(connection, ANALYTICS, model.name):
            yield _of_model(connection, model, start, now, settings.timezone)
        elif not model.needs_history or exists(connection, SCHEMA, f"{model.deps[0]}_history"):
            yield TableStatus(table=f"{ANALYTICS}.{model.name}", is_mart=True)


def _of_endpoint(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: date, now: datetime) -> TableStatus:
    refreshed = last_loaded(connection, endpoint)
    scope = Scope(endpoint, None, refreshed or now)
    columns, *others = check_queries(endpoint)
    # The other checks name columns.
    queries = [columns, *others] if columns.run(connection, scope).passed else [columns]
    failing = {query: outcome for query in queries if not (outcome := query.run(connection, scope)).passed}
    rows, newest = _extent(connection, table_of(endpoint), endpoint.cursor or endpoint.updated_at)
    changes_up_to = followed(connection, endpoint).mark if endpoint.update_filter else None
    return TableStatus(
        table=endpoint.name,
        endpoint=endpoint,
        rows=rows,
        newest=newest,
        refreshed=refreshed,
        changes_up_to=changes_up_to,
        missing=due_days_never_loaded(connection, endpoint, start, now) if endpoint.is_partitioned else [],
        fresh=fresh(connection, endpoint, start, now),
        complete=complete(connection, endpoint, start, now) if endpoint.is_partitioned else None,
        # Unknown before the first refresh.
        in_step=updated_after_supported(connection, endpoint, start, now) if changes_up_to else None,
        failing={query.name: outcome for query, outcome in failing.items()},
        is_blocked=any(query.blocking for query in failing),
    )


def _of_model(
    connection: duckdb.DuckDBPyConnection, model: Model, start: date, now: datetime, timezone: str
) -> TableStatus:
    name = table(ANALYTICS, model.name)
    outcomes = inspect(connection, model, ENDPOINTS, start=start, now=now, timezone=timezone)
    wrong = [f"{it.check}: {counted(it.wrong, 'row')}" for it in outcomes or () if it.wrong and not it.warns]
    if outcomes is None:
        wrong = ["it has the columns of another version"]
    rows, newest = _extent(connection, name, next(c.name for c in model.columns if c.type in _STAMPS))
    return TableStatus(
        table=f"{ANALYTICS}.{model.name}",
        rows=rows,
        newest=newest,
        is_mart=True,
        in_step=CheckOutcome(passed=not wrong, summary="; ".join(wrong) or "in step"),
    )


def _extent(connection: duckdb.DuckDBPyConnection, name: str, stamp: str) -> tuple[int, datetime | None]:
    """The row count of a table, and the latest time in a column."""
    row = connection.execute(f"SELECT count(*), max({identifier(stamp)})::TIMESTAMPTZ FROM {name}").fetchone()
    return row or (0, None)
