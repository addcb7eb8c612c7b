"""Process groups that end together, whatever ends first."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import FrameType
from typing import IO, Self, cast

# Dagster ends in two to five seconds, a run under way included; the promise is ten.
GRACE_SECONDS = 7.0
_KILL_SECONDS = 1.0
_POLL_SECONDS = 0.1
_PR_SET_CHILD_SUBREAPER = 36


class StopRequested(Exception):  # noqa: N818 - not an error
    """The user, the system or make asked for the end."""


class ProcessEnded(Exception):  # noqa: N818 - not always an error
    """A process that should run for as long as `make dev` ended by itself."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(f"{name} ended by itself with status {status}")
        # A shell's way to put a signal into an exit status; never 0, for nobody asked for an end.
        self.exit_status = 128 - status if status < 0 else status or 1


class Supervisor:
    """Starts processes, each the leader of a session of its own, and ends them and all their descendants.

    Each gets a session of its own so that a Ctrl-C reaches this process alone, which then ends the others in order. A
    keeper (`commerce_assets.dev.keeper`) does the same should this process be killed, and holds `lock` until it has.
    """

    def __init__(self, *, lock: int) -> None:
        self._stopping = False
        self._parent = os.getppid()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A script's background job is started with SIGINT ignored, which Dagster would inherit and apply to SIGTERM
            # too; what is handled here is not ignored there. But nohup ignores SIGHUP on purpose.
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
                signal.signal(signum, self._request_stop)
        if sys.platform == "linux":
            # Orphans come to this process, which asks how they ended; the first process of many a container never does.
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "commerce_assets.dev.keeper"],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            pass_fds=(lock,),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end_groups([child.pid for child in self._children.values()])
        self._pipe.close()
        self._keeper.wait()

    def start(self, name: str, *arguments: str, environment: Mapping[str, str], quiet: bool = False) -> None:
        """Start `python -m <arguments>`, to run until the end; `quiet` drops what it says, but not what went wrong."""
        child = self._spawn(name, arguments, environment, stdout=subprocess.DEVNULL if quiet else None)
        with suppress(BrokenPipeError):  # a keeper that was killed cannot help, but only a second kill would need it
            self._pipe.write(f"{child.pid}\n".encode())

    def run(self, name: str, *arguments: str, environment: Mapping[str, str]) -> None:
        """Run `python -m <arguments>` and wait for its end.

        Raises:
            ProcessEnded: if its status is not 0.
        """
        child = self._spawn(name, arguments, environment)
        while child.poll() is None:
            time.sleep(_POLL_SECONDS)
            self._raise_if_stopping()
        del self._children[name]
        if child.returncode:
            raise ProcessEnded(name, child.returncode)

    def pause(self) -> None:
        """Let a moment pass.

        Raises:
            StopRequested: if the end was asked for.
            ProcessEnded: if a process has ended by itself.
        """
        time.sleep(_POLL_SECONDS)
        self._raise_if_stopping()
        for name, child in self._children.items():
            if child.poll() is not None:
                raise ProcessEnded(name, child.returncode)

    def _spawn(
        self, name: str, arguments: Iterable[str], environment: Mapping[str, str], stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
            [sys.executable, "-m", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            start_new_session=True,
        )
        self._children[name] = child
        return child

    @property
    def _pipe(self) -> IO[bytes]:
        return cast("IO[bytes]", self._keeper.stdin)

    def _request_stop(self, _signum: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _raise_if_stopping(self) -> None:
        # A make that was killed cannot pass a signal on, and its user thinks that everything is gone.
        if self._stopping or ("MAKELEVEL" in os.environ and os.getppid() != self._parent):
            raise StopRequested


def end_groups(pgids: Iterable[int], *, grace: float = GRACE_SECONDS) -> None:
    """Terminate these process groups, and kill what is left of them after `grace` seconds."""
    for signum, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, _KILL_SECONDS)):
        pgids = [pgid for pgid in pgids if _signal_group(pgid, signum)]
        deadline = time.monotonic() + patience
        while pgids and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 2)
            pgids = [pgid for pgid in pgids if _signal_group(pgid, 0)]


def _signal_group(pgid: int, signum: int) -> bool:
    """Send a signal to a group and tell whether anything is left of it."""
    with suppress(ChildProcessError):  # what is dead counts as alive until its parent has asked how it ended
        while os.waitpid(-pgid, os.WNOHANG) != (0, 0):
            pass
    try:
        os.killpg(pgid, signum)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return False
    return True
