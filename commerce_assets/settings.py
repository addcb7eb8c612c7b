"""The project's settings: every variable `COMMERCE_...`, its default, its meaning and its checks.

`CommerceSettings.read` is the only reader of the environment and of `.env`. In Dagster, the resources take secrets as
`EnvVar`s of the same names: Dagster resolves those when a run needs them, and masks them.
"""

import os
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from difflib import get_close_matches
from functools import cached_property
from logging import Logger
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args
from urllib.parse import SplitResult, urlsplit
from zoneinfo import available_timezones

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, SecretStr, ValidationError, ValidationInfo
from pydantic import field_validator as validates
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict

from commerce_assets.coordination import Coordination
from commerce_assets.coordination.lock_files import LockFiles
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse import LOCK_TIMEOUT, MEMORY_LIMIT
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY, PersonalDataPolicy
from commerce_assets.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient
    from commerce_assets.warehouse.lake import Lake

PREFIX: Final = "COMMERCE_"
DATA_FOLDER: Final = Path("data")

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SHORTEST_KEY = 16
_NEW_KEY = "the output of openssl rand -hex 32"
_SECRET = "what the store's API settings show"  # noqa: S105 - a description
_PATH = "a path relative to COMMERCE_API_BASE_URL, such as ../v1_3/orders"
# Fields that no variable sets as a whole.
_NOT_VARIABLES = frozenset({"endpoints", "api_paths", "sources"})


class SettingError(ValueError):
    """A setting is missing or cannot be used. The message names the variable and never shows a secret."""


def load_environment(file: Path | None = None) -> dict[str, str]:
    """Return the environment with the file, or `.env` of the working directory, over it: it wins, as in Dagster."""
    return {**os.environ, **load_dotenv(file)}


def load_dotenv(file: Path | None = None) -> dict[str, str]:
    """Return the variables of the file, or of `.env` in the working directory; none if there is no such file.

    Raises:
        SettingError: It is not text in UTF-8.
    """
    file = file or Path(".env")
    try:
        values = dotenv_values(file)
    except UnicodeDecodeError:
        raise SettingError(f"{file} is not text in UTF-8. Fix: save it in that encoding.") from None
    return {name: value for name, value in values.items() if value is not None}


