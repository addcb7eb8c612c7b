"""A buyer who is to be forgotten: what docs/personal-data.md has a person do leaves nothing of the buyer."""

import os
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from dagster import AssetKey

from commerce_assets.analytics.tables import MODELS
from commerce_assets_tests.support.items import order
from commerce_assets_tests.support.leftovers import forms_of, search
from commerce_assets_tests.support.pages import DOCS, ROOT, blocks
from commerce_assets_tests.support.world import World

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
NOON = datetime.combine(YESTERDAY, time(12), UTC)
ADDRESS = "somebody@example.com"
NAME = "Unmistakable Somebody"
FORGET, REWRITE = blocks(DOCS / "personal-data.md", "python")


def do(block: str) -> None:
    """Run a block of the page in the project's folder."""
    subprocess.run([sys.executable, "-c", block], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def read(project: World, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{project.folder}/data/shop.duckdb' AS shop (READ_ONLY)")
        return connection.execute(sql).fetchall()


def counted(project: World) -> list[tuple[Any, ...]]:
    """Sales and their amount, other orders and theirs, and orders whose amount is unreadable."""
    return read(
        project,
        "SELECT count_if(is_sale), sum(net), count_if(NOT is_sale), sum(excluded_amount), "
        "count_if(len(unreadable_amounts) > 0) FROM shop.analytics.orders_enriched",
    )


def build_marts(project: World) -> None:
    selection = [AssetKey(model.name) for model in MODELS if not model.is_partitioned]
    job = project.definitions.resolve_job_def("analytics")
    assert job.execute_in_process(instance=project.instance, asset_selection=selection).success


def test_the_documented_erasure_removes_the_buyer_and_no_order(project: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.folder / "data").mkdir()
    monkeypatch.chdir(project.folder)
    project.settings |= {
        "COMMERCE_DUCKDB_PATH": "data/shop.duckdb",
        "COMMERCE_ORDER_HISTORY": "true",
        "COMMERCE_CAPABILITY_URLS": "keep",
    }
    theirs = {
        "buyer_email": ADDRESS.upper(),
        "buyer_name": NAME,
        "billing_city": NAME,
        "download_url": f"https://downloads.example/{ADDRESS}",
        "settled_gross": "9.00",
        "settled_currency": "EUR",
        "nobody_declared": NAME,
        "download_attempts": NAME,
    }
    project.store.add_order(order(1, NOON, **theirs))
    project.store.add_order(order(2, NOON, buyer_email="another@example.com", settled_gross="1.00"))
    # In an older version of an order that is somebody else's now, and as who receives a gift.
    project.store.add_order(order(3, NOON, paypal_email=ADDRESS))
    project.store.add_order(order(4, NOON, giftee_email=ADDRESS))
    # Tests, however they are marked, are no sales; an order whose amount cannot be read is one.
    for number, mark in enumerate((True, " True\n", 1), start=5):
        project.store.add_order(order(number, NOON, **theirs, test_mode=mark))
    project.store.add_order(order(8, NOON, **theirs | {"settled_gross": f"9.00 {NAME}"}))
    project.run("orders", days=(YESTERDAY, YESTERDAY))
    project.store.update_order(3, paypal_email=None)
    project.run("orders_refresh")
    build_marts(project)
    needles = {"address": forms_of(ADDRESS, ADDRESS.upper()), "name": forms_of(NAME)}
    assert {find.what for find in search(project.folder / "data", needles)} == {"address", "name"}
    before = counted(project)

    do(FORGET)
    build_marts(project)
    do(REWRITE)

    assert search(project.folder / "data", needles) == set()
    orders = read(project, "SELECT id, settled_gross, buyer_email FROM shop.commerce.orders WHERE id < 5 ORDER BY id")
    assert orders == [(1, Decimal(9), None), (2, Decimal(1), "another@example.com"), (3, None, None), (4, None, None)]
    assert read(project, "SELECT sum(net), sum(new_customers) FROM shop.analytics.daily_revenue") == [(Decimal(10), 1)]
    assert before == counted(project) == [(3, Decimal(10), 5, Decimal(27), 1)]
    assert read(project, "SELECT sum(net) FROM shop.analytics.revenue_movements") == [(Decimal(10),)]
