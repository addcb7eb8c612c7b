"""The tables of the analytics layer, from a store's data to what Dagster shows, compared with Python's computation."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from commerce_assets.analytics.tables import MODELS
from commerce_assets.composition import build_definitions
from commerce_assets.settings import CommerceSettings
from commerce_assets_tests.support import sums
from commerce_assets_tests.support.pages import DOCS
from commerce_assets_tests.support.second_store import TOKYO, build_second_store
from commerce_assets_tests.support.world import MakeWorld, World, running
from sample_store.shop import build_shop
from sample_store.store import SampleStore
from sample_store.values import timestamp
from tools.docs.cookbook import QUERY

Order = dict[str, Any]
NOW = datetime.now(UTC)
DAYS, SECOND_DAYS = 40, 200
FIRST, YESTERDAY = (NOW - timedelta(days=DAYS)).date(), (NOW - timedelta(days=1)).date()
SECRET = "somebody.unmistakable@example.com"


def stamped(day: int, **fields: Any) -> Order:
    """When an order was made, in days before now, and what else there is to say of it."""
    made = timestamp(NOW - timedelta(days=day))
    return {"created_at": made, "updated_at": made, **fields}


def sum_of(amount: str, currency: str | None, day: int = 3) -> Order:
    occurred = timestamp(NOW - timedelta(days=day))
    return {"amount": amount, "currency": currency, "occurred_at": occurred, "reason": None}


def line(product: int | None, price: str | None = None, **fields: Any) -> Order:
    return {"cart_item": {"product_id": product, "quantity": 1, "price_at_checkout": price, **fields}}


# Orders such as the sample shop itself never has, each beside its id: made of a sale of the shop's.
UNUSUAL: dict[int, Order] = {
    # Without an address, in two ways; one customer in two currencies, and in two spellings.
    900_001: stamped(20, buyer_email=None, settled_gross="12.34"),
    900_002: stamped(20, buyer_email=" ", settled_gross="0.66"),
    900_003: stamped(19, buyer_email="two.worlds@example.com", settled_gross="10.01", settled_currency="EUR"),
    900_004: stamped(19, buyer_email=" Two.Worlds@Example.com", settled_gross="20.02", settled_currency="USD"),
    # Refunds: in another currency, in the same one in lower case, without their wrapper, and not shown at all.
    900_005: stamped(
        18,
        settled_gross="8.00",
        settled_currency="EUR",
        refunded=True,
        refund_transactions=[
            {"refund_transaction": sum_of("2.00", "EUR")},
            {"refund_transaction": sum_of("3.00", "USD")},
        ],
    ),
    900_006: stamped(
        18,
        settled_gross="6.00",
        settled_currency="EUR",
        refunded=True,
        refund_transactions=[
            {"refund_transaction": sum_of("1.50", "eur", 9)},
            {"refund_transaction": sum_of("0.25", None)},
        ],
    ),
    900_007: stamped(18, settled_gross="0.00", refunded=True, refund_transactions=[sum_of("7.77", None)]),
    900_008: stamped(18, settled_gross="0.00", refunded=True, refund_transactions=[]),
    900_009: stamped(18, settled_gross=None, settled_currency=None, state="chargeback"),
    # Carts: by price, with a rest; prices of nothing; one price missing; a product that is not there; no line at all.
    900_010: stamped(
        17, settled_gross="10.00", cart={"cart_items": [line(1, "1.00"), line(2, "1.00"), line(3, "1.00")]}
    ),
    900_011: stamped(
        17, settled_gross="0.01", settled_tax=None, cart={"cart_items": [line(1, "0.00"), line(2, "0.00", quantity=3)]}
    ),
    900_012: stamped(17, settled_gross="9.99", cart={"cart_items": [line(1, "5.00"), line(2)]}),
    900_013: stamped(17, settled_gross="3.00", cart={"cart_items": [line(9999, "3.00", quantity=None), line(None)]}),
    900_014: stamped(17, settled_gross="4.00", settled_currency=None, cart=None),
    900_015: stamped(17, settled_gross="0.00", state="free", cart={"cart_items": [line(4, "0.00")]}),
    # A package that the line names, one that the order is called like, and a plan of its name.
    900_016: stamped(16, settled_gross="5.00", order_name="Anything", cart={"cart_items": [line(1, package_id=2)]}),
    900_017: stamped(16, settled_gross="31.00", order_name="{package}", cart={"cart_items": []}),
    900_018: stamped(
        16, settled_gross="31.01", order_name="{package}", subscription_id=1, state="subscription_cancelling"
    ),
    900_019: stamped(
        16, settled_gross="2.00", subscription_id=99, order_name="A plan of old", state="subscription_active"
    ),
    900_020: stamped(16, settled_gross=None, subscription_id=None, state="subscription_setup"),
}


def add_unusual(store: SampleStore) -> None:
    sale = next(o for o in store.shop.orders if o["state"] == "complete" and not o["refunded"] and o["cart"])
    package = store.shop.packages[0]
    parts = {"cart_items": [line(number) for number in package["components"]["product_ids"]]}
    for number, fields in UNUSUAL.items():
        order = {**sale, "id": number, "refund_transactions": [], "subscription_id": None, **fields}
        if order["order_name"] == "{package}":
            order |= {"order_name": package["name"], "cart": parts}
        store.add_order(order)


def catalog_of(project: World) -> sums.Catalog:
    shop = project.store.shop
    return {"products": shop.products, "packages": shop.packages, "subscriptions": shop.subscriptions}


def stored(project: World, name: str, columns: str, *, key: int = 1) -> sums.Table:
    """A table's rows by their first columns."""
    rows = project.query(f"SELECT {', '.join(columns.split())} FROM analytics.{name}")
    found = {row[0] if key == 1 else row[:key]: row[key:] for row in rows}
    assert len(found) == len(rows)
    return found


