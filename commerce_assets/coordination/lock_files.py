"""Coordination on one machine: locked files, which the operating system releases when a process ends."""

import contextlib
import fcntl
import hashlib
import os
import socket
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from commerce_assets.coordination import CoordinationError


@dataclass(frozen=True, slots=True)
class LockFiles:
    """Coordinates the processes of a user on this machine.

    Attributes:
        slots: The folder of slot files; one in the temporary folder unless given.
    """

    slots: Path | None = None
    # The process id shows that a run is alive.
    holds_runs: ClassVar[bool] = False

    def slot(self, host: str) -> "FileSlot":
        """Return the slot of a host.

        Raises:
            CoordinationError: The folder of the slot files belongs to another user, who could block every request.
        """
        folder = self.slots or _slot_directory()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            raise CoordinationError(
                f"{folder}, the folder of the rate limit shared by all processes, belongs to another user. "
                "Fix: remove it, or set TMPDIR to your own folder, in every process."
            )
        return FileSlot(folder / hashlib.sha256(host.encode()).hexdigest()[:16])

    def load_lock(self, database: Path) -> "LockFile":
        return LockFile(database.with_name(f".{database.name}.lock"))

    def hold_run(self, run_id: str) -> AbstractContextManager[None]:  # noqa: ARG002 - see Coordination
        return nullcontext()

    def is_run_held(self, run_id: str) -> bool | None:  # noqa: ARG002 - see Coordination
        return None


class FileSlot:
    """A slot file: the start of the last request on the monotonic clock, which all processes of a machine share.

    A process holds the lock while it waits, so it owns the next slot; a process that dies releases it. A value in the
    future is from before a reboot and is ignored.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock  # noqa: PLC0415 - only a process with a rate limit pays for its import

        self._path = path.with_suffix(".slot")
        self._lock = FileLock(path.with_suffix(".lock"), mode=0o600)

    def take(self, interval: float) -> None:
        with self._lock.acquire(poll_interval=min(0.05, interval / 10)):
            now = time.monotonic()
            last = self._last_start()
            if last is not None and last <= now and (pause := last + interval - now) > 0:
                time.sleep(pause)
            self._path.write_text(repr(time.monotonic()))

    def _last_start(self) -> float | None:
        with contextlib.suppress(OSError, ValueError):
            return float(self._path.read_text())
        return None


class LockFile:
    """A lock file that exists only while a process holds it.

    `flock` holds the lock, so a killed process releases it. The content of the file (program, pid, host) only names
    the holder to those that wait.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> str | None:
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

    def is_held(self) -> bool:
        return self._descriptor is not None and self._is_at_path(self._descriptor)

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


def _slot_directory() -> Path:
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"commerce_assets-{owner}"
