"""Run a command and measure it with all its descendants, by the operating system's counters."""

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LARGEST_OWN_PEAK = 64 << 20
_KEPT_OF_OUTPUT = 20_000


class CommandFailedError(Exception):
    """The command failed or took too long; the message has the end of its output."""


@dataclass(frozen=True)
class Measured:
    """Seconds of wall clock and of CPU, bytes of the largest process, and the end of the output."""

    wall: float
    cpu: float
    peak: int
    output: str


def run(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path, timeout: float = 3_600
) -> Measured:
    """Run the command in a separate process group, to its end.

    CPU is that of the process and of every descendant that was waited for. The peak is the kernel's, of the largest
    process; a child starts with the peak of its parent, so this process must be small.

    Raises:
        CommandFailedError: It failed or took too long.
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if own > _LARGEST_OWN_PEAK:
        raise CommandFailedError(f"the benchmark itself uses {own >> 20} MiB, which would be measured instead")
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
