"""Coordination of several machines: rows and advisory locks of PostgreSQL, which end with their connection.

A machine that loses power frees its locks after some 35 seconds, by TCP keepalives. Behind PgBouncer, use its session
mode: locks belong to a connection.
"""

import hashlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from commerce_assets.coordination import CoordinationError
from commerce_assets.coordination.lock_files import LockFile, LockFiles

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812 - a class

_TABLE = "commerce_assets_rate_limit"
# Not logged: after a crash of the server the first request need not wait, and a request costs no write to its disk.
_CREATE = f"CREATE UNLOGGED TABLE IF NOT EXISTS {_TABLE} (host text PRIMARY KEY, last_start timestamptz NOT NULL)"
# Waits are long here on purpose, and a machine that is gone must not hold a lock for two hours.
_OPTIONS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "lock_timeout": 0,
        "statement_timeout": 0,
        "idle_in_transaction_session_timeout": 0,
        "tcp_keepalives_idle": 20,
        "tcp_keepalives_interval": 5,
        "tcp_keepalives_count": 3,
    }.items()
)
_CONNECT_SECONDS = 10
_OUTAGE_SECONDS = 60.0
_HEARTBEAT_SECONDS = 5.0
_HOLDER = """
    SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND granted AND objsubid = 1 AND classid::bigint << 32 | objid::bigint = %s
"""
_LOG = logging.getLogger(__name__)


