"""A second store, which does what the API allows and the sample store does not.

Prices of units, totals of lines and neither, refunds with and without a minus or any transaction, test orders, payments
that failed with an amount, amounts that are not numbers, currencies with zero and three decimals, blanks and capitals,
and orders around midnight.
"""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sample_store.rows import blank
from sample_store.shop import Shop
from sample_store.store import SampleStore
from sample_store.values import timestamp

Order = dict[str, Any]
TOKYO = "Asia/Tokyo"
_CURRENCIES = (*("EUR",) * 4, " usd ", "USD", "JPY", "KWD", None)
_DECIMALS = {"JPY": 0, "KWD": 3}
_STATES = (
    *("complete",) * 12,
    *("Complete ", "free", "imported", "in_dispute", "chargeback", "Chargeback", "refunded", "archived", None),
    *("failed", " Failed", "pending", "initial", "fraud_review"),
    *("subscription_active", "subscription_cancelling", "subscription_cancelled", "subscription_setup"),
)
_BUYERS = (
    *("ann@example.com", " Ann@Example.com", "ANN@example.com\n", "zoe\u0308@example.com", "zo\u00eb@example.com"),
    *(None, "", " \t"),
    *(f"buyer{number}@example.com" for number in range(25)),
)
_FEES = ("0.31", "0.00", None, "n/a")
_HOURS = (0, 1, 9, 14, 15, 16, 23)
"""Tokyo's midnight is 15:00 UTC."""


def build_second_store(now: datetime, *, days: int = 100, orders: int = 700) -> SampleStore:
    """Build the store as of `now`, with orders of the days before it; the draws depend on nothing else."""
    rng = Random(11)
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    moments = sorted(
        midnight
        - timedelta(days=rng.randrange(1, days))
        + timedelta(hours=rng.choice(_HOURS), minutes=rng.choice((0, 59)))
        for _ in range(orders)
    )
    listed = [_order(rng, number, moment, now) for number, moment in enumerate(moments, start=1)]
    shop = Shop(products=_products(), packages=_packages(), subscriptions=_plans(), orders=listed)
    return SampleStore(shop, now=lambda: now)


def _row(kind: str, number: int, **fields: Any) -> Order:
    stamp = "2020-01-01T00:00:00Z"
    return blank(kind) | {"id": number, "created_at": stamp, "updated_at": stamp, **fields}


def _products() -> list[Order]:
    return [_row("products", n, name=f"Product {n}", product_type="digital", price="10.00") for n in range(1, 9)]


def _packages() -> list[Order]:
    return [_row("packages", 1, name="Both", components={"product_ids": [1, 2]})]


def _plans() -> list[Order]:
    plans: tuple[Order, ...] = (
        {"recurring_price": "9.99", "frequency_interval": "month", "frequency_value": 1, "currency_code": "EUR"},
        {"recurring_price": "99.00", "frequency_interval": "year", "frequency_value": 2, "currency_code": " usd"},
        {"recurring_price": "2.50", "frequency": "weekly", "currency_code": None},
        {"recurring_price": "1.10", "frequency_interval": "day", "frequency_value": None, "currency_code": "EUR"},
        {"recurring_price": "50.00", "frequency_interval": "month", "recurring_type": "fixed", "no_of_occurrences": 3},
        {"recurring_price": "5.00", "frequency_interval": "fortnight"},
    )
    return [_row("subscriptions", n, name=f"Plan {n}", **plan) for n, plan in enumerate(plans, start=1)]


