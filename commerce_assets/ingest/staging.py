"""Staged pages: extracted items on disk until the load, so memory stays flat and an interrupted extraction resumes.

One folder per extraction, in the staging directory:

    orders/2024-01-01_2024-01-31/
        manifest.json       the request, the store, and when the extraction began
        items-00001.jsonl   the items, one per line, as the API sent them; a new file per 32 MiB, because the load
                            reads one file at a time and its memory must not grow with the extraction
        pages.jsonl         the facts of each page, where its items end, and a checksum of both

DuckDB's JSON reader converts a number with a fraction or an exponent to a double: 1.10 becomes 1.1. The writer quotes
each number that this would change, after the extraction's id and a colon, and the load removes both again. No store
knows the id, so no string of an item looks like it.

A page counts once its line in pages.jsonl is complete. Its items are synced to disk before that line is written: after
each page at one request a second, every half second for faster stores. A resumed extraction truncates the items after
the last complete page. The writer copies undeclared fields of an item into the member `_extra`, because the load reads
only declared names.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import msgspec
from filelock import FileLock, Timeout

from commerce_assets.api.decoding import Item, Page, PageFacts, as_bigint
from commerce_assets.api.pagination import ListEnd
from commerce_assets.api.request import ListRequest
from commerce_assets.endpoint import EXTRA, Endpoint

# An extraction interrupted longer ago than this starts again, because the list has changed too much meanwhile.
_LONGEST_PAUSE = timedelta(hours=12)
_LOCK_POLL_SECONDS = 0.2
_SEGMENT_BYTES = 32 << 20
# Syncing a page to disk takes as long as extracting one from a store without a rate limit.
_SYNC_EVERY_SECONDS = 0.5
# A number with a fraction or an exponent follows a colon, a comma or a bracket. Once these are colons, point and e are
# points, and digits, minus signs and whitespace are gone, it begins with ":.": five times faster than the pattern.
_SQUEEZE = bytes.maketrans(b",[eE", b"::..")
_BEFORE_FRACTION = b"0123456789- \t\r\n"
_FRACTION = re.compile(rb"[:,\[]\s*-?\d+[.eE]")
_TEXT_OR_NUMBER = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')


class StagingError(Exception):
    """The staging directory cannot be used; the message says why and how to fix it."""


class StagedPageDamagedError(Exception):
    """The bytes of a staged page on the disk are not the ones that were written."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What was extracted. Only an extraction with the same identity resumes it.

    Attributes:
        pull_id: The id of this extraction; the warehouse records which ones it has loaded.
        identity: Store, path, parameters and declared columns.
        store: The store and the account; recorded with the load.
        began_at: When the first page was requested, by this machine's clock (UTC).
        too_large_for: The memory limit that a load of these pages has exceeded; empty if none has.
    """

    pull_id: str
    identity: str
    store: str
    began_at: datetime
    too_large_for: str = ""


class StagedPage(msgspec.Struct, frozen=True, kw_only=True):
    """A line of pages.jsonl.

    Attributes:
        facts: The facts of the page.
        segment: The number of its file of items, from 1.
        items_end: The offset in bytes at which its items end in that file.
        end: How the list ended, if it ended here.
        staged_at: When it was staged, by this machine's clock (UTC).
        store_clock: Seconds by which the store's clock was ahead of this machine's.
        largest_item: Bytes of its longest line.
        checksum: CRC-32 of its items and of this line without the checksum.
    """

    facts: PageFacts
    segment: int
    items_end: int
    staged_at: datetime
    store_clock: float
    largest_item: int
    end: ListEnd | None = None
    checksum: int = 0

    def checksum_with(self, items: bytes) -> int:
        return zlib.crc32(msgspec.json.encode(msgspec.structs.replace(self, checksum=0)), zlib.crc32(items))


class StagedPages:
    """The folder of one extraction, locked by one process at a time."""

    def __init__(self, folder: Path, pull: ListRequest, manifest: Manifest, pages: list[StagedPage]) -> None:
        self.folder = folder
        self.pull = pull
        self.manifest = manifest
        self._pages = pages

    @property
    def segments(self) -> list[Path]:
        """The files of items, in the order of the pages."""
        return [_segment(self.folder, number) for number in sorted({page.segment for page in self._pages})]

    @property
    def index(self) -> Sequence[StagedPage]:
        return self._pages

    @property
    def pages(self) -> Sequence[PageFacts]:
        return [page.facts for page in self._pages]

    def segment_pages(self) -> Iterator[tuple[Path, list[StagedPage]]]:
        """Each file of items with its pages."""
        for number, pages in groupby(self._pages, key=lambda page: page.segment):
            yield _segment(self.folder, number), list(pages)

    @property
    def count(self) -> int:
        return sum(page.facts.count for page in self._pages)

    @property
    def is_complete(self) -> bool:
        return self.end is not None

    @property
    def end(self) -> ListEnd | None:
        """How the list ended; None as long as the pull is not complete."""
        return self._pages[-1].end if self._pages else None

    @property
    def end_proven(self) -> bool:
        """Whether an answer has proved that the list holds no more rows; not so where the pull stopped earlier."""
        return self.end is not None and self.end.proven

    @property
    def has_moved(self) -> bool:
        """Whether the list was seen to move while it was read."""
        return any(page.facts.repeated or page.facts.reading > 1 for page in self._pages)

    @property
    def has_replaced_text(self) -> bool:
        """Whether U+FFFD replaces bytes in some item that were no text."""
        return any(page.facts.has_replaced_text for page in self._pages)

    @property
    def page_size(self) -> int | None:
        """Rows of a full page, as the server gives them."""
        return self.end.page_size if self.end else None

    @property
    def reason(self) -> str:
        """What proved the end, and how often the list was read."""
        return self.end.reason if self.end else "the list was not read to its end"

    @property
    def oldest(self) -> datetime | None:
        """The oldest cursor of the first and the last items of the pages; None if none of them has one."""
        return min((at for page in self._pages for at in (page.facts.first, page.facts.last) if at), default=None)

    def item_ids(self) -> Iterator[int]:
        """The primary key of every staged item."""
        key = self.pull.endpoint.primary_key
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(msgspec.defstruct("Key", [(key, Any)], gc=False))
        for segment in self.segments:
            with _usable(self.folder), segment.open("rb") as file:
                for line in file:
                    if (number := as_bigint(getattr(decoder.decode(line), key))) is not None:
                        yield number

    @property
    def began_at_store(self) -> datetime:
        """When the extraction began, by the store's clock in its first response."""
        ahead = self._pages[0].store_clock if self._pages else 0.0
        return self.manifest.began_at + timedelta(seconds=ahead)

    @property
    def last_written_at(self) -> datetime:
        """When the last page was staged, or the extraction began if no page is staged."""
        return self._pages[-1].staged_at if self._pages else self.manifest.began_at

    @contextmanager
    def writer(self) -> Iterator["StagingWriter"]:
        """Append pages after the last complete one."""
        with _usable(self.folder):
            writer = StagingWriter(self.folder, self.pull.endpoint, self._pages, self.manifest.pull_id)
        try:
            yield writer
        finally:
            writer.close()

    def clear(self) -> None:
        """Remove every page and start a new extraction with a new id."""
        self._pages.clear()
        self.manifest = msgspec.structs.replace(
            self.manifest, pull_id=uuid.uuid4().hex, began_at=datetime.now(UTC), too_large_for=""
        )
        with _usable(self.folder):
            # Without a manifest, files left by a crash are ignored.
            (self.folder / "manifest.json").unlink(missing_ok=True)
            _write_whole(self.folder / "pages.jsonl", b"")
            _write_whole(self.folder / "manifest.json", msgspec.json.encode(self.manifest))

    def keep_for_more_memory(self, limit: str) -> None:
        """Record that the load ran out of memory: with a higher limit, the next run loads these pages."""
        self.manifest = msgspec.structs.replace(self.manifest, too_large_for=limit)
        with _usable(self.folder):
            _write_whole(self.folder / "manifest.json", msgspec.json.encode(self.manifest))

    def discard(self) -> None:
        """Remove the folder, after the load or because its items cannot be parsed."""
        with _usable(self.folder):
            _remove(self.folder)


