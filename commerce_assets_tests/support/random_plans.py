"""Draws what may happen to a store and to those who pull from it: rows, dialects, faults, changes, kills.

What is drawn is small and few: a number of rows and the layout of their times instead of each row. So drawing costs
next to nothing, and a failure shrinks to something that a person can read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Literal, TypeAlias, get_args

from hypothesis import strategies as st

from commerce_assets.api.request import ListRequest
from commerce_assets.endpoint import Endpoint
from commerce_assets.window import Window
from commerce_assets_tests.support.faulty_store import (
    Body,
    CutOff,
    Edit,
    Exchange,
    Fault,
    Raw,
    Redirect,
    Reset,
    Serve,
    Status,
)
from commerce_assets_tests.support.items import BY_NAME
from sample_store.dialect import Dialect
from sample_store.values import Item

Stored: TypeAlias = Literal["nothing", "same", "older", "half"]
Kind: TypeAlias = Literal["window", "list", "changes"]
ChangeKind: TypeAlias = Literal["append", "insert", "update", "delete", "move", "move up"]
ListOrder: TypeAlias = Literal["by id", "newest first", "by name"]

WINDOW = Window.of_days(date(2024, 3, 15), date(2024, 3, 15))
SINCE = datetime(2024, 6, 1, tzinfo=UTC)
_START_DATES = (WINDOW.start, WINDOW.start + timedelta(hours=12), WINDOW.end + timedelta(days=2))
_SECOND = timedelta(seconds=1)
_HALF_SECOND = timedelta(milliseconds=500)


def _with_columns(name: str, *columns: str) -> Endpoint:
    """The endpoint with a few of its columns: a load takes as long as it has columns."""
    endpoint = BY_NAME[name]
    return replace(
        endpoint, columns=tuple(column for column in endpoint.columns if column.name in columns), item_lookup=None
    )


ORDERS = _with_columns("orders", "id", "tag", "settled_gross", "created_at", "updated_at")
PRODUCTS = _with_columns("products", "id", "custom_field", "price", "updated_at")
PULLS: dict[Kind, ListRequest] = {
    "window": ListRequest(endpoint=ORDERS, window=WINDOW),
    "list": ListRequest(endpoint=PRODUCTS),
    "changes": ListRequest(endpoint=ORDERS, updated_after=SINCE),
}


# Faults that `faulty_store` does not name. Functions and small classes, so that a failing draw can be read.


def cut_in_half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def with_a_field_twice(body: bytes) -> bytes:
    return body.replace(b'"updated_at":', b'"updated_at":null,"updated_at":', 1)


def serve_the_page_before(exchange: Exchange) -> None:
    """A store, or a cache, that for once does not count on."""
    exchange.request.query["page"] = str(max(exchange.request.page - 1, 1))
    Serve()(exchange)


PASSING: Sequence[Fault] = (
    Status(500),
    Status(503),
    Status(429, {"retry-after": "7"}),
    Status(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    Reset(0.0),
    Reset(0.5),
    CutOff(0.5),
    Raw(),
    Raw(b"HTTP/1.1 what?\r\n\r\n"),
    Edit(cut_in_half),
    Body(b"<html>We will be back soon</html>", "text/html"),
    Serve({"content-encoding": "gzip"}),
)
"""What goes away when it is asked again."""

FINAL: Sequence[Fault] = (
    Status(401),
    Status(403),
    # Not 204, 400, 404, 416 or 422: after a full page they are what a store answers past the end.
    Status(406),
    Status(410),
    Status(451, body=b'[["page", "is not to its liking"]]'),
    Status(429, {"retry-after": "36000"}),
    Body(b""),
    Body(b"null"),
    Body(b"{}"),
    Body(b'{"error": "not today"}'),
    Body(b'[{"voucher": {"id": 1}}]'),
    Redirect("http://elsewhere.example/"),
    Edit(with_a_field_twice),
)
"""What ends the run (a 401 after earlier successes is asked again twice)."""


@dataclass(frozen=True)
class Change:
    """What somebody does to the store: `at` is where in the list, modulo its length; `count` how many rows.

    A row that moves goes to the end of the list; one that moves up, to half of its position.
    """

    kind: ChangeKind
    at: int = 0
    count: int = 1


@dataclass(frozen=True)
class Step:
    """What becomes of one request: first the store changes, then it answers, or does not."""

    change: Change | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class Plan:
    """One example. Nothing in it is random any more."""

    kind: Kind
    rows: int
    layout: Literal["spread", "dense", "bounds", "end"]
    salt: int
    stored: Stored
    vanished: int
    dialect: Dialect
    snaps: bool
    hidden: frozenset[int]
    order: ListOrder
    per_page: int
    overlap: bool
    concurrency: int
    steps: tuple[Step, ...]
    kill_at: int | None
    torn: bool
    killed_after_commit: bool
    stamps_go_back: bool
    not_before: datetime | None
    another_store: bool
    without_day_before: bool

    @property
    def pull(self) -> ListRequest:
        return PULLS[self.kind]


def size_given(plan: Plan, asked: int) -> int:
    """How many rows the store puts on a page."""
    clamped = min(asked, plan.dialect.max_per_page)
    return max((size for size in (10, 25, 50) if size <= clamped), default=clamped) if plan.snaps else clamped


def overlaps(
    *, kind: Kind, overlap: bool, per_page: int, dialect: Dialect, snaps: bool, hidden: frozenset[int]
) -> bool:
    """Whether the pages of a pull overlap from the first: small ones cannot, nor if the store changes their size."""
    is_plain = dialect.max_per_page < per_page or snaps or hidden
    return (kind != "window" or overlap) and per_page >= 20 and not is_plain


@st.composite
def plans(draw: st.DrawFn, *, kind: Kind) -> Plan:
    per_page = draw(st.sampled_from([50, 50, 20, 25, 3, 10, 11, 1]))
    dialect = Dialect(
        max_per_page=draw(st.sampled_from([50, 50, 50, 50, 10, 15, 20, 25, 30, 40])),
        to_is_inclusive=draw(st.booleans()),
        day_zone=timezone(timedelta(hours=draw(st.sampled_from([0, -12, 14, 5.75])))),
        ignores_dates=draw(st.booleans()),
        ignores_updated_after=draw(st.sampled_from([False, False, False, True])),
        oldest_first=draw(st.booleans()),
        wrapped=draw(st.sampled_from(["items", "items", "object"])),
    )
    snaps = draw(st.sampled_from([False, False, False, True]))
    # A page of one row whose row is hidden is an empty list, to any reader.
    some = [(), (), (1,), (60,), (49, 50, 99)] if per_page > 2 else [()]
    hidden: frozenset[int] = frozenset(draw(st.sampled_from(some)))
    orders: Sequence[ListOrder] = get_args(ListOrder) if kind == "list" else ("by id",)
    order = draw(st.sampled_from(orders))
    overlap = draw(st.booleans())
    concurrency = draw(st.sampled_from([1, 1, 1, 1, 1, 4]))
    stored = draw(st.sampled_from(get_args(Stored)))
    vanished = draw(st.sampled_from([0, 0, 1, 5]))
    changing: list[ChangeKind] = ["append", "insert", "update"]
    # Rows move up, or down and away: both at once, between two requests, can leave every other row at its place. Nor
    # can it be seen from where the others are that a hidden row moves.
    moves_up = kind == "list" and not hidden and draw(st.booleans())
    if moves_up:
        changing.append("move up")
    may_kill = True
    if overlaps(kind=kind, overlap=overlap, per_page=per_page, dialect=dialect, snaps=snaps, hidden=hidden):
        # Orders are listed by their creation, which does not change.
        if not moves_up:
            changing += ["delete", "move"] if kind == "list" else ["delete"]
    elif kind != "changes" and stored in {"same", "older"} and not vanished and draw(st.booleans()):
        # Where pages do not overlap, a deletion hides another row, and that shows only if the row is stored: the list
        # is then read once more. So everything is stored here, and only one deletion happens.
        changing = ["delete"]
        may_kill = False
    lone_deletion = changing == ["delete"]
    changes = st.builds(Change, st.sampled_from(changing), st.integers(0, 180), st.sampled_from([1, 1, 2, 7, 30, 49]))
    faults = st.sampled_from([None, None, *PASSING, *PASSING, *FINAL])
    calm = [Step()] * draw(st.integers(0, 5))
    if lone_deletion:
        change = draw(changes)
        steps = [Step(change, draw(faults)), *(Step(None, fault) for fault in draw(st.lists(faults, max_size=4)))]
    else:
        steps = draw(st.lists(st.builds(Step, st.one_of(st.none(), changes), faults), max_size=8))
        if not any(step.change for step in steps):
            # A page that comes again is known by its rows, if they have not changed meanwhile.
            steps += [Step(None, serve_the_page_before)] * draw(st.sampled_from([0, 0, 1]))
    return Plan(
        kind=kind,
        rows=min(draw(st.integers(0, 180)), 10 * per_page),
        layout=draw(st.sampled_from(["spread", "dense", "bounds", "end"])),
        salt=draw(st.integers(0, 6)),
        stored=stored,
        vanished=vanished,
        dialect=dialect,
        snaps=snaps,
        hidden=hidden,
        order=order,
        per_page=per_page,
        overlap=overlap,
        concurrency=concurrency,
        steps=(*calm, *steps),
        kill_at=draw(st.sampled_from([None, None, None, 1, 2, 3, 4, 6])) if may_kill else None,
        torn=draw(st.booleans()),
        killed_after_commit=draw(st.sampled_from([False, False, False, True])),
        # Of changes, the later stamp wins: one that goes back is only followed by a complete reading.
        stamps_go_back=kind != "changes" and draw(st.sampled_from([False, False, True])),
        # The start date has moved since the stored rows were loaded.
        not_before=draw(st.sampled_from([None, None, *_START_DATES])) if kind == "changes" else None,
        another_store=draw(st.sampled_from([False, False, True])),
        # As loads of earlier windows may have noted, if the store's zone was another one then.
        without_day_before=kind == "window" and draw(st.booleans()),
    )


# Rows


def created(plan: Plan, number: int, count: int) -> datetime:
    """When row `number` of `count` was created; grows with the number."""
    start, end = WINDOW.start, WINDOW.end
    if plan.layout == "dense":
        return start + timedelta(hours=12, seconds=number // 5)
    if plan.layout == "bounds":
        around = (start, start, start + _HALF_SECOND, end - _SECOND, end - _HALF_SECOND, end, end + _SECOND)
        moments = (start - _SECOND, *around)
        return moments[number * len(moments) // (count + 1)]
    if plan.layout == "end":
        return end
    # Five days, so that some lie beyond whatever a store makes of `from` and `to`.
    return start - timedelta(days=2) + number * timedelta(days=5) / (count + 1)


def item(plan: Plan, number: int, created_at: datetime, *, version: int) -> Item:
    """A row as the store sends it; the text of a version is that version's alone."""
    style = number * 3 + plan.salt
    changed = timedelta(0) if style % 5 == 1 else timedelta(hours=-version if plan.stamps_go_back else version)
    # Around the instant since which changes are asked for, on it and within its second.
    updated = SINCE + (style % 7 - 2) * _HALF_SECOND + changed
    row: dict[str, Any] = {"id": number}
    if plan.pull.endpoint is ORDERS:
        row |= {"tag": f"{number} v{version}", "settled_gross": f"{version}.50"}
        row["created_at"] = written(created_at, style=style)
    else:
        row |= {"custom_field": f"{number} v{version}", "price": version + 0.5}
    if style % 6 != 2:
        row["updated_at"] = None if style % 6 == 3 else written(updated, style=style // 2)
    if style % 4 == 0:
        row["colour"] = f"of {number}"
    return row


def written(moment: datetime, *, style: int) -> str:
    """An instant in one of the ways in which it may be sent."""
    if style % 3 == 1:
        return moment.astimezone(timezone(timedelta(hours=5, minutes=45))).isoformat()
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
