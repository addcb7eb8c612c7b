"""The models' SQL on hand-made orders: what a cent belongs to, and what a rebuild rewrites."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from commerce_assets.analytics.build import BuildResult, CheckOutcome, ModelError, build, check
from commerce_assets.analytics.tables import MODELS, Model
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.privacy.policy import PersonalDataPolicy
from commerce_assets.window import Window
from commerce_assets_tests.support.items import BY_NAME, ORDERS, PRODUCTS, days, order, product
from commerce_assets_tests.support.world import World

BY_MODEL = {model.name: model for model in MODELS}
ALWAYS = days("2020-01-01", "2029-12-31")


def built(storage: World, model: Model, window: Window | None = None) -> tuple[BuildResult, list[CheckOutcome]]:
    with storage.file.write() as connection:
        return build(connection, model, ENDPOINTS, window), check(connection, model)


def rows(storage: World, name: str, columns: str, *orders: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Loads the orders, builds a model, sees that its checks pass, and reads some columns in order of the first."""
    storage.load(ORDERS, orders, window=ALWAYS)
    _, findings = built(storage, BY_MODEL[name])
    assert [finding for finding in findings if finding.wrong and not finding.warns] == []
    return storage.query(f"SELECT {columns} FROM analytics.{name} ORDER BY ALL")


def paid(number: int, gross: str | None, currency: str | None = "EUR", **fields: Any) -> dict[str, Any]:
    return order(number, settled_gross=gross, settled_currency=currency, **fields)


def refund(amount: Any, currency: str | None = "EUR") -> dict[str, Any]:
    return {"amount": amount, "currency": currency, "occurred_at": "2024-04-01T00:00:00Z", "reason": None}


def cart(*items: Any, wrapped: bool = True) -> dict[str, Any]:
    return {"cart_items": [{"cart_item": item} if wrapped else item for item in items]}


# An order that is in every table.
FULL = paid(
    1,
    "5.00",
    state="subscription_active",
    settled_tax="0.80",
    refunded=True,
    subscription_id=3,
    buyer_email="a@example.com",
    cart=cart({"product_id": 7}, {"product_id": 8}),
)
FULL_ROWS = {"order_items": 2, "product_performance": 2, "revenue_movements": 0, "subscription_months": 0}


def cents(*amounts: str) -> list[Decimal]:
    return [Decimal(amount) for amount in amounts]


def test_every_table_builds_empty_where_nothing_has_been_loaded(storage: World) -> None:
    for model in MODELS:
        result, findings = built(storage, model, days("2024-03-15") if model.is_partitioned else None)

        assert (result.rows, result.written, result.removed) == (0, 0, 0)
        assert {finding.wrong for finding in findings} == {0}
    # The endpoints' tables are theirs to make.
    assert storage.query("SELECT DISTINCT schema_name FROM duckdb_tables()") == [("analytics",)]


def test_every_table_builds_where_only_orders_have_been_loaded(storage: World) -> None:
    storage.load(ORDERS, [FULL], window=ALWAYS)

    for model in MODELS:
        result, findings = built(storage, model)

        assert result.rows == FULL_ROWS.get(model.name, 1)
        assert {finding.wrong for finding in findings} == {0}


def test_order_amounts_are_split_by_price_or_equally_and_add_up(storage: World) -> None:
    by_price = cart({"product_id": 1, "price_at_checkout": "10.00"}, {"product_id": 2, "price_at_checkout": "20.00"})
    unpriced = cart({"product_id": 1}, {"product_id": 2, "price_at_checkout": "9"}, {"product_id": 3})
    free = cart({"product_id": 1, "price_at_checkout": "0.00"}, {"product_id": 2, "price_at_checkout": "0.00"})

    assert rows(
        storage,
        "order_items",
        "order_id, line, gross, refunds, net",
        paid(1, "36.00", cart=by_price, refunded=True, refund_transactions=[{"refund_transaction": refund("-3.00")}]),
        paid(2, "10.00", cart=unpriced),
        paid(3, "0.01", cart=free),
        paid(4, None, cart=by_price),
        paid(5, "36.00", cart=free, refunded=True),
    ) == [
        (1, 1, *cents("13", "1", "12")),
        (1, 2, *cents("26", "2", "24")),
        (2, 1, *cents("3.34", "0", "3.34")),
        (2, 2, *cents("3.33", "0", "3.33")),
        (2, 3, *cents("3.33", "0", "3.33")),
        (3, 1, *cents("0.01", "0", "0.01")),
        (3, 2, *cents("0", "0", "0")),
        (4, 1, None, None, None),
        (4, 2, None, None, None),
        (5, 1, Decimal(18), None, Decimal(18)),
        (5, 2, Decimal(18), None, Decimal(18)),
    ]