class StagingWriter:
    """Writes pages; the items of a page are synced to disk before its line in the index.

    The index is not synced: if a power cut loses a line, the page is extracted again.
    """

    def __init__(self, folder: Path, endpoint: Endpoint, pages: list[StagedPage], pull_id: str) -> None:
        self._folder = folder
        self._declared = frozenset(column.name for column in endpoint.columns)
        self._mark = pull_id.encode()
        self._pages = pages
        self._index = open_private(folder / "pages.jsonl")
        self._index.seek(0, os.SEEK_END)
        self._segment = pages[-1].segment if pages else 1
        self._items = open_private(_segment(folder, self._segment))
        self._items.truncate(pages[-1].items_end if pages else 0)
        self._items.seek(0, os.SEEK_END)
        self._unlisted: list[StagedPage] = []
        self._synced_at = float("-inf")

    def write(self, page: Page, facts: PageFacts, *, end: ListEnd | None, store_clock: float) -> None:
        with _usable(self._folder):
            self._write(page, facts, end=end, store_clock=store_clock)

    def _write(self, page: Page, facts: PageFacts, *, end: ListEnd | None, store_clock: float) -> None:
        if self._items.tell() >= _SEGMENT_BYTES:
            self._sync()
            self._items.close()
            self._segment += 1
            self._items = open_private(_segment(self._folder, self._segment))
            self._items.truncate()
        lines = [self._line(item) for item in page.items]
        items = b"".join(lines)
        self._items.write(items)
        staged = StagedPage(
            facts=facts,
            segment=self._segment,
            items_end=self._items.tell(),
            staged_at=datetime.now(UTC),
            store_clock=store_clock,
            end=end,
            largest_item=max(map(len, lines), default=0),
        )
        staged = msgspec.structs.replace(staged, checksum=staged.checksum_with(items))
        self._pages.append(staged)
        self._unlisted.append(staged)
        if end or time.monotonic() - self._synced_at >= _SYNC_EVERY_SECONDS:
            self._sync()

    def _sync(self) -> None:
        """Sync the items to disk, then add their pages to the index."""
        _to_disk(self._items)
        # Cleared first: after an interrupt, a line must not be written twice.
        unlisted, self._unlisted = self._unlisted, []
        self._index.write(_index_of(unlisted))
        self._index.flush()
        self._synced_at = time.monotonic()

    def close(self) -> None:
        with _usable(self._folder), self._index, self._items:
            if self._unlisted:
                self._sync()

    def _line(self, item: Item) -> bytes:
        raw = bytes(item.raw)
        if item.has_undeclared:
            fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            undeclared = {name: value for name, value in fields.items() if name not in self._declared}
            if EXTRA.name in undeclared:
                raw = msgspec.json.encode({**fields, EXTRA.name: undeclared})
            else:
                # Appended, not encoded again, so that the load still sees a duplicate field.
                raw = raw.rstrip()[:-1] + b',"' + EXTRA.name.encode() + b'":' + msgspec.json.encode(undeclared) + b"}"
        if b":." in raw.translate(_SQUEEZE, _BEFORE_FRACTION) and _FRACTION.search(raw):
            raw = _TEXT_OR_NUMBER.sub(self._marked, raw)
        # JSON allows raw line breaks only between tokens, never inside a string.
        return raw.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"

    def _marked(self, match: re.Match[bytes]) -> bytes:
        number = match[1]
        if not number or number.lstrip(b"-").isdigit():
            return match[0]
        # A double is written with an exponent in another way by each program.
        if b"e" not in number.lower() and repr(float(number)).encode() == number:
            return number
        return b'"%s:%s"' % (self._mark, number)


