"""Build a model: run its SQL on the stored tables, in the caller's transaction, and its checks on the result."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import duckdb

from commerce_assets.analytics.tables import SCHEMA, Model
from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.database import request_rewrite, spill_directory
from commerce_assets.warehouse.ddl import describe
from commerce_assets.warehouse.load_log import loaded_windows
from commerce_assets.warehouse.row_history import VALID_FROM, VALID_TO, history_of
from commerce_assets.warehouse.sql import SCHEMA as SOURCE_SCHEMA
from commerce_assets.warehouse.sql import identifier, scalar, table, text, within
from commerce_assets.window import Window
from commerce_assets.wording import counted

_SHARED = ("sale", "subscription", "currency", "order_amounts", "order_lines")
_EXAMPLES = 10
KEY_IS_UNIQUE = "key_is_unique"
"""The check of every model."""
SQL = files("commerce_assets.analytics") / "sql"


class ModelError(Exception):
    """A model's SQL and its declaration disagree; the message names the columns."""


class CheckOutcome(NamedTuple):
    """The number of rows that fail a check, and the first of them as text; never personal data."""

    check: str
    wrong: int
    examples: list[dict[str, str]]
    warns: bool = False
    """The table is correct, but somebody should look at these rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """The row counts of a build.

    Attributes:
        rows: Rows of the table, or of the window, after the build.
        written: New and changed rows.
        removed: Deleted rows and the old versions of changed ones.
        seconds: Duration.
    """

    rows: int
    written: int
    removed: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{counted(self.rows, 'row')} in {self.seconds:.1f} s ({self.written:,} written, {self.removed:,} removed)"
        )


def build(
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    endpoints: Sequence[Endpoint],
    window: Window | None = None,
    *,
    timezone: str = "UTC",
) -> BuildResult:
    """Build a model's table, or the days of a window.

    Only rows that differ are written, so a second build changes nothing. A table with other columns, left by an older
    version of the model, is dropped and built with all its days.

    Args:
        connection: In a transaction.
        model: The model to build.
        endpoints: The tables that the SQL may read. A table that was never loaded is empty, a missing column is NULL.
        window: The days of a partitioned model.
        timezone: The zone of the days and months in the table, an IANA name.

    Raises:
        ModelError: The SQL does not return the model's columns.
    """
    began = time.monotonic()
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(SCHEMA)}")
    target = table(SCHEMA, model.name)
    declared = {column.name: column.type for column in model.columns}
    stored = describe(connection, model.name, schema=SCHEMA)
    if stored and {column.name: column.type for column in stored} != declared:
        connection.execute(f"DROP TABLE {target}")
        window = None
    definitions = ", ".join(f"{identifier(name)} {kind}" for name, kind in declared.items())
    connection.execute(f"CREATE TABLE IF NOT EXISTS {target} ({definitions})")
    scope = _scope(model, window)
    personal = " OR ".join(f"{identifier(c.name)} IS NOT NULL" for c in model.columns if c.sensitivity) or "FALSE"
    personal_rows = f"SELECT count(*) FROM {target} WHERE {personal}"
    stored_personal_rows = scalar(connection, personal_rows)
    _create_source_views(connection, endpoints, window, timezone)
    query = (SQL / f"{model.name}.sql").read_text()
    selected = {name for name, *_ in connection.execute(f"DESCRIBE {query}").fetchall()}
    if selected != declared.keys():
        raise ModelError(
            f"{model.name}.sql and tables.py disagree on the columns: {', '.join(sorted(selected ^ declared.keys()))}"
        )
    file = spill_directory(connection) / f"{model.name}.parquet"
    try:
        fresh = _write_fresh(connection, file, query, declared)
        row = _fingerprint(declared)
        removed = scalar(connection, f"DELETE FROM {target} WHERE {scope} AND {row} NOT IN (SELECT {row} FROM {fresh})")
        if stored_personal_rows and not scalar(connection, personal_rows):
            # Every one was replaced: the policy for personal data became stricter, and free blocks hold old values.
            request_rewrite(connection)
        written = scalar(
            connection,
            f"INSERT INTO {target} FROM {fresh} WHERE {row} NOT IN (SELECT {row} FROM {target} WHERE {scope})",
        )
        rows = scalar(connection, f"SELECT count(*) FROM {fresh}")
    finally:
        file.unlink(missing_ok=True)
    _create_model_view(connection, model, scope)
    return BuildResult(rows=rows, written=written, removed=removed, seconds=time.monotonic() - began)


def _write_fresh(connection: duckdb.DuckDBPyConnection, file: Path, query: str, columns: Mapping[str, str]) -> str:
    """Write the rows of a model's query to a Parquet file, which needs no memory; return the SQL that reads it."""
    typed = ", ".join(f"CAST({identifier(name)} AS {kind}) AS {identifier(name)}" for name, kind in columns.items())
    connection.execute(f"COPY (SELECT {typed} FROM ({query}\n)) TO {text(str(file))} (FORMAT parquet)")
    return f"read_parquet({text(str(file))})"


def _fingerprint(columns: Iterable[str]) -> str:
    """Return the SQL of 128 bits that differ if a row differs: to compare whole rows needs memory for all of them."""
    names = [identifier(name) for name in columns]
    return f"(CAST(hash({', '.join(names)}) AS UHUGEINT) * {2**64}::UHUGEINT + hash({', '.join(reversed(names))}))"