def test_shares_follow_unit_prices_or_line_prices_as_adds_up(storage: World) -> None:
    items = cart(
        {"product_id": 1, "quantity": 3, "price_at_checkout": "10.00"},
        {"product_id": 2, "quantity": 1, "price_at_checkout": "20.00"},
    )

    assert rows(
        storage,
        "order_items",
        "order_id, line, split_by, net",
        paid(1, "100.00", cart=items, price_at_checkout="50.00"),
        paid(2, "60.00", cart=items, price_at_checkout="30.00"),
        paid(3, "60.00", cart=items, price_at_checkout="29.00"),
    ) == [
        (1, 1, "unit price", Decimal(60)),
        (1, 2, "unit price", Decimal(40)),
        (2, 1, "line price", Decimal(20)),
        (2, 2, "line price", Decimal(40)),
        (3, 1, "unconfirmed price", Decimal(20)),
        (3, 2, "unconfirmed price", Decimal(40)),
    ]


def test_shares_have_the_decimals_of_their_currency(storage: World) -> None:
    three = cart(*({"product_id": number, "price_at_checkout": "1"} for number in (1, 2, 3)))
    huge = cart({"product_id": 1, "price_at_checkout": "99999999999999"}, {"product_id": 2, "price_at_checkout": "1"})

    assert rows(
        storage,
        "order_items",
        "order_id, line, net",
        paid(1, "100", "JPY", cart=three),
        paid(2, "1.000", "KWD", cart=three),
        paid(6, "10.00", "EUR", cart=cart(*({"product_id": n, "price_at_checkout": f"{n}"} for n in (1, 2)))),
        # More decimals than the currency has: the first line takes them.
        paid(3, "1.0001", "EUR", cart=three),
        paid(4, "99999999999999.9999", "EUR", cart=huge),
        paid(5, "-1.00", "EUR", cart=three),
    ) == [
        (1, 1, Decimal(34)),
        (1, 2, Decimal(33)),
        (1, 3, Decimal(33)),
        (2, 1, Decimal("0.334")),
        (2, 2, Decimal("0.333")),
        (2, 3, Decimal("0.333")),
        (3, 1, Decimal("0.3401")),
        (3, 2, Decimal("0.33")),
        (3, 3, Decimal("0.33")),
        (4, 1, Decimal("99999999999999.0099")),
        (4, 2, Decimal("0.99")),
        (5, 1, Decimal("-0.34")),
        (5, 2, Decimal("-0.33")),
        (5, 3, Decimal("-0.33")),
        (6, 1, Decimal("3.33")),
        (6, 2, Decimal("6.67")),
    ]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_line_is_read_with_its_wrapper_and_missing_fields(storage: World, wrapped: bool) -> None:  # noqa: FBT001
    items: tuple[dict[str, Any], ...] = (
        {"product_id": "0000007", "quantity": "2", "price_at_checkout": 4.5},
        {"product_id": None, "quantity": None, "price_at_checkout": None},
        {"price_at_checkout": "£15.00"},
        {},
    )

    assert rows(
        storage,
        "order_items",
        "line, product_id, quantity, price_at_checkout",
        paid(1, "10.00", cart=cart(*items, wrapped=wrapped)),
        paid(2, "10.00", cart={"cart_items": []}),
        paid(3, "10.00", cart={"cart_items": None}),
        paid(4, "10.00", cart=None),
    ) == [(1, 7, 2, Decimal("4.5")), (2, None, None, None), (3, None, None, None), (4, None, None, None)]


