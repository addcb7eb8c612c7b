"""Opening the DuckDB file: whoever holds it is waited for, named, and not waited for without end."""

import contextlib
import logging
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from commerce_assets.warehouse import MEMORY_LIMIT
from commerce_assets.warehouse.guard import guarded, put_back
from commerce_assets.warehouse.reasons import reason_of
from commerce_assets.warehouse.sql import text

# BI tools carry DuckDB 1.5 for a while yet; a file written with 2.0's own format cannot be opened by them.
_AS_WRITTEN = "STORAGE_VERSION 'v1.5.0'"
# A file opened by its path is a catalog named like the file, and in commerce.duckdb the name commerce.orders could mean
# a schema or a catalog: DuckDB refuses it. Attached under a name of our own it means the schema in every file.
_ALIAS = "__commerce__"
# Where the default database lies, relative to where Dagster was started. Any other folder is a person's to make.
_OWN_FOLDER = Path("data")
_FIRST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 1.0
# Those that write take turns, and most turns are shorter: that is worth no line.
_TELL_AFTER_SECONDS = 1.0
_TELL_EVERY_SECONDS = 30.0
# DuckDB says: Could not set lock on file "...": Conflicting lock is held in /usr/bin/python3.11 (PID 4711).
_HOLDER = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")


class WarehouseError(Exception):
    """The database cannot be used; says why and what to do."""


