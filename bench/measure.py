"""Runs a command and measures it and all its descendants, with nothing but the operating system's own counts."""

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_OF_ONES_OWN = 64 << 20
_KEPT_OF_OUTPUT = 20_000


class CommandFailedError(Exception):
    """The command failed or took too long; holds the end of what it said."""


@dataclass(frozen=True)
class Measured:
    """Seconds of wall clock and of CPU, bytes of the largest process, and the end of what was printed."""

    wall: float
    cpu: float
    peak: int
    output: str


def run(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path, timeout: float = 3_600
) -> Measured:
    """Runs the command to its end, in a process group of its own.

    CPU is that of the process and of every descendant that was waited for. The peak is the kernel's, of the largest
    of them; a child starts with the peak of who started it, hence this process must be small.

    Raises:
        CommandFailedError: It did not end with 0, or not in time.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if own > _MOST_OF_ONES_OWN:
        raise CommandFailedError(f"the benchmark itself has grown to {own >> 20} MiB, and would be measured instead")
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        alarm = threading.Timer(timeout, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        alarm.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    said = _end_of(log)
    if process.returncode:
        raise CommandFailedError(f"{command[0]} ended with {process.returncode}:\n{said[-3_000:]}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, said)


def _end_of(log: Path) -> str:
    with log.open("rb") as output:
        output.seek(max(0, log.stat().st_size - _KEPT_OF_OUTPUT))
        return output.read().decode(errors="replace")
