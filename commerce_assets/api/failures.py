"""What it means when a request got no answer: in words, without the URL, which holds the query."""

import socket
import ssl
from collections.abc import Iterator
from typing import TypeVar

import requests
import urllib3

from commerce_assets.api.errors import ApiError, TransientApiError

_Cause = TypeVar("_Cause", bound=BaseException)


def as_api_error(error: Exception) -> ApiError:
    """The error of this project for one of requests or urllib3, whose own messages hold the URL."""
    told = _told(error)
    told.is_general = True
    return told


def _told(error: Exception) -> ApiError:
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return _of_tls(error)
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
        return TransientApiError("the store did not answer in time", hint="Is the store up? Run it again later.")
    if isinstance(error, urllib3.exceptions.DecodeError):
        return TransientApiError(
            "the answer's compression is broken", hint="If it stays so, look at the store's status."
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
            hint="Do not send credentials there; look at COMMERCE_API_BASE_URL and at this machine's clock.",
        )
    return ApiError(
        "there is no TLS where https was asked for",
        hint="Look at COMMERCE_API_BASE_URL: another port? http, if the store runs on this machine?",
    )


def _of_connection(error: Exception) -> ApiError:
    if _cause_of(error, socket.gaierror):
        return TransientApiError(
            "the store could not be reached: its host name is unknown here",
            hint="Look at the spelling in COMMERCE_API_BASE_URL, and at the network.",
        )
    if _cause_of(error, ConnectionRefusedError):
        return TransientApiError(
            "the store could not be reached: nothing listens at its address",
            hint="Is the store up? Look at host and port in COMMERCE_API_BASE_URL.",
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
