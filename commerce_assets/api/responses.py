"""Turn a response that is no success, or the lack of a response, into an `ApiError` with its cause and its fix."""

import re
import socket
import ssl
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import unquote

import msgspec
import requests
import urllib3

from commerce_assets.api.errors import ApiError, BlockedApiError, TransientApiError
from commerce_assets.api.retry import BLOCKED_STATUSES, LONGEST_RETRY_AFTER_SECONDS, RETRYABLE_STATUSES
from commerce_assets.api.timestamps import parse_http_date

# Said of the key or of this machine's address, and not of the list that was asked for.
_GENERAL = frozenset({401, 407, 420, 429, 430})
_RESETS = ("RateLimit-Reset", "X-RateLimit-Reset", "X-Rate-Limit-Reset")
_REMAINING = ("RateLimit-Remaining", "X-RateLimit-Remaining", "X-Rate-Limit-Remaining")
# A larger reset is a Unix timestamp instead of a number of seconds; one above the second bound is in milliseconds.
_EPOCH, _EPOCH_IN_MILLISECONDS = 1e9, 1e12
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_LONGEST_MESSAGE = 200
# An e-mail address in a message would be a buyer's, and a name with a value is of the query.
_ADDRESS_OR_QUERY = re.compile(r"@|\w=")

_Cause = TypeVar("_Cause", bound=BaseException)


def error_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    succeeded_before: bool,
    listed_before: bool = False,
    hidden: Collection[str] = (),
) -> ApiError | None:
    """The error that an answer means; None for a 200, whose body decides.

    Args:
        status: The HTTP status.
        headers: The answer's headers, found whatever their case.
        body: The answer's body; only the messages of a 422 are shown, trimmed.
        now: For a Retry-After that is a date.
        succeeded_before: Whether this client has had a 200 already, so that a 401 is a block and not a wrong key.
        listed_before: Whether it has had a page of this list, so that a 403 is a block and not a missing permission.
        hidden: What must not be shown, should the store repeat it.
    """
    if status == HTTPStatus.OK:
        return None
    error = _error_of(
        status,
        headers,
        body,
        retry_after=seconds_asked_for(headers, now=now),
        succeeded_before=succeeded_before,
        listed_before=listed_before,
        hidden=hidden,
    )
    error.status = status
    error.is_general = status in _GENERAL
    return error


