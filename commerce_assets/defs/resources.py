"""The Dagster resources of a shop: the API, the warehouse, the webhook for alerts and the IO manager."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import dagster as dg
from pydantic import SecretStr

from commerce_assets.defs.alerts.sensor import ALERT_WEBHOOK, AlertWebhook
from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.defs.history_owner import location_of, record_owner, refuse_other_shop
from commerce_assets.defs.io_manager import CommerceDuckDBIOManager
from commerce_assets.defs.shop import Shop
from commerce_assets.settings import CommerceSettings, resource_field, variable_of
from commerce_assets.warehouse.load_log import stores_of
from commerce_assets.warehouse.sql import SCHEMA
from commerce_assets.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient

API: Final = "commerce_api"
WAREHOUSE: Final = "warehouse"
IO_MANAGER: Final = "warehouse_io_manager"

Context = dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext


class CommerceApiResource(dg.ConfigurableResource[Any]):
    """Connection to the commerce API: URL, credentials, rate limit."""

    base_url: str = resource_field("api_base_url", required=True)
    api_key: str = resource_field("api_key", required=True)
    api_secret: str = resource_field("api_secret", required=True)
    paths: dict[str, str] = resource_field("api_paths")
    requests_per_second: float = resource_field("api_requests_per_second")
    concurrency: int = resource_field("api_concurrency")
    overlap_windows: bool = resource_field("orders_overlap")
    refund_requests: int = resource_field("refund_requests")
    ca_bundle: str | None = resource_field("api_ca_bundle")
    postgres_url: str | None = resource_field("postgres_url")

    def client(self, log: logging.Logger) -> "CommerceClient":
        """Build the API client; `log` receives its progress.

        Raises:
            SettingError: A setting is missing or cannot be used.
        """
        settings = CommerceSettings.model_construct(
            api_base_url=self.base_url,
            api_key=SecretStr(self.api_key),
            api_secret=SecretStr(self.api_secret),
            api_paths=self.paths,
            api_requests_per_second=self.requests_per_second,
            api_concurrency=self.concurrency,
            orders_overlap=self.overlap_windows,
            refund_requests=self.refund_requests,
            api_ca_bundle=Path(self.ca_bundle) if self.ca_bundle else None,
            postgres_url=_secret(self.postgres_url),
        )
        return settings.build_client(log)


class WarehouseResource(dg.ConfigurableResource[Any]):
    """The database, and the folder of pages staged for it."""

    database_path: str = resource_field("duckdb_path", required=True)
    staging_dir: str = resource_field("staging_dir", required=True)
    lock_timeout: float = resource_field("duckdb_lock_timeout")
    memory_limit: str = resource_field("duckdb_memory_limit")
    personal_data: str = resource_field("personal_data")
    capability_urls: str = resource_field("capability_urls")
    personal_data_key: str | None = resource_field("personal_data_key")
    timezone: str = resource_field("timezone")
    postgres_url: str | None = resource_field("postgres_url")
    lake_data: str = resource_field("lake_data")
    shop: str = resource_field("shop")

    def open(self, log: logging.Logger) -> Warehouse:
        """The warehouse; it logs to `log` whom it waits for.

        Raises:
            SettingError: The key of the hash is missing or cannot be used.
        """
        settings = CommerceSettings.model_construct(
            duckdb_path=Path(self.database_path),
            duckdb_lock_timeout=self.lock_timeout,
            duckdb_memory_limit=self.memory_limit,
            staging_dir=Path(self.staging_dir),
            personal_data=self.personal_data,
            capability_urls=self.capability_urls,
            personal_data_key=_secret(self.personal_data_key),
            postgres_url=_secret(self.postgres_url),
            lake_data=self.lake_data,
            shop=self.shop,
        )
        return settings.warehouse(log)


def warehouse_of(context: Context, shop: Shop) -> WarehouseResource:
    """Return the resource of the shop's warehouse."""
    return cast("WarehouseResource", getattr(context.resources, shop.named(WAREHOUSE)))