def test_a_line_is_joined_to_its_product_package_and_plan(storage: World) -> None:
    storage.load(PRODUCTS, [product(1), product(2)])
    packages = [
        {"id": 5, "name": "Both", "components": {"product_ids": [1, 2]}, "updated_at": "2024-01-01T00:00:00Z"},
        {"id": 6, "name": "Twin", "components": {"product_ids": [1]}, "updated_at": "2024-01-01T00:00:00Z"},
        {"id": 7, "name": "Twin", "components": {"product_ids": [1]}, "updated_at": "2024-01-01T00:00:00Z"},
    ]
    storage.load(BY_NAME["packages"], packages)
    storage.load(BY_NAME["subscriptions"], [{"id": 9, "name": "Monthly", "updated_at": "2024-01-01T00:00:00Z"}])

    assert rows(
        storage,
        "order_items",
        "order_id, product, package_id, package, plan",
        paid(1, "1.00", order_name="Both", cart=cart({"product_id": 1})),
        paid(2, "1.00", order_name="Both", cart=cart({"product_id": 99})),
        # Which of the two it was, nobody can tell.
        paid(3, "1.00", order_name="Twin", cart=cart({"product_id": 1})),
        paid(4, "1.00", order_name="Twin", cart=cart({"product_id": 1, "package_id": 7})),
        paid(5, "1.00", order_name="Both", subscription_id=9, cart=cart({"product_id": 2})),
    ) == [
        (1, "Product 1", 5, "Both", None),
        (2, None, None, None, None),
        (3, "Product 1", None, None, None),
        (4, "Product 1", 7, "Twin", None),
        (5, "Product 2", None, None, "Monthly"),
    ]


REFUNDED = [
    paid(1, "20.00", refunded=True, refund_transactions=[{"refund_transaction": refund("-5.00")}, refund("5", None)]),
    paid(2, "0.00", refunded=True, refund_transactions=[refund("-7.10")]),
    paid(3, "0.00", refunded=True),
    paid(4, "0.00", state="Refunded ", refunded=None),
    paid(5, "0.00", state="chargeback", refund_transactions=[refund("-1")]),
    paid(6, "8.00", refunded=True, refund_transactions=[refund("-2.00"), refund("-2.00", "USD"), refund("£1")]),
    paid(7, None, None, refunded=True, refund_transactions=[refund("-1")]),
    paid(8, "8.00", refunded=False, refund_transactions=[]),
    paid(9, "8.00", "eur ", refunded=True, refund_transactions=[refund("-1"), refund("-2", "eur"), refund("4", "")]),
    paid(10, "8.00", state="failed", refunded=True, refund_transactions=[refund("-1")]),
]


def test_a_refund_has_the_fields_that_the_api_shows(storage: World) -> None:
    assert rows(
        storage,
        "refunds",
        "order_id, refund_number, kind, currency, amount, days_to_refund, fully_refunded",
        *REFUNDED,
    ) == [
        (1, 1, "refund", "EUR", Decimal(5), 17, False),
        (1, 2, "refund", "EUR", Decimal(5), 17, False),
        (2, 1, "refund", "EUR", Decimal("7.1"), 17, True),
        (3, None, "refund", "EUR", None, None, True),
        (4, None, "refund", "EUR", None, None, True),
        (5, 1, "refund", "EUR", Decimal(1), 17, True),
        (5, None, "chargeback", "EUR", None, None, True),
        (6, 1, "refund", "EUR", Decimal(2), 17, False),
        (6, 2, "refund", "USD", Decimal(2), 17, False),
        (6, 3, "refund", "EUR", None, 17, False),
        # However it is written, a currency is one.
        (9, 1, "refund", "EUR", Decimal(1), 17, False),
        (9, 2, "refund", "EUR", Decimal(2), 17, False),
        (9, 3, "refund", "EUR", Decimal(4), 17, False),
    ]


def test_a_refund_without_its_amount_is_unknown_and_not_zero(storage: World) -> None:
    """Fault 112."""
    assert rows(storage, "orders_enriched", "order_id, gross, refunds, net, refund_amount_known", *REFUNDED) == [
        (1, *cents("30", "10", "20"), True),
        (2, *cents("7.1", "7.1", "0"), True),
        (3, Decimal(0), None, Decimal(0), False),
        (4, Decimal(0), None, Decimal(0), False),
        (5, Decimal(0), None, Decimal(0), False),
        (6, Decimal(8), None, Decimal(8), False),
        # A refund in a currency, of an order in none.
        (7, None, None, None, False),
        (8, *cents("8", "0", "8"), True),
        (9, *cents("15", "7", "8"), True),
        (10, None, None, None, True),
    ]
    columns = "orders, gross, refunds, net, refunded_orders, unknown_refunds, known_refund_share"
    # After the row of the day on which the refunds were paid out.
    assert rows(storage, "daily_revenue", f"currency, {columns}", *REFUNDED)[1] == (
        *("EUR", 8, *cents("68.1", "24.1", "44"), 7, 4, 3 / 7),
    )
    assert rows(storage, "daily_revenue", columns, REFUNDED[2]) == [(1, Decimal(0), None, Decimal(0), 1, 1, 0.0)]


