"""What is worth telling of what was seen, and how it is put. Pure, no I/O.

What goes bad is told once, and again when it has been good in between, when something else is wrong with it, or once a
day; what was told as bad is told when it is good again.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

WARNING = "WARN"
"""The fault of a check that only warns, as Dagster names the severity."""

# Less than a day, so that what fails in a daily run is told each day, whichever second it fails in.
_TOLD_AGAIN_AFTER = timedelta(hours=20)
# A partition may never be looked at again.
_FORGOTTEN_AFTER = timedelta(days=14)
_MOST_REMEMBERED = 200
_MOST_LINES = 30
_LONGEST = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A job or a check as it was seen at an instant.

    Attributes:
        subject: Which job or check, of which partitions.
        fault: Names what is wrong, the same for as long as the same is wrong; None: it is good.
        detail: What is wrong, in words.
        run_id: Of the run that it was seen in; empty: in none.
    """

    subject: str
    at: datetime
    fault: str | None = None
    detail: str = ""
    run_id: str = ""

    @property
    def line(self) -> str:
        what = "is good again" if self.fault is None else harmless(self.detail)
        run = f", run {self.run_id[:8]}" if self.run_id else ""
        return f"- {self.subject}: {what} ({self.at:%Y-%m-%d %H:%M} UTC{run})"


class Trouble(msgspec.Struct, frozen=True):
    """What is known to be bad, and when that was told."""

    fault: str
    told_at: datetime


def news_of(
    sightings: Iterable[Sighting], troubles: Mapping[str, Trouble]
) -> tuple[list[Sighting], dict[str, Trouble]]:
    """What to tell, in the order in which it was seen, and the troubles, by subject, once it has been told."""
    news: list[Sighting] = []
    known = dict(troubles)
    for seen in sightings:
        trouble = known.get(seen.subject)
        if seen.fault is None:
            if trouble:
                del known[seen.subject]
                news.append(seen)
        elif not trouble or trouble.fault != seen.fault or seen.at - trouble.told_at >= _TOLD_AGAIN_AFTER:
            known[seen.subject] = Trouble(seen.fault, seen.at)
            news.append(seen)
    return news, _recent(known)


def message_of(news: Sequence[Sighting]) -> str:
    """One message for all of it, a line each."""
    counts = Counter(
        "good again" if seen.fault is None else "warn" if seen.fault == WARNING else "failed" for seen in news
    )
    summary = ", ".join(f"{counts[what]} {what}" for what in ("failed", "warn", "good again") if counts[what])
    lines = [
        f"commerce_assets: {summary}",
        *(seen.line for seen in news[:_MOST_LINES]),
    ]
    if len(news) > _MOST_LINES:
        lines.append(f"- and {len(news) - _MOST_LINES} more: see the runs in Dagster's UI")
    return "\n".join(lines)


def harmless(text: str) -> str:
    """On one line of bounded length, without what may be an e-mail address or wake a channel: names are the store's."""
    masked = re.sub(r"\S*@\S*", "[...]", text)
    words = " ".join(masked.split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def _recent(troubles: dict[str, Trouble]) -> dict[str, Trouble]:
    newest_first = sorted(troubles.items(), key=lambda item: item[1].told_at, reverse=True)[:_MOST_REMEMBERED]
    return {
        subject: trouble
        for subject, trouble in newest_first
        if newest_first[0][1].told_at - trouble.told_at < _FORGOTTEN_AFTER
    }
