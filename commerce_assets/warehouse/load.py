"""Load staged items into their table, in the caller's transaction.

DuckDB parses, casts, filters, deduplicates and compares the items. Only rows that differ from the stored ones are
written, so loading the same rows again changes nothing and the file does not grow.
"""

import contextlib
import time
from dataclasses import dataclass, field
from datetime import date, datetime

import duckdb

from commerce_assets.endpoint import DELETED_AT, EXTRA, EXTRACTED_AT, INVALID, Endpoint
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse import row_history
from commerce_assets.warehouse.ddl import covered, create_internal_tables, create_or_migrate, day_of, table_of
from commerce_assets.warehouse.diff import FieldCounts, column_differs, count_changed_fields
from commerce_assets.warehouse.load_log import record_load
from commerce_assets.warehouse.parse import SegmentRows, explained_memory, pieces, typing_segments
from commerce_assets.warehouse.privacy.expressions import bind_key
from commerce_assets.warehouse.privacy.migrate import apply_policy
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY, PersonalDataPolicy
from commerce_assets.warehouse.sql import MERGE_PLAN, STAGED, identifier, instant, scalar
from commerce_assets.window import Window
from commerce_assets.wording import counted

_MERGE_PLAN_COLUMNS = (
    "key BIGINT, segment INTEGER, day DATE, old_day DATE, action VARCHAR, is_invalid BOOLEAN, has_undeclared BOOLEAN"
)


