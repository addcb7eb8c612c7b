"""The progress bar of a pull, where there is a terminal to show it on; elsewhere the log says the same in lines."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from commerce_assets.api.decoding import PageFacts
from commerce_assets.api.request import ListRequest
from commerce_assets.cli.console import can_redraw
from commerce_assets.cli.estimate import Estimate, in_words
from commerce_assets.cli.session import Session


class PullBar:
    """A `Watcher` that shows pages, rows, rows a second and an estimate of what is left."""

    def __init__(self, session: Session, pull: ListRequest) -> None:
        self._handler = session.handler
        self._pull = pull
        self._pages = 0
        self._is_shown = can_redraw(session.aside)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[told]}"),
            console=session.aside,
            transient=True,
            disable=not self._is_shown,
        )
        self._task = self._progress.add_task(str(pull), total=None, told="")

    def __enter__(self) -> Self:
        self._handler.has_bar = self._is_shown
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._handler.has_bar = False

    @property
    def pages(self) -> int:
        """How many are staged, those of an earlier run included."""
        return self._pages

    def begin(self, staged: Sequence[PageFacts]) -> None:
        self._began = time.monotonic()
        self._estimate = Estimate(self._pull.window)
        self._pages = self._rows = self._rows_before = 0
        for page in staged:
            self._see(page, staged_before=True)
        self._rows_before = self._rows

    def page(self, page: PageFacts) -> None:
        self._see(page)
        elapsed = time.monotonic() - self._began
        told = [
            f"{self._rows:,} rows",
            f"{(self._rows - self._rows_before) / max(elapsed, 0.001):,.0f} rows/s",
            in_words(self._estimate.seconds_left(elapsed)),
        ]
        fraction = self._estimate.fraction
        self._progress.update(
            self._task,
            total=None if fraction is None else 1.0,
            completed=fraction or 0.0,
            told=", ".join(filter(None, told)),
        )

    def loading(self) -> None:
        """All is pulled; the database is at work."""
        self._progress.update(self._task, total=None, told=f"{self._rows:,} rows, loading")

    def _see(self, page: PageFacts, *, staged_before: bool = False) -> None:
        self._pages += 1
        self._rows += page.count
        self._estimate.see(page, staged_before=staged_before)
