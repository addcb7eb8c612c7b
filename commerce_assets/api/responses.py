"""What an HTTP status means here: a pure mapping from an answer to an error, or to none."""

import re
from collections.abc import Collection, Mapping
from datetime import datetime
from http import HTTPStatus
from urllib.parse import unquote

import msgspec

from commerce_assets.api.errors import ApiError, BlockedApiError, TransientApiError
from commerce_assets.api.retry import LONGEST_RETRY_AFTER_SECONDS, parse_retry_after

# Of the server errors, only what the store will never do is final; a proxy in front of it has 520 and more of its own.
_TRANSIENT = frozenset({408, 425, 429, *range(500, 600)} - {501, 505})
# Said of the key or of this machine's address, and not of the list that was asked for.
_GENERAL = frozenset({401, 407, 429})
_LONGEST_MESSAGE = 200
# An e-mail address in a message would be a buyer's, and a name with a value is of the query.
_ADDRESS_OR_QUERY = re.compile(r"@|\w=")


def error_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    succeeded_before: bool,
    hidden: Collection[str] = (),
) -> ApiError | None:
    """The error that an answer stands for; None for a 200, whose body is then looked at.

    Args:
        status: The HTTP status.
        headers: The answer's headers, found whatever their case.
        body: The answer's body; only the messages of a 422 are shown, trimmed.
        now: For a Retry-After that is a date.
        succeeded_before: Whether this client has had a 200 already: it tells a block from a wrong key.
        hidden: What must not be shown, should the store repeat it.
    """
    if status == HTTPStatus.OK:
        return None
    error = _error_of(status, headers, body, now=now, succeeded_before=succeeded_before, hidden=hidden)
    error.status = status
    error.is_general = status in _GENERAL
    return error


def _error_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    succeeded_before: bool,
    hidden: Collection[str],
) -> ApiError:
    said = f"the store answered {_status_line(status)}"
    if status in _TRANSIENT:
        return _transient(status, said, parse_retry_after(headers.get("Retry-After"), now=now))
    if status == HTTPStatus.UNAUTHORIZED and succeeded_before:
        return BlockedApiError(
            f"{said} after it had accepted the key", hint="Blocked for asking too fast, or was the key revoked?"
        )
    hints = {
        204: "A list that is empty would be 200 and []; look at the base URL and the path.",
        400: "The store does not understand the request; look at the endpoint's path and filters.",
        401: "The key or the secret is wrong: look at COMMERCE_API_KEY and COMMERCE_API_SECRET, "
        "and whether the API is switched on for the account.",
        403: "The key may not read this: tick its permission for this resource in the store's API settings.",
        404: "The path is wrong: look at COMMERCE_API_BASE_URL and the endpoint's path.",
        415: "The store does not offer JSON at this path, although Accept: application/json was sent.",
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return ApiError(
            said + _messages_of(body, hidden), hint="The store refuses a parameter; is this a known dialect?"
        )
    return ApiError(said, hint=hints.get(status, "This is not one of the API's known answers; look at the base URL."))


def _transient(status: int, said: str, retry_after: float | None) -> TransientApiError:
    if retry_after is not None and retry_after > LONGEST_RETRY_AFTER_SECONDS:
        return TransientApiError(
            f"{said} and asks to wait for {retry_after:,.0f} s, longer than a run is kept waiting",
            hint="Start the run again after that time.",
            retry_after=retry_after,
        )
    hint = (
        "Lower COMMERCE_API_REQUESTS_PER_SECOND; is something else calling the API from this address?"
        if status == HTTPStatus.TOO_MANY_REQUESTS
        else "The store has trouble: run it again later; what has been pulled is kept."
    )
    return TransientApiError(said, hint=hint, retry_after=retry_after)


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _messages_of(body: bytes, hidden: Collection[str]) -> str:
    """The messages of a 422, `[[field, message], ...]`, in one line; nothing if the body is anything else."""
    try:
        pairs = msgspec.json.decode(body, type=list[tuple[str, str]])
    except (msgspec.DecodeError, RecursionError):
        return ""
    messages = (f"{field} {message}" for field, message in pairs[:5])
    text = "; ".join(message for message in messages if not _quotes(message, hidden))
    text = "".join(character if character.isprintable() else " " for character in text)
    return f" ({text[:_LONGEST_MESSAGE]})" if text else ""


def _quotes(message: str, hidden: Collection[str]) -> bool:
    """Whether a message repeats what must not be shown: the API echoes what it refuses."""
    plain = unquote(message)
    return bool(_ADDRESS_OR_QUERY.search(plain)) or any(word in plain for word in hidden)
