"""The settings that people make in the environment or in `.env`, read once, in the composition root.

The secrets are not among them: they are `EnvVar`s of the resources, which Dagster reads when a run needs them,
and masks.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse import MEMORY_LIMIT
from commerce_assets.warehouse.privacy.policy import Masking, PersonalDataPolicy

DEFAULT_DATABASE = Path("data/shop.duckdb")
DEFAULT_STAGING = Path("data/shop.staging")
DEFAULT_START = date(2020, 1, 1)
_SHORTEST_KEY = 16


class SettingError(ValueError):
    """A setting is missing or cannot be used; names it, and never shows a secret's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is set, or its default.

    Attributes:
        orders_start: The first partition, a UTC day.
        requests_per_second: How often the API may be called; 0: as often as it answers.
        concurrency: How many pages may be in flight.
        overlap_windows: Let the pages of a window overlap too.
        paths: Endpoint name to path, where it is not the endpoint table's.
        database: The DuckDB file.
        staging: Where pulled pages lie until they are loaded.
        lock_timeout: Seconds to wait for another process that holds the DuckDB file.
        memory_limit: What DuckDB may use while it loads, before it spills to disk.
        order_history: Keep every version of an order too.
        request_budget: Requests that a comparison with the store may make.
        lookback_days: Days that a refresh pulls again where the store cannot tell what has changed.
        personal_data: What becomes of personal data and of capability URLs; without the key of the hash.
        has_alert_webhook: Alerts go to a webhook. Its URL is a secret, and read where it is needed.
    """

    orders_start: date = DEFAULT_START
    requests_per_second: float = 1.0
    concurrency: int = 4
    overlap_windows: bool = False
    paths: Mapping[str, str] = field(default_factory=dict)
    database: Path = DEFAULT_DATABASE
    staging: Path = DEFAULT_STAGING
    lock_timeout: float = 300.0
    memory_limit: str = MEMORY_LIMIT
    order_history: bool = False
    request_budget: int = 200
    lookback_days: int = 30
    personal_data: PersonalDataPolicy = field(default_factory=PersonalDataPolicy)
    has_alert_webhook: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], endpoints: Sequence[Endpoint]) -> "Settings":
        """Reads the variables `COMMERCE_...`; one that is blank counts as not set.

        Raises:
            SettingError: Names the variable, and says what it may be.
        """
        values = {name: value.strip() for name, value in environment.items() if value.strip()}
        database = Path(values.get("COMMERCE_DUCKDB_PATH", DEFAULT_DATABASE))
        staging = values.get("COMMERCE_STAGING_DIR")
        return cls(
            orders_start=_start_date("COMMERCE_ORDERS_START_DATE", values),
            requests_per_second=_number("COMMERCE_API_REQUESTS_PER_SECOND", values, default=1.0),
            concurrency=_whole("COMMERCE_API_CONCURRENCY", values, default=4, most=32),
            overlap_windows=_flag("COMMERCE_ORDERS_OVERLAP", values),
            paths=_paths(values, endpoints),
            database=database,
            staging=Path(staging) if staging else database.with_suffix(".staging"),
            lock_timeout=_number("COMMERCE_DUCKDB_LOCK_TIMEOUT", values, default=300.0),
            memory_limit=_size("COMMERCE_DUCKDB_MEMORY_LIMIT", values, default=MEMORY_LIMIT),
            order_history=_flag("COMMERCE_ORDER_HISTORY", values),
            request_budget=_whole("COMMERCE_RECONCILE_REQUESTS", values, default=200, least=4, most=1_000_000),
            lookback_days=_whole("COMMERCE_ORDERS_LOOKBACK_DAYS", values, default=30, most=36_500),
            personal_data=_personal_data(values, endpoints),
            has_alert_webhook="COMMERCE_ALERT_WEBHOOK_URL" in values,
        )


def configured(settings: Settings, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The endpoints, with what the settings say of them."""
    if not settings.order_history:
        return [*endpoints]
    return [replace(endpoint, keeps_versions=endpoint.update_filter is not None) for endpoint in endpoints]


