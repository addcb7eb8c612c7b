"""Small bar charts for the UI, as Markdown with the picture in it: Dagster's UI shows images from `data:` URLs only so.

A picture is about 5 KB, for it is kept in the event log for ever, and takes some 40 ms to draw.
"""

import base64
import io
from collections.abc import Mapping
from datetime import date, timedelta

from dagster import MarkdownMetadataValue, MetadataValue

DAYS = 90
_INCHES = (7.0, 1.5)
_COLOUR = "#4f43dd"
# Labels of larger numbers show no cents, which the axis has no room for.
_WHOLE_FROM = 100


def daily_chart(series: Mapping[str, Mapping[date, float]]) -> MarkdownMetadataValue:
    """A chart for each series, by its title: ninety days up to the newest of them all; a day without a value is 0."""
    newest = max((day for values in series.values() for day in values), default=None)
    if newest is None:
        return MetadataValue.md("No rows yet.")
    days = [newest - timedelta(days=back) for back in reversed(range(DAYS))]
    try:
        pictures = {title: _png([values.get(day, 0.0) for day in days], days) for title, values in series.items()}
    except Exception as error:  # noqa: BLE001 - no load of hours must fail for a picture, whatever is wrong with it
        return MetadataValue.md(f"No chart: {type(error).__name__}.")
    return MetadataValue.md(
        "\n\n".join(
            f"**{title}**\n\n![{title}](data:image/png;base64,{picture})" for title, picture in pictures.items()
        )
    )


def _png(heights: list[float], days: list[date]) -> str:
    # Half a second to import, which only a run that draws should pay; without pyplot it keeps no state and no window.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=_INCHES)
    # A layout that is not computed takes a third of the time.
    axes = figure.add_axes((0.1, 0.17, 0.88, 0.76))
    axes.stairs(heights, fill=True, color=_COLOUR)
    axes.set_xlim(0, len(days))
    axes.margins(y=0.05)
    ticks = [0, len(days) // 2, len(days) - 1]
    axes.set_xticks([tick + 0.5 for tick in ticks], [days[tick].isoformat() for tick in ticks])
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    bounds = sorted({0.0, max(heights), min(heights)}) if min(heights) < 0 else sorted({0.0, max(heights)})
    axes.set_yticks(bounds, [f"{bound:,.0f}" if abs(bound) >= _WHOLE_FROM else f"{bound:.4g}" for bound in bounds])
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return base64.b64encode(picture.getvalue()).decode()
