"""A shop that lives: orders, refunds, renewals, edits, imports and deletions, drawn hour by hour from a seed.

`SimulatedShop.live_until` lets the store's clock go on, and whatever is due by then happens. Behind `Api`, it lives on
while its lists are read, too: a second for each request.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random

from commerce_assets_tests.support.clock import TwoClocks
from commerce_assets_tests.support.faulty_store import CutOff, Exchange, Reset, Serve, Status
from sample_store.dialect import Dialect
from sample_store.orders import Catalog, Change, later_changes, place_order
from sample_store.shop import Shop
from sample_store.store import SampleStore
from sample_store.values import Item, timestamp

CATALOG = ("products", "packages", "subscriptions")
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
# When somebody sits in the office, and edits or deletes things by hand.
_OFFICE_HOURS = range(8, 18)
_SALE_SIZE = 120
_EDITS_AN_HOUR, _DELETIONS_AN_HOUR, _IMPORTS_AN_HOUR = 0.15, 0.04, 0.02
_SALES_AN_HOUR, _CATALOG_EDITS_AN_HOUR = 0.004, 0.06
# A part of what is stamped with an instant can be seen only later: a slow transaction, a queue.
_LATE_SHARE, _LATEST = 0.1, timedelta(minutes=50)

Event = Callable[[datetime], None]


@dataclass
class SimulatedShop:
    """A shop from the instant at which it opens, a full hour.

    Attributes:
        clocks: The store's is moved by `live_until`.
        dialect: How the store lists what it has.
        orders: What the store holds now, by id.
        changed: The ids of orders that came or changed since the set was last emptied.
        deleted: When an item of the catalogue was deleted; only those that have not come back.
        returned: Which items have come back, once at least.
        changes: How often an order has been changed or deleted.
    """

    clocks: TwoClocks
    orders_a_day: float
    seed: int
    dialect: Dialect = field(default_factory=Dialect)
    random: Random = field(init=False)
    store: SampleStore = field(init=False)
    orders: dict[int, Item] = field(init=False, default_factory=dict)
    changed: set[int] = field(init=False, default_factory=set)
    deleted: dict[tuple[str, int], datetime] = field(init=False, default_factory=dict)
    returned: set[tuple[str, int]] = field(init=False, default_factory=set)
    changes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self._catalog = Catalog()
        self._shop = Shop(self._catalog.products, self._catalog.packages, self._catalog.subscriptions)
        self.store = SampleStore(self._shop, dialect=self.dialect, now=lambda: self.clocks.store)
        self._opened = self._drawn_until = self.clocks.store
        self._numbers = count(1)
        self._queue: list[tuple[datetime, int, Event]] = []
        self._positions = count()
        self._bin: list[tuple[str, Item]] = []

    def live_until(self, instant: datetime) -> None:
        """Lets everything happen that is due up to an instant."""
        while self._drawn_until <= instant:
            self._draw_hour(self._drawn_until)
            self._drawn_until += _HOUR
        happened = False
        while self._queue and self._queue[0][0] <= instant:
            self.clocks.store, _, event = heappop(self._queue)
            event(self.clocks.store)
            happened = True
        self.clocks.store = instant
        if happened:
            self._shop.orders[:] = self.orders.values()
            self.store.touch()

    def _draw_hour(self, hour: datetime) -> None:
        for _ in range(self._how_many(self.orders_a_day / 24)):
            self._at(self._any_second(hour), self._place)
        if hour.hour == 0 and self.random.random() < 0.5:
            self._at(hour, self._place)
        if hour.hour == 23 and self.random.random() < 0.5:
            self._at(hour + timedelta(seconds=3599), self._place)
        drawn: list[tuple[float, Event]] = [(_IMPORTS_AN_HOUR, self._import), (_EDITS_AN_HOUR, self._edit_two_at_once)]
        if hour.hour in _OFFICE_HOURS:
            drawn += [
                (_DELETIONS_AN_HOUR, self._delete),
                (_SALES_AN_HOUR, self._tag_many),
                (_CATALOG_EDITS_AN_HOUR, self._edit_catalog),
                (_CATALOG_EDITS_AN_HOUR / 6, self._delete_from_catalog),
                (_CATALOG_EDITS_AN_HOUR / 6, self._bring_back),
            ]
        for rate, event in drawn:
            for _ in range(self._how_many(rate)):
                self._at(self._any_second(hour), event)

    def _how_many(self, expected: float) -> int:
        """A draw from about a Poisson distribution."""
        return sum(self.random.random() < expected / 20 for _ in range(20))

    def _any_second(self, hour: datetime) -> datetime:
        return hour + timedelta(seconds=self.random.randrange(3600))

    def _at(self, instant: datetime, event: Event) -> None:
        heappush(self._queue, (instant, next(self._positions), event))

    # What happens

    def _place(self, now: datetime) -> None:
        late = self.random.random() < _LATE_SHARE and now - _LATEST >= self._opened
        self._add_order(now, created_at=now - _LATEST * self.random.random() if late else now)

    def _import(self, now: datetime) -> None:
        """An order of long ago, which the store has only now."""
        age = (now - self._opened) * self.random.random()
        self._add_order(now, created_at=now - age, updated_at=timestamp(now))

    def _add_order(self, now: datetime, *, created_at: datetime, **fields: str) -> None:
        created_at = created_at.replace(microsecond=0)
        purchase = self._catalog.choose(self.random)
        order = place_order(self.random, order_id=next(self._numbers), placed_at=created_at, purchase=purchase)
        order.update(fields)
        self.orders[order["id"]] = order
        self.changed.add(order["id"])
        for change in later_changes(self.random, order, purchase=purchase, placed_at=now):
            late = _LATEST * self.random.random() if self.random.random() < _LATE_SHARE else timedelta()
            self._at(change.at + late, partial(self._make, change))

    def _make(self, change: Change, _: datetime) -> None:
        self._change(change.order_id, change.values)

    def _change(self, number: int, values: Item) -> None:
        if number in self.orders:  # it may have been deleted
            order = self.orders[number]
            # A change that is seen late may be older than one that was seen before it; a stamp never goes back.
            order.update(values | {"updated_at": max(order["updated_at"], values["updated_at"])})
            self.changed.add(number)
            self.changes += 1

    def _edit_two_at_once(self, now: datetime) -> None:
        stamp = timestamp(now)
        for number in self._some_orders(2):
            self._change(number, {"tag": f"edited {stamp}", "updated_at": stamp})

    def _tag_many(self, now: datetime) -> None:
        """More changes than a page holds, with one stamp."""
        for number in self._some_orders(_SALE_SIZE):
            self._change(number, {"tag": f"sale of {now.date()}", "updated_at": timestamp(now)})

    def _delete(self, _: datetime) -> None:
        for number in self._some_orders(1):
            del self.orders[number]
            self.changed.discard(number)
            self.changes += 1

    def _some_orders(self, number: int) -> list[int]:
        """Of any age, or of the last few; as many as there are."""
        known = list(self.orders)
        if self.random.random() < 0.5:
            known = known[-max(number, 60) :]
        return self.random.sample(known, min(number, len(known)))

    def _edit_catalog(self, now: datetime) -> None:
        item = self.random.choice(self._shop.rows(self.random.choice(CATALOG)))
        item.update(custom_field=f"as of {now.date()}", updated_at=timestamp(now))

    def _delete_from_catalog(self, now: datetime) -> None:
        kind = self.random.choice(CATALOG)
        items = self._shop.rows(kind)
        if len(items) > 3:
            item = items.pop(self.random.randrange(len(items)))
            self._bin.append((kind, item))
            self.deleted[kind, item["id"]] = now

    def _bring_back(self, _: datetime) -> None:
        """As it was, its `updated_at` included."""
        if self._bin:
            kind, item = self._bin.pop(0)
            self._shop.rows(kind).append(item)
            del self.deleted[kind, item["id"]]
            self.returned.add((kind, item["id"]))


@dataclass
class Api:
    """The fault that is the shop's API: it can be down, stumbles now and then, and sends the store's time.

    Attributes:
        is_down: Every answer is a 503.
        answers_left: The number of answers after which it goes down.
        stumbles: The share of requests that fail, and would not if they were made again.
        is_alive: Whether a second passes in the shop with each request.
    """

    shop: SimulatedShop
    stumbles: float = 0.01
    is_down: bool = False
    answers_left: int | None = None
    is_alive: bool = True

    def __call__(self, exchange: Exchange) -> None:
        clocks = self.shop.clocks
        if self.is_alive:
            self.shop.live_until(clocks.store + timedelta(seconds=1))
        if self.answers_left is not None:
            self.answers_left -= 1
            self.is_down = self.is_down or self.answers_left < 0
        date = {"date": format_datetime(clocks.store, usegmt=True)}
        if self.is_down:
            Status(503, headers=date)(exchange)
        elif self.shop.random.random() < self.stumbles:
            self.shop.random.choice((Status(502, headers=date), Reset(), CutOff()))(exchange)
        else:
            Serve(headers=date)(exchange)
