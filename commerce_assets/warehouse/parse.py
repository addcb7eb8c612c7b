"""The staged items of a pull as typed rows: file after file, each a Parquet file while it is loaded.

Typing happens on a connection of its own, outside the load's transaction. In it, every temporary table would stay to
the end, dropped or not: of a million orders half a gigabyte on disk, and of some millions more than the memory that is
allowed. What lies on disk meanwhile is typed and masked: nothing that the policy for personal data drops.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from commerce_assets.endpoint import DELETED_AT, EXTRA, EXTRACTED_AT, INVALID, Endpoint
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse import casts
from commerce_assets.warehouse.privacy.expressions import bind_key, masked
from commerce_assets.warehouse.privacy.policy import PersonalDataPolicy
from commerce_assets.warehouse.schema import table_of
from commerce_assets.warehouse.sql import STAGED, identifier, instant, text, within


class LoadError(Exception):
    """The staged items were not loaded; says why and what to do. The table is as it was."""


class StagedItemsUnreadableError(LoadError):
    """DuckDB cannot parse what is staged: it is of no use to a later run either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRows:
    """The rows of a file of staged items.

    Attributes:
        count: How many belong to what is loaded, repeated ones included.
        first, last: The smallest and the largest key among them; None if there are none.
    """

    count: int
    first: int | None
    last: int | None

    def are_all_new(self, connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> bool:
        """Whether nothing is stored between the first and the last key: a quick look at a few bounds."""
        stored = connection.execute(
            f"SELECT 1 FROM {table_of(endpoint)} WHERE {identifier(endpoint.primary_key)} BETWEEN ? AND ? LIMIT 1",
            [self.first, self.last],
        )
        return bool(self.count) and stored.fetchone() is None


@contextmanager
def typing_segments(
    connection: duckdb.DuckDBPyConnection,
    staged: StagedPages,
    policy: PersonalDataPolicy,
    *,
    not_before: datetime | None = None,
) -> Iterator[Callable[[Path], SegmentRows]]:
    """Gives a function that has the rows of a file of items stand in STAGED, one a key, until it is called again.

    Args:
        connection: That of the load, with its transaction begun.
        staged: The pull whose files they are.
        policy: What is hashed or dropped; with its key if it hashes.
        not_before: Rows from before this instant are left out, unless they are stored already.

    The function raises:
        StagedItemsUnreadableError: DuckDB cannot parse an item.
    """
    endpoint = staged.pull.endpoint
    folder = _spill_directory(connection)
    file, sifted, recent = (folder / f"{name}.parquet" for name in ("typed", "sifted", "recent"))
    key, updated_at = identifier(endpoint.primary_key), identifier(endpoint.updated_at)
    # Where there is no cursor, none can be missing.
    cursor = identifier(endpoint.cursor or endpoint.primary_key)

    belongs = _recent_or_stored(endpoint, not_before)

    def typed(segment: Path) -> SegmentRows:
        reason = None
        try:
            parser.execute(_copy(_typed_rows(staged, segment, policy), file))
        except duckdb.InvalidInputException as error:
            # DuckDB's message quotes the item: it is a buyer's data, and stays out of logs and tracebacks.
            reason = type(error).__name__
        else:
            count, keys, first, last, cursors = parser.execute(
                f"SELECT count(*), count(DISTINCT {key}), min({key}), max({key}), count({cursor}) FROM {_read(file)}"
            ).fetchall()[0]
            if cursors < count:
                reason = f"{endpoint.cursor} is missing"
        if reason:
            raise StagedItemsUnreadableError(
                f"{staged.pull}: an item that was pulled cannot be parsed ({reason}): it names a field twice, say. "
                "What to do: look at the store's answer; the pull starts anew next time."
            )
        found = file
        if keys < count:
            # The newest by `updated_at`; of two with one stamp the later one of the pull.
            newest_first = f"PARTITION BY {key} ORDER BY {updated_at} DESC NULLS LAST, file_row_number DESC"
            found = sifted
            parser.execute(
                _copy(
                    f"SELECT * EXCLUDE (file_row_number) FROM {_read(file, numbered=True)} "
                    f"QUALIFY row_number() OVER ({newest_first}) = 1",
                    sifted,
                )
            )
        if belongs:
            # On the load's connection, which sees the table as this load has left it so far; and into a file, because
            # the load changes the table while it reads the staged rows.
            connection.execute(_copy(f"FROM {_read(found)}{belongs}", recent))
            ((left_out, first, last),) = connection.execute(
                f"SELECT (SELECT count(*) FROM {_read(found)}) - count(*), min({key}), max({key}) FROM {_read(recent)}"
            ).fetchall()
            count, found = count - left_out, recent
        connection.execute(f"CREATE OR REPLACE TEMP VIEW staged AS FROM {_read(found)}")
        return SegmentRows(count=count, first=first, last=last)

    with contextlib.closing(connection.cursor()) as parser:
        parser.execute("SET TimeZone = 'UTC'")
        if policy.key:
            bind_key(parser, policy.key)
        try:
            yield typed
        finally:
            for leftover in (file, sifted, recent):
                leftover.unlink(missing_ok=True)
            # Unless DuckDB has spilled something there.
            with contextlib.suppress(OSError):
                folder.rmdir()
    connection.execute(f"DROP VIEW IF EXISTS {STAGED}")


def _recent_or_stored(endpoint: Endpoint, not_before: datetime | None) -> str:
    """The WHERE clause of rows that are not too old to be added, or that are stored already and so are updated."""
    if not_before is None or endpoint.cursor is None:
        return ""
    key = identifier(endpoint.primary_key)
    stored = f"{key} IN (SELECT {key} FROM {table_of(endpoint)})"
    return f" WHERE {within(identifier(endpoint.cursor), not_before, None)} OR {stored}"


def _typed_rows(
    staged: StagedPages,
    segment: Path,
    policy: PersonalDataPolicy,
) -> str:
    """The query of the rows of a file of items, typed, masked and cut to what is kept.

    Nothing between one file and the other is held back, so that what is spilled to disk is masked too.
    """
    endpoint = staged.pull.endpoint
    raw_columns = ", ".join(f"{text(column.name)}: 'JSON'" for column in (*endpoint.columns, EXTRA))
    source = f"read_json({text(str(segment))}, format = 'newline_delimited', columns = {{{raw_columns}}})"
    raw = ", ".join(f"{identifier(column.name)} AS {casts.raw_name(column)}" for column in endpoint.columns)
    typed = ", ".join(f"{casts.typed(column)} AS {identifier(column.name)}" for column in endpoint.columns)
    maskings = policy.maskings(endpoint)
    stored = ", ".join(
        f"{masked(identifier(column.name), column, masking)} AS {identifier(column.name)}"
        for column, masking in maskings.items()
    )
    invalid = casts.invalid({column: maskings[column] for column in endpoint.columns})
    deleted = "" if endpoint.is_partitioned else f", CAST(NULL AS {DELETED_AT.type}) AS {identifier(DELETED_AT.name)}"
    window = staged.pull.window
    # A row without its cursor belongs nowhere. The decoder refuses it; if ever it comes here, it is not cut in silence.
    cursor = identifier(endpoint.cursor) if endpoint.cursor else None
    belongs = f"({within(cursor, window.start, window.end)}) OR {cursor} IS NULL" if cursor and window else "TRUE"

    return f"""
        SELECT {stored}, {invalid} AS {identifier(INVALID.name)},
            {instant(staged.manifest.began_at)} AS {identifier(EXTRACTED_AT.name)}{deleted}
        FROM (SELECT {typed}, {raw}, {identifier(EXTRA.name)} FROM {source})
        WHERE {belongs}"""


def _copy(query: str, file: Path) -> str:
    # It is read a few times, soon, and by this machine: what compression would save costs more.
    return f"COPY ({query}) TO {text(str(file))} (FORMAT parquet, COMPRESSION uncompressed)"


def _read(file: Path, *, numbered: bool = False) -> str:
    return f"read_parquet({text(str(file))}, file_row_number = {numbered})"


def _spill_directory(connection: duckdb.DuckDBPyConnection) -> Path:
    """Where DuckDB puts what has no room in memory: beside the database, for its owner alone."""
    row = connection.execute("SELECT current_setting('temp_directory')").fetchone()
    folder = Path(row[0] if row else "")
    folder.mkdir(exist_ok=True)
    return folder
