"""One rate limiter for all processes of a user on this machine, because the API limits requests per IP address."""

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

# The API allows about one request per second, measured at the server. The margin keeps requests a full interval apart
# there too, although their latencies differ by some milliseconds.
_MARGIN = 1.02


class RateLimiterError(Exception):
    """The folder of the slot files belongs to another user."""


class RateLimiter:
    """Lets one request start per interval, across all threads and processes that share its slot file.

    A process holds the lock while it waits, so it owns the next slot; a process that dies releases it. The slot file
    contains the start of the last request on the monotonic clock, which all processes of a machine share. A value in
    the future is from before a reboot and is ignored.

    Attributes:
        interval: Seconds between the starts of two requests.
    """

    def __init__(self, *, base_url: str, requests_per_second: float, directory: Path | None = None) -> None:
        """Limit requests to the host of `base_url`; `requests_per_second=0` turns the limit off.

        Raises:
            RateLimiterError: The folder of the slot files belongs to another user, who could block every request.
        """
        if requests_per_second < 0:
            raise ValueError(f"requests_per_second must not be negative: {requests_per_second}")
        self.interval = _MARGIN / requests_per_second if requests_per_second else 0.0
        self._thread_lock = threading.Lock()
        if self.interval:
            folder = directory or _slot_directory()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
                raise RateLimiterError(
                    f"{folder}, the folder of the rate limit shared by all processes, belongs to another user. "
                    "Fix: remove it, or set TMPDIR to your own folder, in every process."
                )
            name = hashlib.sha256((urlsplit(base_url).netloc or "").lower().encode()).hexdigest()[:16]
            self._slot = folder / f"{name}.slot"
            self._file_lock = FileLock(folder / f"{name}.lock", mode=0o600)

    def wait_for_slot(self) -> float:
        """Block until the next request may start; return the seconds waited."""
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
