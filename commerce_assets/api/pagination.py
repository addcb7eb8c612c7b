"""Page after page of a list that may move meanwhile: where it ends, and what must not be believed.

Pages are counted by position, and the store's list is not frozen while it is read. What can happen between two pages:

- A row arrives at the end, as orders do, oldest first: it is read, or belongs to the next pull.
- A row arrives before what is being read: all that follows moves one place down, and a row comes twice. The load keeps
  the newer version.
- A row changes: it stays in its place, or moves to the end, where it is read again. So a row that is met again shows
  where the list goes on only in the version in which it was read before.
- A row vanishes, or moves to the end: all that follows moves one place up, and the first row of the next page slips
  onto a page that has been read already. It would be missing, and nothing in a list of pages of one size tells.

Hence pages that overlap: 50 a page, page 1; then 49 a page, page 2, which begins with the last row of the one before;
48 a page, page 3, and so on, with whatever size begins just before the end of what has been read. A page that holds
none of the rows read before shows that the list has moved up, and the paginator steps back until it finds one. Since
rows keep their order, everything before a row that has been read has been read too: no row that exists throughout a
pull is missing after it.

That costs nothing up to 98 rows, and about a fifth more requests for long lists. Lists read whole and changes are read
so. The orders of a window are not, unless it is asked for: the API documents no way to delete an order, and a backfill
takes days as it is.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from commerce_assets.api.decoding import Page, PageFacts
from commerce_assets.api.errors import ApiError
from commerce_assets.window import Window

# What the API gives where `per_page` is not heeded. A first page of just this size may be a clamped one.
DEFAULT_PER_PAGE = 10
# Ten million orders; a list that is longer than this does not end.
MAX_PAGES = 200_000
# Below this size, no page begins just before the end of what has been read often enough.
_LEAST_OVERLAPPING = 20
# Rows of so many pages are remembered. A list that loses more between two requests is read again from its start.
_REMEMBERED_PAGES = 64
_MOST_RESTARTS = 3
_NOT_HEEDED = "Look at the endpoint's path, and at what lies between here and the store."


class PageRequest(NamedTuple):
    """Which page to ask for: its number, from 1, where each page has so many rows."""

    number: int
    per_page: int

    @property
    def start(self) -> int:
        """The position of its first row, from 0."""
        return (self.number - 1) * self.per_page

    @property
    def end(self) -> int:
        """The position after its last row."""
        return self.number * self.per_page


Fetch = Callable[[PageRequest], Page]
# A row's key, and when it was last changed.
_Version = tuple[int, datetime | None]


class Enough(Protocol):
    """Whether the list need not be read further, told page by page."""

    def __call__(self, page: PageFacts) -> bool: ...


def never_enough(page: PageFacts) -> bool:  # noqa: ARG001 - an Enough
    """Reads a list to its end."""
    return False


def overlapping(end: int, *, per_page: int) -> PageRequest:
    """The page of at most `per_page` rows that begins before position `end` and reaches furthest."""
    sizes = range(per_page // 2, per_page + 1)
    return max((PageRequest((end - 1) // size + 1, size) for size in sizes), key=lambda request: request.end)


class PageNumberPaginator:
    """Asks for page after page until a short or empty one: the API has no other end mark.

    A page that holds the very items of an earlier one is an error, for the list would never end. A first page that
    is short may be the whole list, or all that is given by a server which does not heed `per_page`: where it holds
    just the API's default number of items, that is taken for the size of a page, and the next one is asked for too.

    Args:
        per_page: Rows to ask for in a page.
        enough: Ends the pull before the list does.
        log: Told when the store does not do as it is asked, and when the list moves.
        overlap: Whether each page repeats the end of the one before it; see the module's text.
        max_pages: Where a list that does not end is given up.
    """

    def __init__(
        self,
        *,
        per_page: int,
        enough: Enough,
        log: logging.Logger,
        overlap: bool = False,
        max_pages: int = MAX_PAGES,
    ) -> None:
        self._per_page = per_page
        self._page_size = per_page
        self._enough = enough
        self._log = log
        self._overlaps = overlap and per_page >= _LEAST_OVERLAPPING
        self._max_pages = max_pages
        self._number_by_digest: dict[str, int] = {}
        self._known: deque[frozenset[_Version]] = deque(maxlen=_REMEMBERED_PAGES)
        self._overlap = 1
        self._furthest = 0
        self._steps_back = 0
        self._restarts = 0

    def pages(
        self, fetch: Fetch, *, after: Sequence[PageFacts] = (), last: Page | None = None
    ) -> Iterator[tuple[Page, PageFacts, bool]]:
        """Fetches the pages that follow `after`, those of an earlier pull that was cut short, `last` of which is given.

        Yields each page with its facts, and whether the list ends with it.

        Raises:
            ApiError: The list does not move on, does not end, or moves faster than it can be read.
        """
        request = PageRequest(1, self._per_page)
        for facts in after:
            if self._is_last(facts):
                return
            request = self.following(PageRequest(facts.number, facts.per_page))
        if last:
            self._remember(PageRequest(after[-1].number, after[-1].per_page), last)
        for _ in range(len(after), self._max_pages):
            page = fetch(request)
            facts = page.facts(per_page=request.per_page, known=self._latest)
            if self._overlaps and not self._joins(request, page):
                request = self._step_back(request)
                continue
            is_last = self._is_last(facts)
            self._remember(request, page)
            yield page, facts, is_last
            if is_last:
                return
            request = self.following(request)
        raise ApiError(f"the list goes on after {self._max_pages:,} pages", hint="Look at the endpoint's path.")

    def following(self, request: PageRequest) -> PageRequest:
        """The page to ask for after this one, as long as the list stays as it is."""
        if self._overlaps:
            return overlapping(request.end - self._overlap + 1, per_page=self._per_page)
        return PageRequest(request.number + 1, request.per_page)

    @property
    def overlaps(self) -> bool:
        """Whether each page repeats the end of the one before it, as far as is known by now."""
        return self._overlaps

    @property
    def _latest(self) -> Collection[int]:
        return {key for key, _ in self._known[-1]} if self._known else ()

    def _remember(self, request: PageRequest, page: Page) -> None:
        self._known.append(frozenset((item.id, item.updated_at) for item in page.items))
        if request.end > self._furthest:
            self._furthest = request.end
            self._steps_back = 0

    def _joins(self, request: PageRequest, page: Page) -> bool:
        """Whether nothing can lie between what has been read and this page."""
        if request.start == 0:
            return True
        known = [any((item.id, item.updated_at) in rows for rows in reversed(self._known)) for item in page.items]
        if request.end > self._furthest and all(known) and len(known) >= request.per_page:
            raise ApiError(
                f"page {request.number} holds only items of the pages before it: the store does not heed `page`",
                hint=_NOT_HEEDED,
            )
        return any(known)

    def _step_back(self, request: PageRequest) -> PageRequest:
        """An earlier page, the earlier the more often the list was not met again; in the end the first one."""
        self._steps_back += 1
        # A list that has moved once may go on doing so.
        self._overlap = min(self._overlap + 4, self._per_page // 2)
        end = request.start - (self._per_page << min(self._steps_back, 20)) // 4
        if end <= 0:
            self._restarts += 1
            if self._restarts > _MOST_RESTARTS:
                raise ApiError(
                    f"page {request.number} does not go on where the one before it ended, and the list was begun "
                    f"{self._restarts} times: it moves faster than it can be read, or the store does not heed `page`",
                    hint=f"{_NOT_HEEDED} Run it again later.",
                )
            self._log.warning("the list has moved up by more than was read of it; reading it from its start")
            return PageRequest(1, self._per_page)
        self._log.info("the list has moved up since the page before; reading the rows before page %d", request.number)
        return overlapping(end, per_page=self._per_page)

    def _is_last(self, page: PageFacts) -> bool:
        if not page.count:
            return True
        earlier = self._number_by_digest.setdefault(page.digest, page.number)
        # Where pages overlap, `_joins` looks at the rows: a whole page of them may have changed and moved to the end.
        if earlier != page.number and not self._overlaps:
            raise ApiError(
                f"page {page.number} holds the same items as page {earlier}: the store does not heed `page`",
                hint=_NOT_HEEDED,
            )
        if page.number == 1 and page.count == DEFAULT_PER_PAGE < self._per_page:
            # Where every page has ten rows, whatever is asked for, none can be made to overlap.
            self._page_size = DEFAULT_PER_PAGE
            self._overlaps = False
        elif page.number == 2 and self._page_size < self._per_page:  # noqa: PLR2004 - the page after the first
            self._log.warning("the store gives %d items a page, whatever is asked for", DEFAULT_PER_PAGE)
        return self._enough(page) or page.count < min(self._page_size, page.per_page)


class PassedWindow:
    """An `Enough` for a list that is oldest first: it has passed the window's end, so nothing of it can follow.

    The order is documented only in passing, and it has to be seen: rows of one and the same second tell nothing, and
    once an item is older than one before it, the list is read to its end.
    """

    def __init__(self, window: Window) -> None:
        self._end = window.end
        self._oldest: datetime | None = None
        self._newest: datetime | None = None
        self._falls = False

    @property
    def is_oldest_first(self) -> bool:
        """Whether the list has been seen to rise, and never to fall."""
        return not self._falls and self._oldest != self._newest

    def __call__(self, page: PageFacts) -> bool:
        if page.first is None or page.last is None or not page.ascending or page.first < (self._newest or page.first):
            self._falls = True
            return False
        self._oldest, self._newest = self._oldest or page.first, page.last
        return self.is_oldest_first and self._newest >= self._end
