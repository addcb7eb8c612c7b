"""The points on which stores of this API differ, or on which its reference pages are silent."""

from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo


@dataclass
class Dialect:
    """How a sample store answers. It may change while the store serves; the next request follows it."""

    max_per_page: int = 50
    default_per_page: int = 10
    to_is_inclusive: bool = True
    day_zone: str | tzinfo = UTC
    """The zone in which the days of a window begin; a string is an IANA name."""
    ignores_updated_after: bool = False
    ignores_dates: bool = False
    oldest_first: bool = True
    wrapped: Literal["items", "object"] = "items"
    """A list answer: `[{"order": {...}}, ...]`, or one object `{"orders": [{...}, ...]}`."""

    @property
    def zone(self) -> tzinfo:
        return ZoneInfo(self.day_zone) if isinstance(self.day_zone, str) else self.day_zone
