"""The settings: each is read, or refused by the name of its variable, and no secret is ever shown."""

import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from commerce_assets.access import checked_base_url
from commerce_assets.defs.resources import CommerceApiResource, Warehouse
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import SettingError, Settings, path_setting
from commerce_assets.warehouse.privacy.policy import Masking, PersonalDataPolicy
from commerce_assets_tests.support.staged import ORDERS

LOG = logging.getLogger("settings")
URL = "https://store.example/api/v1/"
CANARY = "s3cret-canary"


def read(**variables: str) -> Settings:
    return Settings.from_environment(variables, ENDPOINTS)


def message_of(error: BaseException) -> str:
    """All that a log would show of it."""
    return "".join(traceback.format_exception(error))


# Settings.


def test_nothing_set_gives_the_defaults() -> None:
    assert read() == Settings(
        orders_start=date(2020, 1, 1),
        requests_per_second=1.0,
        concurrency=4,
        overlap_windows=False,
        paths={},
        database=Path("data/shop.duckdb"),
        staging=Path("data/shop.staging"),
        lock_timeout=300.0,
        memory_limit="160MB",
        order_history=False,
        request_budget=200,
        lookback_days=30,
        personal_data=PersonalDataPolicy(personal=Masking.KEEP, capability_urls=Masking.DROP),
        has_alert_webhook=False,
    )


@pytest.mark.parametrize(
    ("variable", "value", "field", "read_as"),
    [
        ("COMMERCE_ORDERS_START_DATE", "2024-02-29", "orders_start", date(2024, 2, 29)),
        ("COMMERCE_ORDERS_START_DATE", " 2023-12-31\n", "orders_start", date(2023, 12, 31)),
        ("COMMERCE_API_REQUESTS_PER_SECOND", "0", "requests_per_second", 0.0),
        ("COMMERCE_API_REQUESTS_PER_SECOND", "0.5", "requests_per_second", 0.5),
        ("COMMERCE_API_CONCURRENCY", "1", "concurrency", 1),
        ("COMMERCE_ORDERS_OVERLAP", "true", "overlap_windows", True),
        ("COMMERCE_ORDERS_OVERLAP", "False", "overlap_windows", False),
        ("COMMERCE_API_ORDERS_PATH", "../v1_3/orders", "paths", {"orders": "../v1_3/orders"}),
        ("COMMERCE_API_ORDERS_PATH", "/orders", "paths", {"orders": "/orders"}),
        ("COMMERCE_API_PRODUCTS_PATH", "things", "paths", {"products": "things"}),
        ("COMMERCE_DUCKDB_PATH", "elsewhere/shop.db", "database", Path("elsewhere/shop.db")),
        ("COMMERCE_DUCKDB_PATH", "elsewhere/shop.db", "staging", Path("elsewhere/shop.staging")),
        ("COMMERCE_STAGING_DIR", "scratch", "staging", Path("scratch")),
        ("COMMERCE_DUCKDB_LOCK_TIMEOUT", "0", "lock_timeout", 0.0),
        ("COMMERCE_DUCKDB_LOCK_TIMEOUT", "12.5", "lock_timeout", 12.5),
        ("COMMERCE_DUCKDB_MEMORY_LIMIT", "1.5GB", "memory_limit", "1.5GB"),
        ("COMMERCE_DUCKDB_MEMORY_LIMIT", "512 MiB", "memory_limit", "512 MiB"),
        ("COMMERCE_ORDER_HISTORY", "true", "order_history", True),
        ("COMMERCE_RECONCILE_REQUESTS", "1000", "request_budget", 1000),
        ("COMMERCE_ORDERS_LOOKBACK_DAYS", "90", "lookback_days", 90),
        ("COMMERCE_PERSONAL_DATA", "Drop", "personal_data", PersonalDataPolicy(personal=Masking.DROP)),
        (
            "COMMERCE_PERSONAL_DATA",
            "drop, orders.buyer_email=keep",
            "personal_data",
            PersonalDataPolicy(personal=Masking.DROP, exceptions={"orders.buyer_email": Masking.KEEP}),
        ),
        ("COMMERCE_CAPABILITY_URLS", "keep", "personal_data", PersonalDataPolicy(capability_urls=Masking.KEEP)),
        ("COMMERCE_ALERT_WEBHOOK_URL", f"https://hooks.example/{CANARY}", "has_alert_webhook", True),
    ],
)
def test_a_setting_is_read_from_its_variable(variable: str, value: str, field: str, read_as: object) -> None:
    settings = read(**{variable: value})
    assert getattr(settings, field) == read_as
    assert type(getattr(settings, field)) is type(read_as)


