"""The run history beside a database that is not the one it was written for."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from commerce_assets.hints import program
from commerce_assets.ops.foreign_history import report_foreign_history, report_not_loaded
from commerce_assets.settings import CommerceSettings
from commerce_assets_tests.support.items import BY_NAME, order, product
from commerce_assets_tests.support.world import World

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CHECKS = [dg.AssetCheckKey(dg.AssetKey(asset), "fresh") for asset in ("products", "orders")]


def named(project: World, database: str | None = None) -> list[str]:
    settings = project.environment | ({"COMMERCE_DUCKDB_PATH": database} if database else {})
    return [*report_foreign_history(project.instance, CommerceSettings.read(settings))]


def is_fresh(project: World) -> list[bool]:
    records = project.instance.event_log_storage.get_latest_asset_check_execution_by_key(CHECKS)
    entries = [records[key].event for key in CHECKS]
    events = [entry.dagster_event for entry in entries if entry and entry.dagster_event]
    return [event.asset_check_evaluation_data.passed for event in events]


@pytest.fixture
def loaded(project: World) -> World:
    """A project with products and three days of orders, materialized and loaded."""
    first, last = ((datetime.now(UTC) - timedelta(days=back)).date() for back in (3, 1))
    project.settings["COMMERCE_ORDERS_START_DATE"] = first.isoformat()
    project.store.shop.products[:] = [product(1)]
    project.store.add_order(order(7, datetime.combine(first, NOON.timetz())))
    project.store.touch()
    project.run("catalog")
    project.run("orders", days=(first, last))
    return project


def test_a_history_of_another_database_is_named_until_it_is_loaded(loaded: World) -> None:
    """Fault 107: `COMMERCE_DUCKDB_PATH` names another file, then the first one again, then the file is deleted."""
    assert named(loaded) == []
    elsewhere = str(loaded.folder / "elsewhere.duckdb")
    first = loaded.settings["COMMERCE_ORDERS_START_DATE"]

    sentences = named(loaded, elsewhere)

    (of_orders,) = [sentence for sentence in sentences if sentence.startswith("orders: ")]
    assert of_orders.startswith(f"orders: the run history shows 3 days ({first}...")
    assert (
        f"{elsewhere} does not contain that. Fix: load it (`{program()} pull orders --from {first} --to " in of_orders
    )
    (of_products,) = [sentence for sentence in sentences if sentence.startswith("products: ")]
    assert "shows it as materialized" in of_products
    assert is_fresh(loaded) == [False, False]

    assert named(loaded) == []
    loaded.file.path.unlink()
    assert len(named(loaded)) == len(sentences)


def test_what_is_still_to_be_loaded_is_named_at_each_start(loaded: World) -> None:
    settings = CommerceSettings.read(loaded.environment)
    first = settings.orders_start_date
    assert [*report_not_loaded(settings)] == []

    loaded.settings["COMMERCE_DUCKDB_PATH"] = new = str(loaded.folder / "new.duckdb")
    elsewhere = CommerceSettings.read(loaded.environment)
    (sentence,) = report_not_loaded(elsewhere)
    assert sentence.startswith(f"{new}: nothing is loaded yet. Fix: in the UI, open Lineage and click Materialize all…")

    World(loaded.folder, name="new.duckdb").load(BY_NAME["packages"], [])
    said = dict(sentence.split(": ", 1) for sentence in report_not_loaded(elsewhere))
    assert said.keys() == {"products", "orders", "subscriptions"}
    assert f"`{program()} pull products`" in said["products"]
    assert f"`{program()} pull orders --from {first} --to " in said["orders"]
