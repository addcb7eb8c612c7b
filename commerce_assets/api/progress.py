"""Log the progress of an extraction, at growing intervals."""

import logging
import time
from typing import TYPE_CHECKING

from commerce_assets.api.request import ListRequest
from commerce_assets.wording import counted

if TYPE_CHECKING:
    from commerce_assets.api.client import Tally

_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 300.0


class Progress:
    """Logs a line after 5 s, then at doubling intervals of up to five minutes."""

    def __init__(self, pull: ListRequest, tally: "Tally", log: logging.Logger, *, rows_before: int = 0) -> None:
        self._pull = pull
        self._tally = tally
        self._log = log
        self._rows_before = rows_before
        self._rows = rows_before
        self._began = time.monotonic()
        self._pause = _FIRST_PAUSE_SECONDS
        self._next = self._began + self._pause

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def page(self, number: int, count: int) -> None:
        self._rows += count
        if time.monotonic() >= self._next:
            self._write(number)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
            self._next = time.monotonic() + self._pause

    def done(self, number: int) -> None:
        """Log the end; `number` is the last page with rows."""
        self._write(number, end=", complete")

    def _write(self, number: int, end: str = "") -> None:
        rate = (self._rows - self._rows_before) / max(self.seconds, 0.001)
        self._log.info(
            "%s: page %s, %s, %s rows/s, %s (%s), %.0f s rate-limited%s",
            self._pull,
            f"{number:,}",
            counted(self._rows, "row"),
            f"{rate:,.0f}",
            counted(self._tally.requests, "request"),
            counted(self._tally.retries, "retry", "retries"),
            self._tally.seconds_waited,
            end,
        )