class Staging:
    """The staging directory of one database."""

    def __init__(self, directory: Path, *, log: logging.Logger) -> None:
        self._directory = directory
        self._log = log

    @contextmanager
    def hold(self, pull: ListRequest, *, store: str, url: str = "", wait_seconds: float) -> Iterator[StagedPages]:
        """Lock the folder of a request, with the pages that an interrupted extraction of it left there.

        It waits for another process that extracts the same.

        Args:
            pull: The request.
            store: The store and the account; pages of another account are never resumed.
            url: The URL of the list.
            wait_seconds: How long to wait for another process that holds the folder.

        Raises:
            StagingError: The directory is not writable, or another process holds the folder for longer than that.
        """
        parent = self._directory / pull.endpoint.name
        with _usable(self._directory):
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
            self._sweep(parent)
        with self._locked(parent / f"{pull.key}.lock", pull, wait_seconds):
            with _usable(self._directory):
                staged = self._open(parent / pull.key, pull, store, url)
            yield staged

    @contextmanager
    def _locked(self, path: Path, pull: ListRequest, wait_seconds: float) -> Iterator[None]:
        lock = FileLock(path, mode=0o600)
        with _usable(self._directory):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self._log.info("%s: another process is extracting the same; waiting for it", pull)
                try:
                    lock.acquire(timeout=wait_seconds, poll_interval=_LOCK_POLL_SECONDS)
                except Timeout:
                    raise StagingError(
                        f"{pull}: another process has been extracting the same for over {wait_seconds:.0f} s. "
                        "Fix: wait for it, or end it."
                    ) from None
        try:
            with _usable(self._directory):
                now = time.time()  # not the clock of a file server
                os.utime(path, (now, now))
            yield
        finally:
            lock.release()

    def _sweep(self, parent: Path) -> None:
        """Remove staged pages that are too old to resume, because they contain personal data."""
        oldest = time.time() - _LONGEST_PAUSE.total_seconds()
        for path in parent.glob("*.lock"):
            try:
                if path.stat().st_mtime > oldest:
                    continue
                # A process that waits for a lock gives up long before this age, so the lock can be removed too.
                with FileLock(path, timeout=0, mode=0o600):
                    _remove(path.with_suffix(""))
                    path.unlink(missing_ok=True)
            except (Timeout, FileNotFoundError):
                continue  # Another process extracts the same, or removes old pages too.
            except OSError as error:
                # The lock stays, so that the next extraction of the endpoint tries again.
                self._log.warning("old staged pages in %s cannot be removed: %s", path.with_suffix(""), error.strerror)

    def _open(self, folder: Path, pull: ListRequest, store: str, url: str) -> StagedPages:
        identity = _identity(pull, store, url)
        found = _read(folder, pull)
        if found is not None:
            paused = datetime.now(UTC) - found.last_written_at
            if found.manifest.identity == identity and timedelta(0) <= paused < _LONGEST_PAUSE:
                return found
            if found.pages:
                self._log.info(
                    "%s: staged pages of an earlier run are too old or of another request; starting again", pull
                )
        _remove(folder)
        folder.mkdir(mode=0o700)
        manifest = Manifest(pull_id=uuid.uuid4().hex, identity=identity, store=store, began_at=datetime.now(UTC))
        staged = StagedPages(folder, pull, manifest, [])
        _write_whole(folder / "manifest.json", msgspec.json.encode(manifest))
        return staged


