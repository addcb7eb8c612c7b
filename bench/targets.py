"""The targets, as ratios within one session, and the measured numbers."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.contenders import FLOOR, PEERS, SELF
from bench.runs import Outcome
from bench.scenarios import YEAR, Bench
from bench.server import LARGEST_PAGE

Sections = Mapping[str, Sequence[Outcome]]
Parts = Mapping[str, tuple[float, float]]
_PEER_NAMES = frozenset(peer.name for peer in PEERS)
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
    yield from _first_load(sections, bench.parts, largest)
    yield from _memory(sections)
    yield from _nothing_changed(sections, largest)
    yield from _backfill(sections)
    yield from _slow(sections)
    yield from _paced(sections)
    beyond = bench.imports[1] - bench.imports[0]
    yield TargetResult("import of the code location at most 0.3 s beyond dagster's", f"{beyond:.2f} s", beyond <= 0.3)
    yield from _growth(sections)


def _first_load(sections: Sections, parts: Parts, largest: int) -> Iterator[TargetResult]:
    by_name = _by_name(sections, f"First load of {largest:,} orders")
    ours, floor = by_name.get(SELF.name), by_name.get(FLOOR.name)
    peers = [outcome for name, outcome in by_name.items() if name in _PEER_NAMES and outcome.complete]
    if not (ours and floor and peers):
        return
    what = f"first load of {largest:,} orders"
    yield _at_most(f"{what}: CPU per row at most 1.8 x the floor's", ours.cpu_per_row / floor.cpu_per_row, 1.8)
    if parts:
        without = (parts["extract"][1] + parts["load"][1]) / ours.rows / floor.cpu_per_row
        yield _at_most(f"{what}: extraction and load alone, without Dagster's start and event log", without, 1.8)
    cheapest, fastest = min(peers, key=lambda peer: peer.cpu), min(peers, key=lambda peer: peer.wall)
    yield _at_least(f"{what}: CPU at least 4 x less than the best peer's ({cheapest.contender.name})",
                    cheapest.cpu / ours.cpu, 4)  # fmt: skip
    yield _at_least(f"{what}: wall at least 3 x less than the best peer's ({fastest.contender.name})",
                    fastest.wall / ours.wall, 3)  # fmt: skip


def _memory(sections: Sections) -> Iterator[TargetResult]:
    sizes = {_number(title): _ours(outcomes) for title, outcomes in sections.items() if title.startswith("Growth")}
    if ours := sizes.get(100_000):
        yield TargetResult(
            "peak memory at 100,000 orders at most 400 MB", f"{ours.peak / 1e6:.0f} MB", ours.peak <= 400e6
        )
        if large := sizes.get(1_000_000):
            yield _at_most("peak memory at 1,000,000 orders at most 1.15 x that", large.peak / ours.peak, 1.15)


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


def _backfill(sections: Sections) -> Iterator[TargetResult]:
    ours = _ours(sections.get("Backfill of 365 days", []))
    if ours:
        pages = math.ceil(367 * YEAR.per_day / LARGEST_PAGE)
        # The client stops after the end of the window, so it may need a page less.
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
        yield _at_most("a refresh costs the same on a large table: CPU", large.cpu / small.cpu, 1.25)
        yield _at_most("a refresh costs the same on a large table: wall", large.wall / small.wall, 1.25)


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
