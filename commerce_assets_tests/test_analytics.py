"""The tables of the analytics layer, from a store's own data to what Dagster shows: reckoned once more, in Python."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from commerce_assets.analytics.tables import MODELS
from commerce_assets.definitions import build_definitions
from commerce_assets.sample_store.shop import build_shop
from commerce_assets.sample_store.store import SampleStore
from commerce_assets_tests.project import Project, running_project

Order = dict[str, Any]
Amounts = tuple[Decimal, ...]
NOW = datetime.now(UTC)
DAYS = 40
FIRST, YESTERDAY = (NOW - timedelta(days=DAYS)).date(), (NOW - timedelta(days=1)).date()
SECRET = "somebody.unmistakable@example.com"
ZERO = Decimal(0)


def money(value: str | None) -> Decimal:
    return Decimal(value or 0)


def refunded(order: Order) -> Decimal:
    return sum((money(item["refund_transaction"]["amount"]) for item in order["refund_transactions"]), ZERO)


def paid(orders: Iterable[Order]) -> list[Order]:
    """Those with a settled amount, oldest first."""
    return sorted((o for o in orders if o["settled_gross"] is not None), key=lambda o: (o["created_at"], o["id"]))


def reckoned_days(orders: Iterable[Order]) -> dict[tuple[date, str], tuple[int, Amounts, int, int]]:
    """By day and currency: orders; gross, refunds, net, fees and tax; new and returning customers."""
    known: set[str] = set()
    groups: dict[tuple[date, str], list[Order]] = defaultdict(list)
    new: dict[tuple[date, str], set[str]] = defaultdict(set)
    for order in paid(orders):
        key = (date.fromisoformat(order["created_at"][:10]), order["settled_currency"])
        groups[key].append(order)
        if order["buyer_email"] and order["buyer_email"].lower() not in known:
            known.add(order["buyer_email"].lower())
            new[key].add(order["buyer_email"].lower())
    return {
        key: (
            len(group),
            (
                sum((money(o["settled_gross"]) + refunded(o) for o in group), ZERO),
                sum((refunded(o) for o in group), ZERO),
                sum((money(o["settled_gross"]) for o in group), ZERO),
                sum((money(o["settled_gateway_fee"]) for o in group), ZERO),
                sum((money(o["settled_tax"]) for o in group), ZERO),
            ),
            len(new[key]),
            len({o["buyer_email"].lower() for o in group if o["buyer_email"]} - new[key]),
        )
        for key, group in groups.items()
    }


def reckoned_customers(orders: Iterable[Order]) -> dict[str, tuple[str, str, int, int, dict[str, Decimal]]]:
    """By address: first and last order, orders, refunded orders, net by currency."""
    groups: dict[str, list[Order]] = defaultdict(list)
    for order in orders:
        if order["buyer_email"]:
            groups[order["buyer_email"].lower()].append(order)
    reckoned = {}
    for customer, group in groups.items():
        net: dict[str, Decimal] = defaultdict(Decimal)
        for order in paid(group):
            net[order["settled_currency"]] += money(order["settled_gross"])
        stamps = [order["created_at"] for order in group]
        reckoned[customer] = (min(stamps), max(stamps), len(group), sum(o["refunded"] for o in group), dict(net))
    return reckoned


def assert_tables_equal(project: Project, orders: list[Order]) -> None:
    """Each table is what the store's orders come to; of order_items, the days that are partitions."""
    days = project.query("""
        SELECT day, currency, orders, gross, refunds, net, fees, tax, new_customers, returning_customers
        FROM shop.analytics.daily_revenue""")
    assert {(day, currency): (n, tuple(m), new, old) for day, currency, n, *m, new, old in days} == reckoned_days(
        orders
    )

    customers = project.query("""
        SELECT customer, strftime(first_order_at, '%xT%XZ'), strftime(last_order_at, '%xT%XZ'), orders, refunded_orders,
            net
        FROM shop.analytics.customers""")
    assert {customer: tuple(row) for customer, *row in customers} == reckoned_customers(orders)

    refunds = project.query("SELECT order_id, kind, refunded, settled, is_known FROM shop.analytics.refunds")
    assert {number: row for number, *row in refunds} == {
        o["id"]: [
            "refund" if o["refunded"] else "chargeback",
            refunded(o),
            None if o["settled_gross"] is None else money(o["settled_gross"]),
            bool(o["refund_transactions"]),
        ]
        for o in orders
        if o["refunded"] or o["state"] == "chargeback"
    }

    plans = {plan["id"]: plan["name"] for plan in project.store.shop.subscriptions}
    subscribers = project.query("""
        SELECT order_id, plan, state, is_active, payments, strftime(last_change_at, '%xT%XZ')
        FROM shop.analytics.subscription_orders""")
    assert {number: row for number, *row in subscribers} == {
        o["id"]: [
            plans[o["subscription_id"]],
            o["state"],
            o["state"] == "subscription_active",
            len(o["gateway_transaction_ids"]),
            o["updated_at"],
        ]
        for o in orders
        if o["subscription_id"]
    }
    assert_items_equal(project, [o for o in orders if date.fromisoformat(o["created_at"][:10]) <= YESTERDAY])
    assert_performance_equals(project, orders)


