"""Writes to a database file in processes that are killed at a step or at a moment, and what must hold after them."""

import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb

from commerce_assets.warehouse.database import request_rewrite
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.forkserver import PROCESSES

ROWS = 20_000


def write_version(database: DatabaseFile, version: int, *, rewrite: bool = False) -> None:
    """Replace every row, so that the whole file changes."""
    with database.write() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS rows_of_a_version (n BIGINT, version BIGINT, filler VARCHAR)")
        connection.execute("DELETE FROM rows_of_a_version")
        connection.execute(
            "INSERT INTO rows_of_a_version SELECT range, ?, md5(concat(range, 'x', ?)) FROM range(?)",
            [version, version, ROWS],
        )
        if rewrite:
            request_rewrite(connection)


def version_in(database: DatabaseFile) -> int | None:
    """The version of all rows, each of which is read; None if there is no file.

    Raises:
        AssertionError: Rows are missing, or of several versions.
    """
    if not database.path.exists():
        return None
    with database.read() as connection:
        (count, low, high, whole) = connection.execute(
            "SELECT count(*), min(version), max(version), count(*) FILTER (filler = md5(concat(n, 'x', version))) "
            "FROM rows_of_a_version"
        ).fetchall()[0]
    assert (count, whole) == (ROWS, ROWS)
    assert low == high
    return int(low)


# The steps at which a write is killed: each installs itself before the write begins.


def kill(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_the_copy() -> None:
    mock.patch("commerce_assets.warehouse.file.copy_file", kill).start()


def during_the_copy() -> None:
    """Of a new file there is nothing to copy: the write is not killed then."""
    copy = os.copy_file_range

    def copy_half(source: int, target: int, count: int, *offsets: int) -> int:
        copy(source, target, count // 2, *offsets)
        kill()
        return 0

    mock.patch("os.copy_file_range", copy_half).start()


def during_the_load() -> None:
    write = DatabaseFile.write

    def kill_at_the_first_statement(self: DatabaseFile) -> Any:
        context = write(self)
        connection = context.__enter__()
        connection.execute("CREATE TABLE never AS SELECT 1")
        kill()
        return context

    mock.patch.object(DatabaseFile, "write", kill_at_the_first_statement).start()


def during_the_checkpoint() -> None:
    """The kernel kills a process that writes beyond a limit: here DuckDB, in the middle of its blocks."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))


def after_the_checkpoint() -> None:
    mock.patch("commerce_assets.warehouse.file.is_rewrite_requested", kill).start()


def before_the_swap() -> None:
    mock.patch("commerce_assets.warehouse.file.swap_in", kill).start()


def at_the_first_sync() -> None:
    mock.patch("os.fsync", kill).start()


def at_the_replace() -> None:
    mock.patch.object(Path, "replace", kill).start()


def after_the_replace() -> None:
    replace = Path.replace

    def replace_and_kill(self: Path, target: Path) -> None:
        replace(self, target)
        kill()

    mock.patch.object(Path, "replace", replace_and_kill).start()


def at_the_sync_of_the_folder() -> None:
    fsync, calls = os.fsync, iter(range(9))
    mock.patch("os.fsync", lambda descriptor: kill() if next(calls) else fsync(descriptor)).start()


def at_the_cleaning() -> None:
    rmtree = shutil.rmtree

    def kill_at_the_end(folder: Path, *, ignore_errors: bool = False) -> None:
        # What other processes left is removed first, and must not fail.
        kill() if ignore_errors else rmtree(folder)

    mock.patch.object(shutil, "rmtree", kill_at_the_end).start()


def unhindered() -> None:
    """The write ends by itself."""


def killed_write(
    path: Path, version: int, install: Callable[[], None], *, after: float | None = None, rewrite: bool = False
) -> tuple[int, float]:
    """Write in another process; return its exit code, and the seconds it ran.

    Args:
        path: The database.
        version: What to write.
        install: Disturbs the process.
        after: Seconds after which it is killed, if any.
        rewrite: The write rewrites the file.
    """
    ready = PROCESSES.Event()
    process = PROCESSES.Process(target=_write, args=(path, version, install, rewrite, ready))
    process.start()
    ready.wait(60)
    began = time.monotonic()
    if after is not None:
        process.join(after)
        process.kill()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode, time.monotonic() - began


def _write(path: Path, version: int, install: Callable[[], None], rewrite: bool, ready: Any) -> None:  # noqa: FBT001
    # DuckDB loads its extensions and starts its threads now, not while the process waits to be killed.
    duckdb.connect().close()
    install()
    ready.set()
    write_version(DatabaseFile(path=path, lock_timeout=60), version, rewrite=rewrite)


def kill_at_random_moments(database: DatabaseFile, *, times: int, seed: int, empty: bool = False) -> set[str]:
    """Kill writes anywhere from their first line to shortly after their end; returns which files were found."""
    moments = random.Random(seed)
    exit_code, seconds = killed_write(database.path, 1, unhindered)
    assert exit_code == 0
    found = set()
    for version in range(2, 2 * times + 2, 2):
        if empty:
            database.path.unlink()
        old = version_in(database)
        share = moments.uniform(0, 1.1)
        rewrite = moments.random() < 0.2
        exit_code, _ = killed_write(database.path, version, unhindered, after=share * seconds, rewrite=rewrite)
        case = f"seed {seed}, version {version}: killed after {share:.0%} of {seconds:.3f} s, exit code {exit_code}"
        now = version_in(database)
        assert now in ({version} if exit_code == 0 else {old, version}), case
        found.add("new" if now == version else "old")
        write_version(database, version + 1)
        assert version_in(database) == version + 1, case
        assert os.listdir(database.path.parent) == [database.path.name], case  # noqa: PTH208 - hidden files too
    return found
