"""What every database of a shop can do, whether it is a DuckDB file or a lake, and the errors of both."""

import contextlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import duckdb

from commerce_assets.coordination import Lock

DuckDBConfig = Mapping[str, str | bool | int | float | list[str]]
ALIAS = "__commerce__"
"""The catalog of the database in every connection.

DuckDB names the catalog of a file after the file. In commerce.duckdb the name commerce.orders could mean a schema or a
catalog, and DuckDB refuses it. Under an alias it means the schema in every file.
"""
_FIRST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 1.0
# Writers take turns, and most turns are shorter: they are not worth a log line.
_LOG_AFTER_SECONDS = 1.0
_LOG_EVERY_SECONDS = 30.0
# An error in the background comes wrapped: ... {"exception_type":"IO","exception_message":"Could not ..."}
_WRAPPED = re.compile(r'"exception_message":("(?:[^"\\]|\\.)*")')
_REWRITE = "rewrite_database"


class WarehouseError(Exception):
    """The database cannot be used; the message says why and how to fix it."""


class DatabaseMemoryError(WarehouseError):
    """DuckDB needs more memory than it may use."""


class DatabaseLockedError(WarehouseError):
    """Another process has held the database for longer than the lock timeout; `holder` names it."""

    def __init__(self, message: str, *, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class Database(Protocol):
    """The database of one shop: `DatabaseFile` or `Lake`. `str` names it in messages."""

    @property
    def lock_timeout(self) -> float:
        """Seconds to wait for another writer."""

    @property
    def memory_limit(self) -> str:
        """What DuckDB may use before it spills to disk, as in "1GB"."""

    def exists(self) -> bool:
        """Return whether there is anything to read."""

    def prepare(self) -> None:
        """Check that a load can be stored, before an extraction of hours rather than after it.

        Raises:
            WarehouseError: It cannot.
        """

    def check(self) -> None:
        """Check that a load could start now.

        Raises:
            WarehouseError: As `prepare`, or another process writes, or DuckDB cannot open the database.
        """

    def write(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open a connection in one transaction that no other writer can interleave with; all or nothing."""

    def read(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open a read-only connection, which no load blocks and which blocks none."""

    def read_or_empty(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """As `read`; before the first load, a connection to an empty database, which has the same answers."""


class Wait:
    """A wait with one deadline for all that a caller waits for; logs the holder."""

    def __init__(self, database: Database, log: logging.Logger) -> None:
        self._database = database
        self._log = log
        self._began = time.monotonic()
        self._next_log = _LOG_AFTER_SECONDS
        self._poll = _FIRST_POLL_SECONDS

    def for_lock(self, lock: Lock) -> None:
        """Acquire the lock of the loads as soon as no other process of the project holds it.

        Raises:
            DatabaseLockedError: The deadline has passed.
        """
        while holder := lock.acquire():
            self.for_holder(holder, "wait for it to finish, or raise COMMERCE_DUCKDB_LOCK_TIMEOUT")

    def for_holder(self, holder: str, fix: str) -> None:
        """Sleep for one poll.

        Raises:
            DatabaseLockedError: The deadline has passed.
        """
        timeout = self._database.lock_timeout
        waited = time.monotonic() - self._began
        if waited >= timeout:
            raise DatabaseLockedError(
                f"{self._database} has been held by {holder} for over {waited:.0f} s. Fix: {fix}.", holder=holder
            )
        if waited >= self._next_log:
            self._next_log = waited + _LOG_EVERY_SECONDS
            self._log.warning(
                "%s is held by %s; waiting for it, %.0f s of at most %.0f s", self._database, holder, waited, timeout
            )
        time.sleep(min(self._poll, max(timeout - waited, 0.001)))
        self._poll = min(self._poll * 1.5, _LONGEST_POLL_SECONDS)


def request_rewrite(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the current `write` store only live rows, so that nothing of the old ones is left on the disk.

    DuckDB keeps removed values in blocks that it has not used again, and a lake in the files of older snapshots. A
    stricter policy for personal data needs them gone.
    """
    connection.execute(f"SET VARIABLE {_REWRITE} = true")


def is_rewrite_requested(connection: duckdb.DuckDBPyConnection) -> bool:
    return connection.execute(f"SELECT getvariable('{_REWRITE}')").fetchone() == (True,)


@contextmanager
def connected(
    *, memory_limit: str, spill: str, config: DuckDBConfig | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection to nothing yet, in UTC; `spill` is where DuckDB spills to."""
    settings = {
        "custom_user_agent": "dagster",
        "memory_limit": memory_limit,
        "temp_directory": spill,
        **(config or {}),
    }
    with contextlib.closing(duckdb.connect(":memory:", config=settings)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def use(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the attached database the default."""
    connection.execute(f"USE {ALIAS}")
    # A schema may have this name.
    connection.execute("DETACH memory")


def bytes_of(connection: duckdb.DuckDBPyConnection, setting: str) -> int:
    """Return the bytes of a setting of DuckDB, which shows them as in "152.5 MiB"."""
    (shown,) = connection.execute("SELECT current_setting(?)", [setting]).fetchall()[0]
    number, unit = shown.split()
    return int(float(number) * 1024 ** ["bytes", "KiB", "MiB", "GiB", "TiB"].index(unit))


def limit_memory(connection: duckdb.DuckDBPyConnection, limit: str) -> bool:
    """Lower the memory limit of a connection; returns False, and changes nothing, if it is not higher."""
    before = bytes_of(connection, "memory_limit")
    connection.execute("SET memory_limit = $1", [limit])
    is_lower = bytes_of(connection, "memory_limit") < before
    if not is_lower:
        connection.execute("SET memory_limit = $1", [f"{before}B"])
    return is_lower


def spill_directory(connection: duckdb.DuckDBPyConnection) -> Path:
    """Return where DuckDB puts what has no room in memory: beside the database, for its owner alone."""
    ((folder,),) = connection.execute("SELECT current_setting('temp_directory')").fetchall()
    Path(folder).mkdir(exist_ok=True)
    return Path(folder)


def short_error(error: BaseException) -> str:
    """The cause of an error of DuckDB or the system, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    message = str(error)
    if wrapped := _WRAPPED.search(message):
        message = json.loads(wrapped[1])
    return message.partition("\n")[0]


def is_of_memory(error: BaseException) -> bool:
    """Whether DuckDB had too little memory; a commit wraps that in an error of the transaction."""
    return isinstance(error, duckdb.OutOfMemoryException) or (
        isinstance(error, duckdb.TransactionException) and "failed to pin block" in str(error)
    )


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt where DuckDB reports a signal during a statement as a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if type(error) is RuntimeError and str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


class _OwnerOnly:
    """What DuckDB writes is readable by its owner only. DuckDB sets no mode, so the umask does.

    The umask belongs to the process: the first of several threads sets it, and the last one restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._mask = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._mask = os.umask(0o077)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                os.umask(self._mask)


OWNER_ONLY = _OwnerOnly()