def test_a_refund_counts_on_its_own_day_and_on_its_orders(storage: World) -> None:
    assert rows(
        storage, "daily_revenue", "day, currency, orders, refunds, refunds_paid_out", REFUNDED[0], REFUNDED[5]
    ) == [
        (date(2024, 3, 15), "EUR", 2, *cents("10", "0")),
        (date(2024, 4, 1), "EUR", 0, *cents("0", "12")),
        (date(2024, 4, 1), "USD", 0, *cents("0", "2")),
    ]


@pytest.mark.parametrize("personal", ["keep", "drop"])
def test_an_order_is_a_sale_by_its_state_amount_and_test_mode(storage: World, personal: str) -> None:
    """Fault 113."""
    states = (
        "complete",
        "failed",
        " Failed",
        "pending",
        "initial",
        "fraud_review",
        "free",
        "imported",
        "in_dispute",
        None,
    )
    orders = [paid(number, "1.00", state=state) for number, state in enumerate(states, start=1)]
    orders += [paid(20 + n, "1.00", test_mode=mode) for n, mode in enumerate((True, " True\n", 1, False, None))]
    orders += [paid(30, None), paid(31, "£15.00"), paid(32, "£15.00", state="failed")]
    storage.load(ORDERS, orders, window=ALWAYS, policy=PersonalDataPolicy.parse(personal))
    _, outcomes = built(storage, BY_MODEL["orders_enriched"])

    found = storage.query("SELECT order_id, not_a_sale FROM analytics.orders_enriched WHERE NOT is_sale ORDER BY ALL")
    assert found == [
        *((2, "failed"), (3, "failed"), (4, "pending"), (5, "initial"), (6, "fraud_review")),
        *((20, "test"), (21, "test"), (22, "test"), (30, "no amount"), (32, "failed")),
    ]
    warned = {outcome.check: outcome.examples for outcome in outcomes if outcome.wrong}
    assert warned.keys() == {"only_sales_have_amounts", "amounts_are_readable"}
    assert {"not_a_sale": "test", "currency": "EUR", "orders": "3", "amount": "3.0000"} in warned[
        "only_sales_have_amounts"
    ]
    assert warned["amounts_are_readable"] == [{"order_id": "31", "unreadable_amounts": "['settled_gross']"}]
    assert rows(
        storage, "daily_revenue", "orders, net, unreadable_orders, excluded_orders, excluded_amount", *orders
    ) == [(8, Decimal(7), 1, 8, Decimal(8))]


def test_a_day_has_one_row_per_currency_without_unpaid_orders(storage: World) -> None:
    assert rows(
        storage,
        "daily_revenue",
        "currency, orders, gross, refunds, net, fees, tax, refunded_orders, unknown_refunds",
        paid(1, "10.10", settled_gateway_fee="0.59", settled_tax="1.61"),
        paid(2, "0.20", "eur", settled_gateway_fee="0.31"),
        paid(3, "0.00", refunded=True, refund_transactions=[refund("-4.00")]),
        paid(4, "0.00", state="chargeback", settled_gateway_fee="0.44"),
        paid(5, "99999999999999.9999", "JPY"),
        paid(6, "99999999999999.9999", "JPY"),
        paid(7, "3.00", None),
        paid(8, None),
        paid(9, None, None, state="failed"),
    )[:3] == [
        ("EUR", 0, *cents("0", "0", "0", "0", "0"), 0, 0),
        ("EUR", 4, *cents("14.3", "4", "10.3", "1.34", "1.61"), 1, 1),
        ("JPY", 2, *cents("199999999999999.9998", "0", "199999999999999.9998", "0", "0"), 0, 0),
    ]


def test_movements_follow_an_order_through_its_versions(storage: World) -> None:
    versioned = replace(ORDERS, keeps_versions=True)
    first = paid(1, "10.00", subscription_id=3)
    storage.load(versioned, [first, paid(2, "5.00")], window=ALWAYS)
    steps: list[dict[str, Any]] = [
        {"settled_gross": "20.00", "updated_at": "2024-04-15T12:00:00Z"},
        {"settled_gross": "12.00", "updated_at": "2024-05-15T12:00:00Z"},
        {"settled_currency": "USD", "updated_at": "2024-06-15T12:00:00Z"},
        {"state": "failed", "updated_at": "2024-07-15T12:00:00Z"},
    ]
    for number, step in enumerate(steps):
        first = {**first, **step}
        other = {**paid(2, "5.50"), "updated_at": "2024-04-15T12:00:00Z"}
        storage.load(versioned, [first] if number else [first, other], updated_after=ALWAYS.start)
    _, outcomes = built(storage, BY_MODEL["revenue_movements"])

    assert not [outcome for outcome in outcomes if outcome.wrong]
    assert storage.query("FROM analytics.revenue_movements ORDER BY ALL") == [
        (date(2024, 3, 15), "EUR", *cents("15", "0", "0", "0", "15")),
        (date(2024, 4, 15), "EUR", *cents("0", "10", "0.5", "0", "10.5")),
        (date(2024, 5, 15), "EUR", *cents("0", "0", "0", "-8", "-8")),
        (date(2024, 6, 15), "EUR", *cents("0", "0", "0", "-12", "-12")),
        (date(2024, 6, 15), "USD", *cents("0", "0", "12", "0", "12")),
        (date(2024, 7, 15), "USD", *cents("0", "0", "0", "-12", "-12")),
    ]