def assert_tables_equal(project: World, orders: Sequence[Order] = (), **options: Any) -> None:
    """Each table is what the store's orders come to, to the cent; of order_items, the days that are partitions."""
    books = sums.Books(orders or project.store.shop.orders, catalog_of(project), **options)

    columns = (
        "order_id day is_sale not_a_sale customer customer_sale_number lines units currency gross refunds "
        "refund_amount_known net tax shipping fees affiliate_fees proceeds excluded_amount "
        "list_sort(unreadable_amounts) "
        "is_refunded is_charged_back checkout_completed"
    )
    assert stored(project, "orders_enriched", columns) == books.orders_enriched()

    columns = (
        "day currency orders gross refunds net tax shipping fees affiliate_fees refunded_orders charged_back_orders "
        "unknown_refunds known_refund_share refunds_paid_out unreadable_orders excluded_orders excluded_amount "
        "new_customers returning_customers"
    )
    assert stored(project, "daily_revenue", columns, key=2) == books.daily_revenue()

    columns = "customer first_order_at last_order_at orders sales refunded_orders charged_back_orders"
    assert stored(project, "customers", columns) == books.customers()

    columns = "customer currency first_sale_at last_sale_at sales gross refunds net unknown_refunds known_refund_share"
    assert stored(project, "customer_value", columns, key=2) == books.customer_value()

    columns = "cohort months_later cohort_size customers sales"
    assert stored(project, "cohort_retention", columns, key=2) == books.cohort_retention()

    columns = (
        "order_id refund_number kind state order_day refunded_at refund_day days_to_refund currency amount "
        "fully_refunded"
    )
    assert stored(project, "refunds", columns, key=2) == books.refunds()

    columns = (
        "order_id plan_id plan state is_active started_at last_change_at payments monthly_price price_currency "
        "currency net"
    )
    assert stored(project, "subscription_orders", columns) == books.subscription_orders()

    columns = (
        "order_id line created_at state product_id product product_type package_id package plan_id plan quantity "
        "price_at_checkout split_by currency gross refunds net"
    )
    assert stored(project, "order_items", columns, key=2) == books.order_items(YESTERDAY)

    columns = (
        "month product_id currency product orders units gross refunds net refunded_orders unknown_refunds "
        "known_refund_share"
    )
    assert stored(project, "product_performance", columns, key=3) == books.product_performance()


def warnings_of(result: dg.ExecuteInProcessResult) -> set[str]:
    """The names of the checks that failed; none of them blocks."""
    failed = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert not [check.check_name for check in failed if check.severity is not dg.AssetCheckSeverity.WARN]
    return {check.check_name for check in failed}


