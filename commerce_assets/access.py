"""Who is asked, and with whose key: the settings of the API, checked, and a client made from them."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.settings import SettingError

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient, Limits

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def build_client(
    *,
    base_url: str,
    key: str,
    secret: str,
    paths: Mapping[str, str],
    requests_per_second: float,
    concurrency: int,
    overlap_windows: bool,
    log: logging.Logger,
    per_page: int | None = None,
    limits: "Limits | None" = None,
) -> "CommerceClient":
    """A client that tells `log` how it gets on.

    Raises:
        SettingError: Names what is missing or cannot be used.
    """
    # requests opens a socket as it is imported, to see whether there is IPv6: that is for what asks the API.
    from commerce_assets.api.client import CommerceClient, Limits  # noqa: PLC0415

    checked = checked_base_url(base_url)
    return CommerceClient(
        base_url=checked,
        key=checked_secret("COMMERCE_API_KEY", key),
        secret=checked_secret("COMMERCE_API_SECRET", secret),
        paths=paths,
        per_page=per_page,
        pacer=RateLimiter(base_url=checked, requests_per_second=requests_per_second),
        concurrency=concurrency,
        overlap_windows=overlap_windows,
        limits=limits or Limits(),
        log=log,
    )


def checked_base_url(value: str) -> str:
    """The base URL with a slash at its end, if credentials may be sent there.

    Raises:
        SettingError: It is blank, no URL, not encrypted, or holds what belongs elsewhere.
    """
    url = value.strip()
    if not url:
        raise SettingError(
            "COMMERCE_API_BASE_URL is blank; set it to the store's API, such as https://www.sendowl.com/api/v1/"
        )
    parts = _parts(url)
    if parts is None:
        raise SettingError("COMMERCE_API_BASE_URL is no URL; it looks like https://www.sendowl.com/api/v1/")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingError(
            "COMMERCE_API_BASE_URL must hold no credentials, query or fragment; "
            "the key belongs into COMMERCE_API_KEY and the secret into COMMERCE_API_SECRET"
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise SettingError(
            f"COMMERCE_API_BASE_URL is not encrypted, and credentials are not sent so; use https://{parts.netloc}"
        )
    return url if url.endswith("/") else url + "/"


def checked_webhook_url(value: str) -> str:
    """The webhook that alerts are posted to, which is a secret as a whole.

    Raises:
        SettingError: It is no URL, or not encrypted; does not show it.
    """
    url = value.strip()
    parts = _parts(url)
    if parts is None:
        raise SettingError("COMMERCE_ALERT_WEBHOOK_URL is no URL; copy it again from where the webhook was made")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise SettingError("COMMERCE_ALERT_WEBHOOK_URL is not encrypted: it must begin with https://")
    return url


def _parts(url: str) -> SplitResult | None:
    """The parts of an http or https URL; None if it is none. Python's own errors quote what may be a password."""
    if not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme in {"http", "https"} and parts.hostname else None


def checked_secret(variable: str, value: str) -> str:
    """The key or the secret, without what surrounds it.

    Raises:
        SettingError: It is blank, or holds what no header can carry.
    """
    secret = value.strip()
    if not secret:
        raise SettingError(f"{variable} is blank; copy it from the store's API settings")
    if not secret.isprintable():
        raise SettingError(f"{variable} holds a line break or another character that does not print; copy it again")
    return secret
