"""How the stored tables stand: what `status` shows, gathered from the warehouse without a request."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import chain

import duckdb

from commerce_assets.analytics.build import inspect
from commerce_assets.analytics.tables import MODELS, Model
from commerce_assets.analytics.tables import SCHEMA as ANALYTICS
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.check_queries import CheckOutcome, Scope, check_queries
from commerce_assets.warehouse.freshness import complete, fresh, updated_after_supported
from commerce_assets.warehouse.load_log import days_never_loaded, followed, last_loaded, loaded_windows
from commerce_assets.warehouse.row_history import VALID_FROM, history_of, versions_of
from commerce_assets.warehouse.schema import exists, table_of
from commerce_assets.warehouse.sql import SCHEMA, identifier, table
from commerce_assets.window import Window

_STAMPS = frozenset({"DATE", "TIMESTAMP WITH TIME ZONE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """What is known of a table; None is what is not known, or not asked of it.

    Attributes:
        table: Its name, with its schema unless that is the endpoints'.
        rows: How many there are, those that the store no longer has included; None if it was never pulled.
        newest: The latest creation, or change where it is not cut by day.
        refreshed: When something was loaded last.
        changes_up_to: Up to where late changes have been followed.
        missing: The days that no pull has brought, of those that are over.
        fresh: Whether what is due has been loaded.
        complete: Whether the store had as many rows when they were last compared.
        in_step: Whether changes arrive: from the store, or, of a table that is built, from what it is built of.
        failing: The checks that fail, by name.
        is_blocked: One of them stops what is downstream.
        is_built: It is one of the analytics layer.
    """

    table: str
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
    is_built: bool = False

    @property
    def is_well(self) -> bool:
        standing = [self.fresh, self.complete, self.in_step]
        return (
            self.rows is not None
            and not self.missing
            and not self.failing
            and all(finding is None or finding.passed for finding in standing)
        )


def standings(connection: duckdb.DuckDBPyConnection, start: date, now: datetime) -> Iterator[TableStatus]:
    """Of each endpoint's table, of its versions if they are kept, and of each table that has been built from them.

    Args:
        connection: May be read-only.
        start: The first day that there should be.
        now: By this machine's clock.
    """
    for endpoint in ENDPOINTS:
        if not exists(connection, SCHEMA, endpoint.name):
            yield TableStatus(table=endpoint.name)
            continue
        yield _of_endpoint(connection, endpoint, start, now)
        if exists(connection, SCHEMA, history_of(endpoint)):
            rows, newest = _extent(connection, versions_of(endpoint), VALID_FROM.name)
            yield TableStatus(table=history_of(endpoint), rows=rows, newest=newest)
    for model in MODELS:
        if exists(connection, ANALYTICS, model.name):
            yield _of_model(connection, model, start, now)


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
        rows=rows,
        newest=newest,
        refreshed=refreshed,
        changes_up_to=changes_up_to,
        missing=days_never_loaded(connection, endpoint, first=start, last=_yesterday(now))
        if endpoint.is_partitioned
        else [],
        fresh=fresh(connection, endpoint, start, now),
        complete=complete(connection, endpoint, start, now) if endpoint.is_partitioned else None,
        # Before the first refresh there is nothing to tell it by.
        in_step=updated_after_supported(connection, endpoint, start, now) if changes_up_to else None,
        failing={query.name: outcome for query, outcome in failing.items()},
        is_blocked=any(query.blocking for query in failing),
    )


def _of_model(connection: duckdb.DuckDBPyConnection, model: Model, start: date, now: datetime) -> TableStatus:
    name = table(ANALYTICS, model.name)
    windows = _loaded_days(connection, model, start, now) if model.is_partitioned else [None]
    found = [inspect(connection, model, ENDPOINTS, window) for window in windows]
    rows_wrong = Counter[str]()
    for outcome in chain.from_iterable(outcomes or () for outcomes in found):
        rows_wrong[outcome.check] += outcome.wrong
    wrong = [f"{name}: {count:,} rows" for name, count in rows_wrong.items() if count]
    if None in found:
        wrong = ["its columns are of another version"]
    rows, newest = _extent(connection, name, next(c.name for c in model.columns if c.type in _STAMPS))
    return TableStatus(
        table=f"{ANALYTICS}.{model.name}",
        rows=rows,
        newest=newest,
        is_built=True,
        in_step=CheckOutcome(
            passed=not wrong, summary=f"{'; '.join(wrong)}; run the job analytics" if wrong else "in step"
        ),
    )


def _extent(connection: duckdb.DuckDBPyConnection, name: str, stamp: str) -> tuple[int, datetime | None]:
    """How many rows a table has, and the latest time in a column."""
    row = connection.execute(f"SELECT count(*), max({identifier(stamp)})::TIMESTAMPTZ FROM {name}").fetchone()
    return row or (0, None)


def _loaded_days(
    connection: duckdb.DuckDBPyConnection, model: Model, start: date, now: datetime
) -> list[Window | None]:
    """Return the days that a partitioned model can be built for: its partitions whose source has been loaded.

    Late changes may have stored rows of other days; those days are materialized neither here nor in the UI.
    """
    (source,) = (endpoint for endpoint in ENDPOINTS if endpoint.name in model.deps and endpoint.is_partitioned)
    yesterday = _yesterday(now)
    return [
        Window.of_days(max(window.first_day, start), min(window.last_day, yesterday))
        for window in loaded_windows(connection, source)
        if window.last_day >= start and window.first_day <= yesterday
    ]


def _yesterday(now: datetime) -> date:
    return now.astimezone(UTC).date() - timedelta(days=1)
