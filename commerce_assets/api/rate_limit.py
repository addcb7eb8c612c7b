"""One rate limiter for all processes that share a coordination, because the API limits requests per IP address."""

import threading
import time
from urllib.parse import urlsplit

from commerce_assets.coordination import Coordination
from commerce_assets.coordination.lock_files import LockFiles

# The API allows about one request per second, measured at the server. The margin keeps requests a full interval apart
# there too, although their latencies differ by some milliseconds.
_MARGIN = 1.02


class RateLimiter:
    """Lets one request start per interval, across all threads and processes that share its slot.

    Attributes:
        interval: Seconds between the starts of two requests.
    """

    def __init__(self, *, base_url: str, requests_per_second: float, coordination: Coordination | None = None) -> None:
        """Limit requests to the host of `base_url`; `requests_per_second=0` turns the limit off.

        Raises:
            CoordinationError: The slot cannot be shared.
        """
        if requests_per_second < 0:
            raise ValueError(f"requests_per_second must not be negative: {requests_per_second}")
        self.interval = _MARGIN / requests_per_second if requests_per_second else 0.0
        self._thread_lock = threading.Lock()
        if self.interval:
            self._slot = (coordination or LockFiles()).slot((urlsplit(base_url).netloc or "").lower())

    def wait_for_slot(self) -> float:
        """Block until the next request may start; return the seconds waited."""
        if not self.interval:
            return 0.0
        began = time.monotonic()
        with self._thread_lock:
            self._slot.take(self.interval)
        return time.monotonic() - began