def check(connection: duckdb.DuckDBPyConnection, model: Model) -> list[CheckOutcome]:
    """Run the model's checks in the transaction of its build, because `orders` may change afterwards."""
    key = ", ".join(identifier(name) for name in model.key)
    # Everybody who can open the UI sees the examples, so they leave out keys that are personal data.
    shown = [identifier(column.name) for column in model.columns if column.name in model.key and not column.sensitivity]
    unique = (
        f"SELECT {', '.join([*shown, 'count(*) AS rows'])} FROM {identifier(model.name)} "
        f"GROUP BY {key} HAVING count(*) > 1"
    )
    outcomes = [_outcome(connection, KEY_IS_UNIQUE, unique)]
    for declared in model.checks:
        query = (SQL / "checks" / model.name / f"{declared.name}.sql").read_text()
        outcomes.append(_outcome(connection, declared.name, query)._replace(warns=declared.warns))
    return outcomes


def inspect(
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    endpoints: Sequence[Endpoint],
    *,
    start: date,
    now: datetime,
    timezone: str = "UTC",
) -> list[CheckOutcome] | None:
    """Run the model's checks on the stored table, without a build; the connection may be read-only.

    Rows loaded since the last build may fail them. Of a partitioned model, the days that can be built are checked:
    those from `start` to yesterday that its source has loaded. Late changes may have stored rows of other days, which
    are materialized neither here nor in the UI.

    Returns:
        The outcomes, or None if the table does not have the model's columns.
    """
    if {column.name: column.type for column in describe(connection, model.name, schema=SCHEMA)} != {
        column.name: column.type for column in model.columns
    }:
        return None
    warns = {KEY_IS_UNIQUE: False, **{check.name: check.warns for check in model.checks}}
    found = {name: CheckOutcome(name, 0, [], warning) for name, warning in warns.items()}
    for window in _buildable(connection, model, endpoints, start, now):
        _create_source_views(connection, endpoints, window, timezone)
        _create_model_view(connection, model, _scope(model, window))
        for outcome in check(connection, model):
            before = found[outcome.check]
            examples = [*before.examples, *outcome.examples][:_EXAMPLES]
            found[outcome.check] = outcome._replace(wrong=before.wrong + outcome.wrong, examples=examples)
    return [*found.values()]


def _buildable(
    connection: duckdb.DuckDBPyConnection, model: Model, endpoints: Sequence[Endpoint], start: date, now: datetime
) -> Iterator[Window | None]:
    if not model.is_partitioned:
        yield None
        return
    (source,) = (endpoint for endpoint in endpoints if endpoint.name in model.deps and endpoint.is_partitioned)
    yesterday = now.astimezone(UTC).date() - timedelta(days=1)
    for window in loaded_windows(connection, source):
        first, last = max(window.first_day, start), min(window.last_day, yesterday)
        if first <= last:
            yield Window.of_days(first, last)


def _outcome(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> CheckOutcome:
    connection.execute(f"CREATE OR REPLACE TEMP TABLE failing AS {query}")
    wrong = scalar(connection, "SELECT count(*) FROM temp.main.failing")
    examples = connection.execute(f"FROM temp.main.failing ORDER BY ALL LIMIT {_EXAMPLES}")
    names = [name for name, *_ in examples.description or ()]
    return CheckOutcome(name, wrong, [dict(zip(names, map(str, row), strict=True)) for row in examples.fetchall()])


def _create_source_views(
    connection: duckdb.DuckDBPyConnection, endpoints: Sequence[Endpoint], window: Window | None, timezone: str
) -> None:
    """Create a view per endpoint and history, under its name and with every stored column, and what the models share.

    A partitioned endpoint's view has only the rows of the window.
    """
    views = [(endpoint.name, endpoint.stored_columns, endpoint.cursor) for endpoint in endpoints]
    views += [
        (history_of(endpoint), (*endpoint.stored_columns, VALID_FROM, VALID_TO), None)
        for endpoint in endpoints
        if endpoint.update_filter
    ]
    # Read before the views exist: DuckDB binds every view to list columns.
    stored = {name: {column.name for column in describe(connection, name)} for name, _, _ in views}
    for name, declared, cursor in views:
        columns = ", ".join(
            identifier(column.name)
            if column.name in stored[name]
            else f"CAST(NULL AS {column.type}) AS {identifier(column.name)}"
            for column in declared
        )
        where = within(identifier(cursor), window.start, window.end) if window and cursor else "TRUE"
        source = f"FROM {table(SOURCE_SCHEMA, name)} WHERE {where}" if stored[name] else "WHERE FALSE"
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {identifier(name)} AS SELECT {columns} {source}")
    connection.execute(shared_sql(timezone))


def shared_sql(timezone: str) -> str:
    """Return the macros and views that the queries of the models use; days are those of the time zone."""
    day_of = f"CREATE OR REPLACE TEMP MACRO day_of(moment) AS CAST(timezone({text(timezone)}, moment) AS DATE);\n"
    return day_of + "".join((SQL / "shared" / f"{name}.sql").read_text() for name in _SHARED)


def _create_model_view(connection: duckdb.DuckDBPyConnection, model: Model, scope: str) -> None:
    """Create the view that the checks read: the model's rows of the window, under its name."""
    source = f"FROM {table(SCHEMA, model.name)} WHERE {scope}"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {identifier(model.name)} AS {source}")


def _scope(model: Model, window: Window | None) -> str:
    return within(identifier(model.cursor), window.start, window.end) if window and model.cursor else "TRUE"