@dataclass(slots=True)
class DayCounts:
    """The row counts of one UTC day; `fields_changed` counts the changed rows per field."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    fields_changed: FieldCounts = field(default_factory=dict)

    @property
    def loaded(self) -> int:
        return self.inserted + self.updated + self.unchanged

    @property
    def touched(self) -> bool:
        return bool(self.inserted or self.updated or self.removed)


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """The row counts of a load.

    Attributes:
        loaded: Extracted rows that belong in the table, one per key.
        inserted: Loaded rows whose key is new.
        updated: Loaded rows that differ from the stored version.
        unchanged: Loaded rows that equal the stored version, or are older.
        removed: Stored rows that were not extracted: deleted from a window, or soft-deleted.
        outside_window: Extracted rows outside the requested days.
        repeated: Extracted rows whose key occurs more than once; the newest version was kept.
        invalid: Loaded rows with values in `_invalid`.
        undeclared: Loaded rows with fields in `_extra`.
        total: Rows of the table after the load.
        days: The row counts per UTC day of the cursor; empty for an endpoint without one.
        fields_changed: The number of changed rows per field, including `_deleted_at`.
        added_columns: Columns that the load added to the table.
        notes: What a changed policy for personal data did, or could not do, to the stored rows.
        seconds: Duration.
    """

    loaded: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    outside_window: int = 0
    repeated: int = 0
    invalid: int = 0
    undeclared: int = 0
    total: int = 0
    days: dict[date, DayCounts] = field(default_factory=dict)
    fields_changed: FieldCounts = field(default_factory=dict)
    added_columns: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        counts = {
            "new": self.inserted,
            "changed": self.updated,
            "unchanged": self.unchanged,
            "removed upstream": self.removed,
            "outside the requested days ignored": self.outside_window,
            "repeated": self.repeated,
        }
        parts = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        loaded = f"{counted(self.loaded, 'row')} loaded in {self.seconds:.1f} s ({parts or 'none'})"
        return "; ".join([loaded, f"the table holds {self.total:,}", *self.notes])


def load(
    connection: duckdb.DuckDBPyConnection,
    staged: StagedPages,
    *,
    not_before: datetime | None = None,
    policy: PersonalDataPolicy = DEFAULT_POLICY,
) -> LoadResult:
    """Replace the rows of the endpoint's table that the staged list covers.

    A window replaces the rows of its days. A full list replaces all rows and soft-deletes the missing ones
    (`_deleted_at`). Both overwrite every row that was stored before the extraction began, whatever its `updated_at`. A
    list of changes updates only its own rows, unless the stored version has a later `updated_at`.

    Args:
        connection: In a transaction.
        staged: A complete, verified list.
        not_before: A list of changes inserts no rows from before this instant, because no load covers their days. It
            still updates stored rows.
        policy: What is hashed or dropped, in the staged and the stored rows.

    Raises:
        LoadError: The staged items cannot be parsed. The caller rolls back.
    """
    began = time.monotonic()
    pull, endpoint = staged.pull, staged.pull.endpoint
    result = LoadResult(added_columns=create_or_migrate(connection, endpoint))
    create_internal_tables(connection)
    is_complete = pull.updated_after is None
    connection.execute(f"CREATE TEMP TABLE merge_plan ({_MERGE_PLAN_COLUMNS})")
    if endpoint.keeps_versions:
        row_history.prepare(connection, endpoint, staged.manifest.began_at)
    if policy.key:
        bind_key(connection, policy.key)
    result.notes = apply_policy(connection, endpoint, policy)
    in_window = 0
    with (
        explained_memory(connection, staged),
        contextlib.closing(pieces(connection, staged)) as parsed,
        typing_segments(connection, staged, policy, not_before=not_before) as typed,
    ):
        for number, piece in enumerate(parsed):
            rows = typed(piece)
            in_window += rows.count
            if rows.are_all_new(connection, endpoint):
                _insert(connection, endpoint, number)
            elif rows.count:
                _plan_merge(connection, staged, rows, number)
                _add_changed_fields(result, count_changed_fields(connection, endpoint, number))
                _write(connection, endpoint, number)
            if endpoint.keeps_versions:
                row_history.follow(connection, endpoint, number)
    _merge_repeated_keys(connection)
    result.outside_window = staged.count - in_window
    result.loaded = scalar(connection, f"SELECT count(*) FROM {MERGE_PLAN}")
    result.repeated = in_window - result.loaded
    if is_complete:
        _remove_vanished(connection, endpoint, pull.window, staged.manifest.began_at)
        if endpoint.keeps_versions:
            row_history.close_removed(connection, endpoint, staged.manifest.began_at)
    _count_actions(connection, endpoint, result)
    record_load(connection, staged, result.loaded)
    connection.execute(f"DROP TABLE {MERGE_PLAN}")
    result.seconds = time.monotonic() - began
    return result


def _insert(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, segment: int) -> None:
    """Insert the staged rows, all of which are new, and their actions."""
    connection.execute(f"""
        INSERT INTO {MERGE_PLAN}
        SELECT {identifier(endpoint.primary_key)}, {segment}, {day_of(endpoint, "s")}, NULL, 'inserted',
            {identifier(INVALID.name)} IS NOT NULL, {identifier(EXTRA.name)} IS NOT NULL
        FROM {STAGED} s""")
    connection.execute(f"INSERT INTO {table_of(endpoint)} BY NAME FROM {STAGED}")


def _plan_merge(connection: duckdb.DuckDBPyConnection, staged: StagedPages, rows: SegmentRows, segment: int) -> None:
    """Decide what happens to each staged row: inserted, updated or unchanged; with the days of both versions."""
    endpoint = staged.pull.endpoint
    key, updated_at = identifier(endpoint.primary_key), identifier(endpoint.updated_at)
    differs = " OR ".join(
        column_differs(endpoint, column.name) for column in endpoint.stored_columns if column != EXTRACTED_AT
    )
    # A window or a full list is the store's current state, so it overwrites rows stored before it began. Otherwise a
    # row whose `updated_at` was once 2099 would never be updated. For changes, and for rows that another process stored
    # since, the later `updated_at` wins. A row that was soft-deleted and is back wins as well.
    wins = f"(t.{updated_at} > s.{updated_at}) IS NOT TRUE"
    if not staged.pull.updated_after:
        wins += f" OR t.{identifier(EXTRACTED_AT.name)} < {instant(staged.manifest.began_at)}"
    if not endpoint.is_partitioned:
        wins += f" OR t.{identifier(DELETED_AT.name)} IS NOT NULL"
    # The bounds let DuckDB skip row groups: keys grow with time, as do the pages of an extraction.
    near = f"(FROM {table_of(endpoint)} WHERE {key} BETWEEN {rows.first} AND {rows.last})"
    connection.execute(f"""
        INSERT INTO {MERGE_PLAN}
        SELECT s.{key}, {segment}, {day_of(endpoint, "s")}, {day_of(endpoint, "t")},
            CASE WHEN t.{key} IS NULL THEN 'inserted'
                WHEN ({differs}) AND ({wins}) THEN 'updated'
                ELSE 'unchanged' END,
            s.{identifier(INVALID.name)} IS NOT NULL, s.{identifier(EXTRA.name)} IS NOT NULL
        FROM {STAGED} s LEFT JOIN {near} t ON s.{key} = t.{key}""")


def _add_changed_fields(result: LoadResult, changes: dict[date | None, FieldCounts]) -> None:
    for day, counts in changes.items():
        into = [result.fields_changed]
        if day:
            into.append(result.days.setdefault(day, DayCounts()).fields_changed)
        for name, count in counts.items():
            for counter in into:
                counter[name] = counter.get(name, 0) + count


def _write(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, segment: int) -> None:
    """Write the staged rows that are new or differ."""
    key, target = identifier(endpoint.primary_key), table_of(endpoint)
    planned = f"SELECT key FROM {MERGE_PLAN} WHERE segment = {segment} AND action"
    connection.execute(f"DELETE FROM {target} WHERE {key} IN ({planned} = 'updated')")
    connection.execute(f"""
        INSERT INTO {target} BY NAME
        SELECT * FROM {STAGED} WHERE {key} IN ({planned} IN ('inserted', 'updated'))""")


def _merge_repeated_keys(connection: duckdb.DuckDBPyConnection) -> None:
    """Reduce the merge plan to one action per key: a key of two segments has two, the second against the first."""
    if not scalar(connection, f"SELECT count(*) - count(DISTINCT key) FROM {MERGE_PLAN}"):
        return
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE merge_plan AS
        SELECT key, max(segment) AS segment,
            coalesce(arg_max(day, segment) FILTER (action <> 'unchanged'), any_value(day)) AS day,
            arg_min(old_day, segment) AS old_day,
            CASE WHEN bool_or(action = 'inserted') THEN 'inserted'
                WHEN bool_or(action = 'updated') THEN 'updated' ELSE 'unchanged' END AS action,
            bool_or(is_invalid) AS is_invalid, bool_or(has_undeclared) AS has_undeclared
        FROM {MERGE_PLAN} GROUP BY key""")