def test_months_follow_a_subscription_through_its_versions(storage: World) -> None:
    versioned = replace(ORDERS, keeps_versions=True)
    plan = {"recurring_price": "9.00", "frequency_interval": "month", "currency_code": "EUR"}
    storage.load(BY_NAME["subscriptions"], [{"id": 3, "name": "Monthly", "updated_at": "2024-01-01T00:00:00Z", **plan}])

    def version(number: int, state: str, updated_at: str) -> dict[str, Any]:
        return {**paid(number, "9.00", subscription_id=3, state=state), "updated_at": updated_at}

    storage.load(
        versioned,
        [
            version(1, "subscription_active", "2024-03-15T12:00:00Z"),
            version(2, "subscription_active", "2024-03-15T12:00:00Z"),
            # Stored after its end, set up but never paid for, and a payment that failed.
            version(3, "subscription_cancelled", "2024-04-15T12:00:00Z"),
            version(4, "subscription_setup", "2024-03-15T12:00:00Z"),
            version(5, "failed", "2024-03-15T12:00:00Z"),
        ],
        window=ALWAYS,
    )
    for states in (
        [(1, "subscription_cancelling", "2024-04-20T12:00:00Z"), (2, "subscription_complete", "2024-04-20T12:00:00Z")],
        [(1, "subscription_cancelled", "2024-06-20T12:00:00Z")],
        [(1, "subscription_active", "2024-07-20T12:00:00Z")],
    ):
        storage.load(versioned, [version(*each) for each in states], updated_after=ALWAYS.start)
    _, outcomes = built(storage, BY_MODEL["subscription_months"])

    assert not [outcome for outcome in outcomes if outcome.wrong]
    columns = "month, started, cancelled, completed, active, recurring"
    assert storage.query(f"SELECT {columns} FROM analytics.subscription_months ORDER BY ALL") == [
        (date(2024, 3, 1), 3, 0, 0, 3, Decimal(27)),
        (date(2024, 4, 1), 0, 1, 1, 1, Decimal(9)),
        (date(2024, 5, 1), 0, 0, 0, 1, Decimal(9)),
        (date(2024, 6, 1), 0, 1, 0, 0, Decimal(0)),
        (date(2024, 7, 1), 1, 0, 0, 1, Decimal(9)),
    ]


def test_days_and_months_are_those_of_the_zone(storage: World) -> None:
    """Fault 114."""
    orders = [
        {**paid(1, "1.00", buyer_email="a@example.com"), "created_at": "2024-03-31T14:59:59Z"},
        {**paid(2, "1.00", buyer_email="a@example.com"), "created_at": "2024-03-31T15:00:00Z"},
    ]
    storage.load(ORDERS, orders, window=ALWAYS)
    with storage.file.write() as connection:
        for name in ("daily_revenue", "product_performance", "cohort_retention"):
            build(connection, BY_MODEL[name], ENDPOINTS, timezone="Asia/Tokyo")
            assert not [outcome for outcome in check(connection, BY_MODEL[name]) if outcome.wrong]

    days_sold = storage.query("SELECT day, orders FROM analytics.daily_revenue ORDER BY ALL")
    assert days_sold == [(date(2024, 3, 31), 1), (date(2024, 4, 1), 1)]
    assert storage.query("SELECT month FROM analytics.product_performance ORDER BY ALL") == [
        (date(2024, 3, 1),),
        (date(2024, 4, 1),),
    ]
    assert storage.query("FROM analytics.cohort_retention ORDER BY ALL") == [
        (date(2024, 3, 1), 0, 1, 1, 1),
        (date(2024, 3, 1), 1, 1, 1, 1),
    ]


