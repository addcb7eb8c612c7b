"""A lake: Parquet files in a folder or bucket, and DuckLake's catalog of them in PostgreSQL.

A commit adds a snapshot to the catalog, so readers see old rows or new ones. DuckLake would also merge what two loads
of the same days insert at once, so one process at a time writes, under an advisory lock.
"""

import contextlib
import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Final

import duckdb

from commerce_assets.coordination import CoordinationError
from commerce_assets.coordination.postgres import AdvisoryLock, libpq_url
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
from commerce_assets.warehouse.sql import scalar, text

READERS_END_WITHIN: Final = timedelta(days=1)
"""How long a reader may take: files that no current snapshot names are kept for this time."""

_EXTENSIONS = ("ducklake", "postgres_scanner", "httpfs")
_NO_LAKE_YET = "creating a new DuckLake is explicitly disabled"
# The share of deleted rows from which a file is worth writing again.
_REWRITE_FROM = 0.1
# Rows stay out of the catalog: PostgreSQL has no text with NUL, and old values would outlive a stricter policy there.
_NOT_INLINED = "DATA_INLINING_ROW_LIMIT 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lake:
    """The lake of one shop.

    Attributes:
        data: A folder, or a URL such as `s3://bucket/folder/`, for the Parquet files.
        postgres_url: The PostgreSQL database of the catalog, as in `COMMERCE_POSTGRES_URL`.
        schema: The schema of the catalog there.
        lock_timeout: Seconds to wait for another writer.
        memory_limit: What DuckDB may use before it spills to disk, as in "1GB".
        config: Further settings of DuckDB.
        log: Logs who writes while a caller waits.
    """

    data: str
    postgres_url: str = field(repr=False)
    schema: str = "shop_lake"
    lock_timeout: float = LOCK_TIMEOUT
    memory_limit: str = MEMORY_LIMIT
    config: DuckDBConfig = field(default_factory=dict)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))

    def __str__(self) -> str:
        return f"the lake {self.data}"

    def exists(self) -> bool:
        """Return whether the catalog has been created."""
        with self._attached(read_only=True) as connection:
            return connection is not None

    def prepare(self) -> None:
        """Check that the extensions are installed and that a folder can be written to; create the folder.

        Raises:
            WarehouseError: They are not, or it cannot.
        """
        for name in _EXTENSIONS:
            _extension(name)
        if "://" in self.data:
            return
        try:
            Path(self.data).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise WarehouseError(
                f"{self} cannot be created: {short_error(error)}. Fix: point COMMERCE_LAKE_DATA elsewhere."
            ) from error
        if not os.access(self.data, os.W_OK | os.X_OK):
            raise WarehouseError(f"{self} cannot be written to. Fix: allow it, or point COMMERCE_LAKE_DATA elsewhere.")

    def check(self) -> None:
        """Check that a load could start now.

        Raises:
            WarehouseError: As `prepare`, or another process writes, or PostgreSQL cannot be used.
        """
        self.prepare()
        with self._locked():
            self.exists()

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in one transaction, which no other process of the project can interleave with.

        Any error or kill leaves the last snapshot. Readers keep the snapshot that they began with.
        """
        self.prepare()
        with signals_as_interrupts(), OWNER_ONLY, self._locked() as lock, self._attached() as connection:
            assert connection  # noqa: S101 - attached for writing, it is created
            try:
                connection.begin()
                yield connection
                with self._explained("written"):
                    _check_held(lock)
                    connection.commit()
            except BaseException as error:
                with contextlib.suppress(duckdb.Error):
                    connection.rollback()
                if is_of_memory(error):
                    raise self._too_little_memory() from None
                raise
            if is_rewrite_requested(connection):
                with self._explained("tidied"):
                    _tidy(connection, keep=timedelta(0))

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection to the latest snapshot, which does not change while it is open."""
        with self._reading() as connection:
            if connection is None:
                raise WarehouseError(
                    f"{self} does not exist yet. "
                    "Fix: materialize an asset first (`commerce-assets pull products`), or check COMMERCE_LAKE_DATA "
                    "and COMMERCE_POSTGRES_URL."
                )
            yield connection

    @contextmanager
    def read_or_empty(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """As `read`; before the first load, a connection to an empty database, which has the same answers."""
        with (
            self._reading() as connection,
            duckdb.connect() if connection is None else nullcontext(connection) as found,
        ):
            yield found

    def tidy(self) -> tuple[int, int]:
        """Merge small files, rewrite those with deleted rows, and remove what no reader needs any more.

        Returns:
            The number of files that the latest snapshot names, before and after.

        Raises:
            WarehouseError: Another process writes for too long, or PostgreSQL or the files cannot be used.
        """
        self.prepare()
        with OWNER_ONLY, self._locked(), self._attached() as connection, self._explained("tidied"):
            assert connection  # noqa: S101 - as in `write`
            before = _count_files(connection)
            _tidy(connection, keep=READERS_END_WITHIN)
            return before, _count_files(connection)

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A connection to the latest snapshot; None if the lake does not exist yet. To connect takes a round trip."""
        with signals_as_interrupts(), OWNER_ONLY, self._attached(read_only=True) as connection:
            if connection is not None:
                connection.begin()
            yield connection

    @contextmanager
    def _locked(self) -> Iterator[AdvisoryLock]:
        lock = AdvisoryLock(libpq_url(self.postgres_url), f"lake {self.schema}")
        try:
            Wait(self, self.log).for_lock(lock)
        except CoordinationError as error:
            raise WarehouseError(str(error)) from error
        try:
            yield lock
        finally:
            lock.release()

    @contextmanager
    def _attached(self, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """A connection with the lake as its default; None if it does not exist and is only to be read."""
        options = [f"METADATA_SCHEMA {text(self.schema)}", _NOT_INLINED]
        options += ["READ_ONLY"] if read_only else [f"DATA_PATH {text(self.data)}"]
        with ExitStack() as held:
            with self._explained("opened"):
                connection = held.enter_context(self._connection())
                catalog = held.enter_context(_catalog(self.postgres_url))
                exists = True
                try:
                    connection.execute(f"ATTACH {text(catalog)} AS {ALIAS} ({', '.join(options)})")
                    use(connection)
                except duckdb.Error as error:
                    exists = _NO_LAKE_YET not in str(error)
                    if exists:
                        raise
            yield connection if exists else None

    @contextmanager
    def _connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        config = {"autoinstall_known_extensions": False, **self.config}
        with (
            tempfile.TemporaryDirectory(prefix="commerce_assets-spill-") as spill,
            connected(memory_limit=self.memory_limit, spill=spill, config=config) as connection,
        ):
            for name in _EXTENSIONS:
                connection.execute(f"LOAD {text(str(_extension(name)))}")
            if "DUCKDB_S3_ENDPOINT" in os.environ:
                # A store of one's own has no DNS name per bucket.
                connection.execute("SET GLOBAL s3_url_style = 'path'")
            yield connection

    @contextmanager
    def _explained(self, done: str) -> Iterator[None]:
        """Convert the errors of the lake's own steps."""
        try:
            yield
        except (duckdb.Error, OSError) as error:
            if is_of_memory(error):
                raise self._too_little_memory() from None
            raise WarehouseError(
                f"{self} cannot be {done}: {short_error(error)}. Fix: check COMMERCE_LAKE_DATA and "
                "COMMERCE_POSTGRES_URL, and that both can be reached and written to."
            ) from error

    def _too_little_memory(self) -> DatabaseMemoryError:
        return DatabaseMemoryError(
            f"{self} cannot be written: DuckDB needs more memory than {self.memory_limit}; it is unchanged. "
            "Fix: raise COMMERCE_DUCKDB_MEMORY_LIMIT."
        )


def _check_held(lock: AdvisoryLock) -> None:
    if not lock.is_held():
        raise OSError(errno.ENOLCK, "the lock of the load was lost")


def _tidy(connection: duckdb.DuckDBPyConnection, *, keep: timedelta) -> None:
    """Merge the files of each table, and remove what only snapshots older than `keep` name; if it is 0, every trace."""
    # A thread holds a row group of a hundred thousand rows in memory.
    connection.execute("SET threads = 1")
    age = f"INTERVAL {int(keep.total_seconds())} SECOND"
    every = ", cleanup_all => true" if not keep else f", older_than => now() - {age}"
    for call in (
        f"ducklake_rewrite_data_files('{ALIAS}', delete_threshold => {_REWRITE_FROM if keep else 0})",
        f"ducklake_merge_adjacent_files('{ALIAS}')",
        f"ducklake_expire_snapshots('{ALIAS}', older_than => now() - {age})",
        f"ducklake_cleanup_old_files('{ALIAS}'{every})",
        # A killed load has written files that no snapshot names.
        f"ducklake_delete_orphaned_files('{ALIAS}'{every})",
    ):
        connection.execute(f"CALL {call}")


def _count_files(connection: duckdb.DuckDBPyConnection) -> int:
    return scalar(
        connection, f"SELECT coalesce(sum(file_count + delete_file_count), 0) FROM ducklake_table_info('{ALIAS}')"
    )


def _extension(name: str) -> Path:
    """The file of an extension that a Python package has installed for this version of DuckDB; none is downloaded.

    Raises:
        WarehouseError: There is none.
    """
    try:
        path = files(f"duckdb_extension_{name}") / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    except ModuleNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise WarehouseError(
            f"COMMERCE_LAKE_DATA is set, but the extension {name} is not installed for DuckDB {duckdb.__version__}. "
            "Fix: make install-cluster, or pip install 'commerce_assets[cluster]'."
        )
    return Path(str(path))


@contextmanager
def _catalog(url: str) -> Iterator[str]:
    """What DuckLake attaches; the password is in an unnamed file, so that no SQL and no error contains it."""
    from psycopg2.extensions import make_dsn, parse_dsn  # noqa: PLC0415 - only installed for several machines

    parameters = parse_dsn(libpq_url(url))
    password = parameters.pop("password", "").replace("\\", "\\\\").replace(":", "\\:")
    descriptor = os.memfd_create("passfile")
    try:
        # libpq refuses a file that others may read.
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, f"*:*:*:*:{password}\n".encode())
        yield "ducklake:postgres:" + make_dsn(**parameters, passfile=f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