@pytest.mark.parametrize(
    "variable",
    [
        "COMMERCE_ORDERS_START_DATE",
        "COMMERCE_API_REQUESTS_PER_SECOND",
        "COMMERCE_API_ORDERS_PATH",
        "COMMERCE_DUCKDB_PATH",
        "COMMERCE_STAGING_DIR",
        "COMMERCE_DUCKDB_LOCK_TIMEOUT",
        "COMMERCE_DUCKDB_MEMORY_LIMIT",
        "COMMERCE_ORDERS_LOOKBACK_DAYS",
        "COMMERCE_PERSONAL_DATA",
        "COMMERCE_PERSONAL_DATA_KEY",
        "COMMERCE_CAPABILITY_URLS",
        "COMMERCE_ALERT_WEBHOOK_URL",
    ],
)
@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_setting_that_is_blank_is_not_set(variable: str, blank: str) -> None:
    assert read(**{variable: blank}) == read()


def test_what_else_is_in_the_environment_is_not_looked_at() -> None:
    assert read(HOME="x", COMMERCE_API_KEY="", COMMERCE_SOMETHING="?", DUCKDB_PATH="y") == read()


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(
            ("COMMERCE_ORDERS_START_DATE", value)
            for value in (
                *("2023-02-29", "2024-13-01", "2024-00-10", "2024-1-1", "20240101", "2024-W01-1", "01/02/2024"),
                *("2024-01-01T00:00:00Z", "yesterday", "0000-01-01", "2024-01-01'; DROP TABLE orders; --"),
                *(TOMORROW, "9999-12-31", "\u0662\u0660\u0662\u0664-01-01"),
            )
        ),
        *(
            ("COMMERCE_API_REQUESTS_PER_SECOND", value)
            for value in ("-1", "nan", "inf", "1e999", "one", "1/s", "0x1", "1,5")
        ),
        *(("COMMERCE_DUCKDB_LOCK_TIMEOUT", value) for value in ("-0.1", "nan", "infinity", "5m")),
        *(("COMMERCE_ORDERS_LOOKBACK_DAYS", value) for value in ("0", "-3", "many", "nan")),
        *(("COMMERCE_API_CONCURRENCY", value) for value in ("0", "-1", "1.5", "33", "many")),
        *(("COMMERCE_ORDERS_OVERLAP", value) for value in ("1", "yes", "no")),
        *(("COMMERCE_DUCKDB_MEMORY_LIMIT", value) for value in ("1", "MB", "-1GB", "80%", "1GB; DROP", "lots", "1 PB")),
        *(
            ("COMMERCE_API_ORDERS_PATH", value)
            for value in (
                *("https://elsewhere.example/orders", "//elsewhere.example/orders", "orders?page=2", "orders#x"),
                *("user@elsewhere.example", "..\\orders"),
            )
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    """Fault 58. Fault 60. Fault 67."""
    with pytest.raises(SettingError, match=rf"^{variable} "):
        read(**{variable: value})


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("COMMERCE_ORDERS_START_DATE", "2023-02-29", "is no date: write it as YYYY-MM-DD"),
        ("COMMERCE_ORDERS_START_DATE", TOMORROW, "lies in the future"),
        ("COMMERCE_API_REQUESTS_PER_SECOND", "-1", "must be a number, and at least 0"),
        ("COMMERCE_ORDERS_LOOKBACK_DAYS", "0", "must be a whole number from 1 to 36,500"),
        ("COMMERCE_DUCKDB_MEMORY_LIMIT", "1", "such as 256MB"),
        ("COMMERCE_API_ORDERS_PATH", "//x", "a path relative to COMMERCE_API_BASE_URL"),
    ],
)
def test_the_refusal_says_what_the_setting_may_be(variable: str, value: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        read(**{variable: value})


def test_a_path_that_holds_credentials_is_not_shown() -> None:
    """Fault 65."""
    with pytest.raises(SettingError) as raised:
        read(COMMERCE_API_ORDERS_PATH=f"https://key:{CANARY}@elsewhere.example/orders")
    assert CANARY not in message_of(raised.value)


# The policy for personal data.


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("COMMERCE_PERSONAL_DATA", "hsh", "'hsh' is none of keep, hash, drop"),
        ("COMMERCE_PERSONAL_DATA", "orders.buyer_email=drop", "'orders.buyer_email=drop' is none of keep, hash, drop"),
        ("COMMERCE_PERSONAL_DATA", "drop, orders.buyer_email=mask", "'mask' is none of keep, hash, drop"),
        ("COMMERCE_PERSONAL_DATA", "drop, orders.buyer_email", "is no exception; one is written orders.buyer_email="),
        ("COMMERCE_PERSONAL_DATA", "drop,", "'' is no exception"),
        ("COMMERCE_PERSONAL_DATA", "drop, orders.buyer_email=keep, orders.buyer_email=hash", "is named twice"),
        ("COMMERCE_PERSONAL_DATA", "drop, orders.email=keep", "orders.email is no personal column.*orders.buyer_email"),
        ("COMMERCE_PERSONAL_DATA", "drop, buyer_email=keep", "buyer_email is no personal column"),
        ("COMMERCE_PERSONAL_DATA", "drop, orders.state=drop", "orders.state is no personal column"),
        ("COMMERCE_PERSONAL_DATA", "keep, orders.download_url=drop", "orders.download_url is no personal column"),
        ("COMMERCE_CAPABILITY_URLS", "hash", "'hash': it must be drop or keep"),
        ("COMMERCE_CAPABILITY_URLS", "yes", "'yes': it must be drop or keep"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_with_what_is_possible(variable: str, value: str, says: str) -> None:
    with pytest.raises(SettingError, match=f"^{variable} .*{says}"):
        read(**{variable: value})


@pytest.mark.parametrize("policy", ["hash", "keep, orders.buyer_email=hash"])
@pytest.mark.parametrize("key", ["", "  \n", CANARY, f"{CANARY}\n{CANARY}", f"{CANARY}\0{CANARY}"])
def test_a_hash_needs_a_key_that_is_a_secret_and_is_not_shown(policy: str, key: str) -> None:
    """Fault 67."""
    with pytest.raises(SettingError, match=r"^COMMERCE_PERSONAL_DATA_KEY ") as raised:
        read(COMMERCE_PERSONAL_DATA=policy, COMMERCE_PERSONAL_DATA_KEY=key)
    assert CANARY not in message_of(raised.value)


def test_the_key_of_the_hash_is_the_warehouses_own_and_not_shown() -> None:
    """Fault 65."""
    key = f"{CANARY}-of-the-hash"
    settings = read(COMMERCE_PERSONAL_DATA="hash", COMMERCE_PERSONAL_DATA_KEY=key)
    warehouse = Warehouse(database_path="x", staging_dir="x", personal_data="hash", personal_data_key=f" {key}\n")
    assert settings.personal_data.key is None
    assert warehouse.policy().key == key
    assert CANARY not in f"{settings!r} {warehouse!r} {warehouse} {warehouse.policy()!r}"


def test_where_nothing_is_hashed_a_key_does_not_matter() -> None:
    assert read(COMMERCE_PERSONAL_DATA="drop", COMMERCE_PERSONAL_DATA_KEY="short").personal_data.key is None


def test_the_webhook_of_alerts_is_not_among_the_settings() -> None:
    """Fault 65."""
    assert CANARY not in repr(read(COMMERCE_ALERT_WEBHOOK_URL=f"https://hooks.example/{CANARY}"))


def test_the_variable_of_a_path_is_named_after_its_endpoint() -> None:
    assert path_setting(ORDERS) == "COMMERCE_API_ORDERS_PATH"


# The base URL.


@pytest.mark.parametrize(
    ("value", "checked"),
    [
        (URL, URL),
        ("https://store.example/api/v1", URL),
        (f"  {URL}\n", URL),
        ("https://store.example", "https://store.example/"),
        ("https://store.example:8443/api", "https://store.example:8443/api/"),
        ("http://localhost:8000", "http://localhost:8000/"),
        ("http://127.0.0.1:8000/api/v1/", "http://127.0.0.1:8000/api/v1/"),
        ("http://[::1]:8000/", "http://[::1]:8000/"),
        ("HTTPS://store.example/", "HTTPS://store.example/"),
    ],
)
def test_a_base_url_ends_with_a_slash(value: str, checked: str) -> None:
    assert checked_base_url(value) == checked


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "is blank"),
        (" \n", "is blank"),
        ("store.example/api", "is no URL"),
        ("ftp://store.example/", "is no URL"),
        ("file:///etc/passwd", "is no URL"),
        ("https://", "is no URL"),
        ("https:///api", "is no URL"),
        ("https://[::1/", "is no URL"),
        ("https://store.example:port/", "is no URL"),
        ("https://store.example:99999/", "is no URL"),
        ("https://store.example/a b/", "is no URL"),
        ("https://store.example\\@elsewhere.example/", "is no URL"),
        ("https://store.example/api\nHost: elsewhere.example", "is no URL"),
        ("http://store.example/api", "is not encrypted.*use https://store.example"),
        ("HTTP://store.example/api", "is not encrypted"),
        ("http://localhost.elsewhere.example/", "is not encrypted"),
        ("http://127.0.0.1.elsewhere.example/", "is not encrypted"),
        ("http://169.254.169.254/", "is not encrypted"),
        ("http://0.0.0.0/", "is not encrypted"),
        ("https://store.example/api?page=1", "must hold no credentials, query or fragment"),
        ("https://store.example/api#x", "must hold no credentials, query or fragment"),
        (f"https://key:{CANARY}@store.example/", "must hold no credentials"),
        (f"https://{CANARY}@store.example/", "must hold no credentials"),
        (f"http://:{CANARY}@store.example/", "must hold no credentials"),
        (f"https://store.example/?secret={CANARY}", "must hold no credentials"),
        (f"https://store.example:{CANARY}/", "is no URL"),
        (f"https://key:{CANARY}@store.example:port/", "COMMERCE_API_BASE_URL"),
    ],
)
def test_a_base_url_that_credentials_must_not_be_sent_to_is_refused_and_not_quoted(value: str, says: str) -> None:
    """Fault 24. Fault 67."""
    with pytest.raises(SettingError, match=says) as raised:
        checked_base_url(value)
    shown = message_of(raised.value)
    assert "COMMERCE_API_BASE_URL" in str(raised.value)
    assert CANARY not in shown


