"""What the analytics tables must hold, computed from the store's orders in Python, without the project's code.

Amounts are exact. A line's part of an order's amounts is a fraction: the table has it to the cent.
"""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

Order = Mapping[str, Any]
Catalog = Mapping[str, Sequence[Mapping[str, Any]]]
Row = tuple[Any, ...]
ZERO = Decimal(0)


def money(value: str | None) -> Decimal:
    return Decimal(value or 0)


def day_of(order: Order) -> date:
    return date.fromisoformat(order["created_at"][:10])


def currency_of(order: Order) -> str:
    return (order["settled_currency"] or "XXX").upper()


def is_paid(order: Order) -> bool:
    return order["settled_gross"] is not None


def is_charged_back(order: Order) -> bool:
    return bool(order["state"] == "chargeback")


def is_refunded(order: Order) -> bool:
    return bool(order["refunded"] or order["refund_transactions"])


def transactions_of(order: Order) -> list[Mapping[str, Any]]:
    return [transaction.get("refund_transaction", transaction) for transaction in order["refund_transactions"]]


def is_in_its_currency(order: Order, transaction: Mapping[str, Any]) -> bool:
    return (transaction["currency"] or currency_of(order)).upper() == currency_of(order)


def refunded(order: Order) -> Decimal:
    """What was refunded in the order's own currency."""
    return sum((money(t["amount"]) for t in transactions_of(order) if is_in_its_currency(order, t)), ZERO)


def is_known(order: Order) -> bool:
    """Whether the transactions tell the whole refund."""
    transactions = transactions_of(order)
    return bool(transactions) and not is_charged_back(order) and all(is_in_its_currency(order, t) for t in transactions)


def gross(order: Order) -> Decimal | None:
    return money(order["settled_gross"]) + refunded(order) if is_paid(order) else None


def customer_of(order: Order, hash_key: str | None = None) -> str | None:
    address = (order["buyer_email"] or "").strip().lower()
    if address and hash_key:
        return hmac.new(hash_key.encode(), address.encode(), hashlib.sha256).hexdigest()
    return address or None


def days(orders: Iterable[Order]) -> dict[tuple[date, str], Row]:
    """`daily_revenue` by its key."""
    known: set[str] = set()
    groups: dict[tuple[date, str], list[Order]] = defaultdict(list)
    new: dict[tuple[date, str], set[str]] = defaultdict(set)
    for order in sorted(filter(is_paid, orders), key=lambda o: (o["created_at"], o["id"])):
        key = day_of(order), currency_of(order)
        groups[key].append(order)
        customer = customer_of(order)
        if customer and customer not in known:
            known.add(customer)
            new[key].add(customer)
    return {
        key: (
            len(group),
            sum((gross(o) or ZERO for o in group), ZERO),
            sum((refunded(o) for o in group), ZERO),
            sum((money(o["settled_gross"]) for o in group), ZERO),
            sum((money(o["settled_gateway_fee"]) for o in group), ZERO),
            sum((money(o["settled_tax"]) for o in group), ZERO),
            sum(is_refunded(o) for o in group),
            sum((is_refunded(o) or is_charged_back(o)) and not is_known(o) for o in group),
            len(new[key]),
            len({customer_of(o) for o in group} - {None} - new[key]),
        )
        for key, group in groups.items()
    }


def customers(orders: Iterable[Order], hash_key: str | None = None) -> dict[str, Row]:
    groups: dict[str, list[Order]] = defaultdict(list)
    for order in orders:
        if customer := customer_of(order, hash_key):
            groups[customer].append(order)
    computed = {}
    for customer, group in groups.items():
        net: dict[str, Decimal] = defaultdict(Decimal)
        for order in filter(is_paid, group):
            net[currency_of(order)] += money(order["settled_gross"])
        stamps = [order["created_at"] for order in group]
        flags = (is_paid, is_refunded, is_charged_back)
        counts = (sum(map(flag, group)) for flag in flags)
        computed[customer] = (min(stamps), max(stamps), len(group), *counts, dict(net))
    return computed


def refunds(orders: Iterable[Order]) -> dict[int, Row]:
    computed: dict[int, Row] = {}
    for order in orders:
        if is_refunded(order) or is_charged_back(order):
            stamps = [t["occurred_at"] for t in transactions_of(order) if t.get("occurred_at")]
            computed[order["id"]] = (
                day_of(order),
                "chargeback" if is_charged_back(order) else "refund",
                order["state"],
                currency_of(order),
                gross(order),
                refunded(order),
                money(order["settled_gross"]) if is_paid(order) else None,
                is_known(order),
                is_paid(order) and money(order["settled_gross"]) == 0,
                len(order["refund_transactions"]),
                min(stamps, default=None),
                max(stamps, default=None),
            )
    return computed


