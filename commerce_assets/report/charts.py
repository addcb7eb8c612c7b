"""The charts of the report, drawn by matplotlib as SVG: a page with them needs no script and no network."""

import base64
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

BLUE, PALE, ORANGE, GREY = "#1f6feb", "#b6cff5", "#e5812d", "#b9bec7"
_INK = "#40464f"
_WIDTH, _HEIGHT = 5.6, 2.7
_ROW_HEIGHT = 0.3
_LONGEST_NAME = 34
_MANY_BARS = 14
_TWO_WEEKS = 14
_STYLE: Any = {
    # Text stays text, in the reader's own font; matplotlib measures it in a wide one.
    "svg.fonttype": "none",
    "svg.hashsalt": "commerce_assets",
    "font.size": 10,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": "#d5d9df",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ebef",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.bottom": False,
    "ytick.left": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_FONT = re.compile(r"'DejaVu Sans'[^;\"]*sans-serif")
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True, slots=True)
class Series:
    """Values of a chart, one per position on its axis."""

    label: str
    values: Sequence[float]
    color: str


def month_bars(months: Sequence[date], series: Sequence[Series], *, percent: bool = False) -> str:
    """Draw stacked bars per month."""
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas()
        bottom = [0.0] * len(months)
        for each in series:
            axes.bar(range(len(months)), each.values, bottom=bottom, width=0.78, color=each.color, label=each.label)
            bottom = [below + value for below, value in zip(bottom, each.values, strict=True)]
        _name_months(axes, months)
        _count_axis(axes, percent=percent)
        if len(series) > 1:
            axes.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=len(series), borderaxespad=0, handlelength=1)
        return _svg(figure)


def day_bars(days: Sequence[date], values: Sequence[float], *, is_wide: bool = False) -> str:
    """Draw a bar per day, and from two weeks on the mean of seven days as a line."""
    means = [sum(values[max(place - 6, 0) : place + 1]) / min(place + 1, 7) for place in range(len(values))]
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(width=2 * _WIDTH if is_wide else _WIDTH)
        axes.bar(range(len(days)), values, width=0.86, color=PALE, label="per day")
        if len(days) >= _TWO_WEEKS:
            axes.plot(range(len(days)), means, color=BLUE, linewidth=2, label="mean of seven days")
            axes.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2, borderaxespad=0, handlelength=1)
        places = _spread(len(days), 6)
        axes.set_xticks(places, [f"{days[place].day} {days[place]:%b}" for place in places])
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.02)
        _count_axis(axes)
        return _svg(figure)


def month_line(months: Sequence[date], values: Sequence[float]) -> str:
    """Draw a line over months, from 0."""
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas()
        axes.plot(range(len(months)), values, color=BLUE, linewidth=2, marker="o", markersize=3.5)
        _name_months(axes, months)
        _count_axis(axes)
        axes.set_ylim(bottom=0)
        return _svg(figure)


def ranking(names: Sequence[str], values: Sequence[float], labels: Sequence[str]) -> str:
    """Draw a horizontal bar per name, the first on top, with its value as text."""
    with mpl.rc_context(_STYLE):
        figure, axes = _canvas(height=0.4 + _ROW_HEIGHT * len(names))
        places = range(len(names))
        bars = axes.barh(places, values, height=0.66, color=BLUE)
        axes.bar_label(bars, labels, padding=4, fontsize=9)
        shown = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in names]
        axes.set_yticks(places, shown)
        axes.invert_yaxis()
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.2, y=0.01)
        axes.axvline(0, color="#d5d9df", linewidth=1)
        return _svg(figure)


def _canvas(*, width: float = _WIDTH, height: float = _HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    return figure, axes


def _name_months(axes: Axes, months: Sequence[date]) -> None:
    """Name some months; the year is below the first of them and below each January."""
    places = [*range(len(months))]
    if len(months) > _MANY_BARS:
        step = next(step for step in (3, 6, 12, 24, 60, 120, len(months)) if len(months) / step <= _MANY_BARS)
        places = [place for place in places if (months[place].month - 1 + 12 * months[place].year) % step == 0]
    names = []
    for shown, place in enumerate(places):
        month = months[place]
        is_new_year = shown == 0 or months[places[shown - 1]].year != month.year
        names.append(f"{month:%b}\n{month.year}" if is_new_year else f"{month:%b}")
    axes.set_xticks(places, names)
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.02)


def _count_axis(axes: Axes, *, percent: bool = False) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3, integer=not percent))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g} %" if percent else _compact(value)))


def _compact(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):,.4g}{letter}"
    return f"{value:,.4g}"


def _spread(count: int, wanted: int) -> list[int]:
    """Return positions at even distances, the last included."""
    step = max(round(count / wanted), 1)
    return [*range((count - 1) % step, count, step)]


def _svg(figure: Figure) -> str:
    """Return the figure as a data URI: the ids of several SVGs on one page would collide."""
    written = BytesIO()
    # Of names in Japanese, say: the reader's font has the glyphs that matplotlib's lacks.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
    svg = written.getvalue().decode()
    svg = _FONT.sub("system-ui, Helvetica, Arial, sans-serif", svg[svg.index("<svg") :])
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
