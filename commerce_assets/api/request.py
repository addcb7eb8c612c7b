"""A request for a list: the full list, a window, the rows changed since an instant; or for single items of it."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from commerce_assets.api.timestamps import format_instant
from commerce_assets.endpoint import Endpoint
from commerce_assets.window import Window


def store_of(base_url: str, key: str) -> str:
    """Return the name of a store and an account: the origin, and a hash of the key that does not reveal it."""
    parts = urlsplit(base_url)
    account = hashlib.sha256(f"account of {key}".encode()).hexdigest()[:16]
    return f"{parts.scheme}://{parts.netloc.lower()} {account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """One list to read to its end. Logs and errors use its `str()`.

    Attributes:
        endpoint: The endpoint of the list.
        window: Only rows whose cursor is inside the window.
        day_before: Request the day before the window, too: the store's days may begin later than those in UTC.
        updated_after: Only rows changed since this instant.
        newest_first: The first page has the newest rows.
    """

    endpoint: Endpoint
    window: Window | None = None
    day_before: bool = True
    updated_after: datetime | None = None
    newest_first: bool = False

    def __post_init__(self) -> None:
        if self.window and self.updated_after:
            raise ValueError("a list is requested by window or by updated_after, not by both")
        if (self.window or self.newest_first) and not self.endpoint.is_partitioned:
            raise ValueError(f"the list of {self.endpoint.name} has no cursor")
        if self.updated_after and not self.endpoint.update_filter:
            raise ValueError(f"the list of {self.endpoint.name} has no update_filter")

    @property
    def params(self) -> dict[str, str]:
        """The query parameters, without those of the paginator."""
        order = dict([self.endpoint.newest_first]) if self.newest_first else {}
        if self.window:
            first, last = self.window.days_to_request(day_before=self.day_before)
            return order | {
                self.endpoint.window_start_param: first.isoformat(),
                self.endpoint.window_end_param: last.isoformat(),
            }
        if self.updated_after and self.endpoint.update_filter:
            return order | {self.endpoint.update_filter: format_instant(self.updated_after)}
        return order

    @property
    def key(self) -> str:
        """A name of the request, unique per endpoint and safe as a file name."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRequest(ListRequest):
    """A request for single items of a list, one per page, for the column that the list may lack."""

    @property
    def params(self) -> dict[str, str]:
        return {}

    @property
    def key(self) -> str:
        return "items"

    def __str__(self) -> str:
        column = self.endpoint.item_lookup.column if self.endpoint.item_lookup else "items"
        return f"{self.endpoint.name}, {column}"
