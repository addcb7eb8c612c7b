"""What happens to an order after it was placed: refunds, chargebacks, renewals, dispatch, and edits by hand.

All of it moves `updated_at` and leaves `created_at` alone, which is why a pull by creation date never sees it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from sample_store.orders import transaction_id
from sample_store.purchases import Purchase
from sample_store.values import Item, amount, cents, timestamp

_REFUND_SHARE = 0.03
_PARTIAL_SHARE = 0.3
_CHARGEBACK_SHARE = 0.004
_EDIT_SHARE = 0.01
_CANCEL_SHARE = 0.08
"""The share of an ongoing plan's subscribers who leave instead of renewing."""

_INTERVALS = {"week": timedelta(days=7), "month": timedelta(days=30), "year": timedelta(days=365)}
_REASONS = ("Bought twice", "Not as expected", None)


@dataclass(frozen=True)
class Change:
    """From `at` on, the order's fields have these values."""

    at: datetime
    order_id: int
    values: Item


def later_changes(rng: Random, order: Item, *, purchase: Purchase, placed_at: datetime) -> list[Change]:
    """Draw the rest of an order's life, earliest change first, however far in the future it lies.

    A subscription's ends when the plan does or the buyer cancels. Each change holds whole new values, so that changes
    can be applied one after the other without reading the order.
    """
    if order["state"] == "subscription_active" and purchase.plan:
        steps = _subscription(rng, order, purchase.plan, placed_at)
    elif order["state"] == "complete":
        steps = _sale(rng, order, placed_at, ships=purchase.ships)
    else:
        return []
    return [Change(at, order["id"], values | {"updated_at": timestamp(at)}) for at, values in steps]


def _sale(rng: Random, order: Item, at: datetime, *, ships: bool) -> Iterator[tuple[datetime, Item]]:
    if ships:
        at += timedelta(hours=rng.randrange(20, 90))
        yield at, {"dispatched_at": timestamp(at)}
    fate = rng.random()
    if fate < _REFUND_SHARE:
        at += timedelta(minutes=rng.randrange(24 * 60, 60 * 24 * 60))
        yield at, _refund(rng, order, at)
    elif fate < _REFUND_SHARE + _CHARGEBACK_SHARE:
        at += timedelta(days=rng.randrange(10, 40))
        yield at, {"state": "in_dispute"}
        at += timedelta(days=rng.randrange(5, 30))
        settled = {"settled_gross": "0.00", "settled_tax": "0.00", "accounted_tax": "0.00"}
        yield at, {"state": "chargeback", "access_allowed": False, **settled}
    elif fate < _REFUND_SHARE + _CHARGEBACK_SHARE + _EDIT_SHARE:
        at += timedelta(minutes=rng.randrange(60, 90 * 24 * 60))
        yield at, {"tag": "support", "buyer_email": f"moved.{order['buyer_email']}"}


def _refund(rng: Random, order: Item, at: datetime) -> Item:
    gross, tax = cents(order["settled_gross"]), cents(order["settled_tax"])
    partial = rng.random() < _PARTIAL_SHARE
    kept = gross // 2 if partial else 0
    transaction = {
        "amount": amount(gross - kept),
        "currency": order["settled_currency"],
        "occurred_at": timestamp(at),
        "reason": rng.choice(_REASONS),
    }
    return {
        "refunded": True,
        "settled_gross": amount(kept),
        "settled_tax": amount(tax * kept // gross),
        "accounted_tax": amount(tax * kept // gross),
        "refund_transactions": [{"refund_transaction": transaction}],
        "access_allowed": partial,
    }


def _subscription(rng: Random, order: Item, plan: Item, at: datetime) -> Iterator[tuple[datetime, Item]]:
    gross, tax, fee = (cents(order[field]) for field in ("settled_gross", "settled_tax", "settled_gateway_fee"))
    net_renewal = cents(plan["recurring_price"])
    tax_renewal = net_renewal * tax // (gross - tax)
    transactions = order["gateway_transaction_ids"]
    while plan["no_of_occurrences"] or rng.random() >= _CANCEL_SHARE:
        at += _INTERVALS[plan["frequency_interval"]]
        gross, tax, fee = gross + net_renewal + tax_renewal, tax + tax_renewal, fee + net_renewal * 29 // 1000 + 30
        transactions = [*transactions, transaction_id(rng, order["gateway"])]
        last = len(transactions) == plan["no_of_occurrences"]
        yield (
            at,
            {
                "state": "subscription_complete" if last else "subscription_active",
                "settled_gross": amount(gross),
                "settled_tax": amount(tax),
                "accounted_tax": amount(tax),
                "settled_gateway_fee": amount(fee),
                "gateway_transaction_ids": transactions,
            },
        )
        if last:
            return
    at += _INTERVALS[plan["frequency_interval"]] / 2
    yield at, {"state": "subscription_cancelled", "access_allowed": False}
