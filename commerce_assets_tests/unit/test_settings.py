"""The settings: variables, defaults, errors, and the secrets that no error shows."""

import ast
import inspect
import logging
import textwrap
import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from commerce_assets.defs.alerts.sensor import AlertWebhook
from commerce_assets.defs.io_manager import CommerceDuckDBIOManager
from commerce_assets.defs.resources import CommerceApiResource, WarehouseResource
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import CommerceSettings, SettingError, checked_base_url, path_setting
from commerce_assets.warehouse.privacy.policy import Masking, PersonalDataPolicy
from commerce_assets_tests.support.items import ORDERS

LOG = logging.getLogger("settings")
URL = "https://store.example/api/v1/"
CANARY = "s3cret-canary"


def read(**variables: str) -> CommerceSettings:
    return CommerceSettings.read(variables)


def message_of(error: BaseException) -> str:
    """All that a log would show of it."""
    return "".join(traceback.format_exception(error))


# Settings.


def test_a_lake_without_its_catalog_is_refused() -> None:
    with pytest.raises(SettingError, match=r"COMMERCE_POSTGRES_URL is not: .* Fix: set both, or neither\."):
        read(COMMERCE_LAKE_DATA="lake")


def test_defaults() -> None:
    assert read().model_dump() == {
        "shop": "",
        "api_base_url": "",
        "api_key": None,
        "api_secret": None,
        "api_paths": {},
        "api_requests_per_second": 1.0,
        "api_concurrency": 8,
        "api_ca_bundle": None,
        "orders_start_date": date(2020, 1, 1),
        "orders_lookback_days": 30,
        "orders_overlap": False,
        "order_history": False,
        "timezone": "UTC",
        "reconcile_requests": 200,
        "refund_requests": 200,
        "duckdb_path": Path("data/shop.duckdb"),
        "duckdb_lock_timeout": 300.0,
        "duckdb_memory_limit": "1GB",
        "staging_dir": Path("data/shop.staging"),
        "personal_data_key": None,
        "capability_urls": "drop",
        "personal_data": "keep",
        "alert_webhook_url": None,
        "owner": None,
        "env_file": None,
        "postgres_url": None,
        "lake_data": "",
    }


