"""What can go wrong between this project and the API.

Messages say which endpoint, window, page and attempt, and what to do. They never hold a response body, a query
string, a credential or a buyer's data.
"""

from typing import Self


class ApiError(Exception):
    """The API did not give what was asked for, and asking again would not help.

    Attributes:
        reason: What happened, in a clause.
        hint: What to do about it, in a sentence; may be empty.
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
        """Without the frames that it came through, and the errors before it.

        Their variables hold the answer's body and the request's headers, and some tools send variables off with a
        traceback. Where in the code it was raised says no more than the reason does.
        """
        self.__context__ = None
        return self.with_traceback(None)


class TransientApiError(ApiError):
    """The same request may succeed if it is sent again.

    Attributes:
        retry_after: Seconds that the server asked to wait; None if it did not say.
    """

    def __init__(self, reason: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(reason, hint=hint)
        self.retry_after = retry_after


class BlockedApiError(TransientApiError):
    """A 401 after earlier successes: the API blocks an address that asks too fast, or the key was revoked."""


class PullError(Exception):
    """A pull failed for good: where it was, what happened, what to do."""

    def __init__(self, *, pull: object, page: int, attempts: int, error: ApiError) -> None:
        tries = f"attempt {attempts}" if attempts > 1 else "first attempt"
        hint = f" What to do: {error.hint}" if error.hint else ""
        super().__init__(f"{pull}, page {page}, {tries}: {error.reason}.{hint}")
        self.page = page
        self.error = error