def subscriptions(orders: Iterable[Order], catalog: Catalog) -> dict[int, Row]:
    plans = {plan["id"]: plan["name"] for plan in catalog["subscriptions"]}
    return {
        order["id"]: (
            order["subscription_id"],
            plans.get(order["subscription_id"], order["order_name"]),
            order["state"],
            order["state"] in {"subscription_active", "subscription_cancelling"},
            order["created_at"],
            order["updated_at"],
            len(order["gateway_transaction_ids"]),
            currency_of(order),
            money(order["settled_gross"]) if is_paid(order) else None,
        )
        for order in orders
        if order["subscription_id"] or order["state"].startswith("subscription_")
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a cart: what it is, and its part of the order's gross and refunds; None if it was never paid."""

    order: Order
    item: Mapping[str, Any]
    what: Row
    gross: Fraction | None
    refunds: Fraction | None


def lines(orders: Iterable[Order], catalog: Catalog) -> dict[tuple[int, int], Line]:
    """`order_items` by its key."""
    products = {product["id"]: product for product in catalog["products"]}
    packages = {package["id"]: package["name"] for package in catalog["packages"]}
    plans = {plan["id"]: plan["name"] for plan in catalog["subscriptions"]}
    computed = {}
    for order in orders:
        items = items_of(order)
        for number, (item, share) in enumerate(zip(items, shares(items), strict=True), start=1):
            product = products.get(item["product_id"], {})
            package = package_of(order, item, catalog)
            what = (
                order["created_at"],
                order["state"],
                item["product_id"],
                product.get("name"),
                product.get("product_type"),
                package,
                packages.get(package),
                order["subscription_id"],
                plans.get(order["subscription_id"]),
                item["quantity"],
                Decimal(item["price_at_checkout"]) if item["price_at_checkout"] else None,
                currency_of(order),
            )
            whole = gross(order)
            computed[order["id"], number] = Line(
                order=order,
                item=item,
                what=what,
                gross=None if whole is None else Fraction(whole) * share,
                refunds=None if whole is None else Fraction(refunded(order)) * share,
            )
    return computed


def items_of(order: Order) -> list[Mapping[str, Any]]:
    return [item.get("cart_item", item) for item in (order["cart"] or {"cart_items": []})["cart_items"]]


def shares(items: Sequence[Mapping[str, Any]]) -> list[Fraction]:
    """By price if every line has one, else in equal parts."""
    prices = [Fraction(item["price_at_checkout"] or 0) for item in items]
    if all(item["price_at_checkout"] for item in items) and sum(prices) > 0:
        return [price / sum(prices) for price in prices]
    return [Fraction(1, len(items)) for _ in items]


def package_of(order: Order, item: Mapping[str, Any], catalog: Catalog) -> int | None:
    """The package that the line names, or else the only one that is called like the order and holds the product."""
    if named := item.get("package_id"):
        return int(named)
    called = [
        package["id"]
        for package in catalog["packages"]
        if package["name"] == order["order_name"] and item["product_id"] in package["components"]["product_ids"]
    ]
    return called[0] if len(called) == 1 and not order["subscription_id"] else None


@dataclass(slots=True)
class Sold:
    """What was sold of a product in a month and a currency."""

    orders: set[int] = field(default_factory=set)
    refunded_orders: set[int] = field(default_factory=set)
    units: int = 0
    lines: int = 0
    gross: Fraction = Fraction(0)
    refunds: Fraction = Fraction(0)


def performance(orders: Sequence[Order], catalog: Catalog) -> dict[tuple[date, int | None, str], Sold]:
    """`product_performance` by its key."""
    computed: dict[tuple[date, int | None, str], Sold] = defaultdict(Sold)

    def count(order: Order, product: int | None, units: int, amounts: tuple[Fraction, Fraction]) -> None:
        sold = computed[day_of(order).replace(day=1), product, currency_of(order)]
        sold.orders.add(order["id"])
        if is_refunded(order):
            sold.refunded_orders.add(order["id"])
        sold.units += units
        sold.lines += 1
        sold.gross += amounts[0]
        sold.refunds += amounts[1]

    for line in lines(filter(is_paid, orders), catalog).values():
        units = 1 if line.item["quantity"] is None else line.item["quantity"]
        count(line.order, line.item["product_id"], units, (line.gross or Fraction(0), line.refunds or Fraction(0)))
    for order in filter(is_paid, orders):
        if not items_of(order):
            count(order, None, 0, (Fraction(gross(order) or 0), Fraction(refunded(order))))
    return computed


def totals(amounts: Iterable[tuple[Any, Decimal | None]]) -> dict[Any, Decimal]:
    """The sum of the amounts of each key."""
    summed: dict[Any, Decimal] = defaultdict(Decimal)
    for key, amount in amounts:
        summed[key] += amount or ZERO
    return dict(summed)