def test_a_customer_is_new_once_then_returning(storage: World) -> None:
    ann, second, third = "ann@example.com", "2024-03-16T09:00:00Z", "2024-03-17T09:00:00Z"

    assert rows(
        storage,
        "daily_revenue",
        "day, currency, orders, new_customers, returning_customers",
        # An order that was not paid makes nobody a customer.
        order(1, "2024-03-14T12:00:00Z", buyer_email=ann),
        paid(2, "1.00", buyer_email=f" {ann.upper()} "),
        paid(3, "1.00", buyer_email=ann),
        paid(4, "1.00", "USD", buyer_email=ann),
        paid(5, "1.00", buyer_email=None),
        paid(6, "1.00", buyer_email=" "),
        {**paid(7, "1.00", buyer_email=ann), "created_at": second},
        {**paid(8, "1.00", buyer_email="bob@example.com"), "created_at": third},
    ) == [
        (date(2024, 3, 15), "EUR", 4, 1, 0),
        (date(2024, 3, 15), "USD", 1, 0, 1),
        (date(2024, 3, 16), "EUR", 1, 0, 1),
        (date(2024, 3, 17), "EUR", 1, 1, 0),
    ]


def test_composed_and_decomposed_addresses_are_one_customer(storage: World) -> None:
    """Fault 95."""
    composed, decomposed = (unicodedata.normalize(form, "zoë@müller.example") for form in ("NFC", "NFD"))
    orders = [paid(1, "1.00", buyer_email=composed), paid(2, "2.00", buyer_email=decomposed.upper())]
    assert rows(storage, "customers", "customer, orders", *orders) == [(composed, 2)]
    assert rows(storage, "daily_revenue", "new_customers", *orders) == [(1,)]


def test_a_customer_is_a_lower_cased_email_address(storage: World) -> None:
    hashed = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    orders = [
        paid(1, "10.00", buyer_email="Ann@Example.com "),
        paid(2, "2.50", "USD", buyer_email="ann@example.com\n", refunded=True),
        paid(3, "0.00", "USD", buyer_email="ann@example.com", state="chargeback"),
        paid(4, None, None, buyer_email="ann@example.com", state="failed"),
        paid(5, "1.00", buyer_email=None),
        paid(6, "1.00", buyer_email=""),
        paid(7, None, buyer_email=hashed),
    ]

    assert rows(storage, "customers", "customer, orders, sales, refunded_orders, charged_back_orders", *orders) == [
        (hashed, 1, 0, 0, 0),
        ("ann@example.com", 4, 3, 1, 1),
    ]
    assert rows(storage, "customer_value", "customer, currency, sales, refunds, net, known_refund_share", *orders) == [
        ("ann@example.com", "EUR", 1, *cents("0", "10"), None),
        ("ann@example.com", "USD", 2, None, Decimal("2.5"), 0.0),
    ]


def test_a_product_has_a_row_per_month_as_have_unknown_ones(storage: World) -> None:
    storage.load(PRODUCTS, [product(1)])
    april = {"created_at": "2024-04-30T23:59:59Z"}

    assert rows(
        storage,
        "product_performance",
        "month, product_id, product, currency, orders, units, net",
        paid(1, "9.00", cart=cart({"product_id": 1, "quantity": 2}, {"product_id": 8}, {"product_id": 1})),
        paid(2, "4.00", cart={"cart_items": []}, subscription_id=3),
        paid(3, "4.00", cart=cart({"quantity": 5})),
        paid(4, None, cart=cart({"product_id": 1, "quantity": 1})),
        paid(5, "1.00", "USD", cart=cart({"product_id": 1, "quantity": 1})) | april,
    ) == [
        (date(2024, 3, 1), 1, "Product 1", "EUR", 1, 3, Decimal(6)),
        (date(2024, 3, 1), 8, None, "EUR", 1, 1, Decimal(3)),
        (date(2024, 3, 1), None, None, "EUR", 2, 5, Decimal(8)),
        (date(2024, 4, 1), 1, "Product 1", "USD", 1, 1, Decimal(1)),
    ]