def _day(text: object) -> object:
    # Pydantic also reads 20240101 and 1704067200 as days.
    if isinstance(text, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("not a day")
    return text


def _past(day: date) -> date:
    if day > datetime.now(UTC).date():
        raise ValueError("in the future")
    return day


def _zone(name: str) -> str:
    # DuckDB knows every zone but the machine's own. The default is read at every import, so it opens no file.
    if name != "UTC" and (name not in available_timezones() or name == "localtime"):
        raise ValueError("not a time zone")
    return name


def _database(values: Mapping[str, Any]) -> Path:
    return DATA_FOLDER / f"{values.get('shop') or 'shop'}.duckdb"


def _setting(default: Any, description: str, *, accepts: str, **constraints: Any) -> Any:
    """Declare a field: `accepts` completes the sentence "Set it to ..." of an error."""
    return Field(default, description=description, json_schema_extra={"accepts": accepts}, **constraints)


class CommerceSettings(BaseSettings):
    """Settings of one shop. Field `api_key` is the variable `COMMERCE_API_KEY`, and so on.

    The URL and the credentials are checked when a client is built, so that definitions load without them.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    endpoints: tuple[InstanceOf[Endpoint], ...] = Field(ENDPOINTS, repr=False, exclude=True)
    sources: dict[str, str] = Field({}, repr=False, exclude=True)
    shop: str = _setting(
        "",
        "Name of the shop, where one instance has several; every definition's name begins with it, see "
        "[Scaling](scaling.md#many-shops)",
        accepts="lower-case letters and digits that begin with a letter, such as acme",
        pattern=r"^([a-z][a-z0-9]*)?$",
    )
    api_base_url: str = _setting(
        "",
        "URL of the API, `https` unless it is on this machine",
        accepts="the URL of the store's API, such as https://www.sendowl.com/api/v1/",
        repr=False,
    )
    api_key: SecretStr | None = _setting(None, "API key, the user name of Basic auth", accepts=_SECRET, repr=False)
    api_secret: SecretStr | None = _setting(None, "API secret, the password of Basic auth", accepts=_SECRET, repr=False)
    api_paths: dict[str, str] = Field(
        {},
        description="Path of an endpoint, relative to the base URL as a link on a page is",
        json_schema_extra={"accepts": _PATH},
    )
    api_requests_per_second: float = _setting(
        1.0,
        "Rate limit of all processes together, of all machines with `COMMERCE_POSTGRES_URL`; 0 turns it off",
        accepts="a number of at least 0, such as 0.5",
        ge=0,
        allow_inf_nan=False,
    )
    api_concurrency: int = _setting(
        8,
        "Maximum number of requests in flight, for a store that answers more slowly than the rate limit allows",
        accepts="a whole number from 1 to 32",
        ge=1,
        le=32,
    )
    api_ca_bundle: Path | None = _setting(
        None,
        "File or folder of CA certificates to trust instead of the bundled ones; `REQUESTS_CA_BUNDLE` is used if unset",
        accepts="a PEM file or a folder of CA certificates",
    )
    orders_start_date: Annotated[date, BeforeValidator(_day), AfterValidator(_past)] = _setting(
        date(2020, 1, 1),
        "First daily partition (UTC), usually the day on which the shop opened",
        accepts="a UTC day that is not in the future, as YYYY-MM-DD, such as 2024-01-31",
    )
    orders_lookback_days: int = _setting(
        30,
        "Days that a refresh extracts again if the API ignores `updated_after`",
        accepts="a whole number from 1 to 36,500",
        ge=1,
        le=36_500,
    )
    orders_overlap: bool = _setting(
        False,
        "`true` overlaps the pages of a day of orders, for stores that delete orders; costs a fifth more requests",
        accepts="true or false",
    )
    order_history: bool = _setting(
        False,
        "`true` keeps every version of an order in `orders_history`, with `valid_from` and `valid_to`",
        accepts="true or false",
    )
    timezone: Annotated[str, AfterValidator(_zone)] = _setting(
        "UTC",
        "Time zone of the days and months in the marts; partitions are UTC days",
        accepts="an IANA time zone, such as Europe/Berlin",
    )
    reconcile_requests: int = _setting(
        200,
        "Maximum number of requests of one reconciliation",
        accepts="a whole number from 4 to 1,000,000",
        ge=4,
        le=1_000_000,
    )
    refund_requests: int = _setting(
        200,
        "Maximum number of requests of one refresh for refunds that the list of orders does not show; 0 turns them off",
        accepts="a whole number from 0 to 1,000,000",
        ge=0,
        le=1_000_000,
    )
    duckdb_path: Path = Field(
        default_factory=_database,
        description="DuckDB file, by default `data/shop.duckdb`, or `data/acme.duckdb` of the shop `acme`; its folder "
        "must exist (`data` is created)",
        json_schema_extra={"accepts": "the path of a DuckDB file"},
    )
    duckdb_lock_timeout: float = _setting(
        LOCK_TIMEOUT,
        "Seconds to wait for another program that has the DuckDB file open",
        accepts="a number of seconds of at least 0",
        ge=0,
        allow_inf_nan=False,
    )
    duckdb_memory_limit: str = _setting(
        MEMORY_LIMIT,
        "Memory that DuckDB may use before it spills to disk; a load uses 128 MB unless it needs more",
        accepts="a number and a unit, such as 256MB or 1GB",
        pattern=r"^(?i)[0-9]+(\.[0-9]+)?\s*[KMGT]i?B$",
    )
    staging_dir: Path = Field(
        default_factory=lambda values: values["duckdb_path"].with_suffix(".staging"),
        description="Folder of staged pages, which wait there for their load; beside the DuckDB file unless set",
        json_schema_extra={"accepts": "the path of a folder"},
    )
    personal_data_key: SecretStr | None = _setting(
        None,
        "Key of the hash, a secret of at least 16 characters",
        accepts=_NEW_KEY,
        repr=False,
    )
    capability_urls: Literal["drop", "keep"] = _setting(
        DEFAULT_POLICY.capability_urls.value,
        "`keep` stores the URLs that open a buyer's downloads",
        accepts="drop or keep",
    )
    personal_data: str = _setting(
        str(DEFAULT_POLICY),
        "`keep`, `hash` or `drop`, and exceptions by column; see [Personal data](personal-data.md)",
        accepts="keep, hash or drop, with exceptions such as hash, orders.buyer_email=keep",
    )
    owner: str | None = _setting(
        None,
        "Who is responsible for the tables, as the UI shows it: an email address, or `team:` and a name",
        accepts="an email address or a team, such as team:data",
        pattern=r"^(team:.+|[^@\s]+@[^@\s]+\.[A-Za-z]{2,})$",
    )
    alert_webhook_url: SecretStr | None = _setting(
        None,
        "Webhook that receives alerts, as Slack's do; without it they are only logged",
        accepts="the URL of a webhook",
        repr=False,
    )
    env_file: Path | None = _setting(
        None,
        "File with these settings, if it is not `.env`: the commands in texts of the UI take them from there",
        accepts="the path of a file",
    )
    postgres_url: SecretStr | None = _setting(
        None,
        "PostgreSQL that several machines share, for locks and the rate limit; see [Scaling](scaling.md)",
        accepts="a URL like postgresql+psycopg2://user:password@host/database",
        repr=False,
    )
    lake_data: str = _setting(
        "",
        "Makes the warehouse a DuckLake: the folder or `s3://` URL of its Parquet files; see [Scaling](scaling.md)",
        accepts="a folder or a URL like s3://bucket/folder/",
    )

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        endpoints: Sequence[Endpoint] = ENDPOINTS,
        sources: Mapping[str, str] | None = None,
    ) -> "CommerceSettings":
        """Read and check all variables; a blank one counts as unset.

        Args:
            environment: The variables; `load_environment()` unless given.
            endpoints: Their names are part of the variables `COMMERCE_API_<ENDPOINT>_PATH`.
            sources: The variable in which a run finds a field, by the field, if it is not `COMMERCE_<FIELD>`; "" of a
                field whose value is in no variable.

        Raises:
            SettingError: Lists everything that cannot be used, a line each.
        """
        given = load_environment() if environment is None else environment
        values = {name: value.strip() for name, value in given.items() if value.strip()}
        if bundle := values.pop("REQUESTS_CA_BUNDLE", None):
            values.setdefault(variable_of("api_ca_bundle"), bundle)
        errors = [*_unknown(given, endpoints)]
        paths = {endpoint.name: values[name] for endpoint in endpoints if (name := path_setting(endpoint)) in values}
        try:
            settings = cls(
                _build_sources=(  # type: ignore[call-arg] # an argument of BaseSettings, not a field
                    (
                        InitSettingsSource(
                            cls, {"endpoints": tuple(endpoints), "api_paths": paths, "sources": {**(sources or {})}}
                        ),
                        _Variables(cls, {name: values[name] for name in variables() if name in values}),
                    ),
                    {},
                )
            )
        except ValidationError as error:
            errors += _messages(error)
        if errors:
            # Pydantic's own error quotes the values, secrets included.
            raise SettingError("\n".join(errors)) from None
        return settings

    @validates("capability_urls", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @validates("api_paths")
    @classmethod
    def _check_paths(cls, paths: dict[str, str]) -> dict[str, str]:
        errors = [
            f"{_path_variable(name)} is not a path. Fix: set it to {_PATH}."
            for name, path in paths.items()
            if "://" in path or path.startswith("//") or any(character in path for character in "?#@\\")
        ]
        if errors:
            raise SettingError("\n".join(errors))
        return paths

    @validates("personal_data")
    @classmethod
    def _check_personal_data(cls, text: str, info: ValidationInfo) -> str:
        policy = PersonalDataPolicy.parse(text)
        policy.check(info.data["endpoints"])
        if policy.hashes and "personal_data_key" in info.data:
            # Now, and not hours later in a run.
            checked_hash_key(_revealed(info.data["personal_data_key"]))
        return text

    @validates("postgres_url")
    @classmethod
    def _check_postgres_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url and not re.fullmatch(r"postgresql\+psycopg2://\S+", url.get_secret_value()):
            raise SettingError(
                "COMMERCE_POSTGRES_URL is not a URL that both Dagster and this project can use. "
                "Fix: write it like postgresql+psycopg2://user:password@host/database."
            )
        return url

    @validates("lake_data")
    @classmethod
    def _check_lake_data(cls, data: str, info: ValidationInfo) -> str:
        if data and not info.data.get("postgres_url"):
            raise SettingError(
                "COMMERCE_LAKE_DATA is set, but COMMERCE_POSTGRES_URL is not: a lake has its catalog in PostgreSQL. "
                "Fix: set both, or neither."
            )
        return data

    @property
    def coordination(self) -> Coordination:
        return build_coordination(_revealed(self.postgres_url))

    @cached_property
    def policy(self) -> PersonalDataPolicy:
        """The policy for personal data, without the key of the hash."""
        return PersonalDataPolicy.parse(self.personal_data, capability_urls=self.capability_urls)

    def keyed_policy(self) -> PersonalDataPolicy:
        """Return the policy for personal data, with the key if it hashes.

        Raises:
            SettingError: The key is missing or cannot be used.
        """
        key = _revealed(self.personal_data_key)
        return self.policy.with_key(checked_hash_key(key)) if self.policy.hashes else self.policy

    def configured_endpoints(self) -> list[Endpoint]:
        """Return the endpoints, with row history where the settings ask for it."""
        if not self.order_history:
            return [*self.endpoints]
        return [replace(endpoint, keeps_versions=endpoint.update_filter is not None) for endpoint in self.endpoints]

    def database(self, log: Logger) -> "DatabaseFile | Lake":
        """Build the DuckDB file or the lake; `log` receives the names of programs that it waits for."""
        return build_database(
            path=self.duckdb_path,
            lake_data=self.lake_data,
            shop=self.shop,
            postgres_url=_revealed(self.postgres_url),
            lock_timeout=self.duckdb_lock_timeout,
            memory_limit=self.duckdb_memory_limit,
            log=log,
        )

    def warehouse(self, log: Logger) -> Warehouse:
        """Build the warehouse: the database, the staging folder and the policy for personal data.

        Raises:
            SettingError: The key of the hash is missing or cannot be used.
        """
        return Warehouse(database=self.database(log), staging_dir=self.staging_dir, policy=self.keyed_policy())

    def build_client(self, log: Logger, *, per_page: int | None = None) -> "CommerceClient":
        """Build the API client; `log` receives its progress.

        Raises:
            SettingError: The URL, a credential or the CA bundle is missing or cannot be used.
        """
        # requests opens a socket when it is imported, to look for IPv6: only code that calls the API pays for that.
        from commerce_assets.api.client import CommerceClient  # noqa: PLC0415
        from commerce_assets.api.rate_limit import RateLimiter  # noqa: PLC0415

        base_url = checked_base_url(self.api_base_url)
        return CommerceClient(
            base_url=base_url,
            key=checked_secret("COMMERCE_API_KEY", _revealed(self.api_key)),
            secret=checked_secret("COMMERCE_API_SECRET", _revealed(self.api_secret)),
            paths=self.api_paths,
            per_page=per_page,
            pacer=RateLimiter(
                base_url=base_url,
                requests_per_second=self.api_requests_per_second,
                coordination=self.coordination,
            ),
            concurrency=self.api_concurrency,
            item_requests=self.refund_requests,
            overlap_windows=self.orders_overlap,
            ca_bundle=_checked_ca_bundle(self.api_ca_bundle),
            log=log,
        )


SECRETS: Final = frozenset(
    name for name, field in CommerceSettings.model_fields.items() if SecretStr in get_args(field.annotation)
)
"""The fields that no file, log or error may show."""


class _Variables(EnvSettingsSource):
    """pydantic-settings' source of environment variables, with the given ones in place of `os.environ`."""

    def __init__(self, settings_cls: type[BaseSettings], given: Mapping[str, str]) -> None:
        self._given = given
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._given.items()}


