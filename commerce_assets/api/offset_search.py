"""How many rows of a list were created before an instant: found by asking for single pages.

The API gives no totals. But a list that is oldest first can be searched like a dictionary: the page that holds the
instant tells how many rows come before it, and whoever knows about where that is finds it with a request or two.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from commerce_assets.api.decoding import Page
from commerce_assets.api.errors import ApiError


class BudgetSpentError(Exception):
    """As many requests as were allowed have been made."""


class NotInOrderError(ApiError):
    """The list is not oldest first, so that nothing can be found in it without reading all of it."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a page has told: the creation of its rows, in order, and whether it is full."""

    created: tuple[datetime, ...]
    is_full: bool


class OffsetSearch:
    """Looks up positions in one list, which is taken to stand still meanwhile.

    Args:
        fetch: Asks for the page of a number.
        per_page: Rows on a full page.
        budget: How many requests may be made in all.
    """

    def __init__(self, fetch: Callable[[int], Page], *, per_page: int, budget: int) -> None:
        self._fetch = fetch
        self._per_page = per_page
        self._budget = budget
        self._seen: dict[int, _Seen] = {}
        self.requests = 0

    @property
    def left(self) -> int:
        """How many requests may still be made."""
        return self._budget - self.requests

    def before(self, instant: datetime, *, about: int = 0) -> int:
        """How many rows were created before the instant; `about` is where that is supposed to be.

        Raises:
            BudgetSpentError: It would take more requests than are left.
            NotInOrderError: Some row is older than one before it.
            PullError: A page could not be had.
        """
        # Pages up to `low` end before the instant, those from `high` on begin at or after it, or do not exist.
        low, high = self._bounds(instant)
        page, step = max(about // self._per_page + 1, low + 1), 1
        if high is not None:
            page = min(page, high - 1)
        while high is None or high - low > 1:
            seen = self._page(page)
            if not seen.created or seen.created[0] >= instant:
                high = page
            elif seen.created[-1] < instant and seen.is_full:
                low = page
            else:
                return (page - 1) * self._per_page + bisect_left(seen.created, instant)
            # Near the guess first, then in leaps, and between two bounds by halves.
            if high is None:
                page, step = low + step, step * 2
            elif high - low > step * 2:
                page, step = high - step, step * 2
            else:
                page = (low + high) // 2
        return low * self._per_page

    def _bounds(self, instant: datetime) -> tuple[int, int | None]:
        low, high = 0, None
        for number, seen in self._seen.items():
            if not seen.created or seen.created[0] >= instant:
                high = min(high or number, number)
            elif seen.created[-1] < instant and seen.is_full:
                low = max(low, number)
        return low, high

    def _page(self, number: int) -> _Seen:
        if number not in self._seen:
            if self.left <= 0:
                raise BudgetSpentError(
                    f"{self._budget} requests do not suffice to compare the store with the warehouse. "
                    "What to do: raise COMMERCE_RECONCILE_REQUESTS."
                )
            self.requests += 1
            items = self._fetch(number).items
            seen = _Seen(tuple(item.cursor for item in items if item.cursor), len(items) >= self._per_page)
            self._check_order(number, seen)
            self._seen[number] = seen
        return self._seen[number]

    def _check_order(self, number: int, seen: _Seen) -> None:
        """Every page that has been seen must fit between those around it."""
        earlier = max((n for n in self._seen if n < number and self._seen[n].created), default=None)
        later = min((n for n in self._seen if n > number and self._seen[n].created), default=None)
        around = [
            *(self._seen[earlier].created[-1:] if earlier else ()),
            *seen.created,
            *(self._seen[later].created[:1] if later else ()),
        ]
        if around != sorted(around):
            raise NotInOrderError(
                f"page {number} is not in the order of creation, in which the store is supposed to list",
                hint="Rows cannot be counted then: pull the days again of which you are not sure.",
            )
