"""Build a realistic small shop of digital goods, identical in every build."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random

from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from sample_store.orders import Catalog, Change, later_changes, place_order
from sample_store.rows import build_rows
from sample_store.values import Item

MAX_ORDERS_PER_DAY = 2_000

_IDS_A_DAY = 10_000
_FIRST_DAY = date(2000, 1, 1)
_GROWTH_A_YEAR = 1.25
_FULL_RATE_DAY = date(2026, 1, 1)
_WEEKDAYS = (1.15, 1.05, 1.0, 0.95, 0.9, 0.85, 1.1)
_DAY = timedelta(days=1)
_SECONDS_A_DAY = 86_400
_BUSIEST_SECOND = 19 * 3_600


@dataclass
class Shop:
    """The rows of a store without their wrappers, orders oldest first, and the future changes of orders."""

    products: list[Item] = field(default_factory=list)
    packages: list[Item] = field(default_factory=list)
    subscriptions: list[Item] = field(default_factory=list)
    orders: list[Item] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    others: dict[str, list[Item]] = field(default_factory=dict)
    """The rows of any other endpoint, by its name."""

    def rows(self, endpoint_name: str) -> list[Item]:
        """Return the list of an endpoint, oldest first; empty for an unknown one."""
        own = {
            "products": self.products,
            "packages": self.packages,
            "subscriptions": self.subscriptions,
            "orders": self.orders,
        }
        return own[endpoint_name] if endpoint_name in own else self.others.setdefault(endpoint_name, [])


def build_shop(
    *,
    now: datetime,
    days: int = 400,
    orders_per_day: float = 8,
    seed: int = 7,
    ahead: timedelta = timedelta(),
    endpoints: Sequence[Endpoint] = ENDPOINTS,
) -> Shop:
    """Build a shop as of `now` (aware), with the orders of today and of the `days` UTC days before.

    The orders of a day and their ids depend only on the day, the seed and the rate, so a shop built tomorrow has the
    same orders and one day more. `orders_per_day` is the average at the start of 2026; it grows by a quarter per year.

    With `ahead`, the shop also has the orders and changes up to that long after `now`: the orders at the end of
    `orders`, the changes in `changes`. A store reveals them at their time.

    An endpoint of the table that is not one of the four has rows that follow from its columns.
    """
    if not 0 <= orders_per_day <= MAX_ORDERS_PER_DAY:
        raise ValueError(f"orders_per_day must be from 0 to {MAX_ORDERS_PER_DAY}, not {orders_per_day}")
    now = now.astimezone(UTC)
    horizon = now + ahead
    catalog = Catalog()
    shop = Shop(catalog.products, catalog.packages, catalog.subscriptions)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0) - days * _DAY
    while day <= horizon:
        rng = Random(seed * 1_000_003 + day.toordinal())
        count = _count_of(rng, day.date(), orders_per_day)
        first_id = (day.date() - _FIRST_DAY).days * _IDS_A_DAY + 1
        for placed_at, order, changes in _day_of_orders(rng, catalog, day, count, first_id):
            if placed_at > horizon:
                break
            shop.orders.append(_as_of(now, order, changes))
            shop.changes += [change for change in changes if now < change.at <= horizon]
        day += _DAY
    shop.changes.sort(key=lambda change: change.at)
    for endpoint in endpoints:
        if endpoint.name not in {"products", "packages", "subscriptions", "orders"}:
            shop.others[endpoint.name] = build_rows(endpoint, now=now)
    return shop


def build_orders(*, start: datetime, days: int, per_day: int, seed: int = 7, first_id: int = 1) -> list[Item]:
    """Build exactly `days * per_day` orders, oldest first, with consecutive ids, as of `days` after `start` (aware)."""
    catalog = Catalog()
    rng = Random(seed)
    start = start.astimezone(UTC)
    return [
        _as_of(start + days * _DAY, order, changes)
        for day in range(days)
        for _, order, changes in _day_of_orders(rng, catalog, start + day * _DAY, per_day, first_id + day * per_day)
    ]


def _count_of(rng: Random, day: date, orders_per_day: float) -> int:
    growth = _GROWTH_A_YEAR ** ((day - _FULL_RATE_DAY).days / 365)
    expected = orders_per_day * growth * _WEEKDAYS[day.weekday()]
    return min(max(0, round(rng.gauss(expected, expected**0.5))), _IDS_A_DAY - 1)


def _day_of_orders(
    rng: Random, catalog: Catalog, day: datetime, count: int, first_id: int
) -> Iterator[tuple[datetime, Item, list[Change]]]:
    """Yield each order's time, the order as placed, and its changes; most are placed in the evening."""
    seconds = sorted(int(rng.triangular(0, _SECONDS_A_DAY - 1, _BUSIEST_SECOND)) for _ in range(count))
    for order_id, second in enumerate(seconds, start=first_id):
        placed_at = day + timedelta(seconds=second)
        purchase = catalog.choose(rng)
        order = place_order(rng, order_id=order_id, placed_at=placed_at, purchase=purchase)
        yield placed_at, order, later_changes(rng, order, purchase=purchase, placed_at=placed_at)


def _as_of(moment: datetime, order: Item, changes: list[Change]) -> Item:
    for change in changes:
        if change.at <= moment:
            order.update(change.values)
    return order
