"""The API's limit on calls a second."""

import math


class TokenBucket:
    """Lets `burst` requests through at once and then `rate` a second; instants are of any one monotonic clock."""

    def __init__(self) -> None:
        self._tokens = math.inf
        self._filled_at = 0.0

    def wait_for(self, now: float, *, rate: float, burst: int) -> float:
        """Take a token and return 0, or return the seconds until there will be one."""
        self._tokens = min(burst, self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / rate
        self._tokens -= 1
        return 0.0
