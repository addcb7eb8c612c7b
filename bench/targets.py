"""The targets, as ratios within one session, and the measured numbers."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.contenders import FLOOR, SELF
from bench.runs import Outcome
from bench.scenarios import YEAR, Bench
from bench.server import LARGEST_PAGE

Sections = Mapping[str, Sequence[Outcome]]
Parts = Mapping[str, tuple[float, float]]
_MIB = 1 << 20


@dataclass(frozen=True)
class TargetResult:
    """A target, the measured number, and whether it meets the target."""

    target: str
    measured: str
    met: bool


def target_results(bench: Bench, largest: int) -> Iterator[TargetResult]:
    """Compare the session with every target of its scenarios; `largest` is the size of the largest first load."""
    sections = bench.sections
    yield from _first_loads(sections, bench.parts, largest)
    yield from _memory(sections)
    yield from _nothing_changed(sections, largest)
    yield from _backfill(sections)
    yield from _slow(sections)
    yield from _paced(sections)
    beyond = bench.imports[1] - bench.imports[0]
    yield TargetResult("import of the code location at most 0.3 s beyond dagster's", f"{beyond:.2f} s", beyond <= 0.3)
    yield from _growth(sections)


def _first_loads(sections: Sections, parts: Parts, largest: int) -> Iterator[TargetResult]:
    for title, limit in ((f"First load of {largest:,} orders", 0.7), ("First load of 20,000 orders", 1.3)):
        by_name = _by_name(sections, title)
        ours, floor, peer = by_name.get(SELF.name), by_name.get(FLOOR.name), by_name.get("dlt-arrow")
        if ours and peer:
            yield _at_most(f"{title}: wall at most {limit} x dlt-arrow's", ours.wall / peer.wall, limit)
        if ours and floor and _number(title) == largest:
            yield _at_most(f"{title}: CPU at most 2.0 x the floor's", ours.cpu / floor.cpu, 2.0)
            if parts:
                without = (parts["extract"][1] + parts["load"][1]) / floor.cpu
                yield _at_most(f"{title}: extraction and load alone, without Dagster", without, 2.0)


def _memory(sections: Sections) -> Iterator[TargetResult]:
    sizes = {_number(title): _ours(outcomes) for title, outcomes in sections.items() if title.startswith("Growth")}
    small, large = sizes.get(100_000), sizes.get(1_000_000)
    if small and large:
        yield TargetResult(
            "peak memory at 1,000,000 orders at most 350 MiB", f"{large.peak >> 20} MiB", large.peak >> 20 <= 350
        )
        yield _at_most("peak memory at 1,000,000 orders at most 1.15 x that at 100,000", large.peak / small.peak, 1.15)


def _nothing_changed(sections: Sections, largest: int) -> Iterator[TargetResult]:
    if refreshed := _ours(sections.get(f"Refresh, nothing changed, {largest:,} orders", [])):
        yield TargetResult(
            f"nothing changed: at most 2 requests of orders_refresh ({largest:,} orders)",
            str(refreshed.requests),
            refreshed.requests <= 2,
        )
    if again := _ours(sections.get(f"Second load, nothing changed, {largest:,} orders", [])):
        unchanged = re.search(r"rows loaded in [\d.]+ s \(([\d,]+) unchanged\)", again.output)
        rewritten = unchanged is None or int(unchanged[1].replace(",", "")) != again.rows
        yield TargetResult("second load: no row rewritten", "some" if rewritten else "none", not rewritten)
        yield TargetResult("second load: the file grows by at most 2 %", f"{again.growth:.1%}", again.growth <= 0.02)

    by_name = _by_name(sections, f"Refresh, nothing changed, {largest:,} orders")
    if (ours := by_name.get(SELF.name)) and (peer := by_name.get("dlt")):
        yield _at_most("nothing changed: CPU of a refresh at most 1.5 x dlt's", ours.cpu / peer.cpu, 1.5)


def _backfill(sections: Sections) -> Iterator[TargetResult]:
    ours = _ours(sections.get("Backfill of 365 days", []))
    if ours:
        # The days with the day before and two after, and a request that proves the end of the list.
        pages = math.ceil(368 * YEAR.per_day / LARGEST_PAGE) + 1
        yield TargetResult(f"365 days: at most {pages} requests, one run", f"{ours.requests}", ours.requests <= pages)
        yield TargetResult(f"365 days, {ours.rows:,} orders: at most 12 s", f"{ours.wall:.1f} s", ours.wall <= 12)


def _slow(sections: Sections) -> Iterator[TargetResult]:
    for title, outcomes in sections.items():
        one_at_a_time = _ours(sections.get(f"{title}, COMMERCE_API_CONCURRENCY=1", []))
        ours = _ours(outcomes)
        if ours and one_at_a_time:
            yield _at_least(f"{title}: at least 3 x faster than one page at a time", one_at_a_time.wall / ours.wall, 3)


def _paced(sections: Sections) -> Iterator[TargetResult]:
    for title, outcomes in sections.items():
        ours = _ours(outcomes)
        if "one request per second" in title and ours:
            pace = (ours.requests - 1) / ours.asking if ours.asking else 0.0
            yield TargetResult("one request per second: no 429", str(ours.refused), ours.refused == 0)
            yield _at_least("one request per second: at least 0.95 requests per second", pace, 0.95)


def _growth(sections: Sections) -> Iterator[TargetResult]:
    sizes = {_number(title): _ours(outcomes) for title, outcomes in sections.items() if title.startswith("Growth")}
    for size, ours in sorted(sizes.items()):
        if ours:
            loading = re.search(r"rows loaded in ([\d.]+) s", ours.output)
            seconds = float(loading[1]) if loading else math.nan
            yield TargetResult(
                f"cost per row stays flat: {size:,} orders",
                f"{ours.cpu_per_row * 1e6:.0f} us CPU, {seconds / size * 1e6:.0f} us load, {ours.peak // _MIB} MiB",
                ours.complete is True,
            )
    refreshes = [_ours(outcomes) for title, outcomes in sections.items() if title.startswith("Refresh of ")]
    if len(refreshes) == 2 and all(refreshes):
        small, large = refreshes
        yield _at_most(
            "a refresh on 10,000,000 orders: wall at most 1.3 x that on 10,000", large.wall / small.wall, 1.3
        )


def _at_most(target: str, ratio: float, limit: float) -> TargetResult:
    return TargetResult(target, f"{ratio:.2f} x", ratio <= limit)


def _at_least(target: str, ratio: float, limit: float) -> TargetResult:
    return TargetResult(target, f"{ratio:.2f} x", ratio >= limit)


def _by_name(sections: Sections, title: str) -> dict[str, Outcome]:
    return {outcome.contender.name: outcome for outcome in sections.get(title, []) if not outcome.failure}


def _ours(outcomes: Sequence[Outcome]) -> Outcome | None:
    return next((outcome for outcome in outcomes if outcome.contender == SELF and not outcome.failure), None)


def _number(title: str) -> int:
    return int(re.sub(r"\D", "", title))
