"""Name what the run history shows as materialized and the database does not contain.

The history is another database's after `COMMERCE_DUCKDB_PATH` was changed, and an earlier one's after the file was
deleted.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from functools import partial

import dagster as dg
import duckdb

from commerce_assets.api.request import store_of
from commerce_assets.defs.checks import health_results
from commerce_assets.defs.history_owner import NameTakenError, refuse_other_shop
from commerce_assets.defs.materialization_events import evaluation_of
from commerce_assets.defs.shop import Shop
from commerce_assets.endpoint import Endpoint
from commerce_assets.settings import CommerceSettings, checked_base_url
from commerce_assets.warehouse.database import Database
from commerce_assets.warehouse.freshness import describe_never_loaded, due_days_never_loaded
from commerce_assets.warehouse.load_log import last_loaded, loaded_windows, stores_of
from commerce_assets.wording import counted


def report_foreign_history(instance: dg.DagsterInstance, settings: CommerceSettings) -> Iterator[str]:
    """Yield a sentence per asset that differs, and evaluate its health checks, which fail and say what to load.

    Of a history that is another shop's, yield one sentence and evaluate nothing.

    Raises:
        SettingError: The URL of the API cannot be used.
    """
    shop, database = Shop.of(settings), settings.database(logging.getLogger(__name__))
    if settings.api_base_url and settings.api_key:
        store = store_of(checked_base_url(settings.api_base_url), settings.api_key.get_secret_value())
        try:
            refuse_other_shop(instance, shop, location=None, store=store, stored=partial(stores_of, database))
        except NameTakenError as error:
            yield shop.hint(str(error))
            return
    with database.read_or_empty() as connection:
        for endpoint in settings.configured_endpoints():
            key = shop.key(endpoint.name)
            if missing := _missing(instance, connection, endpoint, key):
                start, now = settings.orders_start_date, datetime.now(UTC)
                for result in health_results(connection, endpoint, shop=shop, start=start, now=now):
                    instance.report_runless_asset_event(evaluation_of(key, result))
                yield shop.hint(_sentence(endpoint, key, missing, database))


def report_not_loaded(settings: CommerceSettings) -> Iterator[str]:
    """Yield a sentence per asset that is still to be loaded, with what loads it; one sentence if all are."""
    shop, endpoints = Shop.of(settings), settings.configured_endpoints()
    database = settings.database(logging.getLogger(__name__))
    with database.read_or_empty() as connection:
        if all(last_loaded(connection, endpoint) is None for endpoint in endpoints):
            yield (
                f"{database}: nothing is loaded yet. Fix: in the UI, open Lineage and click Materialize all…, then All "
                "and Launch backfill."
            )
            return
        for endpoint in endpoints:
            start, now = settings.orders_start_date, datetime.now(UTC)
            if endpoint.is_partitioned:
                if days := due_days_never_loaded(connection, endpoint, start, now):
                    yield shop.hint(f"{endpoint.name}: {describe_never_loaded(endpoint, days)}")
            elif last_loaded(connection, endpoint) is None:
                yield shop.hint(
                    f"{endpoint.name}: never loaded: materialize it (`commerce-assets pull {endpoint.name}`, or "
                    "Materialize in the UI)"
                )


def _missing(
    instance: dg.DagsterInstance, connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, key: dg.AssetKey
) -> list[str]:
    """Return the materialized partitions, or the name of the asset, that no load has written."""
    if not endpoint.is_partitioned:
        is_shown = instance.get_latest_materialization_event(key)
        return [endpoint.name] if is_shown and last_loaded(connection, endpoint) is None else []
    windows = loaded_windows(connection, endpoint)
    midnights = {
        day: datetime.combine(date.fromisoformat(day), time(), UTC) for day in instance.get_materialized_partitions(key)
    }
    return sorted(day for day, at in midnights.items() if not any(window.contains(at) for window in windows))


def _sentence(endpoint: Endpoint, key: dg.AssetKey, missing: list[str], database: Database) -> str:
    shown, load = "it", f"commerce-assets pull {endpoint.name}"
    if endpoint.is_partitioned:
        first, last = missing[0], missing[-1]
        shown = f"{counted(len(missing), 'day')} ({first}...{last})"
        load += f" --from {first} --to {last}"
    return (
        f"{key.to_user_string()}: the run history shows {shown} as materialized, but {database} does not contain "
        f"that. Fix: load it (`{load}`, or Materialize in the UI); or, if the history is another database's, point "
        "COMMERCE_DUCKDB_PATH to that database."
    )
