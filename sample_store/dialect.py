"""The points on which stores of this API differ, or which its reference does not document."""

from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo


@dataclass
class Dialect:
    """How a sample store responds. It may change while the store serves; the next request uses it."""

    max_per_page: int = 50
    default_per_page: int = 10
    to_is_inclusive: bool = True
    day_zone: str | tzinfo = UTC
    """The time zone of the days of a window; a string is an IANA name."""
    ignores_updated_after: bool = False
    ignores_dates: bool = False
    oldest_first: bool = True
    sorted_by_id: bool = False
    """Orders are listed by id, so that a back-dated one is among the latest."""
    lists_refunds: bool = True
    """The list of orders has the transactions of refunds; a request for one order always has."""
    wrapped: Literal["items", "object"] = "items"
    """The shape of a list: `[{"order": {...}}, ...]`, or one object `{"orders": [{...}, ...]}`."""

    @property
    def zone(self) -> tzinfo:
        return ZoneInfo(self.day_zone) if isinstance(self.day_zone, str) else self.day_zone
