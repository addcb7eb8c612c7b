"""What a kill amid one of DuckDB's checkpoints could take: its metadata blocks, kept aside while the file is written.

DuckDB writes data to blocks that are free, and then a header that counts. But blocks of metadata have room for several
checkpoints, and are written anew in place, with one checksum for all of it: of a process that is killed within such a
write, half a block is left, and the file cannot be opened again (DuckDB 2.0; seen once in some five hundred kills).

So their bytes are kept in a file of their own, `<database>.guard`, before anything is written. Whoever finds it, and
nobody at work on the database, puts them back if the header is still the one that was there then: what was written to
them since belongs to a checkpoint that never counted, and what had been committed is in DuckDB's log.
"""

import contextlib
import fcntl
import json
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import duckdb

# The layout of DuckDB's file: three pages of 4 KiB, the first of which tells the version, then blocks. Of the two other
# pages the one with the larger iteration counts; each begins with a checksum.
_HEADERS = (4096, 8192)
_FIRST_BLOCK = 12288
_HEADER = struct.Struct("<QQqqQQ")


class _State(NamedTuple):
    """Which checkpoint counts, and how large a block is."""

    iteration: int
    block_size: int


_at_work: set[Path] = set()
"""The databases that threads of this process write: to a lock of the system, they are all the same."""
_lock = threading.Lock()


def guard_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.guard")


@contextmanager
def guarded(
    path: Path, connection: duckdb.DuckDBPyConnection, alias: str, until_closed: contextlib.ExitStack
) -> Iterator[None]:
    """Keeps the metadata blocks of a database aside while it is written, up to a checkpoint of what was committed.

    Args:
        path: The file.
        connection: Has attached it under `alias`, and has written nothing yet.
        alias: Its name.
        until_closed: Is closed when the connection has been: closing a file gives up every lock of the process on it.
    """
    guard, part = guard_of(path), guard_of(path).with_suffix(".part")
    with _lock:
        _at_work.add(path.absolute())
    until_closed.callback(_at_work.discard, path.absolute())
    try:
        _keep(until_closed.enter_context(path.open("rb")), _metadata_blocks(connection, alias), part)
        part.replace(guard)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise duckdb.IOException(f"{part}: {error.strerror}") from error
    try:
        yield
    finally:
        # Without a checkpoint, one that a full disk has spoilt, say, whoever opens the file next looks at it.
        with contextlib.suppress(duckdb.Error, OSError):
            connection.execute(f"CHECKPOINT {alias}")
            guard.unlink()


def put_back(path: Path) -> bool:
    """Puts the metadata blocks back that a process has left half written; whether there were any."""
    guard = guard_of(path)
    with _lock, contextlib.suppress(OSError, ValueError):
        if path.absolute() in _at_work or not guard.exists():
            return False
        with path.open("r+b") as file:
            # Who is at work on the database has it locked.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            spoilt = _spoilt(file, guard)
            for position, content in spoilt.items():
                file.seek(position)
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
            guard.unlink()
        return bool(spoilt)
    return False


def _metadata_blocks(connection: duckdb.DuckDBPyConnection, alias: str) -> list[int]:
    rows = connection.execute(f"SELECT DISTINCT block_id FROM pragma_metadata_info('{alias}')").fetchall()
    return [block for (block,) in rows]


def _spoilt(file: IO[bytes], guard: Path) -> dict[int, bytes]:
    """What is to be put back where: nothing, if a checkpoint has counted since."""
    with guard.open("rb") as kept:
        iteration, blocks = json.loads(kept.readline())
        state = _state_of(file)
        if iteration != state.iteration:
            return {}
        spoilt = {}
        for block in blocks:
            position = _FIRST_BLOCK + block * state.block_size
            content = kept.read(state.block_size)
            file.seek(position)
            if file.read(state.block_size) != content:
                spoilt[position] = content
        return spoilt


def _keep(file: IO[bytes], blocks: list[int], part: Path) -> None:
    state = _state_of(file)
    # Blocks that are not in the file yet need no guard.
    end = file.seek(0, os.SEEK_END)
    stored = [block for block in blocks if _FIRST_BLOCK + (block + 1) * state.block_size <= end]
    with part.open("wb") as kept:
        kept.write(json.dumps([state.iteration, stored]).encode() + b"\n")
        for block in stored:
            file.seek(_FIRST_BLOCK + block * state.block_size)
            kept.write(file.read(state.block_size))
        kept.flush()
        os.fsync(kept.fileno())


def _state_of(file: IO[bytes]) -> _State:
    states = []
    for offset in _HEADERS:
        file.seek(offset)
        _, iteration, _, _, _, block_size = _HEADER.unpack(file.read(_HEADER.size))
        states.append(_State(iteration, block_size))
    return max(states)