@pytest.fixture(scope="module")
def first_shop(tmp_path_factory: pytest.TempPathFactory, make_world: MakeWorld) -> Iterator[World]:
    """Forty days, yesterday the last, of a shop in three currencies; of today, what a refresh brings."""
    store = SampleStore(build_shop(now=NOW, days=DAYS, orders_per_day=6), now=lambda: NOW)
    add_unusual(store)
    with (
        pytest.MonkeyPatch.context() as patch,
        running(store, tmp_path_factory.mktemp("shop"), patch, make_world) as project,
    ):
        project.settings["COMMERCE_ORDERS_START_DATE"] = FIRST.isoformat()
        sale = next(order for order in store.shop.orders if order["state"] == "complete")
        store.update_order(sale["id"], buyer_email=SECRET)
        project.run("catalog")
        project.run("orders", days=(FIRST, YESTERDAY))
        project.run("orders_refresh")
        yield project


@pytest.fixture
def loaded(first_shop: World, monkeypatch: pytest.MonkeyPatch) -> World:
    first_shop.enter(monkeypatch)
    return first_shop


def test_tables_equal_the_store_before_and_after_late_changes(loaded: World) -> None:
    orders = loaded.store.shop.orders
    result = loaded.run("analytics", days=(FIRST, YESTERDAY))
    assert {check.passed for check in result.get_asset_check_evaluations()} == {True}
    assert {o["settled_currency"] for o in orders if o["cart"]} >= {"EUR", "GBP", "USD"}
    assert_tables_equal(loaded)

    sales = (o for o in orders if o["state"] == "complete" and not o["refunded"] and sums.money(o["settled_gross"]) > 1)
    whole, part, moved, gone = (next(sales) for _ in range(4))
    for order, kept in ((whole, "0.00"), (part, "0.99")):
        transaction = {
            "amount": str(sums.money(kept) - sums.money(order["settled_gross"])),
            "currency": order["settled_currency"],
        }
        loaded.store.update_order(
            order["id"], refunded=True, settled_gross=kept, refund_transactions=[{"refund_transaction": transaction}]
        )
    loaded.store.update_order(moved["id"], buyer_email="new.address@example.com")
    loaded.store.update_order(gone["id"], state="chargeback", settled_gross="0.00", settled_tax="0.00")
    # Another address is another customer, a cart may grow, and what was refunded in part may be refunded whole.
    loaded.store.update_order(900_003, buyer_email="one.world@example.com")
    loaded.store.update_order(900_012, settled_gross="14.99", cart={"cart_items": [line(1, "5.00"), line(2, "10.00")]})
    again = [{"refund_transaction": sum_of(amount, "EUR")} for amount in ("2.00", "8.00")]
    loaded.store.update_order(900_005, settled_gross="0.00", refund_transactions=again)
    loaded.run("orders_refresh")
    changed = (whole, part, moved, gone, *(UNUSUAL[number] for number in (900_003, 900_005, 900_012)))
    days = {sums.instant(o["created_at"]).date() for o in changed}
    result = loaded.run("analytics", days=(min(days), max(days)))

    assert {check.passed for check in result.get_asset_check_evaluations()} == {True}
    assert_tables_equal(loaded)


@pytest.fixture(scope="module")
def second_shop(tmp_path_factory: pytest.TempPathFactory, make_world: MakeWorld) -> Iterator[World]:
    """A second store with unusual orders on every day, in Tokyo, with the marts built."""
    first = (NOW - timedelta(days=SECOND_DAYS)).date()
    with (
        pytest.MonkeyPatch.context() as patch,
        running(
            build_second_store(NOW, days=SECOND_DAYS), tmp_path_factory.mktemp("second"), patch, make_world
        ) as project,
    ):
        project.settings |= {
            "COMMERCE_ORDERS_START_DATE": first.isoformat(),
            "COMMERCE_TIMEZONE": TOKYO,
            "COMMERCE_ORDER_HISTORY": "true",
        }
        project.run("catalog")
        project.run("orders", days=(first, YESTERDAY))
        project.run("analytics", days=(first, YESTERDAY))
        yield project


