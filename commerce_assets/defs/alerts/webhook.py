"""Post a text to a Slack-compatible webhook: `{"text": ...}`. No error shows the URL, which is a secret."""

import time
from collections.abc import Callable
from html import escape

import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError

from commerce_assets import __version__
from commerce_assets.api.deadline import DeadlineAdapter

# Three attempts and their pauses fit into the 60 seconds that Dagster gives a sensor.
_ATTEMPTS = 3
_SECONDS = 10.0


class DeliveryError(Exception):
    """The receiver did not accept the message."""


class TransientDeliveryError(DeliveryError):
    """The receiver may accept the message later."""


def post(url: str, text: str, *, seconds: float = _SECONDS, sleep: Callable[[float], None] = time.sleep) -> None:
    """Post the text in up to three attempts of `seconds` each.

    Raises:
        DeliveryError: The receiver did not accept it; after a time-out it may have, all the same.
    """
    Retrying(
        retry=retry_if_exception_type(TransientDeliveryError),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=1, max=4),
        sleep=sleep,
        reraise=True,
    )(_post_once, url, text, seconds)


def _post_once(url: str, text: str, seconds: float) -> None:
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, DeadlineAdapter(seconds=seconds))
        session.trust_env = False  # no proxy that sees the message, no .netrc that adds to it
        try:
            with session.post(
                url,
                json={"text": escape(text, quote=False)},  # a field named <!channel> must not notify anyone
                headers={"User-Agent": f"commerce_assets/{__version__}"},
                allow_redirects=False,
                stream=True,
                timeout=seconds,
            ) as response:
                status = response.status_code
        # The messages of these errors hold the URL.
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            raise TransientDeliveryError(
                f"alert not sent: {type(error).__name__} at the webhook. Fix: none; the next tick retries."
            ) from None
        except requests.RequestException as error:
            raise DeliveryError(
                f"alert not sent: {type(error).__name__}. Fix: check COMMERCE_ALERT_WEBHOOK_URL."
            ) from None
    if status == requests.codes.too_many_requests or status >= requests.codes.server_error:
        raise TransientDeliveryError(f"alert not sent: HTTP {status}. Fix: none; the next tick retries.")
    if not requests.codes.ok <= status < requests.codes.multiple_choices:
        raise DeliveryError(f"alert not sent: HTTP {status}. Fix: check COMMERCE_ALERT_WEBHOOK_URL.")