# The credentials.


def api(**fields: Any) -> CommerceApiResource:
    return CommerceApiResource(**{"base_url": URL, "api_key": "key", "api_secret": CANARY, **fields})


@pytest.mark.parametrize(
    ("fields", "variable"),
    [
        ({"api_key": ""}, "COMMERCE_API_KEY"),
        ({"api_key": " \t"}, "COMMERCE_API_KEY"),
        ({"api_key": f"{CANARY}\nX: y"}, "COMMERCE_API_KEY"),
        ({"api_secret": ""}, "COMMERCE_API_SECRET"),
        ({"api_secret": "\n"}, "COMMERCE_API_SECRET"),
        ({"api_secret": f"{CANARY}\n{CANARY}"}, "COMMERCE_API_SECRET"),
        ({"api_secret": f"{CANARY}\r{CANARY}"}, "COMMERCE_API_SECRET"),
        ({"api_secret": f"{CANARY}\0"}, "COMMERCE_API_SECRET"),
        ({"api_secret": f"\u200b{CANARY}"}, "COMMERCE_API_SECRET"),
        ({"base_url": "http://store.example/"}, "COMMERCE_API_BASE_URL"),
    ],
)
def test_a_credential_that_cannot_be_used_is_named_and_never_shown(fields: Mapping[str, str], variable: str) -> None:
    """Fault 24. Fault 67."""
    with pytest.raises(SettingError, match=f"^{variable} ") as raised:
        api(**fields).client(LOG)
    assert CANARY not in message_of(raised.value)


@pytest.mark.parametrize("secret", [CANARY, f" {CANARY}\n", "pa:ss", "gehe\u00edm", "\u043a\u043b\u044e\u0447"])
def test_a_secret_with_any_letter_and_blanks_around_it_is_taken(secret: str) -> None:
    """Fault 67."""
    with api(api_secret=secret).client(LOG) as client:
        assert client.secret == secret.strip()


def test_a_resource_and_its_client_do_not_show_the_credentials() -> None:
    """Fault 65."""
    resource = api(api_key="key-canary")
    with resource.client(LOG) as client:
        shown = f"{resource!r} {resource} {client!r} {client}"
    assert CANARY not in shown
    assert "key-canary" not in shown