def _order(rng: Random, number: int, moment: datetime, now: datetime) -> Order:
    currency = rng.choice(_CURRENCIES)
    decimals = _DECIMALS.get(currency or "", 2)
    state = rng.choice(_STATES)
    items, price = _cart(rng, decimals)
    discount = rng.choice((0, 0, 0, price // 10))
    tax = (price - discount) // 5
    gross = price - discount + tax
    transactions, refunded, kept = _refunds(rng, (moment, now), gross, decimals, currency)
    is_free = state == "free" or rng.random() < 0.03
    settled = "0" if is_free else _written(kept, decimals)
    no_amount = rng.random() < 0.06 or (state == "imported" and rng.random() < 0.5)
    stamp = timestamp(moment)
    order = _row(
        "orders",
        number,
        order_name=rng.choice(("Both", "Product 1", "Plan 1")),
        state=state,
        gateway=rng.choice(("Stripe", "PayPal")),
        buyer_email=rng.choice(_BUYERS),
        eu_resolved_country=rng.choice(("DE", " de ", "FR", None)),
        settled_currency=currency,
        settled_gross=None if no_amount else rng.choices((settled, f"£{settled}"), (30, 1))[0],
        settled_gateway_fee=rng.choices(_FEES, (20, 5, 2, 1))[0],
        settled_tax=_written(tax * kept // gross, decimals) if gross else "0",
        accounted_tax=_written(tax * kept // gross, decimals) if gross else "0",
        settled_shipping=rng.choice((None, "0.00", "4.90")),
        settled_handling=rng.choice((None, "0.10")),
        settled_affiliate_fee=rng.choice((None, None, "0.50")),
        price_at_checkout=_written(price, decimals),
        discount=_written(discount, decimals) if discount else None,
        refunded=refunded,
        refund_transactions=transactions,
        cart=None if rng.random() < 0.05 else _with_stamps(rng, items, moment),
        subscription_id=rng.choice((1, 2, 3, 4, 5, 6, 99)) if (state or "").startswith("subscription_") else None,
        gateway_transaction_ids=[f"t{number}-{each}" for each in range(rng.randrange(4))],
        created_at=stamp,
        updated_at=stamp,
    )
    if rng.random() < 0.05:
        order["test_mode"] = rng.choice((True, True, "true", 1))
    elif rng.random() < 0.2:
        order["test_mode"] = False
    return order


def _cart(rng: Random, decimals: int) -> tuple[list[Order], int]:
    """The lines of a cart, and the order's price in the smallest amounts of its currency."""
    kind = rng.choice(("unit", "unit", "line", "neither", "unpriced", "empty"))
    if kind == "empty":
        return [], rng.randrange(1, 9999)
    prices = [rng.randrange(0, 2999) for _ in range(rng.choice((1, 2, 3, 7)))]
    counts = [rng.choice((1, 1, 2, 3, None)) for _ in prices]
    items = [
        {
            "product_id": rng.choice((*range(1, 9), 77, None)),
            "quantity": count,
            "price_at_checkout": _written(price, decimals),
        }
        for price, count in zip(prices, counts, strict=True)
    ]
    if kind == "unpriced":
        items[0]["price_at_checkout"] = rng.choice((None, "free"))
    units = sum(price * (count or 1) for price, count in zip(prices, counts, strict=True))
    return items, {"unit": units, "line": sum(prices)}.get(kind, units + 7)


def _with_stamps(rng: Random, items: list[Order], moment: datetime) -> Order:
    completed = rng.random() < 0.8
    return {
        "state": rng.choice(("complete", "paid", None)),
        "started_checkout_at": timestamp(moment - timedelta(minutes=2)),
        "completed_checkout_at": timestamp(moment) if completed else None,
        "cart_items": [{"cart_item": item} if rng.random() < 0.9 else item for item in items],
    }


def _refunds(
    rng: Random, moments: tuple[datetime, datetime], gross: int, decimals: int, currency: str | None
) -> tuple[list[Order] | None, bool | None, int]:
    """The transactions as the API may show them, the flag, and what is left of the amount."""
    moment, now = moments
    if rng.random() >= 0.25 or not gross:
        return rng.choice(([], None)), rng.choice((False, None)), gross
    sizes = [gross] if rng.random() < 0.5 else [gross // 4, gross // 8]
    kept = gross - sum(sizes)
    if rng.random() < 0.3:
        return rng.choice(([], None)), True, kept
    shown = []
    for size in sizes:
        amount: Any = rng.choices(
            (_written(-size, decimals), _written(size, decimals), -size / 10**decimals, f"£{size}", None),
            (10, 1, 2, 1, 1),
        )[0]
        at = min(moment + timedelta(hours=rng.randrange(1, 1500)), now)
        transaction = {
            "amount": amount,
            "currency": rng.choice((currency, currency, None, "eur", "GBP")),
            "occurred_at": rng.choices((timestamp(at), None), (9, 1))[0],
            "reason": None,
        }
        shown.append({"refund_transaction": transaction} if rng.random() < 0.8 else transaction)
    return shown, rng.choice((True, True, None)), kept


def _written(amount: int, decimals: int) -> str:
    """An amount in its smallest units, as the API writes it."""
    return f"{amount / 10**decimals:.{decimals}f}"