@pytest.fixture
def second(second_shop: World, monkeypatch: pytest.MonkeyPatch) -> World:
    second_shop.enter(monkeypatch)
    return second_shop


def test_tables_equal_a_second_store_also_after_late_changes(second: World) -> None:
    """Faults 112, 113 and 114."""
    columns = "day currency new_orders renewals increases decreases net"
    before = sums.Books(deepcopy(second.store.shop.orders), catalog_of(second), zone=TOKYO)
    assert_tables_equal(second, zone=TOKYO)
    assert stored(second, "revenue_movements", columns, key=2) == before.revenue_movements()
    months = "month plan_id started cancelled completed active recurring"
    assert stored(second, "subscription_months", months, key=2) == before.subscription_months()

    orders = second.store.shop.orders
    for order in [order for order in orders if sums.money(order["settled_gross"]) > 1][:40:2]:
        refund = {"amount": f"-{order['settled_gross']}", "currency": None, "occurred_at": timestamp(NOW)}
        second.store.update_order(
            order["id"], settled_gross="0", refunded=True, refund_transactions=[{"refund_transaction": refund}]
        )
    for order in orders[1:90:9]:
        second.store.update_order(order["id"], state="chargeback", settled_gross="0.00", buyer_email="a@example.com")
    for order in [order for order in orders if order["subscription_id"] and not order["refunded"]]:
        # A renewal, and some of them the last one.
        more = str(sums.money(order["settled_gross"]) + 10)
        state = {0: "subscription_cancelled", 1: "subscription_complete"}.get(order["id"] % 5, "subscription_active")
        second.store.update_order(order["id"], settled_gross=more, state=state, gateway_transaction_ids=["a", "b"])
    second.run("orders_refresh")
    result = second.run("analytics", days=((NOW - timedelta(days=SECOND_DAYS)).date(), YESTERDAY))

    assert_tables_equal(second, zone=TOKYO)
    books = sums.Books(orders, catalog_of(second), zone=TOKYO)
    assert stored(second, "revenue_movements", columns, key=2) == books.revenue_movements(before)
    assert stored(second, "subscription_months", months, key=2) == books.subscription_months(before)
    assert warnings_of(result) == {"only_sales_have_amounts", "amounts_are_readable"}


def test_tables_equal_a_store_whose_list_shows_no_refunds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_world: MakeWorld
) -> None:
    store = build_second_store(NOW, days=DAYS, orders=300)
    store.dialect.lists_refunds = False
    with running(store, tmp_path, monkeypatch, make_world) as project:
        project.settings |= {"COMMERCE_ORDERS_START_DATE": FIRST.isoformat(), "COMMERCE_REFUND_REQUESTS": "1000"}
        project.run("catalog")
        project.run("orders", days=(FIRST, YESTERDAY))
        hidden = [order | {"refund_transactions": None} for order in store.shop.orders]
        project.run("analytics", days=(FIRST, YESTERDAY))
        assert_tables_equal(project, hidden)

        project.run("orders_refresh")
        reversed_states = {"refunded", "chargeback"}
        shown = [
            order if order["refunded"] or (order["state"] or "").lower() in reversed_states else without
            for order, without in zip(store.shop.orders, hidden, strict=True)
        ]
        project.run("analytics", days=(FIRST, YESTERDAY))
        assert_tables_equal(project, shown)
        books = sums.Books(shown, catalog_of(project))
        assert sums.total(books.refunded(order) for order in books.sales) > 100


