"""One `make dev` an instance."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# As long as the processes of one that was killed may take to end.
_PATIENCE_SECONDS = 10.0


class AlreadyRunning(Exception):  # noqa: N818 - says it all
    """Another process holds the lock; names it."""


@contextmanager
def exclusive(path: Path) -> Iterator[int]:
    """Hold the lock file at `path`, with this process's id in it; gives its descriptor.

    Raises:
        AlreadyRunning: if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _acquired(descriptor):
            holder = os.pread(descriptor, 20, 0).decode().strip()
            if _is_alive(holder) or time.monotonic() > deadline:
                raise AlreadyRunning(
                    f"already running here as process {holder or '(just starting)'}; end that one first"
                )
            time.sleep(0.1)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquired(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
