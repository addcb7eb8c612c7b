"""A lock file that serialises the writers of a database, and names the one that holds it."""

import contextlib
import fcntl
import os
import socket
import sys
from pathlib import Path


class WriterLock:
    """A lock file that exists only while a writer holds it.

    `flock` holds the lock, so a killed process releases it. The content of the file (program, pid, host) only names
    the holder to those that wait.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> str | None:
        """Acquire the lock without waiting.

        Returns:
            None if the lock is acquired, otherwise the name of the process that holds it.
        """
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The former holder may have removed the file between the two calls: then this is a lock on nothing.
                if self._is_at_path(descriptor):
                    # A full disk must not keep anybody from the lock.
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, 0)
                        os.pwrite(descriptor, _own_name().encode(), 0)
                    self._descriptor = descriptor
                    return None
            except BlockingIOError:
                holder = _read_name(descriptor)
                os.close(descriptor)
                return holder
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        """Remove the file, then release the lock."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False


def _own_name() -> str:
    return f"{Path(sys.executable or 'python').name}\t{os.getpid()}\t{socket.gethostname()}\n"


def _read_name(descriptor: int) -> str:
    program, _, rest = os.pread(descriptor, 4096, 0).decode(errors="replace").strip().partition("\t")
    pid, _, host = rest.partition("\t")
    if not pid:
        return "another process"
    return f"{program} (pid {pid})" if host == socket.gethostname() else f"{program} (pid {pid} on {host})"
