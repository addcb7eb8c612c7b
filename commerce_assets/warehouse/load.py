"""The load: staged items into their table, in the transaction of the connection that is given.

DuckDB parses, casts, cuts, deduplicates and compares. Only rows that differ from what is stored are rewritten: a load
of what is there already changes nothing, and the file does not grow by it.
"""

import contextlib
import time
from dataclasses import dataclass, field
from datetime import date, datetime

import duckdb

from commerce_assets.endpoint import DELETED_AT, EXTRA, EXTRACTED_AT, INVALID, Endpoint
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse import row_history
from commerce_assets.warehouse.diff import FieldCounts, count_changed_fields
from commerce_assets.warehouse.load_log import record_load
from commerce_assets.warehouse.parse import SegmentRows, explained_memory, pieces, typing_segments
from commerce_assets.warehouse.privacy.expressions import bind_key
from commerce_assets.warehouse.privacy.migrate import apply_policy
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY, PersonalDataPolicy
from commerce_assets.warehouse.schema import covered, create_internal_tables, create_or_migrate, day_of, table_of
from commerce_assets.warehouse.sql import MERGE_PLAN, STAGED, identifier, instant
from commerce_assets.window import Window

_MERGE_PLAN_COLUMNS = (
    "key BIGINT, segment INTEGER, day DATE, old_day DATE, action VARCHAR, is_invalid BOOLEAN, has_undeclared BOOLEAN"
)


