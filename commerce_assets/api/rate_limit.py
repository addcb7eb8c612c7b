"""One pacer for all processes of a user on this machine: the API counts calls by IP address, and blocks it."""

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

# The API allows about one call a second. A little slower keeps calls whose way to the server differs by some
# milliseconds a full interval apart there too: measured at the server, not at the sender.
_MARGIN = 1.02


class RateLimiterError(Exception):
    """The folder through which processes keep to one pace cannot be trusted."""


class RateLimiter:
    """Lets one request start per interval, over all threads and processes that share its slot file.

    The lock is held while waiting, so that whoever has it owns the next slot; a process that dies gives it back.
    The slot file holds when the last request started, on the monotonic clock, which all processes of a machine
    share; a value from the future is from before a restart, and is ignored.

    Attributes:
        interval: Seconds between the starts of two requests.
    """

    def __init__(self, *, base_url: str, requests_per_second: float, directory: Path | None = None) -> None:
        """Paces the host of `base_url`; `requests_per_second` of 0 means no pacing at all.

        Raises:
            RateLimiterError: The folder of the slot files is another user's, who could hold every request up.
        """
        if requests_per_second < 0:
            raise ValueError(f"requests_per_second is {requests_per_second}, and must not be negative")
        self.interval = _MARGIN / requests_per_second if requests_per_second else 0.0
        self._thread_lock = threading.Lock()
        if self.interval:
            folder = directory or _slot_directory()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
                raise RateLimiterError(
                    f"{folder}, through which all processes keep to one pace, belongs to another user. "
                    "What to do: have it removed, or point TMPDIR to a folder of your own, for every process alike."
                )
            name = hashlib.sha256((urlsplit(base_url).netloc or "").lower().encode()).hexdigest()[:16]
            self._slot = folder / f"{name}.slot"
            self._file_lock = FileLock(folder / f"{name}.lock", mode=0o600)

    def wait_for_slot(self) -> float:
        """Blocks until the next request may start; returns the seconds that it took."""
        if not self.interval:
            return 0.0
        began = time.monotonic()
        with self._thread_lock, self._file_lock.acquire(poll_interval=min(0.05, self.interval / 10)):
            now = time.monotonic()
            last = self._last_start()
            if last is not None and last <= now and (pause := last + self.interval - now) > 0:
                time.sleep(pause)
            started = time.monotonic()
            self._slot.write_text(repr(started))
        return started - began

    def _last_start(self) -> float | None:
        with contextlib.suppress(OSError, ValueError):
            return float(self._slot.read_text())
        return None


def _slot_directory() -> Path:
    owner = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"commerce_assets-{owner}"
