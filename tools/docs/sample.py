"""Build the database of the cookbook's queries: a year of the sample shop, identical in every build."""

import logging
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from commerce_assets.analytics.build import build
from commerce_assets.analytics.tables import MODELS
from commerce_assets.api.request import ListRequest
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.ingest.ingest import ingest
from commerce_assets.settings import CommerceSettings, path_setting
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY
from commerce_assets.warehouse.warehouse import Warehouse
from commerce_assets.window import Window
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.server import serve
from sample_store.shop import Shop, build_shop
from sample_store.store import SampleStore

_OPENED = datetime(2025, 7, 1, tzinfo=UTC)
_BACKFILLED = datetime(2026, 6, 24, tzinfo=UTC)
REFRESHED = datetime(2026, 7, 1, tzinfo=UTC)
_LOG = logging.getLogger(__name__)


def build_sample_database(folder: Path) -> Path:
    """Ingest the shop as of 24 June, then the changes of the following week; return the new file."""
    with serve(store := _Store(_shop())) as server, ExitStack() as stack:
        orders = next(endpoint for endpoint in ENDPOINTS if endpoint.update_filter)
        settings = CommerceSettings.read(
            {
                "COMMERCE_API_BASE_URL": server.base_url,
                "COMMERCE_API_KEY": SAMPLE_API_KEY,
                "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
                path_setting(orders): ORDERS_PATH,
                "COMMERCE_API_REQUESTS_PER_SECOND": "0",
            }
        )
        client = stack.enter_context(settings.build_client(_LOG))
        database = DatabaseFile(path=folder / "shop.duckdb", log=_LOG)
        warehouse = Warehouse(database=database, staging_dir=folder / "staging", policy=DEFAULT_POLICY)
        versioned = replace(orders, keeps_versions=True)
        days = Window(_OPENED, _BACKFILLED)
        lists = [ListRequest(endpoint=endpoint) for endpoint in ENDPOINTS if not endpoint.is_partitioned]
        for request in (
            *lists,
            ListRequest(endpoint=versioned, window=days),
            ListRequest(endpoint=versioned, updated_after=days.end),
        ):
            store.now = REFRESHED if request.updated_after else _BACKFILLED
            ingest(request, client=client, warehouse=warehouse, log=_LOG)
        with database.write() as connection:
            for model in MODELS:
                build(connection, model, [endpoint for endpoint in ENDPOINTS if endpoint.name in model.deps])
    return database.path


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the file as the cookbook shows."""
    connection = duckdb.connect()
    connection.execute(f"ATTACH '{path}' AS shop (READ_ONLY)")
    connection.execute("USE shop")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


class _Store(SampleStore):
    """The sample store with a settable clock."""

    def __init__(self, shop: Shop) -> None:
        self.now = _BACKFILLED
        super().__init__(shop, now=lambda: self.now)


def _shop() -> Shop:
    """Build a year of orders, with two prices that are not numbers and an undeclared field as examples."""
    days = (_BACKFILLED - _OPENED) // timedelta(days=1)
    shop = build_shop(now=_BACKFILLED, days=days, ahead=REFRESHED - _BACKFILLED)
    for product in shop.products[:2]:
        product["price"] = f"£{product['price']}"
    for order in shop.orders[::500]:
        order["test_mode"] = False
    return shop
