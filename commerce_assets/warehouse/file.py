"""The DuckDB file of one shop: a write works on a copy of it and swaps the copy in, so readers never wait."""

import contextlib
import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from commerce_assets.coordination import Coordination, Lock
from commerce_assets.coordination.lock_files import LockFiles
from commerce_assets.warehouse import LOCK_TIMEOUT, MEMORY_LIMIT
from commerce_assets.warehouse.database import (
    ALIAS,
    OWNER_ONLY,
    DatabaseMemoryError,
    DuckDBConfig,
    Wait,
    WarehouseError,
    connected,
    is_of_memory,
    is_rewrite_requested,
    short_error,
    signals_as_interrupts,
    use,
)
from commerce_assets.warehouse.sql import text
from commerce_assets.warehouse.swap import (
    FileVersion,
    copy_file,
    is_mount_point,
    part_folder,
    spill_folder,
    swap_in,
    wal_path,
)

# BI tools will bundle DuckDB 1.5 for some time, and it cannot open a file in 2.0's own format.
_NEW_FILE = "STORAGE_VERSION 'v1.5.0'"
# The default folder, relative to Dagster's working directory. A person creates any other folder.
_OWN_FOLDER = Path("data")
# DuckDB says: Could not set lock on file "...": Conflicting lock is held in /usr/bin/python3.11 (PID 4711).
_HOLDER = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
# The part of DuckDB's refusal that says that the file contains a later checkpoint than the WAL.
_STALE_WAL = "the WAL was created for an older version of this database"
_UNUSABLE_WAL = "Failure while replaying WAL file"
_MOUNTED = (
    "the database {path} is a mount point itself, so a load cannot replace it. "
    "Fix: mount the folder that contains the file instead of the file."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFile:
    """The DuckDB file of one shop.

    Attributes:
        path: The file; its folder must exist. Symbolic links are followed.
        lock_timeout: Seconds to wait for another writer.
        memory_limit: What DuckDB may use before it spills to disk, as in "1GB".
        config: Further settings of DuckDB.
        coordination: Makes the lock of its writers.
        log: Logs who holds the file while a caller waits.
    """

    path: Path
    lock_timeout: float = LOCK_TIMEOUT
    memory_limit: str = MEMORY_LIMIT
    config: DuckDBConfig = field(default_factory=dict)
    coordination: Coordination = field(default_factory=LockFiles)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Return whether there is a file."""
        return self.path.exists()

    def prepare(self) -> None:
        """Check that a load can replace the file, before an extraction of hours rather than after it.

        Creates the project's own folder `data`.

        Raises:
            WarehouseError: The folder is missing, folder or file is read-only, or the file is a mount point.
        """
        if self.path.parent == _OWN_FOLDER:
            _OWN_FOLDER.mkdir(exist_ok=True)
        path = self._real_path
        folder = path.parent
        if not folder.is_dir():
            raise WarehouseError(
                f"the folder of the database, {folder}, does not exist. "
                "Fix: create it, or point COMMERCE_DUCKDB_PATH elsewhere."
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise WarehouseError(
                f"the folder of the database, {folder}, cannot be written to. "
                "Fix: allow it, or point COMMERCE_DUCKDB_PATH elsewhere."
            )
        if os.access(path, os.F_OK) and not os.access(path, os.W_OK):
            raise WarehouseError(
                f"the database {self.path} cannot be written to: it is read-only. Fix: allow this user to write to it."
            )
        if is_mount_point(path):
            raise WarehouseError(_MOUNTED.format(path=self.path))

    def check(self) -> None:
        """Check that a load could start now.

        Raises:
            WarehouseError: As `prepare`, or another process writes, or DuckDB cannot open the file.
        """
        self.prepare()
        with OWNER_ONLY, ExitStack() as held, self._explained("written"):
            self._lock_and_hold(held)

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to a copy of the file, in one transaction; the copy replaces the file after the commit.

        Any error or kill leaves the file untouched. Processes that have it open keep reading the old rows; those that
        open it after the swap read the new ones.
        """
        self.prepare()
        path = self._real_path
        with signals_as_interrupts(), OWNER_ONLY, ExitStack() as held:
            with self._explained("written"):
                lock, source = self._lock_and_hold(held)
                versions = _versions(path)
                folder = held.enter_context(part_folder(path))
                part = folder / path.name
                if source is not None:
                    _copy_with_wal(source, path, part)
            connection = held.enter_context(self._connection(spill=str(folder / "spill"), config=self.config))
            with self._explained("written"):
                # An existing file keeps its format, even a newer one.
                options = _NEW_FILE if source is None else "READ_WRITE"
                connection.execute(f"ATTACH {text(str(part))} AS {ALIAS} ({options})")
                use(connection)
            try:
                connection.begin()
                yield connection
                connection.commit()
            except BaseException as error:
                _roll_back(connection)
                if is_of_memory(error):
                    raise self._too_little_memory() from None
                if _is_of_the_file(error):
                    raise WarehouseError(_why_not(self.path, "written", error)) from error
                raise
            with self._explained("written"):
                connection.execute(f"CHECKPOINT {ALIAS}")
                if is_rewrite_requested(connection):
                    part = _rewrite(connection, folder)
                connection.close()
                if wal_path(part).exists():
                    # DuckDB closes a file without an error even if it could not write it to its end.
                    raise OSError(errno.EIO, "DuckDB could not complete the checkpoint")
                if _versions(path) != versions:
                    raise OSError(errno.EBUSY, "another program changed it during the load")
                if not lock.is_held():
                    raise OSError(errno.ENOLCK, "the lock of the load was lost")
                swap_in(part, path)

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection; it waits only for outside programs that have the file open for writing."""
        path = self._existing_path()
        with (
            signals_as_interrupts(),
            OWNER_ONLY,
            spill_folder(path) as spill,
            self._connection(spill=spill, config=self.config) as connection,
        ):
            self._attach_read_only(connection, Wait(self, self.log))
            use(connection)
            try:
                yield connection
            except duckdb.Error as error:
                if _is_of_the_file(error):
                    raise WarehouseError(_why_not(self.path, "read", error)) from error
                raise

    @contextmanager
    def read_or_empty(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """As `read`; before the first load, a connection to an empty database, which has the same answers."""
        with self.read() if self.exists() else duckdb.connect() as connection:
            yield connection

    def copy_to(self, target: Path) -> None:
        """Copy the file to `target`, which must not exist, as of one moment; loads and readers go on meanwhile."""
        path = self._existing_path()
        with self._explained("copied"), path.open("rb") as source:
            # Closing a descriptor drops all locks of the process on the file: the source closes after DuckDB's.
            with self.read():
                _copy_with_wal(source.fileno(), path, target)
            if wal_path(target).exists():
                with OWNER_ONLY, self._connection(spill=f"{target}.tmp") as connection:
                    connection.execute(f"ATTACH {text(str(target))} AS copy; CHECKPOINT copy; DETACH copy")

    @property
    def _real_path(self) -> Path:
        # Unlike Path.resolve, it accepts a loop of links; opening the file then says what is wrong.
        return Path(os.path.realpath(self.path))

    def _existing_path(self) -> Path:
        path = self._real_path
        if not path.exists():
            raise WarehouseError(
                f"there is no database at {self.path}. "
                "Fix: materialize an asset first (`commerce-assets pull products`), or check COMMERCE_DUCKDB_PATH."
            )
        return path

    def _lock_and_hold(self, held: ExitStack) -> tuple[Lock, int | None]:
        """Take the writer lock and hold the current file open READ_ONLY, so that no outside program writes to it.

        Returns:
            The lock, and a descriptor of the file, None if there is no file or an empty one.
        """
        path = self._real_path
        wait = Wait(self, self.log)
        lock = self.coordination.load_lock(path)
        held.callback(lock.release)
        wait.for_lock(lock)
        if not os.access(path, os.F_OK) or (path.is_file() and not path.stat().st_size):
            return lock, None
        connection = held.enter_context(self._connection(spill="", config={"threads": 1}))
        self._attach_read_only(connection, wait, is_locked=True)
        # Closing any descriptor of a file drops all POSIX locks of the process on it, DuckDB's too: so it stays open
        # until the end. It is opened last, because another program may have replaced the file during the wait.
        source = os.open(path, os.O_RDONLY)
        held.callback(os.close, source)
        return lock, source

    def _connection(
        self, *, spill: str, config: DuckDBConfig | None = None
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return connected(memory_limit=self.memory_limit, spill=spill, config=config)

    def _attach_read_only(self, connection: duckdb.DuckDBPyConnection, wait: Wait, *, is_locked: bool = False) -> None:
        """Attach the file as soon as no outside program has it open for writing."""
        path = self._real_path
        while True:
            try:
                connection.execute(f"ATTACH {text(str(path))} AS {ALIAS} (READ_ONLY)")
            except duckdb.Error as error:
                if _STALE_WAL in str(error):
                    self._remove_stale_wal(connection, wait, is_locked=is_locked)
                    if is_locked:
                        continue
                    return
                holder = _holder_of(error)
                if holder is None:
                    raise WarehouseError(_why_not(self.path, "opened", error)) from error
                wait.for_holder(
                    holder,
                    "open it read-only there (ATTACH ... (READ_ONLY)), or close it, "
                    "or raise COMMERCE_DUCKDB_LOCK_TIMEOUT",
                )
            else:
                return

    def _remove_stale_wal(self, connection: duckdb.DuckDBPyConnection, wait: Wait, *, is_locked: bool) -> None:
        """Remove the WAL of an outside program if the file contains its rows already.

        A kill between the swap and the removal of the WAL leaves both.
        """
        if is_locked:
            wal_path(self._real_path).unlink(missing_ok=True)
            self.log.warning("%s: removed a WAL that an earlier load has applied", self.path)
            return
        lock = self.coordination.load_lock(self._real_path)
        try:
            wait.for_lock(lock)
            # Another process may have been faster: DuckDB decides again, under the lock.
            self._attach_read_only(connection, wait, is_locked=True)
        finally:
            lock.release()

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """Convert the errors of the file's own steps."""
        try:
            yield
        except OSError as error:
            if error.errno in {errno.EBUSY, errno.EXDEV} and is_mount_point(self._real_path):
                raise WarehouseError(_MOUNTED.format(path=self.path)) from error
            raise WarehouseError(_why_not(self.path, done, error)) from error
        except duckdb.Error as error:
            if is_of_memory(error):
                raise self._too_little_memory() from None
            raise WarehouseError(_why_not(self.path, done, error)) from error

    def _too_little_memory(self) -> DatabaseMemoryError:
        return DatabaseMemoryError(
            f"the database {self.path} cannot be written: DuckDB needs more memory than {self.memory_limit}; the file "
            "is unchanged. Fix: raise COMMERCE_DUCKDB_MEMORY_LIMIT."
        )


def _versions(path: Path) -> tuple[FileVersion | None, FileVersion | None]:
    return FileVersion.of(path), FileVersion.of(wal_path(path))


def _copy_with_wal(source: int, path: Path, target: Path) -> None:
    """Copy the file and the WAL that a killed outside program left; DuckDB applies it when it opens the copy."""
    copy_file(source, target)
    if (wal := wal_path(path)).exists():
        with wal.open("rb") as file:
            copy_file(file.fileno(), wal_path(target))


def _rewrite(connection: duckdb.DuckDBPyConnection, folder: Path) -> Path:
    """Write the live rows to a second file, in the format of the first."""
    compact = folder / "compact.duckdb"
    row = connection.execute(
        "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = ?", [ALIAS]
    ).fetchone()
    version = str(row[0]).rstrip("+") if row else "latest"
    connection.execute(f"ATTACH {text(str(compact))} AS compact (STORAGE_VERSION {text(version)})")
    connection.execute(f"COPY FROM DATABASE {ALIAS} TO compact")
    connection.execute("CHECKPOINT compact")
    return compact


def _holder_of(error: duckdb.Error) -> str | None:
    """The process that holds DuckDB's lock; None if the error is not about a lock."""
    message = str(error)
    if "lock on file" not in message:
        return None
    if match := _HOLDER.search(message):
        return f"{Path(match['program']).name} (pid {match['pid']})"
    return "another process"


def _is_of_the_file(error: BaseException) -> bool:
    """Whether the file or its disk caused the error, not a statement; a full disk can fail the commit, too."""
    return isinstance(error, duckdb.IOException | duckdb.TransactionException) or (
        isinstance(error, duckdb.Error) and "Corrupt database file" in str(error)
    )


def _why_not(path: Path, done: str, error: BaseException) -> str:
    fix = (
        f"if the file was restored or replaced, delete the WAL of the file before it: {wal_path(path)}."
        if _UNUSABLE_WAL in str(error)
        else "check that the folder can be written to, that its disk has room for a second copy, and that the file is "
        "a DuckDB database; restore a damaged file from a backup."
    )
    return f"the database {path} cannot be {done}: {short_error(error)}; the file is unchanged. Fix: {fix}"


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    # After some errors DuckDB has rolled back already, and reports that with another error.
    with contextlib.suppress(duckdb.Error):
        connection.rollback()