def test_cookbook_queries_give_right_answers_on_a_second_store(second: World) -> None:
    """They agree with the orders, whatever the time zone of the machine."""
    books = sums.Books(second.store.shop.orders, catalog_of(second), zone=TOKYO)
    queries = [query.group(1) for query in QUERY.finditer((DOCS / "cookbook.md").read_text())]
    today = NOW.date()
    answers = []
    with second.file.read() as connection:
        connection.execute("USE __commerce__")
        for zone in ("UTC", "America/Los_Angeles"):
            connection.execute(f"SET TimeZone = '{zone}'")
            asked = [query.replace("current_date", f"DATE '{today}'") for query in queries]
            answers.append([connection.execute(query).fetchall() for query in asked])
    # The ninth is empty until the store has changed an order.
    assert [number for number, rows in enumerate(answers[0], start=1) if not rows] in ([], [9])
    assert answers[0] == answers[1]

    quarter = date(today.year, (today.month - 1) // 3 * 3 + 1, 1)
    half_year_ago = date(quarter.year - (quarter.month <= 6), (quarter.month + 5) % 12 + 1, 1)
    taxed = [order for order in books.sales if half_year_ago <= books.day_of(order) < quarter]
    tax = sums.total(sums.number(order["accounted_tax"]) for order in taxed)
    assert (sum(row[3] for row in answers[0][6]), sum(row[5] for row in answers[0][6])) == (len(taxed), tax)

    carts = [order for order in books.orders if order["cart"] is not None and books.why_not(order) != "test"]
    left = [order for order in carts if books.why_not(order) and not order["cart"]["completed_checkout_at"]]
    assert (sum(row[2] for row in answers[0][7]), sum(row[3] for row in answers[0][7])) == (len(carts), len(left))
    assert sum(row[2] for row in answers[0][10]) == len(books.orders) - sum(
        not books.unreadable(order) for order in books.sales
    )

    net = {key: row[3] for key, row in books.daily_revenue().items()}
    week = [today - timedelta(days=back) for back in range(7, 0, -1)]
    currencies = {currency for _, currency in net}
    assert any((day, currency) not in net for day in week for currency in currencies)
    averages = {
        (currency, day): sums.total(net.get((day - timedelta(days=back), currency)) for back in range(7)) / 7
        for currency in currencies
        for day in week
    }
    assert {row[:2] for row in answers[0][12]} == averages.keys()
    for currency, day, amount, average in answers[0][12]:
        assert amount == net.get((day, currency), 0)
        assert abs(average - averages[currency, day]) <= Decimal("0.005")


def test_hashed_customers_have_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SampleStore(build_shop(now=NOW, days=20, orders_per_day=3), now=lambda: NOW)
    add_unusual(store)
    first, key = (NOW - timedelta(days=20)).date(), "a key of sixteen or more"
    monkeypatch.setenv("COMMERCE_PERSONAL_DATA_KEY", key)
    with running(store, tmp_path, monkeypatch) as project:
        project.settings |= {
            "COMMERCE_ORDERS_START_DATE": first.isoformat(),
            "COMMERCE_PERSONAL_DATA": "hash",
            "COMMERCE_PERSONAL_DATA_KEY": key,
        }
        project.run("catalog")
        project.run("orders", days=(first, YESTERDAY))
        project.run("orders_refresh")
        project.run("analytics", days=(first, YESTERDAY))
        assert_tables_equal(project, hash_key=key)


def test_build_metadata_has_numbers_and_no_email_address(loaded: World) -> None:
    result = loaded.run("analytics", days=(FIRST, YESTERDAY))

    events = [event.materialization for event in result.get_asset_materialization_events()]
    (revenue,) = (event for event in events if event.asset_key == dg.AssetKey("daily_revenue"))
    charts = [value for name, value in revenue.metadata.items() if name.startswith("last_90_days_")]
    assert len(charts) == 3
    assert all(str(chart.value).startswith("![Net revenue per day, ") for chart in charts)
    table = revenue.metadata["last_14_days"]
    assert isinstance(table, dg.TableMetadataValue)
    # Up to the newest day that has orders: today, or in the first hours of a day it may be yesterday.
    ((newest,),) = loaded.query("SELECT max(day) FROM analytics.daily_revenue")
    listed = {record.data["day"] for record in table.records}
    assert newest.isoformat() in listed
    assert listed <= {(newest - timedelta(n)).isoformat() for n in range(14)}
    rows = {event.partition: event.metadata["dagster/partition_row_count"].value for event in events if event.partition}
    assert len(rows) == DAYS
    # The totals of the run are not repeated at each of its days.
    assert [event.partition for event in events if event.partition and "run/rows_written" in event.metadata] == [
        max(rows)
    ]
    counts = loaded.query("SELECT created_at::DATE::VARCHAR, count(*) FROM analytics.order_items GROUP BY 1")
    assert {day: count for day, count in rows.items() if count} == dict(counts)
    assert loaded.query(f"SELECT orders FROM analytics.customers WHERE customer = '{SECRET}'") == [(1,)]
    logged = "".join(str(entry) for entry in loaded.instance.all_logs(result.run_id))
    assert SECRET not in logged


def test_a_table_is_loaded_downstream_as_what_the_parameter_says(loaded: World) -> None:
    seen = {}

    @dg.asset
    def report(daily_revenue: duckdb.DuckDBPyRelation) -> None:
        seen["days"] = daily_revenue.aggregate("count(*)").fetchall()

    ours = loaded.definitions
    loaded.run("analytics", days=(YESTERDAY, YESTERDAY))
    merged = dg.Definitions.merge(ours, dg.Definitions(assets=[report]))
    job = merged.resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=loaded.instance, asset_selection=[dg.AssetKey("report")])

    assert seen["days"] == loaded.query("SELECT count(*) FROM analytics.daily_revenue")


