"""Which failures are worth another attempt, and after how long: the pure functions, as tables."""

import ssl
from datetime import UTC, datetime

import pytest
import requests
from requests.structures import CaseInsensitiveDict

from commerce_assets.api.errors import ApiError, BlockedApiError, PullError, TransientApiError
from commerce_assets.api.responses import as_api_error, error_of, parse_retry_after, seconds_asked_for
from commerce_assets.api.retry import is_retryable, retries_allowed, seconds_to_wait

NOW = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TransientApiError("503"), True),
        (TransientApiError("503", retry_after=0.5), True),
        (TransientApiError("503", retry_after=600), True),
        (TransientApiError("503", retry_after=600.1), False),
        (TransientApiError("503", retry_after=float("inf")), False),
        (BlockedApiError("401"), True),
        (ApiError("404"), False),
        (PullError(pull="orders", page=1, attempts=4, error=TransientApiError("503")), False),
        (ValueError("a bug"), False),
        (KeyboardInterrupt(), False),
        (SystemExit(1), False),
    ],
)
def test_only_transient_errors_with_a_short_wait_are_retried(
    error: BaseException,
    expected: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert is_retryable(error) is expected


@pytest.mark.parametrize(("error", "expected"), [(TransientApiError("503"), 3), (BlockedApiError("401"), 2)])
def test_three_retries_and_two_after_a_possible_block(error: ApiError, expected: int) -> None:
    """Faults 4, 6."""
    assert retries_allowed(error) == expected


@pytest.mark.parametrize(
    ("error", "attempt", "jitter", "expected"),
    [
        (TransientApiError("503"), 1, 0.0, 1),
        (TransientApiError("503"), 1, 1.0, 2),
        (TransientApiError("503"), 2, 0.0, 2),
        (TransientApiError("503"), 3, 0.5, 6),
        (TransientApiError("503"), 10, 1.0, 60),
        (TransientApiError("503"), 1000, 0.0, 30),
        (TransientApiError("429", retry_after=7), 3, 1.0, 7),
        (BlockedApiError("401"), 1, 0.3, 120),
        (BlockedApiError("401"), 2, 0.9, 120),
    ],
)
def test_the_wait_doubles_up_to_a_minute_without_retry_after(
    error: TransientApiError, attempt: int, jitter: float, expected: float
) -> None:
    """Faults 1, 4, 6."""
    assert seconds_to_wait(error, attempt, jitter) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7),
        (" 120 ", 120),
        ("36000", 36_000),
        ("9" * 400, float("inf")),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30),
        ("Wed, 21 Oct 2015 07:28:30", 30),
        ("Wed, 21 Oct 2015 09:28:30 +0200", 30),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:27:00 GMT", None),
        ("0", None),
        ("-5", None),
        ("1.5", 1.5),
        ("0.0", None),
        (".5", None),
        ("1e3", None),
        ("٣", None),
        ("²", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Thu, 99 Foo 2015 07:28:00 GMT", None),
        ("Thu, 01 Jan 99999999999 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_future_date(value: str | None, expected: float | None) -> None:
    """Faults 1, 2 and 86."""
    assert parse_retry_after(value, now=NOW) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-RateLimit-Reset": "16"}, 16),
        ({"RateLimit-Reset": "16.5"}, 16.5),
        ({"X-Rate-Limit-Reset": str(int(NOW.timestamp()) + 30)}, 30),
        ({"X-RateLimit-Reset": str((int(NOW.timestamp()) + 30) * 1000)}, 30),
        ({"X-RateLimit-Reset": str(int(NOW.timestamp()) - 30)}, None),
        ({"X-RateLimit-Reset": "0"}, None),
        ({"X-RateLimit-Reset": "soon"}, None),
        ({"Retry-After": "7", "X-RateLimit-Reset": "16"}, 7),
        ({"Retry-After": "soon", "X-RateLimit-Reset": "16"}, 16),
        ({}, None),
    ],
)
def test_the_reset_of_a_rate_limit_is_in_seconds_or_an_instant(headers: dict[str, str], expected: float | None) -> None:
    """Fault 86."""
    assert seconds_asked_for(headers, now=NOW) == expected