def build_database(
    *,
    path: Path,
    lake_data: str,
    shop: str,
    postgres_url: str | None,
    lock_timeout: float,
    memory_limit: str,
    log: Logger,
    config: Mapping[str, Any] | None = None,
) -> "DatabaseFile | Lake":
    """Build the lake if its data has a place, else the DuckDB file; both wait for `lock_timeout` seconds."""
    if not lake_data:
        return DatabaseFile(
            path=path,
            lock_timeout=lock_timeout,
            memory_limit=memory_limit,
            config=config or {},
            coordination=build_coordination(postgres_url),
            log=log,
        )
    from commerce_assets.warehouse.lake import Lake  # noqa: PLC0415 - as in build_coordination

    name = shop or "shop"
    return Lake(
        # A folder for each shop: tidying deletes what is there and not in the shop's own catalog.
        data=f"{lake_data.rstrip('/')}/{name}/",
        postgres_url=str(postgres_url),
        schema=f"{name}_lake",
        lock_timeout=lock_timeout,
        memory_limit=memory_limit,
        config=config or {},
        log=log,
    )


def build_coordination(postgres_url: str | None) -> Coordination:
    """Build what limits requests and loads: PostgreSQL if its URL is given, else lock files."""
    if not postgres_url:
        return LockFiles()
    from commerce_assets.coordination.postgres import Postgres  # noqa: PLC0415 - only several machines need it

    return Postgres(postgres_url)


