"""The progress bar of an extraction, where there is a terminal to show it on; elsewhere the log says the same."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from commerce_assets.api.decoding import PageFacts
from commerce_assets.api.request import ListRequest
from commerce_assets.cli.console import ConsoleHandler, can_redraw
from commerce_assets.window import Window


class ExtractionBar(Progress):
    """Shows rows, and for a window of days how far the extraction is and how long the rest takes.

    It follows `ingest` as its watcher. A list without a window, or not oldest first, has no estimate.
    """

    def __init__(self, console: Console, handler: ConsoleHandler) -> None:
        self._handler = handler
        self._shown = can_redraw(console)
        super().__init__(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            disable=not self._shown,
        )
        self._bar = self.add_task("", total=None, rows=0)
        self._window: Window | None = None
        self.rows = 0

    def start(self) -> None:
        self._handler.has_bar = self._shown
        super().start()

    def stop(self) -> None:
        super().stop()
        self._handler.has_bar = False

    def begin(self, request: ListRequest, staged: Sequence[PageFacts]) -> None:
        """An extraction begins, or resumes after the pages of an interrupted one."""
        self._window = request.window
        self.rows = sum(page.count for page in staged)
        self.reset(self._bar, description=str(request), total=None, rows=self.rows)

    def page(self, page: PageFacts) -> None:
        """A page is staged."""
        self.rows += page.count
        done = self._fraction(page)
        self.update(self._bar, rows=self.rows, total=None if done is None else 1.0, completed=done or 0.0)

    def loading(self) -> None:
        """Everything is staged; the load begins."""
        self.update(self._bar, total=None, description="loading")

    def _fraction(self, page: PageFacts) -> float | None:
        """How much of the window's time is before the page's last row, from 0 to 1."""
        if self._window is None or page.last is None or not page.ascending:
            return None
        end = min(self._window.end, datetime.now(UTC))
        return min(max((page.last - self._window.start) / (end - self._window.start), 0.0), 1.0)
