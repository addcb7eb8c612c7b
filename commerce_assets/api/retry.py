"""Which failures are worth another attempt, and after how long. Pure, but for the jitter."""

import random

from tenacity import RetryCallState

from commerce_assets.api.errors import ApiError, BlockedApiError, TransientApiError

# Of the server errors, only what the store will never do is final; proxies add their own from 520 on.
RETRYABLE_STATUSES = frozenset({408, 425, 429, *range(500, 600)} - {501, 505})
# Refusals that pass, but not within seconds: a conflict, a lock, a shop's or a proxy's own signs of "too many".
BLOCKED_STATUSES = frozenset({409, 420, 423, 430, 499})
# A server that asks for more than this is not worth a worker that waits: the run fails and says when to come back.
LONGEST_RETRY_AFTER_SECONDS = 600.0

MAX_RETRIES = 3
MAX_RETRIES_WHEN_BLOCKED = 2

FIRST_BACKOFF_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 60.0
# A client that has run for years against the platform sleeps this long when it finds itself blocked.
BLOCKED_PAUSE_SECONDS = 120.0


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may succeed if it is sent again."""
    if not isinstance(error, TransientApiError):
        return False
    return error.retry_after is None or error.retry_after <= LONGEST_RETRY_AFTER_SECONDS


def retries_allowed(error: ApiError) -> int:
    return MAX_RETRIES_WHEN_BLOCKED if isinstance(error, BlockedApiError) else MAX_RETRIES


def seconds_to_wait(error: TransientApiError, attempt: int, jitter: float) -> float:
    """How long to wait after the `attempt`-th attempt (from 1) failed.

    Args:
        error: Why it failed.
        attempt: How many attempts there were.
        jitter: From 0 to 1; spreads clients that failed together over half of the exponential wait.
    """
    if error.retry_after is not None:
        return error.retry_after
    if isinstance(error, BlockedApiError):
        return BLOCKED_PAUSE_SECONDS
    backoff = min(FIRST_BACKOFF_SECONDS * 2.0 ** (attempt - 1), LONGEST_BACKOFF_SECONDS)
    return backoff * (0.5 + jitter / 2)


def should_stop(state: RetryCallState) -> bool:
    """For tenacity: every retry that the last failure is worth has been used."""
    error = state.outcome.exception() if state.outcome else None
    return isinstance(error, ApiError) and state.attempt_number > retries_allowed(error)


def wait_for(state: RetryCallState) -> float:
    """For tenacity: seconds until the next attempt."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, TransientApiError):  # tenacity asks only after a failure that is_retryable
        raise TypeError(f"no wait is defined for {error!r}")
    return seconds_to_wait(error, state.attempt_number, random.random())  # noqa: S311 - not cryptography