@pytest.mark.parametrize(
    ("variable", "value", "field", "read_as"),
    [
        ("COMMERCE_SHOP", "acme", "shop", "acme"),
        ("COMMERCE_SHOP", "acme", "duckdb_path", Path("data/acme.duckdb")),
        ("COMMERCE_SHOP", "acme", "staging_dir", Path("data/acme.staging")),
        ("COMMERCE_ORDERS_START_DATE", "2024-02-29", "orders_start_date", date(2024, 2, 29)),
        ("COMMERCE_ORDERS_START_DATE", " 2023-12-31\n", "orders_start_date", date(2023, 12, 31)),
        ("COMMERCE_API_REQUESTS_PER_SECOND", "0", "api_requests_per_second", 0.0),
        ("COMMERCE_API_REQUESTS_PER_SECOND", "0.5", "api_requests_per_second", 0.5),
        ("COMMERCE_API_CONCURRENCY", "1", "api_concurrency", 1),
        ("COMMERCE_TIMEZONE", "Europe/Berlin", "timezone", "Europe/Berlin"),
        ("COMMERCE_OWNER", "team:data", "owner", "team:data"),
        ("COMMERCE_OWNER", "ann@example.com", "owner", "ann@example.com"),
        ("COMMERCE_ORDERS_OVERLAP", "true", "orders_overlap", True),
        ("COMMERCE_ORDERS_OVERLAP", "False", "orders_overlap", False),
        ("COMMERCE_API_ORDERS_PATH", "../v1_3/orders", "api_paths", {"orders": "../v1_3/orders"}),
        ("COMMERCE_API_ORDERS_PATH", "/orders", "api_paths", {"orders": "/orders"}),
        ("COMMERCE_API_PRODUCTS_PATH", "things", "api_paths", {"products": "things"}),
        ("COMMERCE_DUCKDB_PATH", "elsewhere/shop.db", "duckdb_path", Path("elsewhere/shop.db")),
        ("COMMERCE_DUCKDB_PATH", "elsewhere/shop.db", "staging_dir", Path("elsewhere/shop.staging")),
        ("COMMERCE_STAGING_DIR", "scratch", "staging_dir", Path("scratch")),
        ("COMMERCE_DUCKDB_LOCK_TIMEOUT", "0", "duckdb_lock_timeout", 0.0),
        ("COMMERCE_DUCKDB_LOCK_TIMEOUT", "12.5", "duckdb_lock_timeout", 12.5),
        ("COMMERCE_DUCKDB_MEMORY_LIMIT", "1.5GB", "duckdb_memory_limit", "1.5GB"),
        ("COMMERCE_DUCKDB_MEMORY_LIMIT", "512 MiB", "duckdb_memory_limit", "512 MiB"),
        ("COMMERCE_ORDER_HISTORY", "true", "order_history", True),
        ("COMMERCE_RECONCILE_REQUESTS", "1000", "reconcile_requests", 1000),
        ("COMMERCE_REFUND_REQUESTS", "0", "refund_requests", 0),
        ("COMMERCE_ORDERS_LOOKBACK_DAYS", "90", "orders_lookback_days", 90),
        ("COMMERCE_PERSONAL_DATA", "Drop", "policy", PersonalDataPolicy(personal=Masking.DROP)),
        (
            "COMMERCE_PERSONAL_DATA",
            "drop, orders.buyer_email=keep",
            "policy",
            PersonalDataPolicy(personal=Masking.DROP, exceptions={"orders.buyer_email": Masking.KEEP}),
        ),
        ("COMMERCE_CAPABILITY_URLS", "keep", "policy", PersonalDataPolicy(capability_urls=Masking.KEEP)),
        ("COMMERCE_API_BASE_URL", URL, "api_base_url", URL),
        ("COMMERCE_API_KEY", f" {CANARY}\n", "api_key", SecretStr(CANARY)),
        ("COMMERCE_API_SECRET", CANARY, "api_secret", SecretStr(CANARY)),
        ("COMMERCE_API_CA_BUNDLE", "ca.pem", "api_ca_bundle", Path("ca.pem")),
        ("REQUESTS_CA_BUNDLE", "ca.pem", "api_ca_bundle", Path("ca.pem")),
        ("COMMERCE_ALERT_WEBHOOK_URL", CANARY, "alert_webhook_url", SecretStr(CANARY)),
    ],
)
def test_setting_is_read_from_its_variable(variable: str, value: str, field: str, read_as: object) -> None:
    settings = read(**{variable: value})
    assert getattr(settings, field) == read_as
    assert type(getattr(settings, field)) is type(read_as)
    assert CANARY not in repr(settings)


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
def test_blank_setting_is_unset(variable: str, blank: str) -> None:
    assert read(**{variable: blank}) == read()


def test_other_variables_are_ignored() -> None:
    assert read(HOME="x", DUCKDB_PATH="y", _COMMERCE_ASSETS_COMPLETE="bash_source", COMMERCEX="z") == read()


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("COMMERCE_PERSONNEL_DATA", "Did you mean COMMERCE_PERSONAL_DATA?"),
        ("COMMERCE_API_SECERT", "Did you mean COMMERCE_API_SECRET?"),
        ("COMMERCE_API_ORDER_PATH", "Did you mean COMMERCE_API_ORDERS_PATH?"),
        ("commerce_personal_data", "Did you mean COMMERCE_PERSONAL_DATA?"),
        # Fields that no variable sets.
        ("COMMERCE_API_PATHS", "Did you mean"),
        ("COMMERCE_ENDPOINTS", "Fix: remove it"),
        ("COMMERCE_XYZ", "Fix: remove it; see docs/settings.md."),
    ],
)
@pytest.mark.parametrize("value", [CANARY, ""])
def test_unknown_variable_is_an_error_with_the_nearest_name(variable: str, value: str, says: str) -> None:
    with pytest.raises(SettingError) as raised:
        read(**{variable: value})
    assert str(raised.value).startswith(f"{variable} is not a setting. {says}")
    assert CANARY not in message_of(raised.value)


