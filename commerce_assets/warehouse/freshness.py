"""Whether a table is fresh and complete, whatever run was the last one.

Read from what the loads have recorded in the warehouse, without a request: a backfill of an old day makes no table
fresh.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import duckdb

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.check_queries import CheckOutcome
from commerce_assets.warehouse.load_log import last_followed, loaded_windows
from commerce_assets.warehouse.notes import Kind, read_note

# Schedules run within the hour after midnight; a day that is not in by then was missed.
_YESTERDAY_IS_DUE_AT = time(3)
_REFRESH_IS_DUE_AFTER = timedelta(hours=3)
_LIST_IS_DUE_AFTER = timedelta(hours=26)
_RECKONING_IS_DUE_AFTER = timedelta(days=8)
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class HealthQuery:
    """A check of a table's state at an instant: its name and description in the UI, and the query behind it."""

    name: str
    description: str
    run: Callable[[duckdb.DuckDBPyConnection, Endpoint, datetime], CheckOutcome]


def fresh(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, now: datetime) -> CheckOutcome:
    """Yesterday is loaded and late changes were followed within three hours; a whole list was read within a day."""
    followed = last_followed(connection, endpoint)
    if endpoint.is_partitioned:
        due = (now - timedelta(days=1 if now.time() >= _YESTERDAY_IS_DUE_AT else 2)).date()
        midnight = datetime.combine(due, time(0), UTC)
        filtered = read_note(connection, endpoint, Kind.UPDATE_FILTER)
        # Where the store does not heed the filter, the refresh pulls days instead, and notes that it did.
        changes = max((at for at in (followed, filtered.at if filtered else None) if at), default=None)
        faults = []
        if not any(window.contains(midnight) for window in loaded_windows(connection, endpoint)):
            faults.append(f"{due} is not loaded: run the job {endpoint.name}")
        if endpoint.update_filter and _is_late(changes, now, _REFRESH_IS_DUE_AFTER):
            followed_when = f"last followed {_ago(changes, now)}" if changes else "never followed"
            faults.append(f"late changes were {followed_when}: run the job {endpoint.name}_refresh")
        good = f"{due} is loaded; late changes were followed {_ago(changes, now)}"
    else:
        read_when = f"last read {_ago(followed, now)}" if followed else "never read"
        faults = [f"{read_when}: run the job catalog"] if _is_late(followed, now, _LIST_IS_DUE_AFTER) else []
        good = f"read {_ago(followed, now)}"
    return CheckOutcome(passed=not faults, summary="; ".join(faults) or good)


def complete(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, now: datetime) -> CheckOutcome:
    """The warehouse holds as many rows of each day as the store did when they were last compared."""
    note = read_note(connection, endpoint, Kind.RECONCILIATION)
    if note is None:
        return CheckOutcome(passed=False, summary="never compared with the store: run the job reconcile")
    found = note.value
    differences: list[str] = found["differences"]
    compared = f"{found['first_day']}...{found['last_day']}, compared {_ago(note.at, now)}"
    if differences:
        summary = f"{'; '.join(differences[:_SHOWN])} ({compared}); run the job reconcile"
    elif now - note.at > _RECKONING_IS_DUE_AFTER:
        summary = f"last compared with the store {_ago(note.at, now)}: run the job reconcile"
    else:
        return CheckOutcome(
            passed=True,
            summary=f"{found['stored']:,} rows in the store and here ({compared})",
            evidence=_evidence(found),
        )
    return CheckOutcome(passed=False, summary=summary, evidence=_evidence(found))


def updated_after_supported(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, now: datetime) -> CheckOutcome:
    """The store gives only changed rows when it is asked for them; else the refresh pulls the last days again."""
    note = read_note(connection, endpoint, Kind.UPDATE_FILTER)
    if note is None or note.value["is_supported"]:
        return CheckOutcome(passed=True, summary=f"{endpoint.update_filter} is heeded" if note else "not asked for yet")
    return CheckOutcome(
        passed=False,
        summary=f"the store did not heed {endpoint.update_filter} {_ago(note.at, now)}: the days of "
        "COMMERCE_ORDERS_LOOKBACK_DAYS were pulled instead, and changes of older rows are not seen",
    )


_FRESH = HealthQuery(
    "fresh",
    "Yesterday is loaded and changes were upserted within three hours; an unpartitioned list was read within a day.",
    fresh,
)
_COMPLETE = HealthQuery(
    "complete", "Every day holds as many rows as the store did when the job reconcile last compared them.", complete
)
_UPDATED_AFTER = HealthQuery(
    "updated_after_supported",
    "The API honours updated_after; otherwise the last N days are extracted again.",
    updated_after_supported,
)


def health_queries(endpoint: Endpoint) -> list[HealthQuery]:
    """The health checks of an endpoint."""
    queries = [_FRESH]
    if endpoint.is_partitioned:
        queries.append(_COMPLETE)
    if endpoint.update_filter:
        queries.append(_UPDATED_AFTER)
    return queries


def _evidence(found: dict[str, object]) -> dict[str, int | str | list[str] | dict[str, int]]:
    counts = ("in_store", "stored", "requests")
    return {name: value for name in counts if isinstance(value := found.get(name), int)}


def _is_late(at: datetime | None, now: datetime, allowed: timedelta) -> bool:
    return at is None or now - at > allowed


def _ago(at: datetime | None, now: datetime) -> str:
    if at is None:
        return "never"
    hours = max((now - at) / timedelta(hours=1), 0)
    if hours < 1:
        return f"{hours * 60:.0f} minutes ago"
    return f"{hours:.0f} hours ago" if hours < 48 else f"{hours / 24:.0f} days ago"  # noqa: PLR2004 - two days
