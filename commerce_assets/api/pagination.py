"""Read a paged list that may move meanwhile: to a proven end, with every row accounted for.

The API counts pages by position, gives no totals, and its list does not stand still. Two questions decide whether a
reading can be trusted.

**Where does the list end?** A short page proves nothing: the server may clamp `per_page` to any size, or hide rows
after it has cut the page out. An end is proven by

- an empty page after a page that was not full;
- an empty page after a full one, or a page that is refused twice (404, 400, 416, 422, 204), if the page after it is
  empty or refused too, for both can be in the middle;
- an overlapping page (see below) that holds the last row read and nothing beyond it;
- the last page once more, if an overlapping page confirms that nothing follows its last row;
- the first page once more, with more rows than asked for: the list is not paged at all.

That costs one request more than the pages of the list; two, where the last page is full; three, where the store
refuses.

**Was every row met?** A row that arrives in what has been read moves all that follows one place down, so that a row is
met twice. The row that has arrived may be an old one that has moved, and so would be missed. Rows with equal stamps
may also come in another order at each request. Both leave the same trace: the list has had as many places as rows were
read, and fewer different rows were met. The difference is the *debt*. While there is a debt, the list is read again
from its start, and the debt of a later reading is the number of its places less the number of different rows met in
all of them. Without a debt, the reading is consistent. Two equal readings are, too: the store itself lists a row
twice. When six readings do not settle the debt, the pull fails.

Where rows can only have arrived (each repeated row was the last of the page before it, as in a newest-first list), and
the list has a cursor, reading again stops as soon as as many rows have been met as had arrived: mostly the first page.
One more request shows that the list is as long as before. If not, another row has arrived and may stand for one that
was missed, and the list is read to its end.

A row that vanishes from what has been read moves all that follows one place up: the first row of the next page slips
onto a page already read, and leaves no trace. Hence pages that overlap: 50 a page, page 1; then 49 a page, page 2,
which begins with the last row of the one before; 48 a page, page 3, and so on, with whatever size begins just before
the end of what has been read. A page that holds no row read before shows that the list has moved up, and the paginator
steps back until it meets one. Overlapping is free up to 98 rows, and costs about a fifth for long lists. Lists read
whole and changes are read so, and the orders of a window where a person asks for it or several pages are in flight: a
page that is answered before the one that precedes it joins it only by a row that both hold.

A row that moves up while another one leaves, both between the same two requests, keeps every other row at its place:
one reading cannot show it. That is why a row is removed only after a second reading misses it too (`ingest/verify.py`).

A server that does not honour sizes other than 50 (it snaps 49 down to 25, say) answers with more rows than asked for,
or with fewer that begin too early. The paginator then falls back to pages of one size, which any server can count.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import msgspec
from pyroaring import BitMap64

from commerce_assets.api.decoding import Item, Page, PageFacts
from commerce_assets.api.errors import ApiError, ListMovedError, PullError
from commerce_assets.window import Window
from commerce_assets.wording import counted

# What stores answer to a page after the last one.
PAST_THE_END = frozenset({204, 400, 404, 416, 422})
# What the API gives where `per_page` is ignored. A first page of just this size that comes again may be a cut list.
DEFAULT_PER_PAGE = 10
# Ten million orders; a list that is longer than this does not end.
MAX_PAGES = 200_000
# Below this size, no page begins just before the end of what has been read often enough.
_LEAST_OVERLAPPING = 20
# How many earlier pages overlapping pages search for known rows. A list that loses more is read again from its start.
_REMEMBERED_PAGES = 64
_MOST_RESTARTS = 3
_MOST_READINGS = 6
_PAGE_IGNORED = "Check the endpoint's path, and any proxy or cache between here and the store."


class PageRequest(NamedTuple):
    """Which page to ask for: its number, from 1, and the rows to ask for in each page."""

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


class ListEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How the reading of a list ended. Stored with the staged pages.

    Attributes:
        proven: An answer proved that nothing follows; not so where the pull stopped before the end of the list.
        consistent: Every place of the list is accounted for by a row.
        gapless: No row can have slipped onto a page already read: the list is one page, or its pages overlap.
        page_size: Rows of a full page, as the server gives them.
        reason: What proved the end, and how often the list was read.
    """

    proven: bool
    consistent: bool
    gapless: bool
    page_size: int
    reason: str


Fetch = Callable[[PageRequest], Page]
_Version = tuple[int, datetime | None]


class Enough(Protocol):
    """Decides, page by page, whether the list need not be read further."""

    def __call__(self, page: PageFacts) -> bool: ...


