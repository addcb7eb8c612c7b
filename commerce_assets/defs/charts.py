"""Bar charts of daily values for the UI: Markdown with an inline SVG.

Dagster plots one number per materialization, not the days inside one. The UI shows Markdown of less than 1,000
characters in place and hides longer texts behind a click, so a chart is a single path.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from urllib.parse import quote

import dagster as dg

DAYS = 90
_BAR, _HEIGHT = 4, 60
_LEFT = 44
_WIDTH = _LEFT + DAYS * _BAR
_COLOUR = "#4f43dd"
# Legible in the light and the dark theme.
_LABELS = "#888"
# Larger numbers are labelled without decimals, to fit.
_WHOLE_FROM = 100


def daily_chart(title: str, values: Mapping[date, float], *, newest: date) -> dg.MarkdownMetadataValue:
    """Draw the 90 days up to the newest; a day without a value is 0."""
    days = [newest - timedelta(days=back) for back in reversed(range(DAYS))]
    # Only what has a meaning in a URL, or ends one in Markdown, is quoted: quoting makes the text longer.
    picture = quote(_svg([values.get(day, 0.0) for day in days], days), safe="/:=,'")
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml,{picture})")


def _svg(heights: list[float], days: list[date]) -> str:
    highest, lowest = max(0.0, *heights), min(0.0, *heights)
    scale = _HEIGHT / ((highest - lowest) or 1.0)
    zero = round(highest * scale)
    path, at = f"M{_LEFT},{zero}", zero
    for height in heights:
        top = round((highest - height) * scale)
        path += f"h{_BAR}" if top == at else f"V{top}h{_BAR}"
        at = top
    labels = [
        f"<text y='9'>{_label(highest)}</text>",
        *([f"<text y='{_HEIGHT}'>{_label(lowest)}</text>"] if lowest else []),
        f"<text x='{_LEFT}' y='75'>{days[0]}</text>",
        f"<text x='{_WIDTH}' y='75' text-anchor='end'>{days[-1]}</text>",
    ]
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='80' font-size='11' font-family='Arial'>"
        f"<path fill='{_COLOUR}' d='{path}V{zero}z'/><g fill='{_LABELS}'>{''.join(labels)}</g></svg>"
    )


def _label(bound: float) -> str:
    return f"{bound:,.0f}" if abs(bound) >= _WHOLE_FROM else f"{bound:.4g}"
