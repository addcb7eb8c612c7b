"""Reconciliation: compare the number of rows per day in the store and in the warehouse.

The offsets of two midnights in the store's list give the number of rows between them. The warehouse's own counts
predict the offset, so a day, or a decade, without a difference costs a request or two. Between two midnights with equal
counts, a surplus row can hide a missing one. So half of the budget is spent on a grid: every day if the budget covers
it, else every week, else every month. Each interval that differs is halved until its days are known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any

from commerce_assets.api.offset_search import BudgetSpentError, OffsetSearch
from commerce_assets.window import Window

# One request finds an instant, two where it is between two pages.
_REQUESTS_FOR_AN_INSTANT = 2
_DAYS_OF_A_WEEK = 7


@dataclass(frozen=True, slots=True)
class Difference:
    """Days with another number of rows in the warehouse than in the store."""

    window: Window
    in_store: int
    stored: int

    def __str__(self) -> str:
        return f"{self.window}: {self.in_store:,} in the store, {self.stored:,} here"


@dataclass(frozen=True, slots=True)
class ReconciliationReport:
    """The result of a comparison.

    Attributes:
        window: The compared days.
        in_store: The number of rows in the store.
        stored: The number of rows in the warehouse.
        differences: The days that differ, oldest first; longer intervals where the budget ran out.
        requests: The number of requests.
        within_budget: Whether every difference was narrowed down to days.
    """

    window: Window
    in_store: int
    stored: int
    differences: tuple[Difference, ...]
    requests: int
    within_budget: bool

    @property
    def is_complete(self) -> bool:
        return not self.differences

    def as_json(self) -> dict[str, Any]:
        """Return the report as the note in the warehouse."""
        return {
            **{name: value for name, value in asdict(self).items() if isinstance(value, int)},
            "first_day": self.window.first_day.isoformat(),
            "last_day": self.window.last_day.isoformat(),
            "differences": [str(difference) for difference in self.differences],
        }


def reconcile(positions: OffsetSearch, stored_by_day: Mapping[date, int], window: Window) -> ReconciliationReport:
    """Compare the number of rows of each day of a window.

    Args:
        positions: Offsets in the store's list, which covers the window.
        stored_by_day: The number of stored rows per UTC day.
        window: The days to compare.

    Raises:
        BudgetSpentError: The budget does not cover the two ends of the window.
        NotInOrderError: The store's list is not oldest first.
        PullError: A request failed.
    """
    return _Search(positions, stored_by_day, window).run()


class _Search:
    def __init__(self, positions: OffsetSearch, stored_by_day: Mapping[date, int], window: Window) -> None:
        self._positions = positions
        self._window = window
        days = (window.end - window.start).days
        self._midnights = [window.start + timedelta(days=n) for n in range(days + 1)]
        counts = (stored_by_day.get(midnight.date(), 0) for midnight in self._midnights[:-1])
        # The rows before each midnight: those in the warehouse and, where it is known, those in the store.
        self._stored = [0, *accumulate(counts)]
        self._in_store: dict[int, int] = {}
        self._first_position = positions.before(window.start)

    def run(self) -> ReconciliationReport:
        within_budget = True
        last = len(self._midnights) - 1
        self._look_at(0)
        self._look_at(last)
        try:
            for n in self._grid():
                self._look_at(n)
            # The newest first: if the budget does not last, these matter more.
            for low, high in reversed([*pairwise(sorted(self._in_store))]):
                self._narrow(low, high)
        except BudgetSpentError:
            within_budget = False
        differences = [
            Difference(
                window=Window(self._midnights[low], self._midnights[high]),
                in_store=self._in_store[high] - self._in_store[low],
                stored=self._stored[high] - self._stored[low],
            )
            for low, high in pairwise(sorted(self._in_store))
            if self._surplus(low) != self._surplus(high)
        ]
        return ReconciliationReport(
            window=self._window,
            in_store=self._in_store[last],
            stored=self._stored[last],
            differences=tuple(differences),
            requests=self._positions.requests,
            within_budget=within_budget,
        )

    def _grid(self) -> Sequence[int]:
        """Return the midnights to look at in any case: as many as half of the budget covers."""
        every = range(len(self._midnights))
        months = [n for n in every if self._midnights[n].day == 1]
        affordable = self._positions.left // 2 // _REQUESTS_FOR_AN_INSTANT
        return next((grid for grid in (every, every[::_DAYS_OF_A_WEEK], months) if len(grid) <= affordable), [])

    def _look_at(self, n: int) -> None:
        if n not in self._in_store:
            nearest = max((known for known in self._in_store if known < n), default=None)
            expected = self._stored[n] + (self._surplus(nearest) if nearest is not None else 0)
            position = self._positions.before(self._midnights[n], about=self._first_position + expected)
            self._in_store[n] = position - self._first_position

    def _surplus(self, n: int) -> int:
        """Return the number of rows before a midnight that the store has and the warehouse lacks."""
        return self._in_store[n] - self._stored[n]

    def _narrow(self, low: int, high: int) -> None:
        if high - low > 1 and self._surplus(low) != self._surplus(high):
            middle = (low + high) // 2
            self._look_at(middle)
            self._narrow(middle, high)
            self._narrow(low, middle)


def days_to_compare(first: date, now: datetime) -> Window | None:
    """Return the window from a first day to yesterday; None if it is empty."""
    yesterday = now.astimezone(UTC).date() - timedelta(days=1)
    return Window.of_days(first, yesterday) if first <= yesterday else None
