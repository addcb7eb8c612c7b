"""Output on the consoles: a terminal gets colour and its width, a pipe plain text with one row per line."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Literal

import click
from rich import box
from rich.console import Console, RenderableType
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

# Wide enough that nothing is wrapped: a pipe gets one row per line.
_UNBOUNDED = 1_000_000
_TRAILING_BLANKS = re.compile(r" +$", re.MULTILINE)


def build_console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def can_redraw(console: Console) -> bool:
    """Whether the console can replace a line, as a progress bar needs; a dumb terminal cannot."""
    return console.is_terminal and not console.is_dumb_terminal


def build_waiting_bar(console: Console) -> Progress:
    """Build a progress display without an estimate: description, elapsed time and the task's field `note`."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not can_redraw(console),
    )


def say(message: str) -> None:
    """Print a line of the result. A closed pipe does not stop the work."""
    with contextlib.suppress(BrokenPipeError):
        click.echo(printable(message, keep="\n\t") if sys.stdout.isatty() else message)


def printable(value: str, *, keep: str = "") -> str:
    """Replace what would move a terminal's cursor or hide text, but for the characters to keep."""
    return "".join(each if each.isprintable() or each in keep else "\N{REPLACEMENT CHARACTER}" for each in value)


def build_table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """Build a table for the console; columns of numbers are aligned to the right."""
    # Two blanks between columns, none at the edges: 80 columns are soon full.
    table = Table(
        box=box.SIMPLE_HEAD if console.is_terminal else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0) if console.is_terminal else (0, 1),
        header_style="bold",
    )
    cells = [[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows]
    for index, name in enumerate(columns):
        texts = [row[index].plain for row in cells]
        justify: Literal["left", "right"] = "right" if texts and all(map(_is_number, texts)) else "left"
        table.add_column(Text(printable(name)), justify=justify, overflow="fold")
    for row in cells:
        table.add_row(*row)
    return table


def show(console: Console, shown: RenderableType) -> None:
    """Print; in a pipe without the blanks at the ends of lines."""
    with console.capture() as capture:
        console.print(shown)
    text = capture.get()
    click.echo(text if console.is_terminal else _TRAILING_BLANKS.sub("", text), nl=False, color=console.is_terminal)


def show_wide(console: Console, shown: RenderableType) -> None:
    """Print at full width; what does not fit on the terminal goes to its pager, which scrolls sideways too."""
    if not console.is_terminal:
        show(console, shown)
        return
    width, height = console.size
    # Rich would squeeze the columns into the width of the console.
    console.width = _UNBOUNDED
    with console.capture() as capture:
        console.print(shown)
    console.width = width
    text = capture.get()
    lines = Text.from_ansi(text).plain.splitlines()
    if len(lines) < height and all(len(line.rstrip()) <= width for line in lines):
        click.echo(text, nl=False, color=True)
        return
    # Keep colours, and cut long lines instead of wrapping them; the environment wins.
    os.environ.setdefault("LESS", "FRSX")
    click.echo_via_pager(text, color=True)


class ConsoleHandler(logging.Handler):
    """Shows log records; beside a progress bar, which says the same, only warnings."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.has_bar = False

    def emit(self, record: logging.LogRecord) -> None:
        if self.has_bar and record.levelno < logging.WARNING:
            return
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        self._console.print(Text(printable(record.getMessage()), style=style), soft_wrap=True)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"(-?[\d,]+(\.\d+)?)?", text) is not None