def test_every_model_has_columns_checks_lineage_and_the_pool() -> None:
    definitions = build_definitions(CommerceSettings.read({"COMMERCE_ORDER_HISTORY": "true"}))
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


def of_orders(*columns: str) -> str:
    return " ".join(f"orders.{name}" for name in " ".join(columns).split())


# What a reader of the SQL finds, by hand. Whether an order is a sale depends on the first four.
SALE = "state settled_gross _extra _invalid"
KNOWN = "state refunded refund_transactions settled_currency"
PRICE = "recurring_price recurring_type frequency_interval frequency_value frequency"
LINEAGE = {
    ("orders_enriched", "customer"): "orders.buyer_email",
    ("orders_enriched", "country"): "orders.eu_resolved_country",
    ("orders_enriched", "customer_sale_number"): "orders.buyer_email orders.created_at orders.id",
    ("orders_enriched", "checkout_completed"): of_orders(SALE, "cart"),
    ("daily_revenue", "orders"): of_orders(SALE),
    ("daily_revenue", "tax"): of_orders(SALE, "settled_tax"),
    ("daily_revenue", "gross"): of_orders(SALE, KNOWN),
    ("daily_revenue", "refunds_paid_out"): "orders.refund_transactions",
    ("refunds", "days_to_refund"): "orders.created_at orders.refund_transactions",
    ("order_items", "product"): "products.name",
    ("order_items", "package_id"): "orders.cart packages.id",
    ("order_items", "split_by"): of_orders("cart price_at_checkout"),
    ("product_performance", "units"): "orders.cart",
    ("cohort_retention", "months_later"): "orders.created_at",
    ("subscription_orders", "plan"): "orders.order_name subscriptions.name",
    ("subscription_orders", "monthly_price"): " ".join(f"subscriptions.{name}" for name in PRICE.split()),
    ("revenue_movements", "day"): of_orders(SALE, "created_at updated_at"),
    ("subscription_months", "started"): of_orders(SALE),
}


def test_column_lineage_is_what_a_reader_of_the_sql_finds() -> None:
    settings = CommerceSettings.read({"COMMERCE_ORDER_HISTORY": "true"})
    graph = build_definitions(settings).resolve_asset_graph()
    schemas = {
        key.to_user_string(): {column.name for column in graph.get(key).metadata["dagster/column_schema"].columns}
        for key in graph.get_all_asset_keys()
        if "dagster/column_schema" in graph.get(key).metadata
    }
    found = {}
    for model in MODELS:
        lineage = graph.get(dg.AssetKey(model.name)).metadata["dagster/column_lineage"].deps_by_column
        assert {*lineage} == schemas[model.name]
        for column, deps in lineage.items():
            assert deps, (model.name, column)
            assert all(dep.column_name in schemas[dep.asset_key.to_user_string()] for dep in deps)
            assert {dep.asset_key.to_user_string() for dep in deps} <= {*model.deps}
            found[model.name, column] = {f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps}

    assert {column: found[column] for column in LINEAGE} == {
        column: {*deps.split()} for column, deps in LINEAGE.items()
    }


def test_marts_of_the_history_exist_with_the_history_only() -> None:
    keys = build_definitions(CommerceSettings.read({})).resolve_asset_graph().get_all_asset_keys()

    assert not {dg.AssetKey("revenue_movements"), dg.AssetKey("subscription_months")} & {*keys}
    assert dg.AssetKey("daily_revenue") in keys
