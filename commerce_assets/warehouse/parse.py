"""Parse staged items into typed rows, piece by piece; each piece is a Parquet file while it is loaded.

Parsing uses a separate connection, outside the load's transaction: DuckDB keeps a transaction's temporary tables until
its end, dropped or not, which is half a gigabyte on disk for a million orders, and more memory than the limit for some
millions. The Parquet files hold typed and masked values only, nothing that the personal-data policy drops.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import duckdb
import msgspec

from commerce_assets.endpoint import DELETED_AT, EXTRA, EXTRACTED_AT, INVALID, Column, Endpoint
from commerce_assets.ingest.staging import StagedPageDamagedError, StagedPages, items_of, open_private
from commerce_assets.warehouse import casts
from commerce_assets.warehouse.database import ALIAS, bytes_of, spill_directory
from commerce_assets.warehouse.ddl import table_of
from commerce_assets.warehouse.privacy.expressions import bind_key, masked
from commerce_assets.warehouse.privacy.policy import PersonalDataPolicy
from commerce_assets.warehouse.sql import STAGED, identifier, instant, text, within

# DuckDB parses this many items at once.
_VECTOR_ROWS = 2048
# Of the memory limit, for the items that are parsed at once: raw, parsed, typed and buffered they take many times their
# size.
_PIECE_SHARE = 24
_SMALLEST_OBJECT_BUFFER = 1 << 20


class LoadError(Exception):
    """The staged items were not loaded; the message gives the cause and the fix. The table is unchanged."""


class StagedItemsUnreadableError(LoadError):
    """DuckDB cannot parse the staged items, now or in a later run."""


class LoadMemoryError(LoadError):
    """The load needs more memory than DuckDB may use; with a higher limit, the same staged items load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A file of staged items that DuckDB parses at once.

    Attributes:
        path: One item per line.
        largest_item: Bytes of the longest line.
        mark: What precedes a quoted number (see `ingest.staging`); None if the file quotes none.
    """

    path: Path
    largest_item: int
    mark: str | None

    def source(self, columns: Iterable[Column]) -> str:
        """The table function that reads these columns of the items, as raw JSON."""
        types = ", ".join(f"{text(column.name)}: 'JSON'" for column in columns)
        # Each thread allocates a buffer of twice the size.
        size = max(self.largest_item, _SMALLEST_OBJECT_BUFFER) + 1
        return (
            f"read_json({text(str(self.path))}, format = 'newline_delimited', columns = {{{types}}}, "
            f"maximum_object_size = {size})"
        )


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


def pieces(connection: duckdb.DuckDBPyConnection, staged: StagedPages) -> Generator[Piece, None, None]:
    """The staged items in files that DuckDB can parse within its memory limit, each verified by its pages' checksums.

    A file of ordinary items is one piece. Larger items are copied, piece by piece, to a file beside it, which is there
    until the next piece is asked for.

    Raises:
        StagedItemsUnreadableError: A page has changed on the disk.
    """
    most = bytes_of(connection, "memory_limit") // _PIECE_SHARE
    mark = staged.manifest.pull_id
    try:
        for segment, pages in staged.segment_pages():
            rows = min(sum(page.facts.count for page in pages), _VECTOR_ROWS)
            begins = [0, *(page.items_end for page in pages)]
            sizes = [end - begin for begin, end in pairwise(begins)]
            mean = max(size / max(page.facts.count, 1) for page, size in zip(pages, sizes, strict=True))
            contents = items_of(segment, pages)
            if mean * rows > most:
                yield from _split(contents, staged.folder / "piece.jsonl", mark, most)
                continue
            is_marked = any([mark.encode() in items for items in contents])  # noqa: C419 - every page is verified
            yield Piece(
                path=segment,
                largest_item=max(page.largest_item for page in pages),
                mark=mark if is_marked else None,
            )
    except StagedPageDamagedError as error:
        raise StagedItemsUnreadableError(
            f"{staged.pull}, {error}: the staged bytes changed on the disk (checksum). "
            "Fix: run it again, which requests the pages again; if it recurs, check the disk."
        ) from None


def _split(contents: Iterator[bytes], path: Path, mark: str, most: int) -> Iterator[Piece]:
    """Pieces of at most `most` bytes and at least one item, one after the other in the same file."""

    def piece() -> Piece:
        with open_private(path) as file:
            file.truncate()
            file.writelines(lines)
        is_marked = any(mark.encode() in line for line in lines)
        return Piece(path=path, largest_item=max(map(len, lines)), mark=mark if is_marked else None)

    lines: list[bytes] = []
    size = 0
    try:
        for items in contents:
            for line in items.splitlines(keepends=True):
                if lines and size + len(line) > most:
                    yield piece()
                    lines, size = [], 0
                lines.append(line)
                size += len(line)
        if lines:
            yield piece()
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def explained_memory(connection: duckdb.DuckDBPyConnection, staged: StagedPages) -> Iterator[None]:
    """Name the largest item and the setting where DuckDB runs out of memory; its own message names neither."""
    (limit,) = connection.execute("SELECT current_setting('memory_limit')").fetchall()[0]
    try:
        yield
    except duckdb.OutOfMemoryException:
        raise LoadMemoryError(
            f"{staged.pull}: the load needs more memory than DuckDB may use ({limit}); the largest item is "
            f"{_largest_item(staged)}. Fix: raise COMMERCE_DUCKDB_MEMORY_LIMIT; the next run then loads what is staged."
        ) from None


def _largest_item(staged: StagedPages) -> str:
    """Its key, page and size, never its content."""
    key, largest = staged.pull.endpoint.primary_key, max(page.largest_item for page in staged.index)
    for segment, pages in staged.segment_pages():
        for page, items in zip(pages, items_of(segment, pages), strict=True):
            for line in items.splitlines(keepends=True) if page.largest_item == largest else ():
                if len(line) == largest:
                    number = msgspec.json.decode(line, type=dict[str, msgspec.Raw])[key]
                    where = f"{staged.pull.endpoint.item_name} {bytes(number).decode()}, page {page.facts.number}"
                    return f"{where}, {largest / 1e6:.1f} MB"
    raise AssertionError("some page has the largest item")


@contextmanager
def typing_segments(
    connection: duckdb.DuckDBPyConnection,
    staged: StagedPages,
    policy: PersonalDataPolicy,
    *,
    not_before: datetime | None = None,
) -> Iterator[Callable[[Piece], SegmentRows]]:
    """Give a function that provides the rows of a piece in STAGED, one per key, until its next call.

    Args:
        connection: That of the load, with its transaction begun.
        staged: The pull whose files they are.
        policy: What is hashed or dropped; with its key if it hashes.
        not_before: Rows from before this instant are left out, unless they are stored already.

    The function raises:
        StagedItemsUnreadableError: DuckDB cannot parse an item.
    """
    endpoint = staged.pull.endpoint
    folder = spill_directory(connection)
    file, sifted, recent = (folder / f"{name}.parquet" for name in ("typed", "sifted", "recent"))
    key, updated_at = identifier(endpoint.primary_key), identifier(endpoint.updated_at)
    # Where there is no cursor, none can be missing.
    cursor = identifier(endpoint.cursor or endpoint.primary_key)

    belongs = _recent_or_stored(endpoint, not_before)

    def typed(piece: Piece) -> SegmentRows:
        reason = None
        try:
            parser.execute(_copy(_typed_rows(staged, piece, policy), file))
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
                f"{staged.pull}: an item cannot be parsed ({reason}): it names a field twice, say. "
                "Fix: look at the store's answer; the next run extracts the list from its start."
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
        parser.execute(f"USE {ALIAS}; SET TimeZone = 'UTC'")
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
    piece: Piece,
    policy: PersonalDataPolicy,
) -> str:
    """The query of the rows of a piece, typed, masked and cut to what is kept.

    Nothing between one piece and the other is held back, so that what is spilled to disk is masked too.
    """
    endpoint = staged.pull.endpoint
    raw = ", ".join(f"{casts.raw(column, piece.mark)} AS {casts.raw_name(column)}" for column in endpoint.columns)
    typed = ", ".join(f"{casts.typed(column, piece.mark)} AS {identifier(column.name)}" for column in endpoint.columns)
    extra = f"{casts.raw(EXTRA, piece.mark)} AS {identifier(EXTRA.name)}"
    source = piece.source((*endpoint.columns, EXTRA))
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
        FROM (SELECT {typed}, {raw}, {extra} FROM {source})
        WHERE {belongs}"""


def _copy(query: str, file: Path) -> str:
    # It is read a few times, soon, and by this machine: what compression would save costs more.
    return f"COPY ({query}) TO {text(str(file))} (FORMAT parquet, COMPRESSION uncompressed)"


def _read(file: Path, *, numbered: bool = False) -> str:
    return f"read_parquet({text(str(file))}, file_row_number = {numbered})"