def variables() -> dict[str, FieldInfo]:
    """Return every variable with its field, but `COMMERCE_API_<ENDPOINT>_PATH`, one of which each endpoint has."""
    fields = CommerceSettings.model_fields
    return {variable_of(name): field for name, field in fields.items() if name not in _NOT_VARIABLES}


def variable_of(field: str) -> str:
    return f"{PREFIX}{field.upper()}"


def path_setting(endpoint: Endpoint) -> str:
    """Return the variable that sets an endpoint's path, such as `COMMERCE_API_ORDERS_PATH`."""
    return _path_variable(endpoint.name)


def resource_field(name: str, *, required: bool = False) -> Any:
    """Return a field for a Dagster resource: a setting's default unless `required`, its bounds and its description."""
    setting = CommerceSettings.model_fields[name]
    field = Field(
        default=... if required else setting.default,
        description=f"{setting.description} ({variable_of(name)}).",
        repr=setting.repr,
    )
    field.metadata = [*setting.metadata]
    return field


def _path_variable(endpoint: str) -> str:
    return variable_of(f"api_{endpoint}_path")


def _unknown(environment: Mapping[str, str], endpoints: Sequence[Endpoint]) -> Iterator[str]:
    known = {*variables(), *map(path_setting, endpoints)}
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name not in known:
            # Without the prefix, which would make any two names alike.
            nearest = get_close_matches(name.upper().removeprefix(PREFIX), [k.removeprefix(PREFIX) for k in known], n=1)
            advice = f"Did you mean {PREFIX}{nearest[0]}?" if nearest else "Fix: remove it; see docs/settings.md."
            yield f"{name} is not a setting. {advice}"


