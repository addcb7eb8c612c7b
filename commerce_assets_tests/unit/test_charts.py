"""The charts of the UI: that they tell the truth, and that Dagster's UI shows them where they stand."""

import random
import re
from datetime import date, timedelta
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest

from commerce_assets.defs.charts import DAYS, daily_chart

NEWEST = date(2024, 3, 15)
OLDEST = NEWEST - timedelta(days=DAYS - 1)
# Where Dagster's UI begins to hide Markdown behind a link.
SHOWN_IN_PLACE = 1_000


def svg(values: dict[date, float]) -> tuple[list[float], list[str]]:
    """The tops of the bars of a chart, downwards from its upper edge, and its labels."""
    markdown = daily_chart("Rows per day", values, newest=NEWEST).value
    found = re.fullmatch(r"!\[Rows per day\]\(data:image/svg\+xml,([^\s()<>]+)\)", str(markdown))
    assert found
    picture = ET.fromstring(unquote(found[1]))  # noqa: S314 - our own
    (path,) = picture.iter("{http://www.w3.org/2000/svg}path")
    tops, at = [], 0.0
    for command, number in re.findall(r"([MVh])(?:\d+,)?(\d+)", path.attrib["d"]):
        if command == "h":
            tops.append(at)
        else:
            at = float(number)
    return tops, [text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text")]


def test_a_chart_has_90_bars_the_maximum_and_both_dates() -> None:
    tops, labels = svg({OLDEST: 5.0, NEWEST: 10.0, NEWEST - timedelta(days=1): 2.5})

    assert tops == [30.0, *[60.0] * (DAYS - 3), 45.0, 0.0]
    assert labels == ["10", "2023-12-17", "2024-03-15"]


def test_other_days_are_not_shown() -> None:
    assert svg({OLDEST - timedelta(days=1): 99.0, NEWEST + timedelta(days=1): 99.0, NEWEST: 1.0})[1][0] == "1"


def test_negative_values_hang_from_zero() -> None:
    tops, labels = svg({OLDEST: -1_234.0, NEWEST: 1_234.0})

    assert tops == [60.0, *[30.0] * (DAYS - 2), 0.0]
    assert labels[:2] == ["1,234", "-1,234"]


def test_a_chart_without_values_is_flat() -> None:
    tops, labels = svg({})

    assert len(set(tops)) == 1
    assert labels[0] == "0"


@pytest.mark.parametrize("lowest", [0.0, -99_999_999.0])
def test_the_ui_shows_every_chart_in_place(lowest: float) -> None:
    draw = random.Random(7)
    values = {NEWEST - timedelta(days=back): draw.uniform(lowest, 99_999_999.0) for back in range(DAYS)}

    chart = daily_chart("Net revenue per day, EUR", values, newest=NEWEST)

    assert len(str(chart.value)) < SHOWN_IN_PLACE
