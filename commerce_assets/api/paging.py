"""Page after page of a list: where it ends, and what must not be believed."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from commerce_assets.api.errors import ApiError
from commerce_assets.api.pages import Page, PageFacts
from commerce_assets.window import Window

# What the API gives where `per_page` is not heeded. A first page of just this size may be a clamped one.
DEFAULT_PER_PAGE = 10
# Ten million orders; a list that is longer than this does not end.
MAX_PAGES = 200_000


class Enough(Protocol):
    """Whether the list need not be read further, told page by page."""

    def __call__(self, page: PageFacts) -> bool: ...


def never_enough(page: PageFacts) -> bool:  # noqa: ARG001 - an Enough
    """Reads a list to its end."""
    return False


class PageNumberPaginator:
    """Asks for pages 1, 2, 3, ... until a short or empty one: the API has no other end mark.

    A page that holds the very items of an earlier one is an error, for the list would never end. A first page that
    is short may be the whole list, or all that is given by a server which does not heed `per_page`: where it holds
    just the API's default number of items, that is taken for the size of a page, and the next one is asked for too.
    """

    def __init__(self, *, per_page: int, enough: Enough, log: logging.Logger, max_pages: int = MAX_PAGES) -> None:
        self._asked_for = per_page
        self._page_size = per_page
        self._enough = enough
        self._log = log
        self._max_pages = max_pages
        self._number_by_digest: dict[str, int] = {}

    def pages(
        self, fetch: Callable[[int], Page], *, after: Sequence[PageFacts] = ()
    ) -> Iterator[tuple[Page, PageFacts, bool]]:
        """Fetches the pages that follow `after`, those of an earlier pull that was cut short.

        Yields each page with its facts, and whether the list ends with it.

        Raises:
            ApiError: The list does not move on, or does not end.
        """
        number = 0
        for facts in after:
            number = facts.number
            if self._is_last(facts):
                return
        while True:
            number += 1
            if number > self._max_pages:
                raise ApiError(f"the list goes on after {self._max_pages:,} pages", hint="Look at the endpoint's path.")
            page = fetch(number)
            facts = page.facts()
            is_last = self._is_last(facts)
            yield page, facts, is_last
            if is_last:
                return

    def _is_last(self, page: PageFacts) -> bool:
        if not page.count:
            return True
        earlier = self._number_by_digest.setdefault(page.digest, page.number)
        if earlier != page.number:
            raise ApiError(
                f"page {page.number} holds the same items as page {earlier}: the store does not heed `page`",
                hint="Look at the endpoint's path, and at what lies between here and the store.",
            )
        if page.number == 1 and page.count == DEFAULT_PER_PAGE < self._asked_for:
            self._page_size = DEFAULT_PER_PAGE
        elif page.number == 2 and self._page_size < self._asked_for:  # noqa: PLR2004 - the page after the first
            self._log.warning("the store gives %d items a page, whatever is asked for", DEFAULT_PER_PAGE)
        return self._enough(page) or page.count < self._page_size


class PassedWindow:
    """An `Enough` for a list that is oldest first: it has passed the window's end, so nothing of it can follow.

    The order is documented only in passing. Once an item is older than one before it, the list is read to its end.
    """

    def __init__(self, window: Window) -> None:
        self._end = window.end
        self._newest = window.start.min.replace(tzinfo=window.start.tzinfo)
        self._oldest_first = True

    def __call__(self, page: PageFacts) -> bool:
        if page.first is None or page.last is None or not page.ascending or page.first < self._newest:
            self._oldest_first = False
            return False
        self._newest = page.last
        return self._oldest_first and self._newest >= self._end