def _error_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    retry_after: float | None,
    succeeded_before: bool,
    listed_before: bool,
    hidden: Collection[str],
) -> ApiError:
    said = f"the store answered {_status_line(status)}"
    if status in RETRYABLE_STATUSES:
        return _transient(status, said, retry_after)
    is_forbidden_for_now = status == HTTPStatus.FORBIDDEN and (
        listed_before or "Retry-After" in headers or any(headers.get(name) == "0" for name in _REMAINING)
    )
    if status in BLOCKED_STATUSES or is_forbidden_for_now:
        return _blocked(said, retry_after)
    if status == HTTPStatus.UNAUTHORIZED and succeeded_before:
        return BlockedApiError(
            f"{said} after it had accepted the key: it blocks requests that come too fast, or the key was revoked",
            hint="Look at the key in the store's API settings; if it is valid, wait, and run it again.",
        )
    known = {
        204: ("an empty list would be 200 and []", "Look at COMMERCE_API_BASE_URL and the endpoint's path."),
        400: ("the store does not understand the request", "Look at the endpoint's path and filters."),
        401: (
            "the key or the secret is wrong",
            "Correct COMMERCE_API_KEY and COMMERCE_API_SECRET, or switch the API on in the store's settings.",
        ),
        403: ("the key may not read this", "Tick its permission for this resource in the store's API settings."),
        404: ("the path is wrong", "Look at COMMERCE_API_BASE_URL and the endpoint's path."),
        415: ("the store does not offer JSON at this path", "Look at the endpoint's path, and at any proxy between."),
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return ApiError(
            said + _messages_of(body, hidden),
            hint="Compare the endpoint's parameters in endpoints.py with the API's documentation.",
        )
    cause, hint = known.get(status, ("the API does not document that", "Look at COMMERCE_API_BASE_URL."))
    reason = f"{said}: {cause}"
    return ApiError(reason, hint=hint)


def _blocked(said: str, retry_after: float | None) -> TransientApiError:
    if retry_after is not None and retry_after > LONGEST_RETRY_AFTER_SECONDS:
        return _too_long(said, retry_after)
    error = BlockedApiError(
        f"{said}: it refuses for now", hint="Lower COMMERCE_API_REQUESTS_PER_SECOND, or run it again later."
    )
    error.retry_after = retry_after
    return error


def _too_long(said: str, retry_after: float) -> TransientApiError:
    return TransientApiError(
        f"{said} and asks to wait for {retry_after:,.0f} s, longer than a run is kept waiting",
        hint="Start the run again after that time.",
        retry_after=retry_after,
    )


def _transient(status: int, said: str, retry_after: float | None) -> TransientApiError:
    if retry_after is not None and retry_after > LONGEST_RETRY_AFTER_SECONDS:
        return _too_long(said, retry_after)
    hint = (
        "Lower COMMERCE_API_REQUESTS_PER_SECOND, or stop other programs that call the API from this address."
        if status == HTTPStatus.TOO_MANY_REQUESTS
        else "Run it again later; the pages extracted so far are kept."
    )
    return TransientApiError(said, hint=hint, retry_after=retry_after)


def seconds_asked_for(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds that an answer asks to wait: by Retry-After, else by the reset of its rate limit."""
    if (seconds := parse_retry_after(headers.get("Retry-After"), now=now)) is not None:
        return seconds
    for name in _RESETS:
        if _NUMBER.fullmatch(value := headers.get(name, "").strip()):
            reset = float(value)
            if reset >= _EPOCH:
                reset = reset / (1000 if reset >= _EPOCH_IN_MILLISECONDS else 1) - now.timestamp()
            return reset if reset > 0 else None
    return None


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds to wait according to a Retry-After header, which holds seconds or an HTTP date.

    None for what cannot be read or does not lie in the future: the usual back-off then applies.
    """
    if value is None:
        return None
    value = value.strip()
    if _NUMBER.fullmatch(value):
        seconds = float(value)
    elif instant := parse_http_date(value):
        seconds = (instant - now).total_seconds()
    else:
        return None
    return seconds if seconds > 0 else None


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


def as_api_error(error: Exception) -> ApiError:
    """The error of this project for one of requests or urllib3, whose own messages hold the URL."""
    api_error = _without_answer(error)
    api_error.is_general = True
    return api_error


def _without_answer(error: Exception) -> ApiError:
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return _of_tls(error)
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
        return TransientApiError(
            "the store did not answer in time", hint="Check that the store is up, and run it again."
        )
    if isinstance(error, urllib3.exceptions.DecodeError):
        return TransientApiError(
            "the answer's compression is broken", hint="Run it again; if it fails again, ask the store's support."
        )
    if isinstance(error, requests.exceptions.ConnectionError):
        return _of_connection(error)
    if isinstance(error, urllib3.exceptions.ProtocolError):
        return TransientApiError("the connection broke in the middle of the answer", hint="Run it again later.")
    return ApiError(f"the request could not be sent ({type(error).__name__})", hint="Look at COMMERCE_API_BASE_URL.")


def _of_tls(error: Exception) -> ApiError:
    if refusal := _cause_of(error, ssl.SSLCertVerificationError):
        return ApiError(
            f"the store's certificate is not valid for its name, or not trusted ({refusal.verify_message})",
            hint="Look at COMMERCE_API_BASE_URL and at this machine's clock; no credentials were sent.",
        )
    # Anything else, such as a record that was damaged on its way or a hang-up in the handshake, may pass.
    if any("WRONG_VERSION_NUMBER" in str(cause) for cause in _causes(error)):
        return ApiError(
            "there is no TLS where https was asked for",
            hint="Look for another port in COMMERCE_API_BASE_URL; use http if the store runs on this machine.",
        )
    return TransientApiError("the encrypted connection broke", hint="Look at the network, and run it again later.")


def _of_connection(error: Exception) -> ApiError:
    if _cause_of(error, socket.gaierror):
        return TransientApiError(
            "the store could not be reached: its host name is unknown here",
            hint="Look at the spelling in COMMERCE_API_BASE_URL, and at the network.",
        )
    if _cause_of(error, ConnectionRefusedError):
        return TransientApiError(
            "the store could not be reached: nothing listens at its address",
            hint="Check that the store is up, and host and port in COMMERCE_API_BASE_URL.",
        )
    return TransientApiError(
        "the store could not be reached, or hung up", hint="Look at COMMERCE_API_BASE_URL and at the network."
    )


def _cause_of(error: BaseException, kind: type[_Cause]) -> _Cause | None:
    return next((cause for cause in _causes(error) if isinstance(cause, kind)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it came from: each library on the way wraps the one below it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
