"""Reads a list request's parameters, as strictly as a client's tests need it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TypeVar

from sample_store.dialect import Dialect

STATES = frozenset(
    {
        "initial",
        "complete",
        "failed",
        "chargeback",
        "refunded",
        "in_dispute",
        "free",
        "imported",
        "fraud_review",
        "subscription_setup",
        "subscription_active",
        "subscription_complete",
        "subscription_cancelling",
        "subscription_cancelled",
    }
)
"""The states that the API's help pages name, the one of v1.0 included."""

_ORDERABLE = re.compile(r"(Product|Package|Subscription)-([0-9]+)")
_Value = TypeVar("_Value")


class InvalidQueryError(Exception):
    """The request's parameters do not fit; `problems` are the body of a 422, `(field, message)` pairs."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__(problems)
        self.problems = problems


@dataclass(frozen=True)
class Page:
    number: int
    size: int

    @property
    def rows(self) -> slice:
        return slice((self.number - 1) * self.size, self.number * self.size)


@dataclass(frozen=True)
class OrderFilter:
    """Which orders are asked for; instants are seconds since 1970, the creation range is half-open.

    `refund_is_state` is v1's meaning of `state`: a refunded order is in the state "refunded", not in its own.
    """

    created_from: float | None = None
    created_before: float | None = None
    updated_from: float | None = None
    state: str | None = None
    orderable: tuple[str, int] | None = None
    newest_first: bool = False
    refund_is_state: bool = False


class _Reader:
    """Reads one parameter after the other and gathers what is wrong with them."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query
        self.problems: list[tuple[str, str]] = []

    def read(self, field: str, parse: Callable[[str], _Value]) -> _Value | None:
        try:
            return parse(self._query[field]) if field in self._query else None
        except ValueError as error:
            self.problems.append((field, str(error)))
            return None


def read_page(query: Mapping[str, str], dialect: Dialect) -> Page:
    """Read `page` and `per_page`; raise InvalidQueryError for what is not a number from 1."""
    reader = _Reader(query)
    number = reader.read("page", _count) or 1
    size = reader.read("per_page", _count) or dialect.default_per_page
    if size > dialect.max_per_page and dialect.per_page_above_max == "error":
        reader.problems.append(("per_page", f"must be at most {dialect.max_per_page}"))
    if reader.problems:
        raise InvalidQueryError(reader.problems)
    return Page(number, min(size, dialect.max_per_page))


def read_order_filter(query: Mapping[str, str], dialect: Dialect, *, refund_is_state: bool) -> OrderFilter:
    """Read the filters of the orders list; raise InvalidQueryError for those that do not fit.

    `referred_by` is let pass and changes nothing: no field of an order says who referred it.
    """
    reader = _Reader(query)
    first_day = reader.read("from", _day)
    last_day = reader.read("to", _day)
    updated_after = reader.read("updated_after", _instant)
    state = reader.read("state", _state)
    orderable = reader.read("orderable", _orderable)
    newest_first = reader.read("sort", _is_newest_first) or not dialect.oldest_first
    if reader.problems:
        raise InvalidQueryError(reader.problems)
    if dialect.ignores_dates:
        first_day = last_day = None
    if last_day and dialect.to_is_inclusive:
        last_day += timedelta(days=1)
    return OrderFilter(
        created_from=_midnight(first_day, dialect) if first_day else None,
        created_before=_midnight(last_day, dialect) if last_day else None,
        updated_from=None if dialect.ignores_updated_after else updated_after,
        state=state,
        orderable=orderable,
        newest_first=newest_first,
        refund_is_state=refund_is_state,
    )


def _midnight(day: date, dialect: Dialect) -> float:
    return datetime.combine(day, time(), tzinfo=dialect.zone).timestamp()


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) < 2**31):
        raise ValueError("must be a whole number from 1")
    return int(text)


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # fromisoformat also reads 20240131 and 2024-W05-3, which the API does not document.
    if day is None or day.isoformat() != text:
        raise ValueError("must be a date, YYYY-MM-DD")
    return day


def _instant(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("must be an ISO 8601 instant, YYYY-MM-DDTHH:MM:SSZ")
    return moment.timestamp()


def _state(text: str) -> str:
    if text not in STATES:
        raise ValueError("is not a state of an order")
    return text


def _orderable(text: str) -> tuple[str, int]:
    match = _ORDERABLE.fullmatch(text)
    if match is None:
        raise ValueError("must be like Product-5, Package-10 or Subscription-15")
    return match[1], int(match[2])


def _is_newest_first(text: str) -> bool:
    if text != "newest_first":
        raise ValueError("must be newest_first")
    return True
