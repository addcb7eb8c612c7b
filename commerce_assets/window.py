"""A window: the half-open range of UTC days that a request for a partitioned endpoint covers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

_DAY = timedelta(days=1)
# No time zone is less than an hour from UTC.
_LEAST_OFFSET = timedelta(hours=1)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The instants from `start` (inclusive) to `end` (exclusive); both are midnights in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for bound in (self.start, self.end):
            if bound.utcoffset() != timedelta(0) or bound.time() != time(0):
                raise ValueError(f"a window's bounds are midnights in UTC, not {bound.isoformat()}")
        if self.end <= self.start:
            raise ValueError(f"the window {self} is empty")

    @classmethod
    def of_days(cls, first: date, last: date) -> "Window":
        """Build the window of the days `first` to `last`, both inclusive."""
        return cls(
            datetime.combine(first, time(0), UTC),
            datetime.combine(last, time(0), UTC) + _DAY,
        )

    @property
    def first_day(self) -> date:
        return self.start.date()

    @property
    def last_day(self) -> date:
        return (self.end - _DAY).date()

    @property
    def days(self) -> list[date]:
        """The days of the window, in order."""
        return [self.first_day + timedelta(days=n) for n in range((self.end - self.start).days)]

    def days_to_request(self, *, day_before: bool) -> tuple[date, date]:
        """Return the days to request, as `from` and `to`.

        The API documents neither the time zone of its days nor whether `to` is inclusive: with the day before and two
        days after, the response contains the window in every case.
        """
        return self.first_day - (_DAY if day_before else timedelta(0)), self.last_day + 2 * _DAY

    def needs_day_before(self, oldest: datetime | None, *, day_before: bool) -> bool:
        """Return whether the response may lack the window's first rows unless the day before is requested.

        A day of the store begins at midnight UTC, or at least an hour from it. So if the first day of the response has
        a row from before 01:00 UTC, or from the day before, the store's days begin no later than those in UTC.

        Args:
            oldest: The cursor of the oldest row; None if there is no row.
            day_before: Whether the day before was requested.
        """
        first = self.start - _DAY if day_before else self.start
        return oldest is None or oldest >= first + _LEAST_OFFSET

    def contains(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def __str__(self) -> str:
        if self.first_day == self.last_day:
            return self.first_day.isoformat()
        return f"{self.first_day.isoformat()}...{self.last_day.isoformat()}"


def join_windows(windows: Iterable[Window]) -> list[Window]:
    """Return the windows oldest first, with overlapping and adjacent ones joined."""
    joined: list[Window] = []
    for window in sorted(windows):
        if joined and window.start <= joined[-1].end:
            joined[-1] = Window(joined[-1].start, max(joined[-1].end, window.end))
        else:
            joined.append(window)
    return joined
