"""From the API to the staging directory: one pull, from its first page or from where it was cut short."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
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


class FilterIgnoredError(Exception):
    """The store answered with rows that were changed before the instant that was asked for."""


class Watcher(Protocol):
    """Looks on while a pull is staged: a progress bar, say."""

    def begin(self, request: ListRequest, staged: Sequence[PageFacts]) -> None:
        """The pull begins, or begins once more; an earlier run has staged these pages of it."""

    def page(self, page: PageFacts) -> None:
        """A page has been staged."""

    def loading(self) -> None:
        """Everything is staged; the load begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullStats:
    """What a pull took, with whatever its client was asked before: requests, retries, bytes once unpacked, seconds."""

    requests: int
    retries: int
    bytes: int
    seconds: float
    seconds_waited: float
    rows_resumed: int


def stage(
    client: "CommerceClient", staged: StagedPages, *, log: logging.Logger, watcher: Watcher | None = None
) -> PullStats:
    """Pulls what is not staged yet.

    A pull that goes on asks for the last staged page again, and goes on after it only if that page is as it was: a
    row that was deleted meanwhile moves all that follow it one place up, and one of them to a page already read.

    Raises:
        PullError: A page could not be had, and what came before it stays staged; or the list does not go on as it
            should, and nothing does.
        FilterIgnoredError: The store does not heed `updated_after`; noticed on the first page.
    """
    pull = staged.pull
    decoder = PageDecoder(pull.endpoint)
    last = _go_on(client, staged, decoder, log)
    rows_resumed = staged.count
    progress = Progress(pull, client.tally, log, rows_before=rows_resumed)
    if watcher:
        watcher.begin(staged.pull, staged.pages)
    number = staged.pages[-1].number if staged.pages else 0
    enough = PassedWindow(pull.window) if pull.window else None
    paginator = PageNumberPaginator(
        per_page=client.page_size(pull.endpoint),
        enough=enough or never_enough,
        log=log,
        overlap=pull.window is None or client.overlap_windows,
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
            is_safe=lambda: paginator.overlaps or (enough is not None and enough.is_oldest_first),
        )
        try:
            with staged.writer() as writer, ahead:
                for page, facts, is_last in paginator.pages(ahead, after=staged.pages, last=last):
                    number = page.number
                    _check_filter(staged, facts)
                    writer.write(page, facts, is_last=is_last, store_clock=client.store_clock)
                    progress.page(number, facts.count, is_last=is_last)
                    if watcher:
                        watcher.page(facts)
        except ApiError as error:
            # The list itself makes no sense any more: gone on with, it would make none in the next run either.
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


def _go_on(client: "CommerceClient", staged: StagedPages, decoder: PageDecoder, log: logging.Logger) -> Page | None:
    """Makes sure that the staged pages are still those of the store, or forgets them; the last one, if it was asked."""
    if not staged.pages:
        return None
    if staged.is_complete:
        log.info("%s: all %s rows were staged by an earlier run; loading them", staged.pull, f"{staged.count:,}")
        return None
    last = staged.pages[-1]
    again = client.page(staged.pull, decoder, last.number, per_page=last.per_page)
    if again.facts(per_page=last.per_page).digest == last.digest:
        log.info("%s: going on after page %d of an earlier run, %s rows", staged.pull, last.number, f"{staged.count:,}")
        return again
    log.info("%s: the list has moved since an earlier run; starting anew", staged.pull)
    staged.clear()
    return None


def _check_filter(staged: StagedPages, facts: PageFacts) -> None:
    asked = staged.pull.updated_after
    if asked and facts.oldest_update and facts.oldest_update < asked:
        raise FilterIgnoredError(f"{staged.pull}: the store sent rows that were changed before that")