def path_setting(endpoint: Endpoint) -> str:
    """The variable that moves an endpoint's path: `COMMERCE_API_ORDERS_PATH`."""
    return f"COMMERCE_API_{endpoint.name.upper()}_PATH"


def checked_hash_key(value: str) -> str:
    """The key of the hash.

    Raises:
        SettingError: It is missing, or too short to be a secret.
    """
    key = value.strip()
    if not key:
        raise SettingError(
            "COMMERCE_PERSONAL_DATA_KEY is not set, and COMMERCE_PERSONAL_DATA asks for a hash: set it to what nobody "
            "can guess, such as the output of openssl rand -hex 32"
        )
    if len(key) < _SHORTEST_KEY or not key.isprintable():
        raise SettingError(
            f"COMMERCE_PERSONAL_DATA_KEY must be at least {_SHORTEST_KEY} characters, all of which print"
        )
    return key


def _personal_data(values: Mapping[str, str], endpoints: Sequence[Endpoint]) -> PersonalDataPolicy:
    urls = values.get("COMMERCE_CAPABILITY_URLS", Masking.DROP).lower()
    if urls not in {Masking.DROP, Masking.KEEP}:
        raise SettingError(f"COMMERCE_CAPABILITY_URLS is {urls!r}: it must be drop or keep")
    try:
        policy = PersonalDataPolicy.parse(values.get("COMMERCE_PERSONAL_DATA", Masking.KEEP), capability_urls=urls)
        policy.check(endpoints)
    except ValueError as error:
        raise SettingError(f"COMMERCE_PERSONAL_DATA cannot be used: {error}") from None
    if policy.hashes:
        # Better known now than when a run needs it. The value itself is the resource's, as an EnvVar.
        checked_hash_key(values.get("COMMERCE_PERSONAL_DATA_KEY", ""))
    return policy


def _paths(values: Mapping[str, str], endpoints: Sequence[Endpoint]) -> dict[str, str]:
    paths = {}
    for endpoint in endpoints:
        variable = path_setting(endpoint)
        if path := values.get(variable):
            if "://" in path or path.startswith("//") or any(character in path for character in "?#@\\"):
                raise SettingError(
                    f"{variable} must be a path relative to COMMERCE_API_BASE_URL, such as ../v1_3/orders"
                )
            paths[endpoint.name] = path
    return paths


def _start_date(variable: str, values: Mapping[str, str]) -> date:
    value = values.get(variable)
    if value is None:
        return DEFAULT_START
    try:
        # fromisoformat alone would take 20240101 and 2024-W01-1 too.
        start = date.fromisoformat(value) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) else None
    except ValueError:
        start = None
    if start is None:
        raise SettingError(f"{variable} is {value!r}, which is no date: write it as YYYY-MM-DD, such as 2024-01-31")
    if start > datetime.now(UTC).date():
        raise SettingError(f"{variable} is {value}, which lies in the future: it is the first day to load orders of")
    return start


def _whole(variable: str, values: Mapping[str, str], *, default: int, most: int, least: int = 1) -> int:
    value = values.get(variable, str(default))
    if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
        raise SettingError(f"{variable} is {value!r}: it must be a whole number from {least} to {most:,}")
    return int(value)


def _number(variable: str, values: Mapping[str, str], *, default: float) -> float:
    value = values.get(variable)
    if value is None:
        return default
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise SettingError(f"{variable} is {value!r}: it must be a number, and at least 0")
    return number


def _flag(variable: str, values: Mapping[str, str]) -> bool:
    value = values.get(variable, "false").lower()
    if value not in {"true", "false"}:
        raise SettingError(f"{variable} is {value!r}: it must be true or false")
    return value == "true"


def _size(variable: str, values: Mapping[str, str], *, default: str) -> str:
    value = values.get(variable, default)
    if not re.fullmatch(r"\d+(\.\d+)?\s*[KMGT]i?B", value, re.IGNORECASE):
        raise SettingError(f"{variable} is {value!r}: write it as a number and a unit, such as 256MB or 1GB")
    return value
