"""How much of a pull is left: told by the creation times that have come by, and not told where they say nothing."""

from datetime import UTC, datetime, timedelta

from commerce_assets.api.decoding import PageFacts
from commerce_assets.window import Window

# Before this much has been seen, a guess would jump about.
_FEWEST_PAGES = 3


class Estimate:
    """Follows the pages of a window, oldest first, from the first order's day towards the window's end.

    It takes as many orders a day for what is left as there were so far, which is all that can be known: a store that
    grows takes longer than it says. A list that is not oldest first, or has no creation times, has no estimate.
    """

    def __init__(self, window: Window | None, *, now: datetime | None = None) -> None:
        """For a pull that begins at `now`, by this machine's clock; of a whole list if there is no window."""
        self._end = min(window.end, now or datetime.now(UTC)) if window else None
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._done_before = 0.0
        self._pages = 0
        self._is_ordered = True

    def see(self, page: PageFacts, *, staged_before: bool = False) -> None:
        """Takes account of a page; one that an earlier run has staged took no time of this one."""
        if page.first is None or page.last is None:
            return
        if not page.ascending or (self._last and page.first < self._last):
            self._is_ordered = False
        self._first = self._first or page.first
        self._last = page.last
        if staged_before:
            self._done_before = self.fraction or 0.0
        else:
            self._pages += 1

    @property
    def fraction(self) -> float | None:
        """From 0 to 1, how much of the time between the first order and the window's end has come by."""
        if self._end is None or self._first is None or self._last is None or not self._is_ordered:
            return None
        whole = self._end - self._first
        if whole <= timedelta(0):
            return 1.0
        return min((self._last - self._first) / whole, 1.0)

    def seconds_left(self, elapsed: float) -> float | None:
        """How long the rest takes if it goes on as in the `elapsed` seconds so far; None if nothing tells."""
        fraction = self.fraction
        if fraction is None or self._pages < _FEWEST_PAGES or fraction <= self._done_before:
            return None
        return elapsed * (1 - fraction) / (fraction - self._done_before)


def in_words(seconds: float | None) -> str:
    """An estimate as rough as it is: "about 3 min left"."""
    if seconds is None:
        return ""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit} left"
    return f"about {max(round(seconds), 1)} s left"
