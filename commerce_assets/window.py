"""A window: the half-open range of UTC days that a request for a partitioned endpoint covers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

_PADDING = timedelta(days=1)


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
            datetime.combine(last, time(0), UTC) + timedelta(days=1),
        )

    @property
    def first_day(self) -> date:
        return self.start.date()

    @property
    def last_day(self) -> date:
        return (self.end - timedelta(days=1)).date()

    @property
    def days(self) -> list[date]:
        """The days of the window, in order."""
        return [self.first_day + timedelta(days=n) for n in range((self.end - self.start).days)]

    @property
    def padded_days(self) -> tuple[date, date]:
        """The days to request, as `from` and `to`: one day more on either side.

        The API does not document whether `to` is inclusive, nor the time zone of its days. With the padding, the
        response contains the window in every case.
        """
        return (self.start - _PADDING).date(), (self.end + _PADDING).date()

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