def test_a_subscription_is_known_by_its_order(storage: World) -> None:
    plan = {"recurring_price": "24.00", "frequency_interval": "month", "frequency_value": 3, "currency_code": " eur"}
    storage.load(
        BY_NAME["subscriptions"],
        [
            {"id": 9, "name": "Monthly", "updated_at": "2024-01-01T00:00:00Z", **plan},
            {"id": 10, "name": "Thrice", "updated_at": "2024-01-01T00:00:00Z", **plan, "recurring_type": "fixed"},
        ],
    )

    assert rows(
        storage,
        "subscription_orders",
        "order_id, plan_id, plan, state, is_active, payments, net, monthly_price, price_currency",
        paid(1, "6.00", state="subscription_active", subscription_id=9, gateway_transaction_ids=["a", "b"]),
        paid(2, "3.00", state="subscription_cancelled", subscription_id=8, order_name="Old plan"),
        paid(3, None, state="subscription_setup"),
        paid(4, "3.00", state=None, subscription_id=10),
        paid(5, "3.00", state="complete"),
        # A test is nobody's subscription.
        paid(6, "3.00", state="subscription_active", subscription_id=9, test_mode=True),
    ) == [
        (1, 9, "Monthly", "subscription_active", True, 2, Decimal(6), Decimal(8), "EUR"),
        (2, 8, "Old plan", "subscription_cancelled", False, 0, Decimal(3), None, None),
        (3, None, None, "subscription_setup", False, 0, None, None, None),
        (4, 10, "Thrice", None, False, 0, Decimal(3), None, "EUR"),
        (6, 9, "Monthly", "subscription_active", False, 0, None, Decimal(8), "EUR"),
    ]


def test_a_rebuild_rewrites_only_what_has_changed(storage: World) -> None:
    other = {**FULL, "id": 2, "settled_currency": "USD", "buyer_email": "b@example.com"}
    storage.load(ORDERS, [FULL, other], window=ALWAYS)
    for model in MODELS:
        built(storage, model)
    for model in MODELS:
        assert built(storage, model)[0].written == 0
    late = {
        **other,
        "settled_gross": "0.00",
        "buyer_email": "c@example.com",
        "updated_at": "2024-05-01T00:00:00Z",
    }
    storage.load(ORDERS, [late], updated_after=ALWAYS.start)

    for model in MODELS:
        result, findings = built(storage, model)

        changed = FULL_ROWS.get(model.name, 1)
        # Both customers are of one cohort, before and after.
        expected = (1, 0, 0) if model.name == "cohort_retention" else (2 * changed, changed, changed)
        assert (result.rows, result.written, result.removed) == expected
        assert {finding.wrong for finding in findings} == {0}


def test_large_tables_are_built_in_little_memory(storage: World) -> None:
    """Fault 93. A join of all orders with themselves, or a comparison of whole rows, needed more."""
    storage.load(ORDERS, [FULL], window=ALWAYS)
    storage.execute("""
        INSERT INTO commerce.orders
        SELECT orders.* REPLACE (id + n AS id, n || '@example.com' AS buyer_email)
        FROM commerce.orders, range(1, 100_000) AS copies(n)""")
    small = DatabaseFile(path=storage.path, memory_limit="80MB", config={"threads": 2})
    for name in ("orders_enriched", "refunds"):
        for written in (100_000, 0):
            with small.write() as connection:
                assert build(connection, BY_MODEL[name], ENDPOINTS).written == written
                assert {finding.wrong for finding in check(connection, BY_MODEL[name])} == {0}


def test_a_build_of_some_days_leaves_the_rows_of_all_others(storage: World) -> None:
    line = cart({"product_id": 7})
    stamps = ("2024-03-14T23:59:59Z", "2024-03-15T00:00:00Z", "2024-03-15T23:59:59Z", "2024-03-16T00:00:00Z")
    orders = [order(number, stamp, cart=line, state="old") for number, stamp in enumerate(stamps, start=1)]
    storage.load(ORDERS, orders, window=ALWAYS)
    built(storage, BY_MODEL["order_items"])
    storage.execute("UPDATE commerce.orders SET state = 'new'")

    result, _ = built(storage, BY_MODEL["order_items"], days("2024-03-15"))

    assert (result.rows, result.written, result.removed) == (2, 2, 2)
    query = "SELECT order_id FROM analytics.order_items WHERE state = 'new' ORDER BY ALL"
    assert storage.query(query) == [(2,), (3,)]


def test_a_table_with_older_columns_is_rebuilt_with_all_its_days(storage: World) -> None:
    model = BY_MODEL["order_items"]
    orders = [order(number, f"2024-03-1{number}T12:00:00Z", cart=cart({"product_id": 7})) for number in (4, 5)]
    storage.load(ORDERS, orders, window=ALWAYS)
    built(storage, model)
    storage.execute("ALTER TABLE analytics.order_items DROP COLUMN plan")

    built(storage, model, days("2024-03-15"))

    assert storage.query("SELECT count(*), count(plan) FROM analytics.order_items") == [(2, 0)]


