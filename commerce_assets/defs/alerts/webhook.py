"""Posts a text to a webhook that takes what Slack's take: `{"text": ...}`.

The URL is a secret: whoever knows it can post. No error shows it, and nothing else in the environment has a say in
where it goes.
"""

import time
from collections.abc import Callable

import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential
from urllib3.exceptions import HTTPError

from commerce_assets import __version__
from commerce_assets.api.deadline import DeadlineAdapter

# Three attempts and their pauses stay well below the minute that Dagster gives a sensor.
_ATTEMPTS = 3
_SECONDS = 10.0
_TOO_MANY = 429
_MENDABLE = 500


class DeliveryError(Exception):
    """The receiver did not take the message; says why, and what to do."""


class TransientDeliveryError(DeliveryError):
    """It may take it in a moment."""


def post(url: str, text: str, *, seconds: float = _SECONDS, sleep: Callable[[float], None] = time.sleep) -> None:
    """Posts the text, with two more attempts if the receiver is not well; `seconds` bound each of them.

    Raises:
        DeliveryError: It was not taken. After a time-out it may have been, all the same.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(TransientDeliveryError),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(multiplier=1, max=4),
        sleep=sleep,
        reraise=True,
    )
    retrying(_post_once, url, text, seconds)


def _post_once(url: str, text: str, seconds: float) -> None:
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, DeadlineAdapter(seconds=seconds))
        # Nothing from the environment: no proxy that sees the message, no .netrc that adds to it.
        session.trust_env = False
        try:
            # The answer's body is not read: its status says all.
            with session.post(
                url,
                json={"text": _escaped(text)},
                headers={"User-Agent": f"commerce_assets/{__version__}"},
                allow_redirects=False,
                stream=True,
                timeout=seconds,
            ) as response:
                status = response.status_code
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            # Its own message holds the URL.
            raise TransientDeliveryError(
                f"the alerts' receiver could not be reached, or did not answer in time ({type(error).__name__}); "
                "it is tried again with the next tick"
            ) from None
        except requests.RequestException as error:
            raise DeliveryError(
                f"the alert could not be sent ({type(error).__name__}); look at COMMERCE_ALERT_WEBHOOK_URL"
            ) from None
    if status == _TOO_MANY or status >= _MENDABLE:
        raise TransientDeliveryError(f"the alerts' receiver answered {status}; it is tried again with the next tick")
    if not requests.codes.ok <= status < requests.codes.multiple_choices:
        raise DeliveryError(f"the alerts' receiver answered {status}; look at COMMERCE_ALERT_WEBHOOK_URL")


def _escaped(text: str) -> str:
    """As Slack wants it; `<!channel>` in a field's name wakes nobody then."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