def _messages(error: ValidationError) -> Iterator[str]:
    """Yield a message per field: the variable, its value unless that is a secret, and what the field accepts."""
    for details in error.errors(include_url=False):
        if details["type"] == "default_factory_not_called":  # for lack of another field, which has its own message
            continue
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, SettingError):
            yield str(cause)
            continue
        name = str(details["loc"][0])
        extra = CommerceSettings.model_fields[name].json_schema_extra
        accepts = extra["accepts"] if isinstance(extra, dict) else ""
        reason = f": {cause}" if name == "personal_data" else ""
        yield f"{variable_of(name)} is {details['input']!r}{reason}. Fix: set it to {accepts}."


def checked_base_url(value: str) -> str:
    """Return the base URL with a slash at its end, if credentials may be sent there.

    Raises:
        SettingError: It is blank, not a URL, not encrypted, or holds credentials.
    """
    url = value.strip()
    if not url:
        raise SettingError(
            "COMMERCE_API_BASE_URL is blank. Fix: set it in .env to the URL of the store's API, "
            "such as https://www.sendowl.com/api/v1/; without a store, `make dev` brings a sample store."
        )
    parts = _parts(url)
    if parts is None:
        raise SettingError(
            "COMMERCE_API_BASE_URL is not a valid URL. Fix: write it like https://www.sendowl.com/api/v1/."
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingError(
            "COMMERCE_API_BASE_URL must not hold credentials, a query or a fragment. "
            "Fix: set the key in COMMERCE_API_KEY and the secret in COMMERCE_API_SECRET."
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise SettingError(
            f"COMMERCE_API_BASE_URL is not encrypted, and credentials need encryption. Fix: use https://{parts.netloc}."
        )
    return url if url.endswith("/") else url + "/"


def checked_webhook_url(value: str) -> str:
    """Return the webhook's URL, which is a secret as a whole.

    Raises:
        SettingError: It is not a URL, or not encrypted. The message does not show it.
    """
    url = value.strip()
    parts = _parts(url)
    if parts is None:
        raise SettingError("COMMERCE_ALERT_WEBHOOK_URL is not a valid URL. Fix: copy it again from the webhook's page.")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise SettingError("COMMERCE_ALERT_WEBHOOK_URL is not encrypted. Fix: use https://.")
    return url


def checked_secret(variable: str, value: str) -> str:
    """Return the key or the secret, stripped.

    Raises:
        SettingError: It is blank, or holds what a header cannot carry.
    """
    secret = value.strip()
    if not secret:
        raise SettingError(f"{variable} is blank. Fix: copy it from the store's API settings.")
    if not secret.isprintable():
        raise SettingError(
            f"{variable} holds a line break or another character that does not print. Fix: copy it again, in one line."
        )
    return secret


def checked_hash_key(value: str) -> str:
    """Return the key of the hash, stripped.

    Raises:
        SettingError: It is missing, or too short to be a secret.
    """
    key = value.strip()
    if not key:
        raise SettingError(
            f"COMMERCE_PERSONAL_DATA_KEY is not set, but COMMERCE_PERSONAL_DATA hashes. Fix: set it to {_NEW_KEY}."
        )
    if len(key) < _SHORTEST_KEY or not key.isprintable():
        raise SettingError(
            f"COMMERCE_PERSONAL_DATA_KEY is shorter than {_SHORTEST_KEY} characters or does not print. "
            f"Fix: set it to {_NEW_KEY}."
        )
    return key


def _checked_ca_bundle(path: Path | None) -> Path | None:
    """Return the path if TLS can read certificates there; requests would name no setting."""
    if path is None or path.is_dir():
        return path
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else "it holds no CA certificates"
        raise SettingError(
            f"COMMERCE_API_CA_BUNDLE or REQUESTS_CA_BUNDLE is {str(path)!r}: {reason}. "
            "Fix: set it to a PEM file that can be read."
        ) from None
    return path


def _parts(url: str) -> SplitResult | None:
    """Return the parts of an http or https URL; None if it is not one. Python's own errors quote the URL."""
    if not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme in {"http", "https"} and parts.hostname else None


def _revealed(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
