"""What is done to a run in its process before it begins; each is called with the folder of the run."""

import io
import os
import pkgutil
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from commerce_assets.warehouse.file import DatabaseFile

PHASES = {
    "pull": "commerce_assets.ingest.ingest.stage",
    "copy": "commerce_assets.warehouse.file._copy_with_wal",
    "load": "commerce_assets.ingest.ingest.load",
    "swap": "commerce_assets.warehouse.file.swap_in",
    "discard": "commerce_assets.ingest.staging.StagedPages.discard",
}
"""The functions with which the phases of `ingest` begin. Without a file before, there is no copy."""
_BY_PATH = {"open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.utime"}


def undisturbed(folder: Path) -> None:
    """Nothing happens."""


def handle_sigterm(folder: Path) -> None:  # noqa: ARG001
    """What Dagster does with the signal in the processes of its runs."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def end_before_the_load(folder: Path) -> None:  # noqa: ARG001
    """All pages are staged then, and what the next run writes is the database."""
    mock.patch.object(DatabaseFile, "write", side_effect=SystemExit).start()


@dataclass(frozen=True)
class Quota:
    """No file of the run can grow beyond this many bytes: the write fails, as on a full disk."""

    size: int

    def __call__(self, folder: Path) -> None:  # noqa: ARG002
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


@dataclass
class InPhase:
    """Kills a run in one of its phases; the kernel does it, wherever the process is then.

    Attributes:
        phase: One of PHASES; empty: the run is not killed.
        after: Seconds since the phase began.
        seen: Each phase and the second at which it began.
    """

    phase: str = ""
    after: float = 0.0
    seen: list[str] = field(default_factory=list)

    def __call__(self, folder: Path) -> None:  # noqa: ARG002
        for phase, target in PHASES.items():
            mock.patch(target, self._starting_clock(phase, pkgutil.resolve_name(target))).start()

    def _starting_clock(self, phase: str, begin: Callable[..., Any]) -> Callable[..., Any]:
        def begin_phase(*arguments: Any, **options: Any) -> Any:
            self.seen.append(f"{phase} {time.monotonic()}")
            if phase == self.phase:
                # Nothing handles SIGALRM: it ends the process like SIGKILL. A timer of zero would never ring.
                signal.setitimer(signal.ITIMER_REAL, max(self.after, 1e-6))
            return begin(*arguments, **options)

        return begin_phase


@dataclass
class AtOperation:
    """Counts the operations of a run and disturbs one of them; installs itself for the rest of the process's life.

    Python's audit events tell what is opened, renamed and removed, by any module; what is written is counted
    below the buffers. Of a write in which the process is killed, the first half has happened.

    Attributes:
        number: Which one, from 1; 0 for none.
        error: The `errno` that it fails with; None: the process is killed there.
        lasting: All that follow fail as well.
        seen: What was done so far.
    """

    number: int = 0
    error: int | None = None
    lasting: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, folder: Path) -> None:
        self._directory = folder / "staging"
        self._opened = ""
        sys.addaudithook(self._hear)
        mock.patch.object(
            os, "fdopen", lambda number, mode: io.BufferedRandom(_CountedFile(number, mode, self))
        ).start()
        mock.patch.object(os, "fsync", self._fsync).start()

    def _fsync(self, _: int) -> None:
        self.begin(f"fsync {self._opened}")

    @property
    def kills_next(self) -> bool:
        return self.error is None and len(self.seen) + 1 == self.number

    def begin(self, operation: str, path: str | None = None) -> None:
        self.seen.append(operation)
        if not self.number or not (len(self.seen) == self.number or (self.lasting and len(self.seen) > self.number)):
            return
        if self.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise OSError(self.error, os.strerror(self.error), path)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _BY_PATH or not isinstance(arguments[0], str | os.PathLike):
            return
        path = Path(os.fsdecode(arguments[0]))
        # A folder's contents are removed by their bare names.
        if not path.is_relative_to(self._directory) and (path.is_absolute() or event not in {"os.remove", "os.rmdir"}):
            return
        if event == "open":
            self._opened = path.name
        self.begin(f"{event} {path.name}", str(path))


class _CountedFile(io.FileIO):
    def __init__(self, number: int, mode: str, operations: AtOperation) -> None:
        super().__init__(number, mode)
        self._operations = operations
        self._opened = operations._opened

    def write(self, data: Any) -> int:
        if self._operations.kills_next:
            super().write(memoryview(data)[: len(data) // 2])
        self._operations.begin(f"write {self._opened}")
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self._operations.begin(f"truncate {self._opened}")
        return super().truncate(size)
