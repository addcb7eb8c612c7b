"""A copy of the warehouse for readers, so that they need not hold the file that loads have to write.

The file is copied byte for byte while a read lock keeps writers out: a million orders (434 MB) took about a second,
where COPY FROM DATABASE, which compresses everything anew, took over a minute. The copy is made beside its place,
stripped of the project's own tables, synced to disk and then renamed, so that whoever opens it finds a whole one.
"""

import hashlib
import logging
import os
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import duckdb
from filelock import FileLock, Timeout

from commerce_assets.endpoint import DELETED_AT, EXTRACTED_AT
from commerce_assets.warehouse.file import DatabaseFile, WarehouseError
from commerce_assets.warehouse.load_log import loaded_endpoints
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA, identifier, table, text

_MARK = table(INTERNAL_SCHEMA, "published")
# Every load writes to these, whatever it changes.
_DIARY = ("loads", "high_water_marks", "notes")
_STAMPS = f"*COLUMNS('^({EXTRACTED_AT.name}|{DELETED_AT.name})$')"
_OWNER_ONLY = 0o600
_CHUNK_BYTES = 1 << 20


class PublishError(Exception):
    """The copy cannot be made, or could not be renewed; says why and what to do. What is stored is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCopy:
    """The copy that readers open.

    Attributes:
        path: Where it is; a symbolic link is followed. Beside it, hidden, lie a lock and the copy in the making.
        source: What it is a copy of.
        log: Told what a renewal has cost.
    """

    path: Path
    source: DatabaseFile
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))

    def prepare(self) -> None:
        """Sees that the copy can be put where it shall be, which is better known before a pull of hours than after it.

        Raises:
            PublishError: It cannot, or there is something else, which is not overwritten.
        """
        place, source = self._place, self.source.path.resolve()
        if place in {source, _log_of(source)}:
            raise _refusal(self.path, "is the database itself", "point it elsewhere")
        if not place.parent.is_dir():
            raise _refusal(
                self.path, "lies in a folder that does not exist", "create the folder, or point it elsewhere"
            )
        if not os.access(place.parent, os.W_OK | os.X_OK):
            raise _refusal(self.path, "lies in a folder that cannot be written to", "allow it, or point it elsewhere")
        self._content()

    def renew(self) -> bool:
        """Makes the copy anew if the warehouse holds anything else; returns whether it has.

        Readers that have the copy open keep the one of before. A client that has written into its copy loses that.

        Raises:
            PublishError: The copy is as it was, and the next renewal tries again.
        """
        self.prepare()
        began = time.monotonic()
        try:
            # From reading to renaming: an older state must not replace a newer one.
            with FileLock(self._lock, timeout=self.source.lock_timeout, mode=_OWNER_ONLY):
                # Where a renewal was killed.
                self._remove_part()
                try:
                    is_new = self._copy()
                    if is_new:
                        self._strip()
                        self._swap()
                finally:
                    self._remove_part()
        except (WarehouseError, duckdb.Error, OSError, Timeout) as error:
            raise PublishError(
                f"the load is stored, but the published copy {self.path} could not be renewed ({error}); it is as it "
                "was. What to do: see that its folder can be written to and its disk has room for another copy; "
                "the next load of any asset tries again."
            ) from error
        if is_new:
            size, seconds = self._place.stat().st_size / 1e6, time.monotonic() - began
            self.log.info("published as %s: %.1f MB in %.1f s", self.path, size, seconds)
        else:
            self.log.info("%s is current: nothing to publish", self.path)
        return is_new

    @property
    def _place(self) -> Path:
        return self.path.resolve()

    @property
    def _part(self) -> Path:
        return self._place.with_name(f".{self._place.name}.part")

    @property
    def _lock(self) -> Path:
        return self._place.with_name(f".{self._place.name}.lock")

    def _copy(self) -> bool:
        """Copies the file, and the log of a writer that was killed; unless that would change nothing."""
        # Closing a file drops every lock that this process has on it: this one is closed after DuckDB has let go.
        with self.source.path.open("rb") as source, self.source.read() as connection:
            if self._content() == content_of(connection):
                return False
            _copy_bytes(source, self._part)
            source_log = _log_of(self.source.path)
            if source_log.exists():
                with source_log.open("rb") as log:
                    _copy_bytes(log, _log_of(self._part))
        return True

    def _strip(self) -> None:
        """Takes the project's own tables out, and notes what the copy holds.

        Readers would find in them what the loads after this one have done otherwise.
        """
        with replace(self.source, path=self._part, log=self.log).write() as connection:
            content = content_of(connection)
            connection.execute(f"DROP SCHEMA IF EXISTS {identifier(INTERNAL_SCHEMA)} CASCADE")
            connection.execute(f"CREATE SCHEMA {identifier(INTERNAL_SCHEMA)}")
            connection.execute(f"CREATE TABLE {_MARK} AS SELECT now() AS published_at, {text(content)} AS content")
        if _log_of(self._part).exists():
            # DuckDB closes a file that it could not bring up to date without a word.
            raise OSError(f"{self._part} could not be written to its end")

    def _swap(self) -> None:
        mode = self._place.stat().st_mode & 0o777 if self._place.exists() else _OWNER_ONLY
        with self._part.open("rb") as part:
            os.fchmod(part.fileno(), mode)
            os.fsync(part.fileno())
        # Left by a client that wrote into the copy. DuckDB would refuse to open the new one together with it.
        _log_of(self._place).unlink(missing_ok=True)
        self._part.replace(self._place)
        folder = os.open(self._place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _remove_part(self) -> None:
        for path in (self._part, _log_of(self._part)):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._part.with_name(f"{self._part.name}.tmp"), ignore_errors=True)

    def _content(self) -> str | None:
        """What the copy holds, in the words of `content_of`; None if there is none, or none that can be read now.

        Raises:
            PublishError: There is something that is no published copy.
        """
        if not self._place.exists():
            return None
        if not self._place.is_file():
            raise _refusal(self.path, "is no file", "move away what is there, or point it elsewhere")
        # An empty file may be put there to say which mode the copy shall have.
        if not self._place.stat().st_size:
            return None
        # A client has written into the copy, or into the one of before.
        if self._lock.exists() and _log_of(self._place).exists():
            return None
        row = None
        with duckdb.connect(":memory:") as connection:
            try:
                connection.execute(f"ATTACH {text(str(self._place))} AS copy (READ_ONLY)")
                row = connection.execute(f"SELECT content FROM copy.{_MARK}").fetchone()
            except duckdb.CatalogException:
                pass
            except duckdb.Error:
                # A client has it open for writing, or was killed then. It is ours to replace if we have done so before.
                if self._lock.exists():
                    return None
        if row is None:
            raise _refusal(
                self.path, "holds something else than a published copy", "move that away, or point it elsewhere"
            )
        return str(row[0])


def content_of(connection: duckdb.DuckDBPyConnection) -> str:
    """A fingerprint of what the database holds, which differs if anything does that readers could see.

    The versions of a row that loads write differ in when they were pulled or deleted: by that, a million rows take
    0.03 s, where all their values would take two. Other tables are hashed whole, the project's own among them: what
    rewrites stored rows in another way than by a load leaves its note there.
    """
    tables = connection.execute(
        "SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = current_database() "
        f"AND NOT (schema_name = {text(INTERNAL_SCHEMA)} AND table_name IN {_DIARY}) ORDER BY ALL"
    ).fetchall()
    views = connection.execute(
        "SELECT schema_name, view_name, sql FROM duckdb_views() "
        "WHERE database_name = current_database() AND NOT internal ORDER BY ALL"
    ).fetchall()
    loaded = loaded_endpoints(connection)
    content = [
        connection.execute(
            f"SELECT count(*), sum(hash({_STAMPS if schema == SCHEMA and name in loaded else 't'})) "
            f"FROM {table(schema, name)} t"
        ).fetchone()
        for schema, name, _ in tables
    ]
    return hashlib.sha256(repr((tables, views, content)).encode()).hexdigest()


def _copy_bytes(source: BinaryIO, target: Path) -> None:
    target.touch(mode=_OWNER_ONLY)
    with target.open("wb") as copy:
        shutil.copyfileobj(source, copy, _CHUNK_BYTES)


def _log_of(path: Path) -> Path:
    """DuckDB's write-ahead log of a file."""
    return path.with_name(f"{path.name}.wal")


def _refusal(path: Path, what: str, to_do: str) -> PublishError:
    return PublishError(f"COMMERCE_DUCKDB_PUBLISH_PATH, {path}, {what}. What to do: {to_do}.")
