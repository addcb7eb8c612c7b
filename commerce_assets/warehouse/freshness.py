"""Health checks of a table: freshness, completeness and change tracking, whichever run was the last one.

They query the log of loads and the notes in the warehouse and make no request. A check fails only if somebody must act:
what has not run yet since the first load is "not yet" and passes, until its absence has lasted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import duckdb

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.check_queries import CheckOutcome
from commerce_assets.warehouse.load_log import Kind, days_never_loaded, first_loaded, last_followed, read_note
from commerce_assets.wording import counted

# The schedules run within the hour after midnight; a day that is not loaded by then was missed.
_YESTERDAY_IS_DUE_AT = time(3)
_REFRESH_IS_DUE_AFTER = timedelta(hours=3)
FULL_REFRESH_IS_DUE_AFTER = timedelta(hours=26)
"""How old the last load of a whole list may be; the freshness policy of its asset has the same window."""
_RECONCILIATION_IS_DUE_AFTER = timedelta(days=8)
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class HealthQuery:
    """A health check: its name and description in the UI, and the query behind it.

    Attributes:
        name: As in `orders: fresh`.
        description: What holds while it passes.
        run: Queries the warehouse for an endpoint; takes the first day that must be loaded, and the current time.
    """

    name: str
    description: str
    run: Callable[[duckdb.DuckDBPyConnection, Endpoint, date, datetime], CheckOutcome]


def fresh(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: date, now: datetime) -> CheckOutcome:
    """Check that every due day is loaded and changes were upserted, or that the whole list was loaded within a day."""
    if endpoint.is_partitioned:
        return _days_are_fresh(connection, endpoint, start, now)
    loaded = last_followed(connection, endpoint)
    if loaded is None:
        return CheckOutcome(passed=False, summary="never loaded: run the job catalog")
    if now - loaded > FULL_REFRESH_IS_DUE_AFTER:
        return CheckOutcome(passed=False, summary=f"last loaded {_ago(loaded, now)}: run the job catalog")
    return CheckOutcome(passed=True, summary=f"loaded {_ago(loaded, now)}")


def _days_are_fresh(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: date, now: datetime
) -> CheckOutcome:
    problems = []
    if missing := due_days_never_loaded(connection, endpoint, start, now):
        problems.append(describe_never_loaded(endpoint, missing))
    due = _due_day(now)
    said = [f"every day up to {due} is loaded" if due >= start else "no day is due yet"]
    pending = False
    if endpoint.update_filter:
        refreshed = _last_refresh(connection, endpoint)
        since = refreshed or first_loaded(connection, endpoint)
        if since and now - since > _REFRESH_IS_DUE_AFTER:
            last = f"last refreshed {_ago(since, now)}" if refreshed else "never refreshed"
            problems.append(f"{last}: run the job {endpoint.name}_refresh")
        elif refreshed:
            said.append(f"refreshed {_ago(refreshed, now)}")
        else:
            pending = True
            said.insert(0, "not yet refreshed")
    return CheckOutcome(passed=not problems, summary="; ".join(problems or said), pending=pending and not problems)


def complete(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: date, now: datetime) -> CheckOutcome:
    """Check that every due day was loaded, and that the last reconciliation found no difference."""
    missing = due_days_never_loaded(connection, endpoint, start, now)
    problems = [describe_never_loaded(endpoint, missing)] if missing else []
    evidence: dict[str, int | str | list[str] | dict[str, int]] = {"days_never_loaded": len(missing)}
    note = read_note(connection, endpoint, Kind.RECONCILIATION)
    since = note.at if note else first_loaded(connection, endpoint)
    summary = "not yet compared with the store"
    if note:
        found = note.value
        evidence |= {name: found[name] for name in ("in_store", "stored", "requests")}
        compared = f"{found['first_day']}...{found['last_day']}, compared {_ago(note.at, now)}"
        summary = f"{counted(found['stored'], 'row')} in the store and here ({compared})"
        if differences := found["differences"]:
            problems.append(f"{'; '.join(differences[:_SHOWN])} ({compared}): run the job reconcile")
    if since and now - since > _RECONCILIATION_IS_DUE_AFTER:
        last = f"last compared with the store {_ago(since, now)}" if note else "never compared with the store"
        problems.append(f"{last}: run the job reconcile")
    return CheckOutcome(
        passed=not problems,
        summary="; ".join(problems) or summary,
        evidence=evidence,
        pending=not problems and note is None,
    )


def updated_after_supported(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: date, now: datetime
) -> CheckOutcome:
    """Check that the API honoured the filter for changed rows at the last refresh."""
    del start
    note = read_note(connection, endpoint, Kind.UPDATE_FILTER)
    if note is None:
        return CheckOutcome(passed=True, summary=f"{endpoint.update_filter} was not yet requested", pending=True)
    if note.value["is_supported"]:
        return CheckOutcome(passed=True, summary=f"the API honours {endpoint.update_filter}")
    return CheckOutcome(
        passed=False,
        summary=f"the API ignored {endpoint.update_filter} {_ago(note.at, now)}: the last days "
        "(COMMERCE_ORDERS_LOOKBACK_DAYS) were extracted again instead, and changes of older rows are not seen",
    )


_FRESH = HealthQuery(
    "fresh",
    "Every day from COMMERCE_ORDERS_START_DATE to yesterday is loaded and changes were upserted within three hours; "
    "an unpartitioned list was loaded within a day.",
    fresh,
)
_COMPLETE = HealthQuery(
    "complete",
    "Every day from COMMERCE_ORDERS_START_DATE to yesterday is loaded, and had as many rows as in the store when "
    "they were last compared.",
    complete,
)
_UPDATED_AFTER = HealthQuery(
    "updated_after_supported",
    "The API honours updated_after; otherwise the last N days are extracted again.",
    updated_after_supported,
)


def health_queries(endpoint: Endpoint) -> list[HealthQuery]:
    """Return the health checks of an endpoint."""
    queries = [_FRESH]
    if endpoint.is_partitioned:
        queries.append(_COMPLETE)
    if endpoint.update_filter:
        queries.append(_UPDATED_AFTER)
    return queries


def due_days_never_loaded(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: date, now: datetime
) -> list[date]:
    """Return the days that no load has covered, from `start` to yesterday, which is due three hours after midnight."""
    return days_never_loaded(connection, endpoint, first=start, last=_due_day(now))


def describe_never_loaded(endpoint: Endpoint, days: Sequence[date]) -> str:
    """Say how many days were never loaded, and what loads them."""
    name, first, last = endpoint.name, days[0], days[-1]
    missing = f"{first} was" if first == last else f"{len(days):,} days from {first} were"
    return (
        f"{missing} never loaded: backfill {name} (`commerce-assets pull {name} --from {first} --to {last}`, or "
        f"Materialize `[{first}...{last}]` in the UI)"
    )


def _due_day(now: datetime) -> date:
    """Return the last day that must be loaded by now."""
    now = now.astimezone(UTC)
    return (now - timedelta(days=1 if now.time() >= _YESTERDAY_IS_DUE_AT else 2)).date()


def _last_refresh(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> datetime | None:
    """Return when changes were last requested; where the API ignores the filter, when days were extracted instead."""
    note = read_note(connection, endpoint, Kind.UPDATE_FILTER)
    return max((at for at in (last_followed(connection, endpoint), note.at if note else None) if at), default=None)


def _ago(at: datetime, now: datetime) -> str:
    hours = max((now - at) / timedelta(hours=1), 0)
    if hours < 1:
        return f"{counted(round(hours * 60), 'minute')} ago"
    if hours < 48:  # noqa: PLR2004 - two days
        return f"{counted(round(hours), 'hour')} ago"
    return f"{counted(round(hours / 24), 'day')} ago"
