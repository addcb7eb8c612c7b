"""The checks of the stored tables, as queries. Evidence is counts, ids and field names, never personal data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from commerce_assets.endpoint import EXTRA, EXTRACTED_AT, INVALID, Endpoint
from commerce_assets.warehouse.ddl import describe, table_of
from commerce_assets.warehouse.sql import identifier, instant, within
from commerce_assets.window import Window
from commerce_assets.wording import counted

_EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows that a check covers.

    Attributes:
        endpoint: The endpoint of the table.
        window: The days to check; None: all rows.
        began_at: When the extraction of the last load began.
        only_written: Check only keys that this load wrote. A refresh of a few rows then costs the same for a table of
            any size; earlier loads have checked the other keys.
    """

    endpoint: Endpoint
    window: Window | None
    began_at: datetime
    only_written: bool = False

    @property
    def rows(self) -> str:
        if self.window is None or self.endpoint.cursor is None:
            return table_of(self.endpoint)
        in_window = within(identifier(self.endpoint.cursor), self.window.start, self.window.end)
        return f"(FROM {table_of(self.endpoint)} WHERE {in_window})"


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """The outcome of a check, in a sentence, with its evidence.

    Attributes:
        passed: Nobody must act.
        summary: The sentence.
        evidence: Counts, ids and names; the metadata of the check's result.
        pending: It passes because what it checks has not run yet.
    """

    passed: bool
    summary: str
    evidence: dict[str, int | str | list[str] | dict[str, int]] = field(default_factory=dict)
    pending: bool = False


@dataclass(frozen=True, slots=True)
class CheckQuery:
    """A check of a table: its name and description in the UI, and the query behind it.

    Attributes:
        name: As in `orders: created_at_within_partition`.
        description: What is true while it passes.
        run: Runs the query on the rows of a scope.
        blocking: A failure stops downstream assets.
    """

    name: str
    description: str
    run: Callable[[duckdb.DuckDBPyConnection, Scope], CheckOutcome]
    blocking: bool = False


def columns_match_schema(connection: duckdb.DuckDBPyConnection, scope: Scope) -> CheckOutcome:
    """Compare the table's columns with the declared ones."""
    declared = {column.name: str(column.type) for column in scope.endpoint.stored_columns}
    stored = {column.name: column.type for column in describe(connection, scope.endpoint.name)}
    missing = sorted(declared.keys() - stored.keys())
    unexpected = sorted(stored.keys() - declared.keys())
    retyped = [
        f"{name}: {stored[name]} instead of {kind}"
        for name, kind in declared.items()
        if name in stored and stored[name] != kind
    ]
    faults = [
        *(f"missing: {name}" for name in missing),
        *(f"undeclared: {name}" for name in unexpected),
        *retyped,
    ]
    return CheckOutcome(
        passed=not faults,
        summary="; ".join(faults[:_EXAMPLES]) or f"all {len(declared)} columns match the schema",
        evidence={"columns": len(stored), "missing": missing, "unexpected": unexpected, "retyped": retyped},
    )


def id_is_unique_and_present(connection: duckdb.DuckDBPyConnection, scope: Scope) -> CheckOutcome:
    """Find rows without a primary key, and keys of the scope that repeat anywhere in the table."""
    key, source = identifier(scope.endpoint.primary_key), table_of(scope.endpoint)
    if scope.window or scope.only_written:
        written = f" WHERE {identifier(EXTRACTED_AT.name)} = {instant(scope.began_at)}" if scope.only_written else ""
        # Counting the distinct keys of ten million rows takes a second, finding those of a day a thirtieth of that.
        source = f"(FROM {source} WHERE {key} IS NULL OR {key} IN (SELECT {key} FROM {scope.rows}{written}))"
    rows, distinct, present = _one(connection, f"SELECT count(*), count(DISTINCT {key}), count({key}) FROM {source}")
    repeated = present - distinct
    passed = rows == distinct
    # Listing the keys takes longer than counting them.
    repeated_keys = f"SELECT {key} FROM {source} GROUP BY {key} HAVING count({key}) > 1"
    examples = [] if passed else _examples(connection, repeated_keys)
    return CheckOutcome(
        passed=passed,
        summary=f"{rows:,} rows{' written' if scope.only_written else ''}, each with a unique "
        f"{scope.endpoint.primary_key}"
        if passed
        else f"{rows - present:,} rows without {scope.endpoint.primary_key}, {repeated:,} rows that repeat one",
        evidence={"rows": rows, "without": rows - present, "repeated": repeated, "examples": examples},
    )