def never_enough(page: PageFacts) -> bool:  # noqa: ARG001 - an Enough
    """Read a list to its end."""
    return False


def overlapping(end: int, *, per_page: int) -> PageRequest:
    """The page of at most `per_page` rows that begins before position `end` and reaches furthest."""
    sizes = range(max(per_page // 2, 1), per_page + 1)
    return max((PageRequest((end - 1) // size + 1, size) for size in sizes), key=lambda request: request.end)


class PageNumberPaginator:
    """Asks for page after page until the end of the list is proven and every row is accounted for.

    Args:
        per_page: Rows to ask for in a page.
        log: Receives warnings when the store does not do as it is asked, and when the list moves.
        enough: Makes an `Enough` for each reading, which ends the pull before the list does.
        overlap: Whether each page repeats the end of the one before it.
        rows_stay: Whether rows are listed by a stamp that does not change, so that a shift means rows that arrived.
        max_pages: When to give up on a list that does not end.
    """

    def __init__(
        self,
        *,
        per_page: int,
        log: logging.Logger,
        enough: Callable[[], Enough] = lambda: never_enough,
        overlap: bool = False,
        rows_stay: bool = False,
        max_pages: int = MAX_PAGES,
    ) -> None:
        self._per_page = per_page
        self._log = log
        self._new_enough = enough
        self._wants_overlap = overlap
        self._rows_stay = rows_stay
        self._max_pages = max_pages
        self._sizes_honoured: bool | None = None if per_page >= _LEAST_OVERLAPPING else False
        self._reading = 0
        self._met_before = BitMap64()
        self._digests: list[str] = []
        # Rows that the readings before did not meet; unknown until one of them has come to its end.
        self._missing: int | None = None
        self._only_shifts = True
        # The page that shows where the list ends, and its rows: in this reading, and in the one before.
        self._tail = self._tail_before = PageRequest(1, per_page), 0
        self._begin_reading()

    def _begin_reading(self) -> None:
        """Forget what belongs to one reading of the list."""
        self._reading += 1
        self._enough = self._new_enough()
        self._digests_before, self._digests = self._digests, []
        self._ids = BitMap64()
        self._known_digests: set[str] = set()
        self._repeats = 0
        self._rows = 0
        self._recent: deque[list[_Version]] = deque()
        self._known: dict[_Version, int] = {}
        self._last_ids: tuple[int, ...] = ()
        self._last_is_full = True
        self._size = self._per_page
        self._overlap_rows = 1
        # Positions after what was asked for, as far as the server gives it, and after the last row read.
        self._furthest = 0
        self._last_row_end = 0
        self._steps_back = 0
        self._restarts = 0

    @property
    def overlaps(self) -> bool:
        """Whether each page repeats the end of the one before it, as far as is known by now."""
        return self._wants_overlap and self._sizes_honoured is not False

    def overlap(self) -> bool:
        """Make the pages that follow overlap, if the store allows it; returns whether they do already."""
        if self._wants_overlap:
            return self.overlaps
        # The positions of a clamped list are known only from its first page on.
        self._wants_overlap = len(self._digests) <= 1 or self._size == self._per_page
        return False

    def pages(
        self, fetch: Fetch, *, after: Sequence[PageFacts] = (), last: Page | None = None, ids: Iterable[int] = ()
    ) -> Iterator[tuple[Page, PageFacts, ListEnd | None]]:
        """Fetch the pages that follow `after`, those of an earlier pull that was cut short.

        Args:
            fetch: Gets one page.
            after: Pages staged before, of a list that had not moved.
            last: The last of them, as the store gives it now.
            ids: The ids of all their rows.

        Yields:
            Each page with its facts, and at last an empty page with how the list ended.

        Raises:
            PullError: A page could not be had.
            ApiError: The list does not move on, does not end, or moves faster than it can be read.
        """
        request = self._resume(after, last, ids)
        for _ in range(len(after), self._max_pages):
            page, refusal = _ask(fetch, request)
            if self.overlaps and self._size_is_ignored(request, page):
                self._log.info("the store does not honour per_page=%d; reading pages of one size", request.per_page)
                self._sizes_honoured = False
                if page.facts(per_page=request.per_page).digest not in self._known_digests:
                    request = PageRequest(2, self._per_page) if len(self._digests) == 1 else self._read_again()
                    continue
            if self.overlaps and not self._joins(request, page):
                request = self._step_back(request)
                continue
            proof, page = self._proof_of_end(fetch, request, page, refusal)
            if not proof:
                facts = self._take(request, page)
                yield page, facts, None
                if self._enough(facts):
                    proof = "stopped after the window: the store ignores `to`"
                elif self._is_paid_early() and self._is_as_long_as_before(fetch):
                    proof = "every row that had arrived was met"
            if proof and self._last_is_full:
                self._tail = request, len(page.items)
            if proof and (end := self._settled(proof)):
                yield (empty := Page(request.number + 1, ())), empty.facts(per_page=request.per_page), end
                return
            request = self._read_again() if proof else self.following(request)
        raise ApiError(f"the list goes on after {self._max_pages:,} pages", hint="Check the endpoint's path.")

    def following(self, request: PageRequest) -> PageRequest:
        """The page to ask for after this one, as long as the list stays as it is."""
        if not self.overlaps:
            return PageRequest(request.number + 1, request.per_page)
        end = request.end
        if request.number == 1 and self._size < request.per_page:
            end = self._size
        # An overlap of many rows may leave no page that reaches further than this one.
        pages = (overlapping(end - rows + 1, per_page=self._size) for rows in range(self._overlap_rows, 0, -1))
        return next(page for page in pages if page.end > end)

    def _resume(self, after: Sequence[PageFacts], last: Page | None, ids: Iterable[int]) -> PageRequest:
        if not after:
            return PageRequest(1, self._per_page)
        sizes = {facts.per_page for facts in after}
        if len(after) > 1:
            if len(sizes) > 1:
                self._wants_overlap = self._sizes_honoured = True
            elif self._wants_overlap:
                self._sizes_honoured = False
        self._ids.update(map(_unsigned, ids))
        for facts in after:
            self._enough(facts)
            self._count(PageRequest(facts.number, facts.per_page), facts.count, facts.digest)
        if last:
            self._remember(last)
        return self.following(PageRequest(after[-1].number, after[-1].per_page))

    def _take(self, request: PageRequest, page: Page) -> PageFacts:
        """Account for a page that goes on where the list was left."""
        on_page = _ids_of(page)
        repeated = self._count_repeats(request, page)
        if self._missing is not None:
            self._missing -= len(on_page - self._met_before - self._ids)
        known = self._last_ids
        self._ids |= on_page
        facts = page.facts(per_page=request.per_page, known=known, repeated=repeated, reading=self._reading)
        if request.number == 2 and self._size < self._per_page == request.per_page:  # noqa: PLR2004 - after the first
            self._log.warning("the store gives %d rows a page, whatever is asked for", self._size)
        self._count(request, facts.count, facts.digest)
        self._tail = request, facts.count
        self._remember(page)
        return facts

    def _count_repeats(self, request: PageRequest, page: Page) -> int:
        """Rows of a page that were met before, in any version, beyond those that an overlapping page repeats."""
        met = self._ids.intersection_cardinality(_ids_of(page))
        due = max(self._furthest - request.start, 0) if self.overlaps else 0
        repeated = max(met - due, 0)
        if repeated:
            if not self._repeats:
                self._log.warning("the list moved while it was read: page %d repeats rows", request.number)
            self._only_shifts &= tuple(item.id for item in page.items[:met]) == self._last_ids[-met:]
            self._repeats += repeated
        return repeated

    def _met(self, page: Page) -> int:
        """How many rows of the page were read on recent pages, in the same version."""
        return len({version for item in page.items if (version := _version(item)) in self._known})

    def _count(self, request: PageRequest, count: int, digest: str) -> None:
        """Learn from a page what the next ones will be like."""
        self._last_is_full = count >= (request.per_page if self.overlaps or request.number == 1 else self._size)
        self._last_row_end = max(self._last_row_end, request.start + count)
        self._rows += count
        self._digests.append(digest)
        self._known_digests.add(digest)
        end = request.end
        if request.number == 1 and request.per_page == self._per_page:
            self._size = min(count, self._per_page)
            end = min(end, self._size)
            if not self._shows_size(count):
                self._sizes_honoured = False
        elif not self.overlaps:
            self._size = max(self._size, count)
        if end > self._furthest:
            self._furthest = end
            self._steps_back = 0

    def _shows_size(self, count: int) -> bool:
        """Whether pages can be made to overlap after a first page of `count` rows.

        One that is not quite full may have hidden rows, so that nobody knows which position the next row has.
        """
        return count == self._per_page or _LEAST_OVERLAPPING <= count <= self._per_page * 4 // 5

    def _remember(self, page: Page) -> None:
        self._recent.append([_version(item) for item in page.items])
        self._known.update(dict.fromkeys(self._recent[-1], len(self._digests)))
        if len(self._recent) > _REMEMBERED_PAGES:
            forgotten = len(self._digests) - _REMEMBERED_PAGES
            for version in self._recent.popleft():
                if self._known.get(version, forgotten + 1) <= forgotten:
                    del self._known[version]
        self._last_ids = tuple(item.id for item in page.items)

    # Overlapping pages

    def _size_is_ignored(self, request: PageRequest, page: Page) -> bool:
        """Whether the first page of another size shows that the store does not honour it."""
        if self._sizes_honoured or request.start == 0:
            return False
        count, due = len(page.items), self._furthest - request.start
        if count == request.per_page != self._size:
            self._sizes_honoured = True
        return count > request.per_page or (self._met(page) > due and count < request.per_page)

    def _joins(self, request: PageRequest, page: Page) -> bool:
        """Whether nothing can lie between what has been read and this page."""
        # A page that begins where all that was read ends was asked for before pages overlapped.
        if request.start in {0, self._furthest} or not (page.items or request.start < self._last_row_end):
            return True
        met = self._met(page)
        if request.end > self._furthest and met >= request.per_page:
            raise _page_ignored(f"page {request.number} holds only rows of the pages before it")
        return met > 0

    def _step_back(self, request: PageRequest) -> PageRequest:
        """An earlier page, the earlier the more often no known row was met; in the end the first one."""
        self._steps_back += 1
        # A list that has moved once may go on doing so.
        self._overlap_rows = min(self._overlap_rows + 4, self._size // 2)
        end = request.start - (self._size << min(self._steps_back, 20)) // 4
        if end <= 0:
            self._restarts += 1
            if self._restarts > _MOST_RESTARTS:
                raise ListMovedError(
                    f"page {request.number} does not go on where the one before it ended, after {self._restarts} "
                    "attempts: the list moves faster than it can be read, or the store ignores `page`",
                    hint=f"{_PAGE_IGNORED} Run it again later.",
                )
            self._log.warning("the list has moved up by more than was read of it; reading it from its start")
            return PageRequest(1, self._per_page)
        self._log.info("the list has moved up since the page before; reading the rows before page %d", request.number)
        return overlapping(end, per_page=self._size)

    # The end

    def _proof_of_end(
        self, fetch: Fetch, request: PageRequest, page: Page, refusal: PullError | None
    ) -> tuple[str, Page]:
        """What proves that the list ended before this page; else nothing, and the page to go on with."""
        if not page.items:
            if request.number == 1 or not (refusal or (self._last_is_full and not self.overlaps)):
                return f"page {request.number} is empty", page
            return self._confirmed(fetch, request, refusal)
        if self.overlaps and request.start > 0:
            met = self._met(page)
            if met == len(page.items) < request.per_page and self._is_last(fetch, request):
                self._count_repeats(request, page)
                return f"page {request.number} holds nothing new", page
        elif (digest := page.facts(per_page=request.per_page).digest) in self._known_digests and request.number > 1:
            return self._proven_by_repetition(fetch, request, page, digest), page
        return "", page

    def _is_last(self, fetch: Fetch, request: PageRequest) -> bool:
        """Whether nothing follows a page that is not full. A page reached by a step back may only hide a row."""
        if request.end > self._furthest:
            return True
        return not _ask(fetch, PageRequest(request.number + 1, request.per_page))[0].items

    def _confirmed(self, fetch: Fetch, request: PageRequest, refusal: PullError | None) -> tuple[str, Page]:
        """Ask for the page after an empty one, which follows a full one: it may be in the middle of the list.

        A refused page is requested again first: a refusal may pass, and the next page may be empty in truth.
        """
        if refusal and (again := _ask(fetch, request)[0]).items:
            return "", again
        if not _ask(fetch, PageRequest(request.number + 1, request.per_page))[0].items:
            return f"pages {request.number} and {request.number + 1} are empty", Page(request.number, ())
        if refusal:
            raise refusal
        again, _ = _ask(fetch, request)
        if not again.items:
            raise ApiError(
                f"page {request.number} is empty, although page {request.number + 1} holds rows",
                hint="Run it again later; if it fails again, ask the store's support.",
            )
        return "", again

    def _proven_by_repetition(self, fetch: Fetch, request: PageRequest, page: Page, digest: str) -> str:
        """Whether a page that holds the rows of an earlier one is what this store answers after the last page."""
        earlier, count = self._digests.index(digest) + 1, len(page.items)
        # A cache that drops the query repeats a first page of just these sizes.
        may_be_whole = earlier == 1 and count not in {self._per_page, DEFAULT_PER_PAGE}
        if earlier == len(self._digests):
            if may_be_whole and count > request.per_page:
                return "the list is not paged"
            beyond = overlapping(self._rows, per_page=max(self._size, 2))
            probe, _ = _ask(fetch, beyond)
            ids = [item.id for item in probe.items]
            # More rows than lie between its start and the end: the store gives pages of another size, from elsewhere.
            most = min(self._rows - beyond.start, beyond.per_page - 1)
            if 0 < len(ids) <= most and {*ids} <= {*self._last_ids} and ids[-1] == self._last_ids[-1]:
                return f"page {request.number} repeats the last page, and nothing follows its last row"
            if may_be_whole and len(ids) > beyond.per_page and probe.facts(per_page=beyond.per_page).digest == digest:
                return "the list is not paged"
        raise _page_ignored(f"page {request.number} holds the same rows as page {earlier}")

    # The account

    def _debt(self) -> int:
        """Places of this reading less different rows met in all readings."""
        return max(len(self._ids) + self._repeats - self._ids.union_cardinality(self._met_before), 0)

    def _is_paid_early(self) -> bool:
        is_paid = self._missing is not None and self._missing <= 0
        return is_paid and self._rows_stay and self._only_shifts and not self._repeats

    def _is_as_long_as_before(self, fetch: Fetch) -> bool:
        """Whether the list still ends where the reading before ended; if not, this reading goes on to its end."""
        request, count = self._tail_before
        is_as_long = len(_ask(fetch, request)[0].items) == count
        self._only_shifts &= is_as_long
        return is_as_long

    def _settled(self, proof: str) -> ListEnd | None:
        """The end, if every row is accounted for; None if the list must be read again.

        Raises:
            ApiError: It has been read often enough.
        """
        self._missing = self._debt()
        if self._missing and self._digests != self._digests_before:
            if self._reading >= _MOST_READINGS:
                missed = counted(self._missing, "row")
                raise ListMovedError(
                    f"the list moved during each of {self._reading} readings, which missed {missed}",
                    hint="Run it again at a quieter time; if it stays so, the store lists rows in no fixed order.",
                )
            return None
        times = "" if self._reading == 1 else f"; read {self._reading} times, because the list moved"
        return ListEnd(
            proven=not proof.startswith("stopped"),
            consistent=True,
            gapless=self.overlaps or len(self._digests) <= 1,
            page_size=self._size,
            reason=proof + times,
        )

    def _read_again(self) -> PageRequest:
        self._log.warning("reading the list again from its start")
        self._met_before |= self._ids
        self._tail_before = self._tail
        self._begin_reading()
        return PageRequest(1, self._per_page)


class PassedWindow:
    """An `Enough` for a store that ignores `to`: an oldest-first list that is far beyond what was asked for.

    The order is documented only in passing, so it has to be seen: rows of one second do not show it, and once an item
    is older than one before it, the list is read to its end. So is that of every store that honours `to`, because
    back-dated rows may come last.
    """

    # The request is padded by a day, `to` may be inclusive, and the store's days may lie in any zone.
    _EVIDENTLY_IGNORED = timedelta(days=3)

    def __init__(self, window: Window) -> None:
        self._end = window.end + self._EVIDENTLY_IGNORED
        self._oldest: datetime | None = None
        self._newest: datetime | None = None
        self._falls = False

    def __call__(self, page: PageFacts) -> bool:
        if not page.count or (page.first is None and page.ascending):
            return False
        if page.first is None or page.last is None or not page.ascending or page.first < (self._newest or page.first):
            self._falls = True
            return False
        self._oldest, self._newest = self._oldest or page.first, page.last
        return not self._falls and self._oldest != self._newest and self._newest >= self._end


def _ask(fetch: Fetch, request: PageRequest) -> tuple[Page, PullError | None]:
    """A page; an empty one for a refusal that may mean that the page is past the end."""
    try:
        return fetch(request), None
    except PullError as error:
        if request.number == 1 or error.error.status not in PAST_THE_END:
            raise
        return Page(request.number, ()), error


def _ids_of(page: Page) -> BitMap64:
    return BitMap64([_unsigned(item.id) for item in page.items])


def _unsigned(key: int) -> int:
    """Return a signed integer of 64 bits as the unsigned one with the same bits: a bitmap has no others."""
    return key % 2**64


def _version(item: Item) -> _Version:
    return item.id, item.updated_at


def _page_ignored(reason: str) -> ApiError:
    return ApiError(f"{reason}: the store ignores `page`", hint=_PAGE_IGNORED)
