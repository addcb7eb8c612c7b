"""Which instants a window holds, and which days are asked for to have them all."""

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from commerce_assets.window import Window


@pytest.mark.parametrize(
    ("first", "last", "start", "end", "asked_for"),
    [
        ("2024-03-15", "2024-03-15", "2024-03-15", "2024-03-16", ["2024-03-14", "2024-03-17"]),
        ("2024-02-29", "2024-02-29", "2024-02-29", "2024-03-01", ["2024-02-28", "2024-03-02"]),
        ("2024-02-28", "2024-02-28", "2024-02-28", "2024-02-29", ["2024-02-27", "2024-03-01"]),
        ("2023-02-28", "2023-02-28", "2023-02-28", "2023-03-01", ["2023-02-27", "2023-03-02"]),
        ("2024-12-31", "2024-12-31", "2024-12-31", "2025-01-01", ["2024-12-30", "2025-01-02"]),
        ("2025-01-01", "2025-01-01", "2025-01-01", "2025-01-02", ["2024-12-31", "2025-01-03"]),
        ("2024-01-01", "2024-12-31", "2024-01-01", "2025-01-01", ["2023-12-31", "2025-01-02"]),
        # New York's days of 23 and of 25 hours are of 24 here.
        ("2024-03-10", "2024-03-10", "2024-03-10", "2024-03-11", ["2024-03-09", "2024-03-12"]),
        ("2024-11-03", "2024-11-03", "2024-11-03", "2024-11-04", ["2024-11-02", "2024-11-05"]),
    ],
)
def test_a_window_has_utc_midnights_and_a_day_of_padding(
    first: str, last: str, start: str, end: str, asked_for: list[str]
) -> None:
    """Fault 58."""
    window = Window.of_days(date.fromisoformat(first), date.fromisoformat(last))
    assert window.start.isoformat() == f"{start}T00:00:00+00:00"
    assert window.end.isoformat() == f"{end}T00:00:00+00:00"
    assert [day.isoformat() for day in window.days_to_request(day_before=True)] == asked_for
    assert (window.first_day.isoformat(), window.last_day.isoformat()) == (first, last)


@pytest.mark.parametrize(
    ("instant", "inside"),
    [
        ("2024-02-28T23:59:59.999999Z", False),
        ("2024-02-29T00:00:00Z", True),
        ("2024-02-29T23:59:59.999999Z", True),
        ("2024-03-01T00:00:00Z", False),
        ("2024-03-01T00:59:59+01:00", True),
        ("2024-02-29T00:59:59+01:00", False),
        ("2024-02-28T19:00:00-05:00", True),
        ("2024-02-29T19:00:00-05:00", False),
    ],
)
def test_a_window_includes_its_start_and_excludes_its_end(
    instant: str,
    inside: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    window = Window.of_days(date(2024, 2, 29), date(2024, 2, 29))
    assert window.contains(datetime.fromisoformat(instant)) is inside


def test_neighbouring_windows_leave_no_gap_and_no_overlap() -> None:
    days = [date(2023, 12, 30) + timedelta(days=n) for n in range(70)]
    windows = [Window.of_days(day, day) for day in days]
    for earlier, later in pairwise(windows):
        assert earlier.end == later.start
    assert sorted(windows) == windows


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2024, 1, 1), datetime(2024, 1, 2)),  # noqa: DTZ001 - naive on purpose
        (datetime(2024, 1, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, 0, 0, 1, tzinfo=UTC)),
        (datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2024, 1, 2, tzinfo=UTC)),
    ],
)
def test_bounds_that_are_no_midnights_in_utc_are_refused(start: datetime, end: datetime) -> None:
    with pytest.raises(ValueError, match="midnights in UTC"):
        Window(start, end)


@pytest.mark.parametrize("days", [0, 1])
def test_a_window_that_holds_nothing_is_refused(days: int) -> None:
    end = datetime(2024, 1, 2, tzinfo=UTC)
    with pytest.raises(ValueError, match="is empty"):
        Window(end + timedelta(days=days), end)


def test_a_window_is_named_by_its_days() -> None:
    assert str(Window.of_days(date(2024, 2, 29), date(2024, 2, 29))) == "2024-02-29"
    assert str(Window.of_days(date(2024, 2, 29), date(2024, 3, 1))) == "2024-02-29...2024-03-01"