def values_fit_their_types(connection: duckdb.DuckDBPyConnection, scope: Scope) -> CheckOutcome:
    """Count the values that do not fit their column, by field."""
    fields, examples = _keys_of(connection, scope, INVALID.name)
    return CheckOutcome(
        passed=not fields,
        summary=_named("values that do not fit their column, stored in _invalid", fields)
        or "every value fits its column",
        evidence={"rows_by_field": fields, "examples": examples},
    )


def no_undeclared_fields(connection: duckdb.DuckDBPyConnection, scope: Scope) -> CheckOutcome:
    """Count the fields that the endpoint does not declare."""
    fields, examples = _keys_of(connection, scope, EXTRA.name)
    return CheckOutcome(
        passed=not fields,
        summary=_named("undeclared fields, stored in _extra", fields) or "every field is declared",
        evidence={"rows_by_field": fields, "examples": examples},
    )


def created_at_within_partition(connection: duckdb.DuckDBPyConnection, scope: Scope) -> CheckOutcome:
    """Find rows without a cursor, and rows of this load outside the run's partitions."""
    if scope.endpoint.cursor is None:
        raise ValueError(f"{scope.endpoint.name} has no cursor")
    cursor, key = identifier(scope.endpoint.cursor), identifier(scope.endpoint.primary_key)
    outside = f"{cursor} IS NULL"
    if scope.window:
        outside += (
            f" OR ({identifier(EXTRACTED_AT.name)} = {instant(scope.began_at)}"
            f" AND NOT ({within(cursor, scope.window.start, scope.window.end)}))"
        )
    (count,) = _one(connection, f"SELECT count(*) FROM {table_of(scope.endpoint)} WHERE {outside}")
    examples = _examples(connection, f"SELECT {key} FROM {table_of(scope.endpoint)} WHERE {outside}")
    if scope.window:
        summary = f"{counted(count, 'row')} outside {scope.window}" if count else f"every row is in {scope.window}"
    else:
        summary = (
            f"{count:,} rows have no {scope.endpoint.cursor}" if count else f"every row has a {scope.endpoint.cursor}"
        )
    return CheckOutcome(
        passed=count == 0,
        summary=summary,
        evidence={"outside": count, "examples": examples},
    )


_ALWAYS = (
    CheckQuery(
        "columns_match_schema",
        "The table has exactly the declared columns, with their types.",
        columns_match_schema,
        blocking=True,
    ),
    CheckQuery(
        "id_is_unique_and_present", "Primary key is unique and not null.", id_is_unique_and_present, blocking=True
    ),
)
_PARTITIONED = (
    CheckQuery(
        "created_at_within_partition",
        "created_at is not null and inside the run's partitions.",
        created_at_within_partition,
        blocking=True,
    ),
)
_VALUES = (
    CheckQuery(
        "values_fit_their_types",
        "Every value fits its column's type. Values that do not are in `_invalid`.",
        values_fit_their_types,
    ),
    CheckQuery(
        "no_undeclared_fields",
        "The API sends only declared fields. Others are in `_extra`.",
        no_undeclared_fields,
    ),
)


def check_queries(endpoint: Endpoint) -> tuple[CheckQuery, ...]:
    """Return the checks of an endpoint's table, the blocking ones first."""
    return (*_ALWAYS, *(_PARTITIONED if endpoint.is_partitioned else ()), *_VALUES)


def _keys_of(connection: duckdb.DuckDBPyConnection, scope: Scope, column: str) -> tuple[dict[str, int], list[str]]:
    """Count the rows with each key of a JSON column, and return the ids of some of them."""
    name, key = identifier(column), identifier(scope.endpoint.primary_key)
    counts = connection.execute(
        f"SELECT field, count(*) FROM (SELECT unnest(json_keys({name})) AS field FROM {scope.rows} "
        f"WHERE {name} IS NOT NULL) GROUP BY field ORDER BY 2 DESC, 1"
    ).fetchall()
    if not counts:
        return {}, []
    return dict(counts), _examples(connection, f"SELECT {key} FROM {scope.rows} WHERE {name} IS NOT NULL")


def _examples(connection: duckdb.DuckDBPyConnection, keys: str) -> list[str]:
    """Return the first keys that a query finds."""
    return [str(value) for (value,) in connection.execute(f"{keys} ORDER BY 1 LIMIT {_EXAMPLES}").fetchall()]


def _named(what: str, fields: dict[str, int]) -> str:
    if not fields:
        return ""
    listed = ", ".join(f"{name} in {counted(count, 'row')}" for name, count in list(fields.items())[:_EXAMPLES])
    return f"{what}: {listed}"


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    row = connection.execute(query).fetchone()
    return tuple(row or ())