def test_path_variable_of_a_new_endpoint_is_known() -> None:
    coupons = replace(ENDPOINTS[0], name="coupons")
    variables = {"COMMERCE_API_COUPONS_PATH": "v2/coupons"}
    settings = CommerceSettings.read(variables, endpoints=[*ENDPOINTS, coupons])
    assert settings.api_paths == {"coupons": "v2/coupons"}
    assert settings.configured_endpoints() == [*ENDPOINTS, coupons]
    with pytest.raises(SettingError, match="COMMERCE_API_COUPONS_PATH is not a setting"):
        CommerceSettings.read(variables)


def test_all_errors_are_listed() -> None:
    with pytest.raises(SettingError) as raised:
        read(
            COMMERCE_API_CONCURRENCY="many",
            COMMERCE_ORDERS_START_DATE="yesterday",
            COMMERCE_API_ORDERS_PATH="//x",
            COMMERCE_API_PRODUCTS_PATH="a?b",
            COMMERCE_PERSONNEL_DATA="drop",
            COMMERCE_PERSONAL_DATA="hash",
        )
    assert [line.split()[0] for line in str(raised.value).splitlines()] == [
        "COMMERCE_PERSONNEL_DATA",
        "COMMERCE_API_PRODUCTS_PATH",
        "COMMERCE_API_ORDERS_PATH",
        "COMMERCE_API_CONCURRENCY",
        "COMMERCE_ORDERS_START_DATE",
        "COMMERCE_PERSONAL_DATA_KEY",
    ]


def test_dotenv_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMMERCE_API_CONCURRENCY", "2")
    monkeypatch.setenv("COMMERCE_ORDERS_LOOKBACK_DAYS", "2")
    (tmp_path / ".env").write_text("COMMERCE_API_CONCURRENCY=3\nWITHOUT_VALUE\n")
    settings = CommerceSettings.read()
    assert (settings.api_concurrency, settings.orders_lookback_days) == (3, 2)


def test_own_ca_bundle_wins_over_that_of_requests() -> None:
    settings = read(COMMERCE_API_CA_BUNDLE="own.pem", REQUESTS_CA_BUNDLE="other.pem")
    assert settings.api_ca_bundle == Path("own.pem")


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
        *(("COMMERCE_SHOP", value) for value in ("Acme", "acme_eu", "acme-eu", "1acme", "acme/eu", "acme eu")),
        *(("COMMERCE_OWNER", value) for value in ("ann", "team:", "ann@example")),
        *(
            ("COMMERCE_TIMEZONE", value)
            for value in ("Berlin", "localtime", "../etc/passwd", "UTC'; DROP TABLE orders; --", "+01:00")
        ),
        *(
            ("COMMERCE_API_REQUESTS_PER_SECOND", value)
            for value in ("-1", "nan", "inf", "1e999", "one", "1/s", "0x1", "1,5")
        ),
        *(("COMMERCE_DUCKDB_LOCK_TIMEOUT", value) for value in ("-0.1", "nan", "infinity", "5m")),
        *(("COMMERCE_ORDERS_LOOKBACK_DAYS", value) for value in ("0", "-3", "many", "nan")),
        *(("COMMERCE_API_CONCURRENCY", value) for value in ("0", "-1", "1.5", "33", "many")),
        *(("COMMERCE_ORDERS_OVERLAP", value) for value in ("2", "maybe", "None")),
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
def test_unusable_setting_is_named(variable: str, value: str) -> None:
    """Fault 58. Fault 60. Fault 67."""
    with pytest.raises(SettingError, match=rf"^{variable} "):
        read(**{variable: value})


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("COMMERCE_ORDERS_START_DATE", "2023-02-29", "a UTC day that is not in the future, as YYYY-MM-DD"),
        ("COMMERCE_ORDERS_START_DATE", TOMORROW, "a UTC day that is not in the future"),
        ("COMMERCE_API_REQUESTS_PER_SECOND", "-1", "a number of at least 0"),
        ("COMMERCE_ORDERS_LOOKBACK_DAYS", "0", "a whole number from 1 to 36,500"),
        ("COMMERCE_DUCKDB_MEMORY_LIMIT", "1", "a number and a unit, such as 256MB"),
        ("COMMERCE_API_ORDERS_PATH", "//x", "a path relative to COMMERCE_API_BASE_URL"),
    ],
)
def test_error_says_what_the_setting_accepts(variable: str, value: str, says: str) -> None:
    with pytest.raises(SettingError, match=rf"Fix: set it to {says}.*\.$"):
        read(**{variable: value})