@dataclass(slots=True)
class DayCounts:
    """What a load did to the rows of one UTC day; `fields_changed`: how many rows it changed in which fields."""

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
    """What a load did, in rows.

    Attributes:
        loaded: Rows of the pull that belong into the table, one a key.
        inserted: ... that were not there.
        updated: ... that differed from what was there.
        unchanged: ... that were there already, or in a newer version.
        removed: Stored rows that the pull no longer holds: deleted from a window, or marked as deleted.
        outside_window: Pulled rows of other days than those asked for.
        repeated: Pulled rows of a key that came more than once; the newest version was kept.
        invalid: Loaded rows with values in `_invalid`.
        undeclared: Loaded rows with fields in `_extra`.
        total: Rows of the table afterwards.
        days: Per UTC day of the cursor; empty for an endpoint without one.
        fields_changed: How many rows differed in which fields, `_deleted_at` among them.
        added_columns: Columns that the table did not have before.
        notes: What the policy for personal data has done, or could not do, to rows that were stored already.
        seconds: What it took.
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
            "no longer in the store": self.removed,
            "outside the requested days ignored": self.outside_window,
            "repeated": self.repeated,
        }
        parts = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        loaded = f"{self.loaded:,} rows loaded in {self.seconds:.1f} s ({parts or 'none'})"
        return "; ".join([loaded, f"the table holds {self.total:,}", *self.notes])


def load(
    connection: duckdb.DuckDBPyConnection,
    staged: StagedPages,
    *,
    not_before: datetime | None = None,
    policy: PersonalDataPolicy = DEFAULT_POLICY,
) -> LoadResult:
    """Replace, in the endpoint's table, the rows that the staged list covers.

    A window replaces the window's rows; a whole list replaces the table's, and rows that are gone are soft-deleted
    (`_deleted_at`). Both win over every row that was stored before they began, whatever the stamps say. A list of
    changes touches only the rows it holds, and only where they are not older by `updated_at`.

    Args:
        connection: With a transaction begun.
        staged: A complete, verified list.
        not_before: A list of changes adds no new rows from before this instant: nobody loads their days. Rows that are
            stored already are updated all the same.
        policy: What is hashed or dropped, of the staged rows and of the stored ones; with its key if it hashes.

    Raises:
        LoadError: The staged items cannot be parsed; a rollback undoes everything.
    """
    began = time.monotonic()
    pull, endpoint = staged.pull, staged.pull.endpoint
    result = LoadResult(added_columns=create_or_migrate(connection, endpoint))
    create_internal_tables(connection)
    is_whole = pull.updated_after is None
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
                _note_changes(result, count_changed_fields(connection, endpoint, number))
                _write(connection, endpoint, number)
            if endpoint.keeps_versions:
                row_history.follow(connection, endpoint, number)
    _settle_repeated(connection)
    result.outside_window = staged.count - in_window
    result.loaded = _count(connection, f"SELECT count(*) FROM {MERGE_PLAN}")
    result.repeated = in_window - result.loaded
    if is_whole:
        _remove_vanished(connection, endpoint, pull.window, staged.manifest.began_at)
        if endpoint.keeps_versions:
            row_history.close_removed(connection, endpoint, staged.manifest.began_at)
    _sum_up(connection, endpoint, result)
    record_load(connection, staged, result.loaded)
    connection.execute(f"DROP TABLE {MERGE_PLAN}")
    result.seconds = time.monotonic() - began
    return result


def _insert(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, segment: int) -> None:
    """Adds the staged rows, of which none is stored yet, and their actions."""
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
    names = [identifier(column.name) for column in endpoint.stored_columns if column != EXTRACTED_AT]
    differs = " OR ".join(f"s.{name} IS DISTINCT FROM t.{name}" for name in names)
    # A complete reading shows the store as it is, so it wins over rows that were stored before it began: a stamp of
    # 2099, once corrected in the store, would stay for ever otherwise. Of changes, and of rows that another process
    # has stored since, the newer one by `updated_at` wins. A row that had been deleted and is back wins as well.
    wins = f"(t.{updated_at} > s.{updated_at}) IS NOT TRUE"
    if not staged.pull.updated_after:
        wins += f" OR t.{identifier(EXTRACTED_AT.name)} < {instant(staged.manifest.began_at)}"
    if not endpoint.is_partitioned:
        wins += f" OR t.{identifier(DELETED_AT.name)} IS NOT NULL"
    # The bounds let DuckDB skip what cannot match: keys grow with time, as the pages of a pull do.
    near = f"(FROM {table_of(endpoint)} WHERE {key} BETWEEN {rows.first} AND {rows.last})"
    connection.execute(f"""
        INSERT INTO {MERGE_PLAN}
        SELECT s.{key}, {segment}, {day_of(endpoint, "s")}, {day_of(endpoint, "t")},
            CASE WHEN t.{key} IS NULL THEN 'inserted'
                WHEN ({differs}) AND ({wins}) THEN 'updated'
                ELSE 'unchanged' END,
            s.{identifier(INVALID.name)} IS NOT NULL, s.{identifier(EXTRA.name)} IS NOT NULL
        FROM {STAGED} s LEFT JOIN {near} t ON s.{key} = t.{key}""")


def _note_changes(result: LoadResult, changes: dict[date | None, FieldCounts]) -> None:
    for day, counts in changes.items():
        into = [result.fields_changed]
        if day:
            into.append(result.days.setdefault(day, DayCounts()).fields_changed)
        for name, count in counts.items():
            for counter in into:
                counter[name] = counter.get(name, 0) + count


def _write(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, segment: int) -> None:
    """Rewrites the staged rows that are new or differ."""
    key, target = identifier(endpoint.primary_key), table_of(endpoint)
    judged = f"SELECT key FROM {MERGE_PLAN} WHERE segment = {segment} AND action"
    connection.execute(f"DELETE FROM {target} WHERE {key} IN ({judged} = 'updated')")
    connection.execute(f"""
        INSERT INTO {target} BY NAME
        SELECT * FROM {STAGED} WHERE {key} IN ({judged} IN ('inserted', 'updated'))""")


def _settle_repeated(connection: duckdb.DuckDBPyConnection) -> None:
    """One action a key: a key of two segments was judged the second time against what the first had written."""
    if not _count(connection, f"SELECT count(*) - count(DISTINCT key) FROM {MERGE_PLAN}"):
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
    """Deletes the window's rows that the pull no longer holds; those of a whole list are marked instead."""
    key, target = identifier(endpoint.primary_key), table_of(endpoint)
    # Rows that another pull has brought since this one began are not missed by it.
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


def _sum_up(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, result: LoadResult) -> None:
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
    result.total = _count(connection, f"SELECT count(*) FROM {table_of(endpoint)}")


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0
