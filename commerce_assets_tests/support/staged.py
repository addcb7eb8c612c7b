"""Former names of world.py and items.py."""

import duckdb

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.items import ORDERS, PRODUCTS, Item, days, order, product
from commerce_assets_tests.support.other_programs import held, python
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.world import FIRST_PULL, World, counts

__all__ = [
    "FIRST_PULL",
    "ORDERS",
    "PRODUCTS",
    "ROOT",
    "Item",
    "counts",
    "days",
    "held",
    "order",
    "product",
    "python",
]


class Storage(World):
    @property
    def database(self) -> DatabaseFile:
        return self.file


def type_of(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, column: str) -> str:
    row = connection.execute(
        "SELECT data_type FROM duckdb_columns() WHERE table_name = ? AND column_name = ?", [endpoint.name, column]
    ).fetchone()
    assert row is not None
    return str(row[0])
