"""The build of a model: its SQL, run over the stored tables, in the transaction of the connection that is given."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

import duckdb

from commerce_assets.analytics.tables import SCHEMA, Model
from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.file import request_rewrite
from commerce_assets.warehouse.schema import describe, table_of
from commerce_assets.warehouse.sql import identifier, table, within
from commerce_assets.window import Window

_SHARED = ("order_amounts", "order_lines")
_FRESH = "temp.main.fresh"
_EXAMPLES = 10
KEY_IS_UNIQUE = "key_is_unique"
"""The check that every model has."""
SQL = files("commerce_assets.analytics") / "sql"


class ModelError(Exception):
    """A model's SQL and its declaration do not fit; says how."""


class CheckOutcome(NamedTuple):
    """How many rows a check has found wrong, and the first of them as text; never a buyer's data."""

    check: str
    wrong: int
    examples: list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What a build did, in rows.

    Attributes:
        rows: Rows of the table, or of the window, afterwards.
        written: Rows that were not there so before.
        removed: Rows that were there and are no longer, older versions of those written among them.
        seconds: What it took.
    """

    rows: int
    written: int
    removed: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.rows:,} rows in {self.seconds:.1f} s ({self.written:,} written, {self.removed:,} removed)"


def build(
    connection: duckdb.DuckDBPyConnection, model: Model, endpoints: Sequence[Endpoint], window: Window | None = None
) -> BuildResult:
    """Brings a model's table, or its days of a window, to what its SQL says now.

    Only rows that differ are rewritten: a build of what is there already changes nothing. A table that an older version
    of the model has left is made anew, with all its days.

    Args:
        connection: With a transaction begun.
        model: What is built.
        endpoints: Whose tables the SQL may read; one that has never been loaded, or lacks a column, reads as empty.
        window: The days of a partitioned model.

    Raises:
        ModelError: The SQL has other columns than the model.
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
    stored_rows = _count(connection, f"SELECT count(*) FROM {target}")
    _offer(connection, endpoints, window)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE fresh ({definitions})")
    query = (SQL / f"{model.name}.sql").read_text()
    selected = {name for name, *_ in connection.execute(f"DESCRIBE {query}").fetchall()}
    if selected != declared.keys():
        raise ModelError(
            f"{model.name}.sql and tables.py disagree on the columns: {', '.join(sorted(selected ^ declared.keys()))}"
        )
    connection.execute(f"INSERT INTO {_FRESH} BY NAME {query}")
    same = " AND ".join(f"f.{identifier(name)} IS NOT DISTINCT FROM t.{identifier(name)}" for name in declared)
    removed = _count(
        connection, f"DELETE FROM {target} AS t WHERE {scope} AND NOT EXISTS (FROM {_FRESH} f WHERE {same})"
    )
    written = _count(
        connection, f"INSERT INTO {target} FROM {_FRESH} f WHERE NOT EXISTS (FROM {target} t WHERE {scope} AND {same})"
    )
    if removed and removed == stored_rows and any(column.sensitivity for column in model.columns):
        # No row survived: the policy for personal data has become stricter, and free blocks hold what it forbids.
        request_rewrite(connection)
    _offer_model(connection, model, scope)
    rows = _count(connection, f"SELECT count(*) FROM {_FRESH}")
    return BuildResult(rows=rows, written=written, removed=removed, seconds=time.monotonic() - began)


def check(connection: duckdb.DuckDBPyConnection, model: Model) -> list[CheckOutcome]:
    """What the model's checks find, in the transaction of its build: later, `orders` may have moved on."""
    key = ", ".join(identifier(name) for name in model.key)
    # Examples are shown to whoever sees the UI: a key that is a buyer's address is not among them.
    shown = [identifier(column.name) for column in model.columns if column.name in model.key and not column.sensitivity]
    queries = {
        KEY_IS_UNIQUE: f"SELECT {', '.join([*shown, 'count(*) AS rows'])} FROM {identifier(model.name)} "
        f"GROUP BY {key} HAVING count(*) > 1"
    }
    for declared in model.checks:
        queries[declared.name] = (SQL / "checks" / model.name / f"{declared.name}.sql").read_text()
    return [_finding(connection, name, query) for name, query in queries.items()]


def inspect(
    connection: duckdb.DuckDBPyConnection, model: Model, endpoints: Sequence[Endpoint], window: Window | None = None
) -> list[CheckOutcome] | None:
    """What the model's checks find in the table as it is stored, without building it; the connection may be read-only.

    What is wrong then is mostly what has been loaded since the last build. None: the table is of an older declaration.
    """
    if {column.name: column.type for column in describe(connection, model.name, schema=SCHEMA)} != {
        column.name: column.type for column in model.columns
    }:
        return None
    _offer(connection, endpoints, window)
    _offer_model(connection, model, _scope(model, window))
    return check(connection, model)


def _finding(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> CheckOutcome:
    connection.execute(f"CREATE OR REPLACE TEMP TABLE wrong AS {query}")
    wrong = _count(connection, "SELECT count(*) FROM temp.main.wrong")
    examples = connection.execute(f"FROM temp.main.wrong ORDER BY ALL LIMIT {_EXAMPLES}")
    names = [name for name, *_ in examples.description or ()]
    return CheckOutcome(name, wrong, [dict(zip(names, map(str, row), strict=True)) for row in examples.fetchall()])


def _offer(connection: duckdb.DuckDBPyConnection, endpoints: Sequence[Endpoint], window: Window | None) -> None:
    """Each endpoint's table under its own name, with every declared column, and what all models share of them.

    Of an endpoint that has days, only the rows of the window.
    """
    # Before there are views, which the catalogue's list of columns would have to bind each time.
    stored = {endpoint: {column.name for column in describe(connection, endpoint.name)} for endpoint in endpoints}
    for endpoint, names in stored.items():
        columns = ", ".join(
            identifier(column.name)
            if column.name in names
            else f"CAST(NULL AS {column.type}) AS {identifier(column.name)}"
            for column in endpoint.columns
        )
        where = within(identifier(endpoint.cursor), window.start, window.end) if window and endpoint.cursor else "TRUE"
        source = f"FROM {table_of(endpoint)} WHERE {where}" if names else "WHERE FALSE"
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {identifier(endpoint.name)} AS SELECT {columns} {source}")
    for name in _SHARED:
        connection.execute((SQL / "shared" / f"{name}.sql").read_text())


def _offer_model(connection: duckdb.DuckDBPyConnection, model: Model, scope: str) -> None:
    """For the checks: the model's rows under its own name, those of the window only."""
    source = f"FROM {table(SCHEMA, model.name)} WHERE {scope}"
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {identifier(model.name)} AS {source}")


def _scope(model: Model, window: Window | None) -> str:
    return within(identifier(model.cursor), window.start, window.end) if window and model.cursor else "TRUE"


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0