class DatabaseLockedError(WarehouseError):
    """Another process has had the file open for longer than it was waited for; `holder` names it."""

    def __init__(self, message: str, *, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFile:
    """The DuckDB file of one shop.

    Attributes:
        path: The file; its folder must exist.
        lock_timeout: How long to wait for another process that holds the file.
        memory_limit: What DuckDB may use before it spills to disk, as in "160MB".
        config: Further settings of DuckDB.
        log: Told who holds the file while it is waited for.
    """

    path: Path
    lock_timeout: float = 300.0
    memory_limit: str = MEMORY_LIMIT
    config: Mapping[str, str | bool | int | float | list[str]] = field(default_factory=dict)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))

    def prepare(self) -> None:
        """Sees that the file has a folder to lie in, which is better known before a pull of hours than after it.

        Raises:
            WarehouseError: It has not, and it is not the project's own folder, which is made.
        """
        folder = self.path.parent
        if folder == _OWN_FOLDER:
            folder.mkdir(exist_ok=True)
        if not folder.is_dir():
            raise WarehouseError(
                f"the folder of the database, {folder}, does not exist. "
                "What to do: create it, or point COMMERCE_DUCKDB_PATH elsewhere."
            )
        if not os.access(folder, os.W_OK):
            raise WarehouseError(
                f"the folder of the database, {folder}, cannot be written to. "
                "What to do: allow it, or point COMMERCE_DUCKDB_PATH elsewhere."
            )

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with one transaction around it: all that is done with it is stored, or nothing of it."""
        self.prepare()
        with _interrupts_as_such(), _OWNER_ONLY, contextlib.ExitStack() as until_closed:
            connection = self._connect(read_only=False)
            # Nobody else has the file open now, so what lies here was spilled by a process that was killed.
            shutil.rmtree(_spill_directory(self.path), ignore_errors=True)
            try:
                with guarded(self.path, connection, _ALIAS, until_closed):
                    try:
                        connection.begin()
                        yield connection
                        connection.commit()
                    except BaseException:
                        _roll_back(connection)
                        raise
            except BaseException as error:
                if _is_of_the_file(error):
                    raise WarehouseError(_why_not(self.path, "written", error)) from error
                raise
            finally:
                connection.close()

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that can only read; others may read at the same time."""
        if not self.path.exists():
            raise WarehouseError(
                f"there is no database at {self.path}. "
                "What to do: pull or materialize something first, or look at COMMERCE_DUCKDB_PATH."
            )
        with _interrupts_as_such(), _OWNER_ONLY:
            connection = self._connect(read_only=True)
            try:
                yield connection
            except duckdb.Error as error:
                if _is_of_the_file(error):
                    raise WarehouseError(_why_not(self.path, "read", error)) from error
                raise
            finally:
                connection.close()

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        config: dict[str, str | bool | int | float | list[str]] = {
            "custom_user_agent": "dagster",
            "memory_limit": self.memory_limit,
            "temp_directory": str(_spill_directory(self.path)),
            **self.config,
        }
        connection = duckdb.connect(":memory:", config=config)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            if not read_only:
                self._create_if_missing(connection)
            # A file that is there keeps its format, be it a newer one in which somebody has made it.
            as_it_is = "READ_ONLY" if read_only else "READ_WRITE"
            self._attach(connection, as_it_is if os.access(self.path, os.F_OK) else _AS_WRITTEN)
            connection.execute(f"USE {_ALIAS}")
            connection.execute("DETACH memory")  # a schema may have the name
        except BaseException:
            connection.close()
            raise
        return connection

    def _create_if_missing(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Makes the file as a whole: one that a full disk or a kill has left half made could never be opened again."""
        if os.access(self.path, os.F_OK):
            return
        folder = _spill_directory(self.path)
        fresh = folder / f"{uuid.uuid4().hex}.duckdb"
        try:
            folder.mkdir(exist_ok=True)
            connection.execute(f"ATTACH {text(str(fresh))} AS fresh ({_AS_WRITTEN})")
            connection.execute("DETACH fresh")
            # The file of another process that has been faster stays; where there are no links, it is made in place.
            with contextlib.suppress(OSError):
                self.path.hardlink_to(fresh)
        except (duckdb.Error, OSError) as error:
            # Who has been faster clears the folder as well, under our feet.
            if not os.access(self.path, os.F_OK):
                raise WarehouseError(_why_not(self.path, "created", error)) from error
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink()

    def _attach(self, connection: duckdb.DuckDBPyConnection, options: str) -> None:
        """Opens the file, as soon as nobody else holds it."""
        began = time.monotonic()
        told: float | None = None
        poll = _FIRST_POLL_SECONDS
        while True:
            if put_back(self.path):
                self.log.warning("%s: what a process had left half written when it was killed was undone", self.path)
            try:
                connection.execute(f"ATTACH {text(str(self.path))} AS {_ALIAS} ({options})")
            except duckdb.IOException as error:
                holder = _holder_of(error)
                if holder is None:
                    raise WarehouseError(_why_not(self.path, "opened", error)) from error
                waited = time.monotonic() - began
                if waited >= self.lock_timeout:
                    raise DatabaseLockedError(
                        f"{self.path} has been held by {holder} for over {waited:.0f} s. "
                        "What to do: close it there, or raise COMMERCE_DUCKDB_LOCK_TIMEOUT.",
                        holder=holder,
                    ) from error
                if waited >= (_TELL_AFTER_SECONDS if told is None else told + _TELL_EVERY_SECONDS):
                    told = waited
                    self.log.warning(
                        "%s is held by %s; waiting for it, %.0f s of at most %.0f s",
                        self.path,
                        holder,
                        waited,
                        self.lock_timeout,
                    )
            except duckdb.Error as error:
                raise WarehouseError(_why_not(self.path, "opened", error)) from error
            else:
                return
            time.sleep(poll)
            poll = min(poll * 1.5, _LONGEST_POLL_SECONDS)


class _OwnerOnly:
    """The file, its log and what spills are for the owner alone. DuckDB asks for no mode, so the mask says it.

    The mask is the whole process's: of several threads the first one sets it, and the last one puts it back.
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


_OWNER_ONLY = _OwnerOnly()


def _spill_directory(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")


def _holder_of(error: duckdb.IOException) -> str | None:
    """The process that holds the lock; None if the error is not about a lock."""
    message = str(error)
    if "lock on file" not in message:
        return None
    if match := _HOLDER.search(message):
        return f"{Path(match['program']).name} (pid {match['pid']})"
    return "another process"


@contextmanager
def _interrupts_as_such() -> Iterator[None]:
    """What DuckDB makes of a signal amid a statement, be it to open the file, is an interrupt for Dagster too."""
    try:
        yield
    except RuntimeError as error:
        if type(error) is RuntimeError and str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


def _is_of_the_file(error: BaseException) -> bool:
    """Whether the file or its disk is at fault, and no statement: a full disk shows at the commit, too."""
    return isinstance(error, duckdb.IOException | duckdb.TransactionException) or (
        isinstance(error, duckdb.Error) and "Corrupt database file" in str(error)
    )


def _why_not(path: Path, done: str, error: BaseException) -> str:
    state = "there is none yet" if done == "created" else "it is as it was"
    return (
        f"the database {path} cannot be {done} ({reason_of(error)}); {state}. What to do: see that the folder can be "
        "written to, that its disk has room and that the file is a DuckDB database; restore it from a copy if it is "
        "damaged."
    )


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    # After some errors DuckDB has rolled back by itself, and says so with another error.
    try:
        connection.rollback()
    except duckdb.Error:
        return
