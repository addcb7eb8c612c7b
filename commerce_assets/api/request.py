"""What is asked of the API: a whole list, the orders of a window, or the orders changed since an instant."""

from dataclasses import dataclass
from datetime import datetime

from commerce_assets.api.timestamps import format_instant
from commerce_assets.endpoint import Endpoint
from commerce_assets.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """One list to be read to its end. `str()` of it is how logs and errors name it."""

    endpoint: Endpoint
    window: Window | None = None
    updated_after: datetime | None = None

    def __post_init__(self) -> None:
        if self.window and self.updated_after:
            raise ValueError("a pull is by window or by updated_after, not by both")
        if self.window and not self.endpoint.is_partitioned:
            raise ValueError(f"the list of {self.endpoint.name} cannot be asked for by date")
        if self.updated_after and not self.endpoint.update_filter:
            raise ValueError(f"the list of {self.endpoint.name} cannot be asked for by changes")

    @property
    def params(self) -> dict[str, str]:
        """The query parameters, without those of paging."""
        if self.window:
            first, last = self.window.padded_days
            return {"from": first.isoformat(), "to": last.isoformat()}
        if self.updated_after and self.endpoint.update_filter:
            return {self.endpoint.update_filter: format_instant(self.updated_after)}
        return {}

    @property
    def key(self) -> str:
        """Names the pull among those of its endpoint; safe as a file name."""
        if self.window:
            return f"{self.window.first_day.isoformat()}_{self.window.last_day.isoformat()}"
        if self.updated_after:
            return f"updated_after_{format_instant(self.updated_after).replace(':', '')}"
        return "all"

    def __str__(self) -> str:
        if self.window:
            return f"{self.endpoint.name} of {self.window}"
        if self.updated_after:
            return f"{self.endpoint.name} changed since {format_instant(self.updated_after)}"
        return self.endpoint.name