def _remove_vanished(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, window: Window | None, began_at: datetime
) -> None:
    """Delete the window's rows that were not extracted; soft-delete those of a full list."""
    key, target = identifier(endpoint.primary_key), table_of(endpoint)
    # An extraction cannot contain the rows that another one stored after it began.
    vanished = (
        f"{covered(endpoint, window)} AND {identifier(EXTRACTED_AT.name)} <= {instant(began_at)} "
        f"AND {key} NOT IN (SELECT key FROM {MERGE_PLAN} WHERE action <> 'removed')"
    )
    connection.execute(f"""
        INSERT INTO {MERGE_PLAN}
        SELECT {key}, -1, NULL, {day_of(endpoint, target)}, 'removed', FALSE, FALSE FROM {target} WHERE {vanished}""")
    if window:
        connection.execute(f"DELETE FROM {target} WHERE {vanished}")
    else:
        connection.execute(f"UPDATE {target} SET {identifier(DELETED_AT.name)} = {instant(began_at)} WHERE {vanished}")


def _count_actions(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, result: LoadResult) -> None:
    rows = connection.execute(f"""
        SELECT action, day, old_day, count(*), count_if(is_invalid), count_if(has_undeclared)
        FROM {MERGE_PLAN} GROUP BY ALL""").fetchall()
    for action, day, old_day, count, invalid, undeclared in rows:
        setattr(result, action, getattr(result, action) + count)
        result.invalid += invalid
        result.undeclared += undeclared
        if endpoint.is_partitioned:
            counts = result.days.setdefault(day or old_day, DayCounts())
            setattr(counts, action, getattr(counts, action) + count)
            if action == "updated" and old_day != day:
                result.days.setdefault(old_day, DayCounts()).removed += count
    result.total = scalar(connection, f"SELECT count(*) FROM {table_of(endpoint)}")