def open_warehouse(context: Context, shop: Shop) -> Warehouse:
    """Open the shop's warehouse, for a run that makes no request.

    Raises:
        dagster.Failure: A setting cannot be used, or the instance has another shop's history under the same names.
    """
    with known_errors_as_failures(shop):
        warehouse = warehouse_of(context, shop).open(context.log)
        stored = partial(stores_of, warehouse.database)
        refuse_other_shop(context.instance, shop, location=location_of(context.run), store=None, stored=stored)
    return warehouse


@contextmanager
def open_shop(
    context: Context, shop: Shop, *, store_moved: bool = False
) -> Iterator[tuple["CommerceClient", Warehouse]]:
    """Open the shop's API and warehouse, for a run that loads; the instance then remembers whose history it has.

    Args:
        context: The context of the run.
        shop: Names the resources.
        store_moved: Load although the names have another shop's history. Only a person sets it.

    Raises:
        SettingError: A setting is missing or cannot be used.
        NameTakenError: The instance has another shop's history under the same names.
    """
    api: CommerceApiResource = getattr(context.resources, shop.named(API))
    warehouse = warehouse_of(context, shop).open(context.log)
    instance, location = context.instance, location_of(context.run)
    with api.client(context.log) as client:
        if not store_moved:
            stored = partial(stores_of, warehouse.database)
            refuse_other_shop(instance, shop, location=location, store=client.store, stored=stored)
        yield client, warehouse
        record_owner(instance, shop, location=location, store=client.store)


def build_resources(settings: CommerceSettings) -> dict[str, Any]:
    """Build every resource. Secrets stay `EnvVar`s, which Dagster resolves in a run, and masks."""
    shop = Shop.of(settings)
    postgres_url = _env_var(settings, "postgres_url") if settings.postgres_url else None
    return {
        shop.named(API): CommerceApiResource(
            base_url=(_env_var(settings, "api_base_url") or settings.api_base_url) if settings.api_base_url else "",
            # Without them, a run fails with the sentence of `client`, not with Dagster's traceback.
            api_key=_env_var(settings, "api_key") if settings.api_key else "",
            api_secret=_env_var(settings, "api_secret") if settings.api_secret else "",
            paths=settings.api_paths,
            requests_per_second=settings.api_requests_per_second,
            concurrency=settings.api_concurrency,
            overlap_windows=settings.orders_overlap,
            refund_requests=settings.refund_requests,
            ca_bundle=str(settings.api_ca_bundle) if settings.api_ca_bundle else None,
            postgres_url=postgres_url,
        ),
        shop.named(ALERT_WEBHOOK): AlertWebhook(
            url=_env_var(settings, "alert_webhook_url") if settings.alert_webhook_url else None
        ),
        shop.named(WAREHOUSE): WarehouseResource(
            database_path=str(settings.duckdb_path),
            staging_dir=str(settings.staging_dir),
            lock_timeout=settings.duckdb_lock_timeout,
            memory_limit=settings.duckdb_memory_limit,
            personal_data=settings.personal_data,
            capability_urls=settings.capability_urls,
            personal_data_key=_env_var(settings, "personal_data_key") if settings.policy.hashes else None,
            timezone=settings.timezone,
            postgres_url=postgres_url,
            lake_data=settings.lake_data,
            shop=settings.shop,
        ),
        shop.named(IO_MANAGER): CommerceDuckDBIOManager(
            database=str(settings.duckdb_path),
            schema=SCHEMA,
            shop=settings.shop,
            lock_timeout=settings.duckdb_lock_timeout,
            memory_limit=settings.duckdb_memory_limit,
            postgres_url=postgres_url,
            lake_data=settings.lake_data,
        ),
    }


def _secret(value: str | None) -> SecretStr | None:
    return SecretStr(value) if value else None


def _env_var(settings: CommerceSettings, field: str) -> Any:
    """Return the variable in which a run finds a setting; None if its value is in no variable."""
    variable = settings.sources.get(field, variable_of(field))
    return dg.EnvVar(variable) if variable else None
