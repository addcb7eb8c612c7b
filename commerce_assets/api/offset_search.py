"""Binary search for an offset in a paginated list: how many of its rows were created before an instant.

The API gives no totals. But a list that is oldest first can be searched like a dictionary: the page that holds the
instant shows how many rows come before it, and with a good guess that takes a request or two. The first page shows how
many rows the server puts on a page, whatever is asked for; if it is short, the second page has to agree.
"""

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime

from commerce_assets.api.decoding import Page
from commerce_assets.api.errors import ApiError, PullError
from commerce_assets.api.pagination import PAST_THE_END


class BudgetSpentError(Exception):
    """As many requests as were allowed have been made."""


class NotInOrderError(ApiError):
    """The list is not oldest first, so that nothing can be found in it without reading all of it."""


class OffsetSearch:
    """Looks up positions in one list, which is supposed to stand still meanwhile.

    Args:
        fetch: Asks for the page of a number.
        per_page: Rows to ask for in a page; the server may give fewer.
        budget: How many requests may be made in all.
    """

    def __init__(self, fetch: Callable[[int], Page], *, per_page: int, budget: int) -> None:
        self._fetch = fetch
        self._per_page = per_page
        self._size: int | None = None
        self._budget = budget
        self._seen: dict[int, tuple[datetime, ...]] = {}
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
        size = self._learnt_size()
        # Pages up to `low` end before the instant, those from `high` on begin at or after it, or do not exist.
        low, high = self._bounds(instant)
        page, step = max(about // size + 1, low + 1), 1
        if high is not None:
            page = min(page, high - 1)
        while high is None or high - low > 1:
            created = self._page(page)
            if not created or created[0] >= instant:
                high = page
            elif created[-1] < instant:
                low = page
            else:
                return (page - 1) * size + bisect_left(created, instant)
            # Near the guess first, then in leaps, and between two bounds by halves.
            if high is None:
                page, step = low + step, step * 2
            elif high - low > step * 2:
                page, step = high - step, step * 2
            else:
                page = (low + high) // 2
        # Only the last page of a list says by its length where the list ends; any other may have hidden rows.
        is_last = low and not self._page(low + 1)
        return (low - 1) * size + len(self._page(low)) if is_last else low * size

    def _learnt_size(self) -> int:
        """How many rows the server puts on a full page."""
        if self._size is None:
            first = len(self._page(1))
            self._size = first if first >= self._per_page else max(first, len(self._page(2)), 1)
        return self._size

    def _bounds(self, instant: datetime) -> tuple[int, int | None]:
        low, high = 0, None
        for number, created in self._seen.items():
            if not created or created[0] >= instant:
                high = min(high or number, number)
            elif created[-1] < instant:
                low = max(low, number)
        return low, high

    def _page(self, number: int) -> tuple[datetime, ...]:
        """When the rows of a page were created; empty for one past the end."""
        if number not in self._seen:
            if self.left <= 0:
                raise BudgetSpentError(
                    f"{self._budget} requests do not suffice to compare the store with the warehouse. "
                    "Fix: raise COMMERCE_RECONCILE_REQUESTS."
                )
            self.requests += 1
            try:
                items = self._fetch(number).items
            except PullError as error:
                if number == 1 or error.error.status not in PAST_THE_END:
                    raise
                items = ()
            created = tuple(item.cursor for item in items if item.cursor)
            self._check_order(number, created)
            self._seen[number] = created
        return self._seen[number]

    def _check_order(self, number: int, created: tuple[datetime, ...]) -> None:
        """Every page that has been seen must fit between those around it."""
        earlier = max((n for n in self._seen if n < number and self._seen[n]), default=None)
        later = min((n for n in self._seen if n > number and self._seen[n]), default=None)
        around = [
            *(self._seen[earlier][-1:] if earlier else ()),
            *created,
            *(self._seen[later][:1] if later else ()),
        ]
        if around != sorted(around):
            raise NotInOrderError(
                f"page {number} is not in the order of creation, in which the store is supposed to list",
                hint="Rows cannot be counted then: pull the days again of which you are not sure.",
            )
