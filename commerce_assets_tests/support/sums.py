"""What the analytics tables must hold, computed from the store's orders in Python, without the project's code.

It reads the orders as the store sends them: amounts as text with spaces, refunds with a minus, states in capitals.
"""

import hashlib
import hmac
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

Order = Mapping[str, Any]
Catalog = Mapping[str, Sequence[Mapping[str, Any]]]
Row = tuple[Any, ...]
Table = dict[Any, Row]
ZERO = Decimal(0)
NO_SALES = {"initial", "pending", "failed", "fraud_review"}
MINOR_UNITS = {"JPY": 0, "KWD": 3}
AMOUNTS = (
    *("settled_gross", "settled_gateway_fee", "settled_tax", "settled_handling", "settled_shipping"),
    *("settled_affiliate_fee", "accounted_tax"),
)


def number(value: object) -> Decimal | None:
    """A value of the API as an amount; None if it is missing or not a number."""
    try:
        return Decimal(str(value).strip()) if value is not None else None
    except InvalidOperation:
        return None


def money(value: object) -> Decimal:
    return number(value) or ZERO


def total(amounts: Iterable[Decimal | None]) -> Decimal:
    return sum((amount for amount in amounts if amount is not None), ZERO)


def instant(written: str) -> datetime:
    return datetime.fromisoformat(written)


@dataclass(frozen=True, slots=True)
class Refund:
    """A transaction: its size, None if it is not a number."""

    size: Decimal | None
    currency: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Sold:
    """A line of a cart, its part of the order's gross and refunds, and what the parts follow."""

    item: Mapping[str, Any]
    split_by: str
    gross: Decimal | None
    refunds: Decimal | None