class Postgres:
    """Coordinates all processes that have the same `COMMERCE_POSTGRES_URL`.

    Every slot, lock and run has its own connection, opened when it is first needed.
    """

    holds_runs: ClassVar[bool] = True

    def __init__(self, url: str) -> None:
        """Use the database of a URL `postgresql+psycopg2://user:password@host/database`."""
        self._url = libpq_url(url)

    def slot(self, host: str) -> "PostgresSlot":
        return PostgresSlot(self._url, host)

    def load_lock(self, database: Path) -> "LoadLock":
        # By the file's name, because machines may have mounted its folder under different paths.
        return LoadLock(LockFiles().load_lock(database), AdvisoryLock(self._url, f"load {database.name}"))

    @contextmanager
    def hold_run(self, run_id: str) -> Iterator[None]:
        """Hold a lock on the run; a thread acquires it again if the server was restarted.

        Raises:
            CoordinationError: The server cannot be used, or another process works on the run.
        """
        lock = AdvisoryLock(self._url, _run_lock(run_id))
        if holder := lock.acquire():
            raise CoordinationError(f"run {run_id}: {holder} already works on it. Fix: launch a new run.")
        ended = threading.Event()
        heart = threading.Thread(target=_keep, args=(lock, ended), name=f"lock of run {run_id}", daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            lock.release()

    def is_run_held(self, run_id: str) -> bool:
        """Return whether a process holds the run.

        Raises:
            CoordinationError: The server cannot be used.
        """
        return AdvisoryLock(self._url, _run_lock(run_id)).holder() is not None


class PostgresSlot:
    """A row with the start of the last request by the server's clock.

    A process keeps the row locked while it waits, so it owns the next slot; a connection that ends releases it.
    """

    def __init__(self, url: str, host: str) -> None:
        self._url = url
        self._host = host
        self._connection: Connection | None = None

    def take(self, interval: float) -> None:
        """Wait for the slot, also through a restart of the server.

        Raises:
            CoordinationError: The server cannot be used for a minute.
        """
        attempts = Retrying(
            retry=retry_if_exception(_is_outage),
            stop=stop_after_delay(_OUTAGE_SECONDS),
            wait=wait_fixed(1),
            reraise=True,
        )
        with _explained():
            attempts(self._take, interval)

    def _take(self, interval: float) -> None:
        import psycopg2  # noqa: PLC0415 - see _connect

        if self._connection is None:
            self._connection = _connect(self._url)
            self._create()
        try:
            with self._connection as transaction, transaction.cursor() as cursor:
                cursor.execute("SET LOCAL synchronous_commit = off")
                cursor.execute(f"SELECT FROM {_TABLE} WHERE host = %s FOR UPDATE", [self._host])
                # A second statement: the one that locks computes its columns before it waits.
                cursor.execute(
                    f"SELECT extract(epoch FROM clock_timestamp() - last_start)::float FROM {_TABLE} WHERE host = %s",
                    [self._host],
                )
                (elapsed,) = cursor.fetchone() or (interval,)
                # A start in the future is from before the server's clock was set back.
                if 0 <= elapsed < interval:
                    time.sleep(interval - elapsed)
                cursor.execute(f"UPDATE {_TABLE} SET last_start = clock_timestamp() WHERE host = %s", [self._host])
        except psycopg2.Error:
            with suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None
            raise

    def _create(self) -> None:
        assert self._connection  # noqa: S101 - for the type checker
        with self._connection as transaction, transaction.cursor() as cursor:
            # Two processes cannot create a table at once, not even with IF NOT EXISTS.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_key(_TABLE)])
            cursor.execute(_CREATE)
            cursor.execute(
                f"INSERT INTO {_TABLE} VALUES (%s, 'epoch') ON CONFLICT DO NOTHING",
                [self._host],
            )


class AdvisoryLock:
    """A session advisory lock, on a connection that lasts as long as the lock."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._key = _key(name)
        self._connection: Connection | None = None

    def acquire(self) -> str | None:
        with _explained():
            connection = _connect(self._url)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [self._key])
                if cursor.fetchone() == (True,):
                    self._connection = connection
                    return None
            connection.close()
        return self.holder() or "another process"

    def is_held(self) -> bool:
        import psycopg2  # noqa: PLC0415 - see _connect

        if self._connection is not None:
            with suppress(psycopg2.Error), self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                return True
        return False

    def release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def holder(self) -> str | None:
        """Return the name of the process that holds the lock; None if nobody does."""
        with _explained():
            connection = _connect(self._url)
            try:
                with connection.cursor() as cursor:
                    cursor.execute(_HOLDER, [self._key])
                    row = cursor.fetchone()
            finally:
                connection.close()
        return str(row[0] or "another process") if row else None


class LoadLock:
    """The lock file of the database, which programs without `COMMERCE_POSTGRES_URL` see too, and an advisory lock."""

    def __init__(self, file: LockFile, advisory: AdvisoryLock) -> None:
        self._locks = (file, advisory)

    def acquire(self) -> str | None:
        try:
            for lock in self._locks:
                if holder := lock.acquire():
                    self.release()
                    return holder
        except BaseException:
            self.release()
            raise
        return None

    def is_held(self) -> bool:
        return all(lock.is_held() for lock in self._locks)

    def release(self) -> None:
        for lock in reversed(self._locks):
            lock.release()


def libpq_url(url: str) -> str:
    """Return the URL as libpq reads it, without the driver that SQLAlchemy needs."""
    return url.replace("postgresql+psycopg2://", "postgresql://", 1)


def _keep(lock: AdvisoryLock, ended: threading.Event) -> None:
    while not ended.wait(_HEARTBEAT_SECONDS):
        if not lock.is_held():
            lock.release()
            try:
                lock.acquire()
            except CoordinationError as error:
                _LOG.warning("the lock of this run is lost for now: %s", error)


def _run_lock(run_id: str) -> str:
    return f"run {run_id}"


def _key(name: str) -> int:
    """Return the number of an advisory lock; other programs use the same numbers, but not these 64 bits."""
    return int.from_bytes(hashlib.sha256(f"commerce_assets {name}".encode()).digest()[:8], signed=True)


def _connect(url: str) -> "Connection":
    try:
        import psycopg2  # noqa: PLC0415 - only installed for several machines
    except ModuleNotFoundError:
        raise CoordinationError(
            "COMMERCE_POSTGRES_URL is set, but psycopg2 is not installed. "
            "Fix: make install-cluster, or pip install 'commerce_assets[cluster]'."
        ) from None
    name = f"{Path(sys.executable or 'python').name} (pid {os.getpid()} on {socket.gethostname()})"
    return psycopg2.connect(
        url,
        connect_timeout=_CONNECT_SECONDS,
        application_name=name[:63],
        options=_OPTIONS,
        keepalives_idle=20,
        keepalives_interval=5,
        keepalives_count=3,
    )


def _is_outage(error: BaseException) -> bool:
    """Return whether the connection or the server failed, not a statement."""
    import psycopg2  # noqa: PLC0415 - see _connect

    return isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)


@contextmanager
def _explained() -> Iterator[None]:
    """Convert the driver's errors; those of a connection may quote the URL, so the server's first line must do."""
    try:
        yield
    except CoordinationError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "psycopg2":
            raise
        raise CoordinationError(
            f"PostgreSQL cannot be used for locks and the rate limit: {_short(error)}. "
            "Fix: check COMMERCE_POSTGRES_URL and that its user may create tables there."
        ) from None


def _short(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