def assert_items_equal(project: Project, orders: list[Order]) -> None:
    names = {product["id"]: product["name"] for product in project.store.shop.products}
    expected = {
        (o["id"], line): (item["cart_item"]["product_id"], names[item["cart_item"]["product_id"]])
        for o in orders
        for line, item in enumerate((o["cart"] or {"cart_items": []})["cart_items"], start=1)
    }
    items = project.query("SELECT order_id, line, product_id, product, net FROM shop.analytics.order_items")
    assert {(number, line): (key, name) for number, line, key, name, _ in items} == expected
    assert len(items) == len(expected)
    parts: dict[int, list[Decimal]] = defaultdict(list)
    for number, _, _, _, net in items:
        if net is not None:
            parts[number].append(net)
    assert {number: sum(nets) for number, nets in parts.items()} == {
        o["id"]: money(o["settled_gross"]) for o in paid(orders) if o["id"] in parts
    }
    # No price tells the lines of a package apart: equal parts, but for a cent.
    assert all(max(nets) - min(nets) <= Decimal("0.02") for nets in parts.values())


def assert_performance_equals(project: Project, orders: list[Order]) -> None:
    """Units to the piece; and money to the cent, by month and currency."""
    units: dict[tuple[date, int, str], int] = defaultdict(int)
    money_of: dict[tuple[date, str], Decimal] = defaultdict(Decimal)
    for order in paid(orders):
        month, currency = date.fromisoformat(order["created_at"][:7] + "-01"), order["settled_currency"]
        money_of[month, currency] += money(order["settled_gross"])
        for item in order["cart"]["cart_items"]:
            units[month, item["cart_item"]["product_id"], currency] += item["cart_item"]["quantity"]
    sold = project.query("SELECT month, product_id, currency, units, net FROM shop.analytics.product_performance")
    assert {(month, key, currency): n for month, key, currency, n, _ in sold if key} == units
    stored: dict[tuple[date, str], Decimal] = defaultdict(Decimal)
    for month, _, currency, _, net in sold:
        stored[month, currency] += net
    assert stored == money_of


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Forty days, yesterday the last, of a shop in three currencies; of today, what a refresh brings."""
    store = SampleStore(build_shop(now=NOW, days=DAYS, orders_per_day=6), now=lambda: NOW)
    with (
        pytest.MonkeyPatch.context() as patch,
        running_project(store, tmp_path_factory.mktemp("shop"), patch) as project,
    ):
        project.settings["COMMERCE_ORDERS_START_DATE"] = FIRST.isoformat()
        store.update_order(store.shop.orders[3]["id"], buyer_email=SECRET)
        project.run("catalog")
        project.run("orders", days=(FIRST, YESTERDAY))
        project.run("orders_refresh")
        yield project


def test_the_tables_equal_what_the_stores_orders_come_to_before_and_after_late_changes(loaded: Project) -> None:
    orders = loaded.store.shop.orders
    result = loaded.run("analytics", days=(FIRST, YESTERDAY))
    assert {check.passed for check in result.get_asset_check_evaluations()} == {True}
    assert len({o["settled_currency"] for o in paid(orders)}) == 3
    assert_tables_equal(loaded, orders)

    sales = (o for o in orders if o["state"] == "complete" and not o["refunded"] and money(o["settled_gross"]) > 1)
    whole, part, moved, gone = (next(sales) for _ in range(4))
    for order, kept in ((whole, "0.00"), (part, "0.99")):
        transaction = {
            "amount": str(money(order["settled_gross"]) - money(kept)),
            "currency": order["settled_currency"],
        }
        loaded.store.update_order(
            order["id"], refunded=True, settled_gross=kept, refund_transactions=[{"refund_transaction": transaction}]
        )
    loaded.store.update_order(moved["id"], buyer_email="new.address@example.com")
    loaded.store.update_order(gone["id"], state="chargeback", settled_gross="0.00", settled_tax="0.00")
    loaded.run("orders_refresh")
    days = {date.fromisoformat(o["created_at"][:10]) for o in (whole, part, moved, gone)}
    result = loaded.run("analytics", days=(min(days), max(days)))

    assert {check.passed for check in result.get_asset_check_evaluations()} == {True}
    assert_tables_equal(loaded, orders)


def test_a_build_shows_its_numbers_a_chart_and_a_table_and_no_address(loaded: Project) -> None:
    result = loaded.run("analytics", days=(FIRST, YESTERDAY))

    events = [event.materialization for event in result.get_asset_materialization_events()]
    (revenue,) = (event for event in events if event.asset_key == dg.AssetKey("daily_revenue"))
    charts = [value for name, value in revenue.metadata.items() if name.startswith("last_90_days_")]
    assert len(charts) == 3
    assert all(str(chart.value).startswith("![Net revenue a day, ") for chart in charts)
    table = revenue.metadata["last_14_days"]
    assert isinstance(table, dg.TableMetadataValue)
    # Up to the newest day that has orders: today, or in the first hours of a day it may be yesterday.
    ((newest,),) = loaded.query("SELECT max(day) FROM shop.analytics.daily_revenue")
    listed = {record.data["day"] for record in table.records}
    assert newest.isoformat() in listed
    assert listed <= {(newest - timedelta(n)).isoformat() for n in range(14)}
    rows = {event.partition: event.metadata["dagster/partition_row_count"].value for event in events if event.partition}
    assert len(rows) == DAYS
    counts = loaded.query("SELECT created_at::DATE::VARCHAR, count(*) FROM shop.analytics.order_items GROUP BY 1")
    assert {day: count for day, count in rows.items() if count} == dict(counts)
    assert loaded.query(f"SELECT orders FROM shop.analytics.customers WHERE customer = '{SECRET}'") == [(1,)]
    logged = "".join(str(entry) for entry in loaded.instance.all_logs(result.run_id))
    assert SECRET not in logged


def test_a_table_is_loaded_downstream_as_what_the_parameter_says(loaded: Project) -> None:
    seen = {}

    @dg.asset
    def report(daily_revenue: duckdb.DuckDBPyRelation) -> None:
        seen["days"] = daily_revenue.aggregate("count(*)").fetchall()

    ours = loaded.definitions
    loaded.run("analytics", days=(YESTERDAY, YESTERDAY))
    merged = dg.Definitions.merge(ours, dg.Definitions(assets=[report]))
    job = merged.resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=loaded.instance, asset_selection=[dg.AssetKey("report")])

    assert seen["days"] == loaded.query("SELECT count(*) FROM shop.analytics.daily_revenue")


def test_every_model_is_an_asset_with_described_columns_checks_and_lineage_that_writes_alone() -> None:
    definitions = build_definitions(environment={})
    graph = definitions.resolve_asset_graph()

    for model in MODELS:
        node = graph.get(dg.AssetKey(model.name))
        assert node.group_name == "analytics"
        assert node.metadata["dagster/table_name"] == f"analytics.{model.name}"
        columns = node.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == [column.name for column in model.columns]
        assert all(column.description for column in columns)
        assert {key.to_user_string() for key in node.parent_keys} == set(model.deps)
        assert {key.name for key in node.check_keys} == {"key_is_unique", *(check.name for check in model.checks)}
        assert (node.partitions_def == graph.get(dg.AssetKey("orders")).partitions_def) is model.is_partitioned
        assert node.assets_def.op.pool == "warehouse"
        (reference,) = node.metadata["dagster/code_references"].code_references
        assert Path(reference.file_path).read_text()
