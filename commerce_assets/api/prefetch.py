"""Several pages in flight, where the answers take longer than the pace makes requests wait.

The pages come out in the order in which they are asked for, so that staging, resuming and the end of a list are what
they are with one page at a time. What is asked for ahead is tried once; if that fails, the page is asked for again
when its turn comes, with all retries. Whatever is in flight when the list ends was asked for in vain: at most one page
less than may be in flight.

A page may be answered before the one that precedes it. If a row arrives before both of them meanwhile, or on the first
of them, the row on their border is on neither. Only a row that both pages hold shows that nothing is between them, so
pages are asked for ahead only where they overlap, and the first slow answers make them.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from commerce_assets.api.decoding import Page
from commerce_assets.api.errors import PullError
from commerce_assets.api.pagination import Fetch, PageRequest

# Where answers come faster, what is asked for in vain at the end of a list costs more than is saved before.
_WORTH_IT_SECONDS = 0.1
# One slow answer may have any reason: the fastest of the latest few says how slow the store is.
_FEWEST_SAMPLES = 2
_MOST_SAMPLES = 5


class Prefetcher:
    """A `Fetch` that asks for the following pages while it waits for one. Use it as a context manager.

    Args:
        fetch: Asks for one page, as often as it is worth.
        try_once: Asks for one page once; called from several threads at once.
        following: The page that will be asked for after another.
        interval: Seconds that the rate limit keeps between two requests; 0: no limit.
        concurrency: How many pages may be in flight.
        latency: Seconds that the latest answer took, without waiting for its turn and without back-off.
        overlap: Makes pages overlap, so that a gap between two of them is noticed; returns whether they do.
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        try_once: Fetch,
        following: Callable[[PageRequest], PageRequest],
        interval: float,
        concurrency: int,
        latency: Callable[[], float],
        overlap: Callable[[], bool],
    ) -> None:
        self._fetch = fetch
        self._try_once = try_once
        self._following = following
        self._interval = interval
        self._concurrency = concurrency
        self._latency = latency
        self._overlap = overlap
        self._samples: deque[float] = deque(maxlen=_MOST_SAMPLES)
        self._in_flight: dict[PageRequest, Future[Page | None]] = {}
        self._over = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._in_flight.clear()

    def __call__(self, request: PageRequest) -> Page:
        """The page; those that follow it are in flight meanwhile."""
        wanted = [request]
        while len(wanted) < self._depth():
            wanted.append(self._following(wanted[-1]))
        # After a step back, what was asked for is no longer what follows, and nobody waits for it.
        self._in_flight = {asked: page for asked, page in self._in_flight.items() if asked in wanted}
        if len(wanted) > 1:
            for asked in wanted:
                if asked not in self._in_flight:
                    self._start(asked)
        awaited = self._in_flight.pop(request, None)
        page = awaited.result() if awaited else None
        if page is None:
            page = self._fetch(request)
        self._samples.append(self._latency())
        return page

    def _depth(self) -> int:
        """How many pages the rate limit allows in the time that one of them takes."""
        fastest = min(self._samples, default=0.0)
        if len(self._samples) < _FEWEST_SAMPLES or fastest < _WORTH_IT_SECONDS:
            return 1
        allowed = math.ceil(fastest / self._interval) if self._interval else self._concurrency
        depth = min(self._concurrency, allowed)
        return depth if depth > 1 and self._overlap() else 1

    def _start(self, request: PageRequest) -> None:
        future: Future[Page | None] = Future()

        def run() -> None:
            page = None
            try:
                if not self._over.is_set():
                    page = self._try_once(request)
            except PullError:
                pass
            finally:
                future.set_result(page)

        self._in_flight[request] = future
        # A daemon: a process that ends does not wait for pages that nobody will read.
        threading.Thread(target=run, name=f"page {request.number}", daemon=True).start()