def test_error_does_not_show_a_path_with_credentials() -> None:
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
        ("COMMERCE_CAPABILITY_URLS", "hash", "'hash'. Fix: set it to drop or keep"),
        ("COMMERCE_CAPABILITY_URLS", "yes", "'yes'. Fix: set it to drop or keep"),
    ],
)
def test_error_of_a_policy_says_what_it_accepts(variable: str, value: str, says: str) -> None:
    with pytest.raises(SettingError, match=f"^{variable} .*{says}"):
        read(**{variable: value})


@pytest.mark.parametrize("policy", ["hash", "keep, orders.buyer_email=hash"])
@pytest.mark.parametrize("key", ["", "  \n", CANARY, f"{CANARY}\n{CANARY}", f"{CANARY}\0{CANARY}"])
def test_hash_needs_a_key_and_no_error_shows_it(policy: str, key: str) -> None:
    """Fault 67."""
    with pytest.raises(SettingError, match=r"^COMMERCE_PERSONAL_DATA_KEY ") as raised:
        read(COMMERCE_PERSONAL_DATA=policy, COMMERCE_PERSONAL_DATA_KEY=key)
    assert CANARY not in message_of(raised.value)


def test_no_repr_shows_the_key_of_the_hash() -> None:
    """Fault 65."""
    key = f"{CANARY}-of-the-hash"
    settings = read(COMMERCE_PERSONAL_DATA="hash", COMMERCE_PERSONAL_DATA_KEY=key)
    warehouse = WarehouseResource(
        database_path="x", staging_dir="x", personal_data="hash", personal_data_key=f" {key}\n"
    )
    assert settings.policy.key is None
    assert settings.keyed_policy().key == key
    assert warehouse.open(LOG).policy.key == key
    assert (
        CANARY
        not in f"{settings!r} {settings.keyed_policy()!r} {warehouse!r} {warehouse} {warehouse.open(LOG).policy!r}"
    )


def test_key_is_ignored_if_nothing_is_hashed() -> None:
    assert read(COMMERCE_PERSONAL_DATA="drop", COMMERCE_PERSONAL_DATA_KEY="short").keyed_policy().key is None


