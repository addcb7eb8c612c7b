"""Errors of the API. `responses` decides which one a response means, `retry` which ones are worth another attempt.

    ApiError                    the API did not give what was asked for, and asking again would not help
    ├── ListMovedError          the list moved while it was read, so rows may be missing
    └── TransientApiError       the same request may succeed if it is sent again
        └── BlockedApiError     the store refuses for now: few tries, with long pauses
    PullError                   a pull failed for good; says where, and holds the ApiError

Messages say which endpoint, window, page and attempt, and how to fix it. They never hold a response body, a query
string, a credential or a buyer's data.
"""

from typing import Self


class ApiError(Exception):
    """The API did not give what was asked for, and asking again would not help.

    Attributes:
        reason: What happened, in a clause.
        hint: How to fix it, in a sentence; may be empty.
        status: The HTTP status that said so; None where it was something else.
        is_general: It is about the store, the key or this address, whatever is asked for.
    """

    def __init__(self, reason: str, *, hint: str = "", status: int | None = None, is_general: bool = False) -> None:
        super().__init__(f"{reason}. {hint}".rstrip() if hint else reason)
        self.reason = reason
        self.hint = hint
        self.status = status
        self.is_general = is_general

    def alone(self) -> Self:
        """Drop the frames that it came through, and the errors before it.

        Their variables hold the answer's body and the request's headers, and some tools send variables off with a
        traceback. Where in the code it was raised says no more than the reason does.
        """
        self.__context__ = None
        return self.with_traceback(None)


class ListMovedError(ApiError):
    """The list moved faster than it can be read, so rows may be missing from what was read."""


class TransientApiError(ApiError):
    """The same request may succeed if it is sent again.

    Attributes:
        retry_after: Seconds that the server asked to wait; None if it did not say.
    """

    def __init__(self, reason: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(reason, hint=hint)
        self.retry_after = retry_after


class BlockedApiError(TransientApiError):
    """The store refuses for now: it blocks an address that asks too fast, or says that it is throttled or locked."""


class PullError(Exception):
    """A pull failed for good: where it was, what happened, how to fix it."""

    def __init__(self, *, pull: object, page: int | None, attempts: int, error: ApiError) -> None:
        tries = f"attempt {attempts}" if attempts > 1 else "first attempt"
        where = pull if page is None else f"{pull}, page {page}"
        # A hint may also begin with the name of a setting.
        begin = 1 if error.hint[1:2].islower() else 0
        hint = f" Fix: {error.hint[:begin].lower()}{error.hint[begin:]}" if error.hint else ""
        super().__init__(f"{where}, {tries}: {error.reason}.{hint}")
        self.page = page
        self.error = error