class Books:
    """The tables of a store's orders, by their keys; days are those of the zone."""

    def __init__(
        self, orders: Iterable[Order], catalog: Catalog, *, zone: str = "UTC", hash_key: str | None = None
    ) -> None:
        self.orders = sorted(orders, key=lambda o: (instant(o["created_at"]), o["id"]))
        self.catalog = catalog
        self.zone = ZoneInfo(zone)
        self.hash_key = hash_key
        self.sales = [order for order in self.orders if self.why_not(order) is None]

    # An order

    def day(self, moment: datetime) -> date:
        return moment.astimezone(self.zone).date()

    def day_of(self, order: Order) -> date:
        return self.day(instant(order["created_at"]))

    def month_of(self, order: Order) -> date:
        return self.day_of(order).replace(day=1)

    def status(self, order: Order) -> str:
        return (order["state"] or "").strip().lower()

    def why_not(self, order: Order) -> str | None:
        """Why the order is not a sale."""
        if order.get("test_mode") in (True, "true"):
            return "test"
        if self.status(order) in NO_SALES:
            return self.status(order)
        return "no amount" if order["settled_gross"] is None else None

    def currency(self, order: Order) -> str:
        return (order["settled_currency"] or "").strip().upper() or "XXX"

    def customer(self, order: Order) -> str | None:
        address = unicodedata.normalize("NFC", (order["buyer_email"] or "").strip()).lower()
        if address and self.hash_key:
            return hmac.new(self.hash_key.encode(), address.encode(), hashlib.sha256).hexdigest()
        return address or None

    def refunds_of(self, order: Order) -> list[Refund]:
        sent = [each.get("refund_transaction", each) for each in order["refund_transactions"] or ()]
        return [
            Refund(
                size=None if (amount := number(each["amount"])) is None else abs(amount),
                currency=(each.get("currency") or "").strip().upper() or self.currency(order),
                at=instant(each["occurred_at"]) if each.get("occurred_at") else None,
            )
            for each in sent
        ]

    def is_refunded(self, order: Order) -> bool:
        return bool(order["refunded"] or order["refund_transactions"] or self.status(order) == "refunded")

    def is_charged_back(self, order: Order) -> bool:
        return self.status(order) == "chargeback"

    def is_reversed(self, order: Order) -> bool:
        return self.is_refunded(order) or self.is_charged_back(order)

    def is_known(self, order: Order) -> bool:
        """Whether the transactions name the full refund, or there is none."""
        if not self.is_reversed(order):
            return True
        refunds = self.refunds_of(order)
        readable = [each for each in refunds if each.size is not None and each.currency == self.currency(order)]
        return bool(refunds) and not self.is_charged_back(order) and len(readable) == len(refunds)

    def refunded(self, order: Order) -> Decimal | None:
        return total(each.size for each in self.refunds_of(order)) if self.is_known(order) else None

    def net(self, order: Order) -> Decimal | None:
        return number(order["settled_gross"])

    def gross(self, order: Order) -> Decimal | None:
        net = self.net(order)
        return None if net is None else net + (self.refunded(order) or ZERO)

    def unreadable(self, order: Order) -> list[str]:
        return [name for name in AMOUNTS if order[name] is not None and number(order[name]) is None]

    def measure(self, order: Order, *names: str) -> Decimal | None:
        if any(name in self.unreadable(order) for name in names):
            return None
        return total(number(order[name]) for name in names)

    def cart(self, order: Order) -> list[Sold]:
        """The lines with their parts of the order's amounts, to the currency's decimals."""
        items = [item.get("cart_item", item) for item in (order["cart"] or {}).get("cart_items") or ()]
        prices = [number(item.get("price_at_checkout")) for item in items]
        counts = [1 if item.get("quantity") is None else int(item["quantity"]) for item in items]
        split_by, weights = "equal", [Decimal(1)] * len(items)
        if items and all(price is not None and price >= 0 for price in prices) and total(prices) > 0:
            lines = [price or ZERO for price in prices]
            units = [price * count for price, count in zip(lines, counts, strict=True)]
            whole = number(order["price_at_checkout"])
            split_by, weights = "unconfirmed price", lines
            if total(lines) == whole:
                split_by = "line price"
            elif total(units) == whole:
                split_by, weights = "unit price", units
        is_sale = self.why_not(order) is None
        grosses = self.parts(self.gross(order) if is_sale else None, weights, self.currency(order))
        refunds = self.parts(self.refunded(order) if is_sale else None, weights, self.currency(order))
        return [Sold(item, split_by, *amounts) for item, *amounts in zip(items, grosses, refunds, strict=True)]

    def parts(self, amount: Decimal | None, weights: Sequence[Decimal], currency: str) -> Sequence[Decimal | None]:
        if amount is None or not weights:
            return [None] * len(weights)
        smallest = Decimal(10) ** -MINOR_UNITS.get(currency, 2)
        parts = [amount * weight / sum(weights) // smallest * smallest for weight in weights]
        parts[weights.index(max(weights))] += amount - sum(parts)
        return parts

    def totals(self, orders: Sequence[Order]) -> tuple[Decimal, Decimal | None, Decimal, int, float | None]:
        """Gross, refunds and net, the number of unknown refunds, and the share of the known ones."""
        known = [self.is_known(order) for order in orders if self.is_reversed(order)]
        share = sum(known) / len(known) if known else None
        refunds = None if share == 0 else total(map(self.refunded, orders))
        return total(map(self.gross, orders)), refunds, total(map(self.net, orders)), known.count(False), share

    # The tables

    def orders_enriched(self) -> Table:
        places: dict[str | None, int] = defaultdict(int)
        table: Table = {}
        for order in self.orders:
            why, customer, cart = self.why_not(order), self.customer(order), self.cart(order)
            if why is None:
                places[customer] += 1
            fees = [
                self.measure(order, *names)
                for names in (
                    ("settled_tax",),
                    ("settled_shipping", "settled_handling"),
                    ("settled_gateway_fee",),
                    ("settled_affiliate_fee",),
                )
            ]
            tax, shipping, gateway, affiliate = fees if why is None else [None] * 4
            net = self.net(order) if why is None else None
            costs = (tax, gateway, affiliate)
            proceeds = None if net is None or None in costs else net - total(costs)
            table[order["id"]] = (
                self.day_of(order),
                why is None,
                why,
                customer,
                places[customer] if why is None and customer else None,
                len(cart),
                sum(1 if line.item.get("quantity") is None else int(line.item["quantity"]) for line in cart),
                self.currency(order),
                self.gross(order) if why is None else None,
                self.refunded(order) if why is None else None,
                self.is_known(order),
                net,
                tax,
                shipping,
                gateway,
                affiliate,
                proceeds,
                self.net(order) if why else None,
                sorted(self.unreadable(order)),
                self.is_refunded(order),
                self.is_charged_back(order),
                None
                if order["cart"] is None
                else why is None or order["cart"].get("completed_checkout_at") is not None,
            )
        return table

    def daily_revenue(self) -> Table:
        known: set[str | None] = {None}
        groups: dict[tuple[date, str], list[Order]] = defaultdict(list)
        new: dict[tuple[date, str], set[str | None]] = defaultdict(set)
        excluded: dict[tuple[date, str], list[Decimal]] = defaultdict(list)
        paid_out: dict[tuple[date, str], Decimal] = defaultdict(Decimal)
        for order in self.orders:
            key = self.day_of(order), self.currency(order)
            if self.why_not(order) is None:
                groups[key].append(order)
                if (customer := self.customer(order)) not in known:
                    known.add(customer)
                    new[key].add(customer)
                for refund in self.refunds_of(order):
                    if refund.at and refund.size is not None:
                        paid_out[self.day(refund.at), refund.currency] += refund.size
            elif (amount := self.net(order)) is not None:
                excluded[key].append(amount)
        table: Table = {}
        for key in {*groups, *excluded, *paid_out}:
            group = groups.get(key, [])
            gross, refunds, net, unknown, share = self.totals(group)
            names = (["settled_tax"], ["settled_shipping", "settled_handling"])
            table[key] = (
                len(group),
                gross,
                refunds,
                net,
                *(total(self.measure(o, *each) for o in group) for each in names),
                total(self.measure(o, "settled_gateway_fee") for o in group),
                total(self.measure(o, "settled_affiliate_fee") for o in group),
                sum(map(self.is_refunded, group)),
                sum(map(self.is_charged_back, group)),
                unknown,
                share,
                paid_out.get(key, ZERO),
                sum(bool(self.unreadable(order)) for order in group),
                len(excluded.get(key, [])),
                total(excluded.get(key, [])),
                len(new.get(key, set())),
                len({self.customer(o) for o in group} - {None} - new.get(key, set())),
            )
        return table

    def _grouped(self, orders: Iterable[Order], key: Callable[[Order], Any]) -> dict[Any, list[Order]]:
        groups: dict[Any, list[Order]] = defaultdict(list)
        for order in orders:
            groups[key(order)].append(order)
        return groups

    def customers(self) -> Table:
        table: Table = {}
        for customer, group in self._grouped(self.orders, self.customer).items():
            sales = [order for order in group if self.why_not(order) is None]
            moments = [instant(order["created_at"]) for order in group]
            flags = (self.is_refunded, self.is_charged_back)
            counts = (sum(map(flag, sales)) for flag in flags)
            if customer:
                table[customer] = (min(moments), max(moments), len(group), len(sales), *counts)
        return table

    def customer_value(self) -> Table:
        table: Table = {}
        for key, group in self._grouped(self.sales, lambda o: (self.customer(o), self.currency(o))).items():
            moments = [instant(order["created_at"]) for order in group]
            if key[0]:
                table[key] = (min(moments), max(moments), len(group), *self.totals(group))
        return table

    def cohort_retention(self) -> Table:
        months = self._grouped(self.sales, self.customer)
        months.pop(None, None)
        bought = {who: [self.month_of(order) for order in group] for who, group in months.items()}
        newest = max(max(each) for each in bought.values())
        table: Table = {}
        for cohort in {min(each) for each in bought.values()}:
            members = [each for each in bought.values() if min(each) == cohort]
            for later in range((newest.year - cohort.year) * 12 + newest.month - cohort.month + 1):
                year, month = divmod(cohort.year * 12 + cohort.month - 1 + later, 12)
                sales = [each.count(date(year, month + 1, 1)) for each in members]
                table[cohort, later] = (len(members), sum(map(bool, sales)), sum(sales))
        return table

    def revenue_movements(self, before: "Books | None" = None) -> Table:
        """The movements of orders whose first stored version is that of `before`."""
        earlier = {order["id"]: order for order in before.sales} if before else {}
        existed = {order["id"] for order in before.orders} if before else set()
        table: dict[tuple[date, str], list[Decimal]] = defaultdict(lambda: [ZERO] * 4)
        for order in earlier.values() if before else self.sales:
            table[self.day_of(order), self.currency(order)][0] += self.net(order) or ZERO
        now = {order["id"]: order for order in self.sales}
        for order in self.orders if before else ():
            assert order["id"] in existed
            old, new = (self.net(sales[order["id"]]) if order["id"] in sales else None for sales in (earlier, now))
            change = (new or ZERO) - (old or ZERO)
            place = 3 if change < 0 else 1 if order["subscription_id"] else 2
            table[self.day(instant(order["updated_at"])), self.currency(order)][place] += change
        return {key: (*row, sum(row)) for key, row in table.items() if any(row)}

    def refunds(self) -> Table:
        table: Table = {}
        for order in filter(self.is_reversed, self.sales):
            refunds: list[tuple[int | None, Refund | None]] = list(enumerate(self.refunds_of(order), start=1))
            if self.is_charged_back(order) or not refunds:
                refunds.append((None, None))
            for place, refund in refunds:
                at = refund.at if refund else None
                table[order["id"], place] = (
                    "chargeback" if self.is_charged_back(order) and refund is None else "refund",
                    order["state"],
                    self.day_of(order),
                    at,
                    self.day(at) if at else None,
                    (self.day(at) - self.day_of(order)).days if at else None,
                    refund.currency if refund else self.currency(order),
                    refund.size if refund else None,
                    self.net(order) == 0,
                )
        return table

    def subscription_orders(self) -> Table:
        plans = {plan["id"]: plan for plan in self.catalog["subscriptions"]}
        return {
            order["id"]: (
                order["subscription_id"],
                plan["name"] if plan else order["order_name"],
                order["state"],
                self.is_active(order),
                instant(order["created_at"]),
                instant(order["updated_at"]),
                len(order["gateway_transaction_ids"] or ()),
                monthly_price(plan) if plan else None,
                (plan["currency_code"] or "XXX").strip().upper() if plan else None,
                self.currency(order),
                self.net(order) if self.why_not(order) is None else None,
            )
            for order in self.orders
            if order["subscription_id"] or self.status(order).startswith("subscription_")
            for plan in [plans.get(order["subscription_id"])]
        }

    def subscription_months(self, before: "Books | None" = None) -> Table:
        """The months of subscriptions whose first stored version is that of `before`, or the present one."""
        plans = {plan["id"]: plan for plan in self.catalog["subscriptions"]}
        first = {order["id"]: order for order in (before or self).orders}
        events: dict[Any, list[tuple[date, int]]] = defaultdict(list)
        for order in self.orders:
            old, plan = first[order["id"]], order["subscription_id"]
            over = self.why_not(old) is None and self.status(old) in {"subscription_cancelled", "subscription_complete"}
            if self.is_active(old) or over:
                events[plan].append((self.month_of(order), 0))
            if over:
                end = 1 if self.status(old) == "subscription_cancelled" else 2
                events[plan].append((self.day(instant(old["updated_at"])).replace(day=1), end))
            if self.is_active(old) != self.is_active(order):
                completed = self.status(order) in {"subscription_complete", "complete"}
                kind = 0 if self.is_active(order) else 2 if completed else 1
                events[plan].append((self.day(instant(order["updated_at"])).replace(day=1), kind))
        newest = max(max(each) for each in events.values())[0]
        table: Table = {}
        for plan, each in events.items():
            month, active = min(each)[0], 0
            while month <= newest:
                counts = [each.count((month, kind)) for kind in range(3)]
                active += counts[0] - counts[1] - counts[2]
                price = monthly_price(plans[plan]) if plan in plans else None
                table[month, plan] = (*counts, active, None if price is None else active * price)
                month = date(month.year + month.month // 12, month.month % 12 + 1, 1)
        return table

    def is_active(self, order: Order) -> bool:
        status = self.status(order)
        return self.why_not(order) is None and status in {"subscription_active", "subscription_cancelling"}

    def order_items(self, last: date) -> Table:
        """The lines of the orders to the last UTC day."""
        products = {product["id"]: product for product in self.catalog["products"]}
        packages = {package["id"]: package["name"] for package in self.catalog["packages"]}
        plans = {plan["id"]: plan["name"] for plan in self.catalog["subscriptions"]}
        table: Table = {}
        for order in self.orders:
            if instant(order["created_at"]).astimezone(UTC).date() > last:
                continue
            for place, line in enumerate(self.cart(order), start=1):
                product = products.get(line.item["product_id"], {})
                package = self.package_of(order, line.item)
                table[order["id"], place] = (
                    instant(order["created_at"]),
                    order["state"],
                    line.item["product_id"],
                    product.get("name"),
                    product.get("product_type"),
                    package,
                    packages.get(package),
                    order["subscription_id"],
                    plans.get(order["subscription_id"]),
                    line.item["quantity"],
                    number(line.item["price_at_checkout"]),
                    line.split_by,
                    self.currency(order),
                    line.gross,
                    line.refunds,
                    None if line.gross is None else line.gross - (line.refunds or ZERO),
                )
        return table

    def package_of(self, order: Order, item: Mapping[str, Any]) -> int | None:
        """The package that the line names, or else the only one that has the order's name and holds the product."""
        if named := item.get("package_id"):
            return int(named)
        called = [
            package["id"]
            for package in self.catalog["packages"]
            if package["name"] == order["order_name"] and item["product_id"] in package["components"]["product_ids"]
        ]
        return called[0] if len(called) == 1 and not order["subscription_id"] else None

    def product_performance(self) -> Table:
        names = {product["id"]: product["name"] for product in self.catalog["products"]}
        nothing: Mapping[str, Any] = {"product_id": None, "quantity": 0}
        lines = [
            ((self.month_of(order), line.item["product_id"], self.currency(order)), order, line)
            for order in self.sales
            for line in self.cart(order) or [Sold(nothing, "", self.gross(order), self.refunded(order))]
        ]
        table: Table = {}
        for key, group in groupby(sorted(lines, key=lambda each: repr(each[0])), key=lambda each: each[0]):
            sold = list(group)
            orders = list({order["id"]: order for _, order, _ in sold}.values())
            *_, unknown, share = self.totals(orders)
            gross, refunds = (total(getattr(line, name) for *_, line in sold) for name in ("gross", "refunds"))
            table[key] = (
                names.get(key[1]),
                len(orders),
                sum(1 if line.item["quantity"] is None else line.item["quantity"] for *_, line in sold),
                gross,
                None if share == 0 else refunds,
                gross - refunds,
                sum(map(self.is_refunded, orders)),
                unknown,
                share,
            )
        return table


def monthly_price(plan: Mapping[str, Any]) -> Decimal | None:
    """The price of a plan per month of a year of 365 days; None for a fixed number of payments."""
    price = number(plan["recurring_price"])
    if price is None or (plan["recurring_type"] or "").strip().lower() == "fixed":
        return None
    legacy = {"daily": "day", "weekly": "week", "monthly": "month", "yearly": "year"}
    unit = plan["frequency_interval"] or legacy.get(plan["frequency"] or "")
    count = (plan["frequency_value"] or 1) if plan["frequency_interval"] else 1
    periods = {"day": Decimal(365), "week": Decimal(365) / 7, "month": Decimal(12), "year": Decimal(1)}
    if unit not in periods:
        return None
    return (price * periods[unit] / 12 / count).quantize(Decimal("0.0001"), ROUND_HALF_UP)
