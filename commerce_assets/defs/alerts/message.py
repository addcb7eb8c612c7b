"""Choose what is new and write the message. Pure functions.

A fault is alerted on once, again after 20 hours or when it changes, and once more when it is gone.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from commerce_assets.wording import counted

WARNING = "WARN"
"""The fault of a check that only warns, as Dagster names the severity."""

# Less than a day, so that a daily run that fails is alerted on each day.
_REPEAT_AFTER = timedelta(hours=20)
_FORGET_AFTER = timedelta(days=14)
_PLURALS = {"failed": "failed", "warning": "warnings", "good again": "good again"}
_MOST_REMEMBERED, _MOST_LINES, _LONGEST = 200, 30, 500


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a job, check, backfill, schedule or sensor at an instant; without a fault, it is good.

    Attributes:
        subject: What it is about, such as `job orders_refresh`.
        at: When it was so.
        fault: A short name of what is wrong; the same as before is not alerted on again.
        detail: The rest of the sentence that begins with the subject, such as `failed with PullError: ...`.
        run_id: The run that shows more.
    """

    subject: str
    at: datetime
    fault: str | None = None
    detail: str = ""
    run_id: str = ""

    @property
    def line(self) -> str:
        what = "is good again" if self.fault is None else clean(self.detail)
        run = f", run {self.run_id[:8]}" if self.run_id else ""
        return f"- {self.subject} {what} ({self.at:%Y-%m-%d %H:%M} UTC{run})"


class Trouble(msgspec.Struct, frozen=True):
    """A fault that has been alerted on."""

    fault: str
    alerted_at: datetime


def select_new(
    sightings: Iterable[Sighting], troubles: Mapping[str, Trouble]
) -> tuple[list[Sighting], dict[str, Trouble]]:
    """Return what to alert on, and the troubles by subject after that."""
    new: list[Sighting] = []
    known = dict(troubles)
    for seen in sightings:
        trouble = known.get(seen.subject)
        if seen.fault is None:
            if known.pop(seen.subject, None):
                new.append(seen)
        elif not trouble or trouble.fault != seen.fault or seen.at - trouble.alerted_at >= _REPEAT_AFTER:
            known[seen.subject] = Trouble(seen.fault, seen.at)
            new.append(seen)
    newest = sorted(known.items(), key=lambda item: item[1].alerted_at, reverse=True)[:_MOST_REMEMBERED]
    return new, {name: it for name, it in newest if newest[0][1].alerted_at - it.alerted_at < _FORGET_AFTER}


def write_message(new: Sequence[Sighting], shop: str = "") -> str:
    """Return one message for all alerts, a line each."""
    kinds = Counter("good again" if it.fault is None else "warning" if it.fault == WARNING else "failed" for it in new)
    summary = ", ".join(counted(kinds[one], one, many) for one, many in _PLURALS.items() if kinds[one])
    lines = [f"{shop or 'commerce_assets'}: {summary}", *(it.line for it in new[:_MOST_LINES])]
    if len(new) > _MOST_LINES:
        lines.append(f"- and {len(new) - _MOST_LINES} more: see the runs in Dagster's UI")
    return "\n".join(lines)


def clean(text: str) -> str:
    """Return the text on one line of bounded length, without email addresses and mentions."""
    words = " ".join(re.sub(r"\S*@\S*", "[...]", text).split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."