def test_path_variable_is_named_after_its_endpoint() -> None:
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
        ("store.example/api", "is not a valid URL"),
        ("ftp://store.example/", "is not a valid URL"),
        ("file:///etc/passwd", "is not a valid URL"),
        ("https://", "is not a valid URL"),
        ("https:///api", "is not a valid URL"),
        ("https://[::1/", "is not a valid URL"),
        ("https://store.example:port/", "is not a valid URL"),
        ("https://store.example:99999/", "is not a valid URL"),
        ("https://store.example/a b/", "is not a valid URL"),
        ("https://store.example\\@elsewhere.example/", "is not a valid URL"),
        ("https://store.example/api\nHost: elsewhere.example", "is not a valid URL"),
        ("http://store.example/api", "is not encrypted.*use https://store.example"),
        ("HTTP://store.example/api", "is not encrypted"),
        ("http://localhost.elsewhere.example/", "is not encrypted"),
        ("http://127.0.0.1.elsewhere.example/", "is not encrypted"),
        ("http://169.254.169.254/", "is not encrypted"),
        ("http://0.0.0.0/", "is not encrypted"),
        ("https://store.example/api?page=1", "must not hold credentials, a query or a fragment"),
        ("https://store.example/api#x", "must not hold credentials, a query or a fragment"),
        (f"https://key:{CANARY}@store.example/", "must not hold credentials"),
        (f"https://{CANARY}@store.example/", "must not hold credentials"),
        (f"http://:{CANARY}@store.example/", "must not hold credentials"),
        (f"https://store.example/?secret={CANARY}", "must not hold credentials"),
        (f"https://store.example:{CANARY}/", "is not a valid URL"),
        (f"https://key:{CANARY}@store.example:port/", "COMMERCE_API_BASE_URL"),
    ],
)
def test_unsafe_base_url_is_refused_and_not_shown(value: str, says: str) -> None:
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
def test_unusable_credential_is_named_and_never_shown(fields: Mapping[str, str], variable: str) -> None:
    """Fault 24. Fault 67."""
    with pytest.raises(SettingError, match=f"^{variable} ") as raised:
        api(**fields).client(LOG)
    assert CANARY not in message_of(raised.value)


@pytest.mark.parametrize("secret", [CANARY, f" {CANARY}\n", "pa:ss", "gehe\u00edm", "\u043a\u043b\u044e\u0447"])
def test_secret_may_hold_any_letter_and_is_stripped(secret: str) -> None:
    """Fault 67."""
    with api(api_secret=secret).client(LOG) as client:
        assert client.secret == secret.strip()


def test_no_repr_of_resource_or_client_shows_credentials() -> None:
    """Fault 65."""
    resource = api(api_key="key-canary")
    with resource.client(LOG) as client:
        shown = f"{resource!r} {resource} {client!r} {client}"
    assert CANARY not in shown
    assert "key-canary" not in shown


@pytest.mark.parametrize("bundle", ["missing.pem", "empty.pem"])
def test_unusable_ca_bundle_is_named(bundle: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(SettingError, match=r"^COMMERCE_API_CA_BUNDLE or REQUESTS_CA_BUNDLE is '.*\.pem': "):
        api(ca_bundle=str(tmp_path / bundle)).client(LOG)


# The resources.


@pytest.mark.parametrize("resource", [CommerceApiResource, WarehouseResource, AlertWebhook, CommerceDuckDBIOManager])
def test_resource_takes_its_defaults_from_the_settings(resource: type[Any]) -> None:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(resource))).body
    assert isinstance(tree, ast.ClassDef)
    fields = [node for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert fields
    for field in fields:
        assert ast.unparse(field.value or field).startswith("resource_field("), ast.unparse(field)


def test_resource_has_the_bounds_and_description_of_the_setting() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 32"):
        api(concurrency=33)
    description = CommerceApiResource.model_fields["concurrency"].description or ""
    assert description.endswith("(COMMERCE_API_CONCURRENCY).")


@pytest.mark.parametrize("url", ["postgresql://me@127.0.0.1/shop", "postgresql+psycopg://me@127.0.0.1/shop", "shop"])
def test_a_postgres_url_needs_the_driver_that_dagster_uses(url: str) -> None:
    with pytest.raises(SettingError, match="is not a URL that both Dagster and this project can use"):
        CommerceSettings.read({"COMMERCE_POSTGRES_URL": url})
