"""Extract a list into the staging directory, from its first page or after the last whole page of an earlier run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

from commerce_assets.api.decoding import Page, PageDecoder, PageFacts
from commerce_assets.api.errors import ApiError, PullError
from commerce_assets.api.pagination import PageNumberPaginator, PageRequest, PassedWindow, never_enough
from commerce_assets.api.prefetch import Prefetcher
from commerce_assets.api.progress import Progress
from commerce_assets.api.request import ListRequest
from commerce_assets.ingest.staging import StagedPages

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient


# A store may use only the day of `updated_after`, in a zone up to 14 hours ahead: its answer is then a superset, which
# is fine. A store that ignores the filter sends rows from further back, or has none that matter.
FILTER_TOLERANCE = timedelta(hours=48)


class FilterIgnoredError(Exception):
    """The store returned rows that changed long before the requested instant."""


class Watcher(Protocol):
    """Follows an extraction: a progress bar, say."""

    def begin(self, request: ListRequest, staged: Sequence[PageFacts]) -> None:
        """The extraction begins, or begins again; an earlier run has staged these pages."""

    def page(self, page: PageFacts) -> None:
        """A page has been staged."""

    def loading(self) -> None:
        """Everything is staged; the load begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullStats:
    """What an extraction cost: requests, retries, decompressed bytes and seconds of its client so far."""

    requests: int
    retries: int
    bytes: int
    seconds: float
    seconds_waited: float
    rows_resumed: int


def stage(
    client: "CommerceClient", staged: StagedPages, *, log: logging.Logger, watcher: Watcher | None = None
) -> PullStats:
    """Extract the pages that are not staged yet.

    To resume, the last staged page is requested again, and the extraction continues only if it is unchanged: a row that
    was deleted meanwhile moves the following rows up by one, and one of them onto a page that was read already.

    Raises:
        PullError: A page could not be fetched, and the pages before it stay staged; or the list is inconsistent, and
            none do.
        FilterIgnoredError: The store ignores `updated_after`.
    """
    pull = staged.pull
    decoder = PageDecoder(pull.endpoint)
    last = _resume(client, staged, decoder, log)
    rows_resumed = staged.count
    progress = Progress(pull, client.tally, log, rows_before=rows_resumed)
    if watcher:
        watcher.begin(staged.pull, staged.pages)
    number = staged.pages[-1].number if staged.pages else 0
    window = pull.window
    paginator = PageNumberPaginator(
        per_page=client.page_size(pull.endpoint),
        log=log,
        enough=lambda: PassedWindow(window) if window else never_enough,
        overlap=window is None or client.overlap_windows,
        rows_stay=pull.endpoint.is_partitioned,
    )
    if not staged.is_complete:
        log.info("%s: GET %s", pull, client.url_of(pull.endpoint.name, pull.endpoint.path))

        def fetch(request: PageRequest, *, once: bool = False) -> Page:
            return client.page(pull, decoder, request.number, per_page=request.per_page, once=once)

        ahead = Prefetcher(
            fetch,
            try_once=partial(fetch, once=True),
            following=paginator.following,
            interval=client.pacer.interval,
            concurrency=client.concurrency,
            latency=lambda: client.latency,
            overlap=paginator.overlap,
        )
        try:
            with staged.writer() as writer, ahead:
                ids = staged.item_ids() if last else ()
                for page, facts, end in paginator.pages(ahead, after=staged.pages, last=last, ids=ids):
                    _check_filter(staged, facts)
                    writer.write(page, facts, end=end, store_clock=client.store_clock)
                    if end is None:  # the end is staged as an empty page, which the store did not return
                        number = page.number
                        progress.page(number, facts.count)
                    if watcher:
                        watcher.page(facts)
        except ApiError as error:
            # The list itself is inconsistent: resuming it would be, too.
            staged.clear()
            raise PullError(pull=pull, page=number + 1, attempts=1, error=error) from error.alone()
        progress.done(number)
    tally = client.tally
    return PullStats(
        requests=tally.requests,
        retries=tally.retries,
        bytes=tally.bytes,
        seconds=progress.seconds,
        seconds_waited=tally.seconds_waited,
        rows_resumed=rows_resumed,
    )


def _resume(client: "CommerceClient", staged: StagedPages, decoder: PageDecoder, log: logging.Logger) -> Page | None:
    """Check that the staged pages are still those of the store, else clear them; returns the last one, read again."""
    if not staged.pages:
        return None
    if staged.is_complete:
        log.info("%s: all %s rows were staged by an earlier run; loading them", staged.pull, f"{staged.count:,}")
        return None
    if staged.has_moved:
        log.info("%s: the list moved while an earlier run read it; starting again", staged.pull)
        staged.clear()
        return None
    last = staged.pages[-1]
    again = client.page(staged.pull, decoder, last.number, per_page=last.per_page)
    if again.facts(per_page=last.per_page).digest == last.digest:
        log.info("%s: resuming after page %d of an earlier run, %s rows", staged.pull, last.number, f"{staged.count:,}")
        return again
    log.info("%s: the list has moved since an earlier run; starting again", staged.pull)
    staged.clear()
    return None


def _check_filter(staged: StagedPages, facts: PageFacts) -> None:
    if not honours_updated_after(staged.pull, facts.oldest_update):
        raise FilterIgnoredError(f"{staged.pull}: the store returned rows that changed long before that")


def honours_updated_after(pull: ListRequest, oldest_update: datetime | None) -> bool:
    """Whether rows as old as this may be an answer to `updated_after`."""
    asked = pull.updated_after
    return not asked or oldest_update is None or oldest_update >= asked - FILTER_TOLERANCE