@pytest.mark.parametrize(
    ("status", "headers", "listed_before", "kind"),
    [
        (403, {}, False, ApiError),
        (403, {}, True, BlockedApiError),
        (403, {"Retry-After": "3"}, False, BlockedApiError),
        (403, {"X-RateLimit-Remaining": "0"}, False, BlockedApiError),
        (420, {}, False, BlockedApiError),
        (409, {}, False, BlockedApiError),
        (423, {}, False, BlockedApiError),
        (430, {}, False, BlockedApiError),
        (499, {}, False, BlockedApiError),
        (420, {"Retry-After": "36000"}, False, TransientApiError),
    ],
)
def test_a_passing_refusal_is_tried_few_times_with_long_pauses(
    status: int,
    headers: dict[str, str],
    listed_before: bool,  # noqa: FBT001 - a parameter of the test
    kind: type[ApiError],
) -> None:
    """Fault 87."""
    error = error_of(status, headers, b"", now=NOW, succeeded_before=True, listed_before=listed_before)
    assert type(error) is kind


@pytest.mark.parametrize(
    ("status", "succeeded_before", "kind", "said"),
    [
        (400, False, ApiError, "the store answered 400 Bad Request"),
        (401, False, ApiError, "the store answered 401 Unauthorized"),
        (401, True, BlockedApiError, "the store answered 401 Unauthorized after it had accepted the key"),
        (403, True, ApiError, "the store answered 403 Forbidden"),
        (404, True, ApiError, "the store answered 404 Not Found"),
        (415, False, ApiError, "the store answered 415 Unsupported Media Type"),
        (429, False, TransientApiError, "the store answered 429 Too Many Requests"),
        (500, False, TransientApiError, "the store answered 500 Internal Server Error"),
        (502, True, TransientApiError, "the store answered 502 Bad Gateway"),
        (503, True, TransientApiError, "the store answered 503 Service Unavailable"),
        (504, True, TransientApiError, "the store answered 504 Gateway Timeout"),
        (204, True, ApiError, "the store answered 204 No Content"),
        (201, True, ApiError, "the store answered 201 Created"),
        (999, True, ApiError, "the store answered 999"),
    ],
)
def test_a_status_is_an_error_of_its_kind(
    status: int,
    succeeded_before: bool,  # noqa: FBT001 - a parameter of the test
    kind: type[ApiError],
    said: str,
) -> None:
    """Faults 3 to 10, 19."""
    error = error_of(status, {}, b"never shown", now=NOW, succeeded_before=succeeded_before)
    assert type(error) is kind
    assert isinstance(error, ApiError)
    assert error.reason.partition(": ")[0] == said
    assert error.hint
    assert "never shown" not in str(error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (requests.exceptions.SSLError(ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] bad")), True),
        (requests.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")), True),
        (requests.exceptions.SSLError(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")), False),
    ],
)
def test_only_a_certificate_or_no_tls_at_all_is_final(
    error: Exception,
    expected: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Fault 85."""
    found = as_api_error(error)
    assert is_retryable(found) is expected
    assert ("the encrypted connection broke" in found.reason) is expected


def test_a_200_is_no_error_whatever_it_holds() -> None:
    assert error_of(200, {}, b"<html>", now=NOW, succeeded_before=False) is None


def test_the_headers_name_is_found_in_any_case() -> None:
    """Fault 1."""
    error = error_of(503, CaseInsensitiveDict({"retry-after": "9"}), b"", now=NOW, succeeded_before=False)
    assert isinstance(error, TransientApiError)
    assert error.retry_after == 9


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'[["to", "must be a date"]]', " (to must be a date)"),
        (b'[["a", "b"], ["c", "d"]]', " (a b; c d)"),
        (b'[["buyer", "ann@example.com is taken"], ["c", "d"]]', " (c d)"),
        (b'[["key", "sesame is unknown"]]', ""),
        (b'[["a", "\\n\\t\\u001b[0m\\u202e"]]', " (a    [0m )"),
        (b"[]", ""),
        (b"{}", ""),
        (b'[["a", 1]]', ""),
        (b'[["a"]]', ""),
        (b"[" * 100_000, ""),
        (b"\xff\xfe", ""),
        (b"", ""),
    ],
)
def test_the_messages_of_a_422_are_shown_in_a_line_and_redacted(body: bytes, said: str) -> None:
    """Fault 10."""
    error = error_of(422, {}, body, now=NOW, succeeded_before=True, hidden=("sesame",))
    assert isinstance(error, ApiError)
    assert error.reason.removeprefix("the store answered 422").partition(" (")[2] == said.removeprefix(" (")


def test_the_messages_of_a_422_are_trimmed() -> None:
    """Fault 10."""
    many = b"[" + b",".join(b'["field", "%s"]' % (b"x" * 500) for _ in range(100)) + b"]"
    error = error_of(422, {}, many, now=NOW, succeeded_before=True)
    assert len(str(error)) < 400
