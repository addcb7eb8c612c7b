"""Choose the store that `make dev` extracts from, and build the environment of its processes. Pure functions.

Every Dagster process reads `.env` of the working directory again, so the environment must not contradict it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from commerce_assets.settings import SettingError, checked_base_url, checked_webhook_url
from sample_store import SAMPLE_API_KEY, SAMPLE_API_SECRET

API_BASE_URL: Final = "COMMERCE_API_BASE_URL"
API_KEY: Final = "COMMERCE_API_KEY"
API_SECRET: Final = "COMMERCE_API_SECRET"  # noqa: S105 - a variable's name
ALERT_WEBHOOK_URL: Final = "COMMERCE_ALERT_WEBHOOK_URL"

_SAMPLE_DATABASE: Final = "data/sample.duckdb"

Environment = dict[str, str]


@dataclass(frozen=True, slots=True)
class Choice:
    """The user's environment, and whether it names the user's own store."""

    environment: Environment
    own_store: bool


def resolve(environ: Mapping[str, str], dotenv: Mapping[str, str]) -> Choice:
    """Merge `.env` over the environment and look for credentials.

    Raises:
        SettingError: Half of the credentials or the base URL is missing, or a URL cannot be used. A run would find out
            later, and the alert of a failed run later still.
    """
    environment = {**environ, **dotenv}
    given = [name for name in (API_KEY, API_SECRET) if _is_set(environment, name)]
    if len(given) == 1:
        missing = API_SECRET if given == [API_KEY] else API_KEY
        state = "blank" if missing in environment else "not set"
        raise SettingError(
            f"{given[0]} is set, but {missing} is {state}. Fix: set both, or neither for the sample store."
        )
    if given and not _is_set(environment, API_BASE_URL):
        raise SettingError(
            f"{API_BASE_URL} is not set. Fix: set it; for SendOwl it is {API_BASE_URL}=https://www.sendowl.com/api/v1/"
            " with COMMERCE_API_ORDERS_PATH=../v1_3/orders."
        )
    if given:
        checked_base_url(environment[API_BASE_URL])
    if _is_set(environment, ALERT_WEBHOOK_URL):
        checked_webhook_url(environment[ALERT_WEBHOOK_URL])
    return Choice(environment, own_store=bool(given))


def point_at_sample_store(
    environ: Mapping[str, str], dotenv: Mapping[str, str], *, address: str, start_date: str
) -> Environment:
    """Return the environment in which the project pulls from the sample store at `address` (`http://host:port`).

    Raises:
        SettingError: `.env` contradicts it; Dagster's processes would read it again and call a real store.
    """
    store = {
        API_BASE_URL: f"{address}/api/v1/",
        "COMMERCE_API_ORDERS_PATH": "../v1_3/orders",
        API_KEY: SAMPLE_API_KEY,
        API_SECRET: SAMPLE_API_SECRET,
    }
    defaults = {
        "COMMERCE_API_REQUESTS_PER_SECOND": "0",
        "COMMERCE_ORDERS_START_DATE": start_date,
        # Sample data must never mix with the real shop's.
        "COMMERCE_DUCKDB_PATH": _SAMPLE_DATABASE,
    }
    environment = {**environ, **dotenv}
    chosen = store | {name: environment[name] if _is_set(environment, name) else defaults[name] for name in defaults}
    for name, value in chosen.items():
        if dotenv.get(name, value) != value:
            raise SettingError(
                f".env sets {name} but no credentials. Fix: fill in {API_KEY} and {API_SECRET},"
                f" or remove the {name} line to use the sample store."
            )
    return environment | chosen


def _is_set(environment: Mapping[str, str], name: str) -> bool:
    return bool(environment.get(name, "").strip())
