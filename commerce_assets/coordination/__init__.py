"""How the processes of a shop take turns: one interface, with lock files on one machine or PostgreSQL for several.

|             | is for                        | `lock_files`                          | `postgres`              |
|-------------|-------------------------------|---------------------------------------|-------------------------|
| `slot`      | requests per second to a host | a locked file in the temporary folder | a locked row            |
| `load_lock` | one load of a file at a time  | a locked file beside it               | and an advisory lock    |
| `hold_run`  | showing that a run is alive   | nothing: its process id shows it      | an advisory lock        |

The operating system, or the server, releases what a killed process held.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Protocol


class CoordinationError(Exception):
    """Processes cannot take turns; the message says why and how to fix it."""


class Slot(Protocol):
    """The start of the last request to a host; one process at a time waits for the next."""

    def take(self, interval: float) -> None:
        """Block until `interval` seconds after the last start, and record this start."""


class Lock(Protocol):
    """A lock that one process at a time can hold."""

    def acquire(self) -> str | None:
        """Acquire the lock without waiting; return None, or the name of the process that holds it."""

    def is_held(self) -> bool:
        """Return whether this lock, once acquired, is still held: a connection can break, a file be removed."""

    def release(self) -> None:
        """Release the lock if it is held."""


class Coordination(Protocol):
    """Makes the slots and locks that processes share.

    Attributes:
        holds_runs: Whether a run holds a lock while it is alive, so that other machines see it.
    """

    holds_runs: ClassVar[bool]

    def slot(self, host: str) -> Slot:
        """Return the slot of a host's requests."""

    def load_lock(self, database: Path) -> Lock:
        """Return the lock of loads into a database file."""

    def hold_run(self, run_id: str) -> AbstractContextManager[None]:
        """Show that the run is alive while the context lasts."""

    def is_run_held(self, run_id: str) -> bool | None:
        """Return whether a process holds the run; None if only the process id can show it."""