def test_a_column_that_sql_and_declaration_do_not_share_is_named(storage: World) -> None:
    model = BY_MODEL["refunds"]

    with pytest.raises(ModelError, match=r"refunds\.sql and tables\.py disagree on the columns: state"):
        built(storage, replace(model, columns=tuple(c for c in model.columns if c.name != "state")))


def test_a_duplicate_key_is_found_without_showing_the_address(storage: World) -> None:
    model = BY_MODEL["customers"]
    storage.load(ORDERS, [paid(1, "1.00", buyer_email="ann@example.com")], window=ALWAYS)
    with storage.file.write() as connection:
        build(connection, model, ENDPOINTS)
        connection.execute("INSERT INTO analytics.customers FROM analytics.customers")

        findings = check(connection, model)

    assert findings[0] == CheckOutcome("key_is_unique", 1, [{"rows": "2"}])
    assert "ann@" not in str(findings)


TAMPERINGS: list[tuple[str, str, Callable[[str], str]]] = [
    ("order_items", "every_cart_line_is_there_once", "DELETE FROM {} WHERE line = 2".format),
    ("order_items", "amounts_equal_orders", "UPDATE {} SET net = net + 0.01 WHERE line = 1".format),
    ("orders_enriched", "net_and_sales_equal_orders", "UPDATE {} SET net = net - 0.01".format),
    ("orders_enriched", "net_and_sales_equal_orders", "DELETE FROM {}".format),
    ("orders_enriched", "refunds_are_plausible", "UPDATE {} SET refunds = -1, gross = 4".format),
    ("orders_enriched", "refunds_are_plausible", "UPDATE {} SET gross = 4.99".format),
    ("orders_enriched", "only_sales_have_amounts", "UPDATE {} SET excluded_amount = 1".format),
    ("orders_enriched", "amounts_are_readable", "UPDATE {} SET unreadable_amounts = ['settled_tax']".format),
    (
        "orders_enriched",
        "net_excludes_refunds",
        "UPDATE {} SET refunds = 1, order_price = 5, discount = 0.80, tax = 0.80, net = 5".format,
    ),
    ("refunds", "every_refund_is_there_once", "DELETE FROM {}".format),
    ("refunds", "amounts_are_those_of_orders", "UPDATE {} SET amount = 1".format),
    ("customers", "orders_equal_orders", "UPDATE {} SET orders = orders + 1".format),
    ("customer_value", "net_equals_orders", "UPDATE {} SET net = net - 0.01".format),
    ("cohort_retention", "sales_equal_orders", "UPDATE {} SET sales = sales + 1".format),
    ("daily_revenue", "money_equals_orders", "UPDATE {} SET tax = tax + 0.01".format),
    ("daily_revenue", "money_equals_orders", "UPDATE {} SET gross = gross + 0.01".format),
    ("daily_revenue", "each_customer_is_new_once", "UPDATE {} SET new_customers = 0".format),
    ("revenue_movements", "net_adds_up_to_orders", "UPDATE {} SET net = net + 0.01".format),
    ("subscription_months", "active_equals_orders", "UPDATE {} SET active = active + 1".format),
    ("product_performance", "net_equals_orders", "UPDATE {} SET net = net + 0.01 WHERE product_id = 7".format),
    ("subscription_orders", "every_subscription_is_there_once", "UPDATE {} SET order_id = 2".format),
]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> World:
    storage = World(tmp_path_factory.mktemp("full"))
    storage.load(replace(ORDERS, keeps_versions=True), [FULL], window=ALWAYS)
    return storage


@pytest.mark.parametrize(("name", "failing", "tampering"), TAMPERINGS)
def test_a_check_finds_a_table_that_is_wrong_by_a_cent_or_a_row(
    full: World, name: str, failing: str, tampering: Callable[[str], str]
) -> None:
    with full.file.write() as connection:
        # It repairs what the test before has done.
        build(connection, BY_MODEL[name], ENDPOINTS)
        assert not [finding for finding in check(connection, BY_MODEL[name]) if finding.wrong]
        connection.execute(tampering(f"analytics.{name}"))

        assert failing in {finding.check for finding in check(connection, BY_MODEL[name]) if finding.wrong}


def test_every_check_is_shown_to_find_what_is_wrong() -> None:
    declared = {(model.name, check.name) for model in MODELS for check in model.checks}

    assert {(name, failing) for name, failing, _ in TAMPERINGS} == declared
