"""Finds orders by their dates without looking at each."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from sample_store.query import OrderFilter
from sample_store.values import Item, epoch

_REMEMBERED = 100


class OrderIndex:
    """A snapshot of a list of orders, oldest first; made anew when an order changes.

    Orders of the same second stay in the list's order. One without a readable `created_at` comes before all others.
    """

    def __init__(self, orders: Iterable[Item], packages: Sequence[Item]) -> None:
        dated = sorted(((epoch(order.get("created_at")), order) for order in orders), key=lambda pair: pair[0])
        self.rows = [order for _, order in dated]
        self._created = [created for created, _ in dated]
        updated = sorted((epoch(order.get("updated_at")), position) for position, order in enumerate(self.rows))
        self._updated = [moment for moment, _ in updated]
        self._by_update = [position for _, position in updated]
        self._packages = packages
        self._selections: dict[tuple[OrderFilter, int], Sequence[int]] = {}

    def select(self, wanted: OrderFilter, *, now: float) -> Sequence[int]:
        """OffsetSearch in `rows` of the wanted orders created up to `now`, in the wanted order.

        Page after page of the same question is answered from one selection.
        """
        key = (wanted, bisect_right(self._created, now))
        if key not in self._selections:
            if len(self._selections) == _REMEMBERED:
                self._selections.clear()
            self._selections[key] = self._select(*key)
        return self._selections[key]

    def _select(self, wanted: OrderFilter, visible: int) -> Sequence[int]:
        first, end = 0, visible
        if wanted.created_from is not None:
            first = bisect_left(self._created, wanted.created_from)
        if wanted.created_before is not None:
            end = min(end, bisect_left(self._created, wanted.created_before))
        positions: Sequence[int] = range(first, end)
        if wanted.updated_from is not None:
            recent = self._by_update[bisect_left(self._updated, wanted.updated_from) :]
            positions = sorted(position for position in recent if first <= position < end)
        if wanted.state is not None:
            positions = [position for position in positions if _has_state(self.rows[position], wanted)]
        if wanted.orderable is not None:
            positions = [position for position in positions if self._is_for(self.rows[position], *wanted.orderable)]
        return positions[::-1] if wanted.newest_first else positions

    def _is_for(self, order: Item, kind: str, number: int) -> bool:
        """Whether the order holds the product, all that is in the package, or the subscription."""
        if kind == "Subscription":
            return bool(order.get("subscription_id") == number)
        items = (order.get("cart") or {}).get("cart_items", [])
        bought = {item["cart_item"]["product_id"] for item in items}
        if kind == "Product":
            return number in bought
        return any(
            bought.issuperset(item["components"]["product_ids"]) for item in self._packages if item["id"] == number
        )


def _has_state(order: Item, wanted: OrderFilter) -> bool:
    return state_of(order, refund_is_state=wanted.refund_is_state) == wanted.state


def state_of(order: Item, *, refund_is_state: bool) -> object:
    """The order's state as v1 (`refund_is_state`) or as a later version of the API tells it."""
    return "refunded" if refund_is_state and order.get("refunded") else order.get("state")