def _identity(pull: ListRequest, store: str, url: str) -> str:
    columns = [f"{column.name} {column.type}" for column in pull.endpoint.columns]
    return json.dumps({"store": store, "url": url, "params": pull.params, "columns": columns})


def _read(folder: Path, pull: ListRequest) -> StagedPages | None:
    """Read the folder up to the last complete page; None if there is no usable manifest."""
    try:
        manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)
        sizes = {path: path.stat().st_size for path in folder.glob("items-*.jsonl")}
    except (OSError, msgspec.DecodeError):
        return None
    index_path = folder / "pages.jsonl"
    index = index_path.read_bytes() if index_path.exists() else b""
    pages: list[StagedPage] = []
    for line in index.splitlines():
        try:
            page = msgspec.json.decode(line, type=StagedPage)
        except msgspec.DecodeError:
            break
        if page.items_end > sizes.get(_segment(folder, page.segment), -1):
            break
        pages.append(page)
    pages = pages[: _intact(folder, pages)]
    if (whole := _index_of(pages)) != index:
        _write_whole(index_path, whole)
    return StagedPages(folder, pull, manifest, pages)


def items_of(segment: Path, pages: Sequence[StagedPage]) -> Iterator[bytes]:
    """Read the items of each page of a file.

    Raises:
        StagedPageDamagedError: Names the page whose bytes have changed.
        StagingError: The file cannot be read.
    """
    begin = 0
    with _usable(segment.parent), segment.open("rb") as file:
        for page in pages:
            items = file.read(page.items_end - begin)
            if page.checksum_with(items) != page.checksum:
                raise StagedPageDamagedError(f"page {page.facts.number}")
            begin = page.items_end
            yield items


def _intact(folder: Path, pages: Sequence[StagedPage]) -> int:
    """Count the pages before the first damaged one."""
    count = 0
    with contextlib.suppress(StagedPageDamagedError):
        for number, in_segment in groupby(pages, key=lambda page: page.segment):
            for _ in items_of(_segment(folder, number), list(in_segment)):
                count += 1
    return count


def _index_of(pages: Sequence[StagedPage]) -> bytes:
    return b"".join(msgspec.json.encode(page) + b"\n" for page in pages)


def _segment(folder: Path, number: int) -> Path:
    return folder / f"items-{number:05}.jsonl"


def open_private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")


def _remove(folder: Path) -> None:
    # The manifest first: without it, files left by a crash are ignored.
    (folder / "manifest.json").unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _write_whole(path: Path, content: bytes) -> None:
    """Replace the file atomically."""
    part = path.with_suffix(".part")
    with open_private(part) as file:
        file.truncate()
        file.write(content)
        _to_disk(file)
    part.replace(path)


def _to_disk(file: IO[bytes]) -> None:
    """Flush and fsync, so that a power cut cannot leave a line in the index without its items."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """Convert an OSError to a StagingError that names the folder: on a full disk, the error names no file."""
    try:
        yield
    except OSError as error:
        raise StagingError(
            f"the staging directory {folder} cannot be used: {error.strerror}. "
            "Fix: free disk space, or set COMMERCE_STAGING_DIR to a writable folder."
        ) from error
