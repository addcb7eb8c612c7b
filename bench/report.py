"""Write RESULTS.md: the machine, the targets, the runs, and the time per part."""

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.contenders import FLOOR, WIRE
from bench.runs import Outcome
from bench.scenarios import Bench
from bench.targets import target_results

_COMPLETE = {None: "", True: "yes", False: "**no**"}

_ROUNDS = (
    "First loads and backfills: the best of {} rounds, in which the contenders take turns, every other round in "
    "reverse order, because other load on a shared machine can only slow a run down. The other scenarios run once. CPU "
    "is that of all processes of a run, memory that of the largest process."
)
_SERVER = (
    f"`{WIRE.name}` requests the same pages and discards them. The server is a separate process and sends slices of a "
    "mapped file; its share is its CPU seconds divided by the seconds between the first and the last request. Well "
    "below 100 %, the server waits for the client."
)
_PARTS = (
    "Timers around the parts of one run (`python -m bench.inside`). The extraction includes client, decoding and "
    "staging, the load all of DuckDB's work; Dagster writes one planned and one materialization event per day."
)


def machine() -> dict[str, str]:
    """Return CPU, memory, system, Python and the load average."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpuinfo = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else ())
        if line.startswith("model name")
    ]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores",
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load average before": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def render(bench: Bench, facts: Mapping[str, str], largest: int) -> str:
    """Return the whole text; `largest` is the size of the largest first load of all contenders."""
    return "\n".join(
        [
            "# Benchmark results",
            "",
            "Written by `make bench`; [`__main__.py`](__main__.py) describes what it measures and how.",
            "",
            *_table(("", ""), facts.items()),
            "",
            *_table(("", "versions"), ((one.name, one.versions) for one in (WIRE, FLOOR, *bench.ours, *bench.peers))),
            "",
            "## What users wait for",
            "",
            *_waits(bench, largest),
            "",
            "## Targets",
            "",
            *_table(
                ("target", "measured", "met"),
                (
                    (result.target, result.measured, "yes" if result.met else "**no**")
                    for result in target_results(bench, largest)
                ),
            ),
            "",
            "## Runs",
            "",
            _ROUNDS.format(bench.repeat),
            "",
            *_runs(bench.sections),
            "## Is the server the bottleneck?",
            "",
            *_server(bench.sections),
            "",
            f"## Where the time goes: a first load of {largest:,} orders in one process",
            "",
            _PARTS,
            "",
            *_table(
                ("part", "wall, s", "CPU, s"),
                ((name, f"{wall:.2f}", f"{cpu:.2f}") for name, (wall, cpu) in bench.parts.items()),
            ),
            "",
            "Start of Python and import, the least of nine: dagster {:.2f} s, the code location {:.2f} s.".format(
                *bench.imports
            ),
            "",
        ]
    )


def _waits(bench: Bench, largest: int) -> list[str]:
    """Compare what a person notices, side by side; empty where a contender cannot do it."""
    names = [contender.name for contender in (*bench.ours, *bench.peers)]
    load, refresh = f"First load of {largest:,} orders", f"Refresh, nothing changed, {largest:,} orders"
    day = next((title for title in bench.sections if title.startswith("A day of")), "")
    rows: dict[str, tuple[str, Callable[[Outcome], str]]] = {
        f"first copy of {largest:,} orders at one request a second, hours": (
            load,
            lambda o: f"{o.requests / 3600:.2f}",
        ),
        "the same without that limit, seconds": (load, _seconds),
        "its memory, MiB": (load, lambda o: f"{o.peak >> 20}"),
        "what it stores, MB (files)": (load, lambda o: f"{o.stored / 1e6:.0f} ({o.files})"),
        "a refresh that finds nothing, seconds": (refresh, _seconds),
        "a refresh with 1 % of them changed, seconds": (
            f"Refresh, 1 % of {largest:,} orders changed",
            _seconds,
        ),
        f"{day[:1].lower()}{day[1:]}, seconds": (day, _seconds),
        "its requests": (day, lambda o: f"{o.requests}"),
    }
    lines = []
    for label, (title, show) in rows.items():
        by_name = {o.contender.name: o for o in bench.sections.get(title, []) if not o.failure}
        lines.append((label, *(show(by_name[name]) if name in by_name else "" for name in names)))
    lines += [(f"{label}, seconds", f"{seconds:.1f}") for label, seconds in bench.waits.items()]
    return _table(("", *names), lines)


def _seconds(outcome: Outcome) -> str:
    return f"{outcome.wall:.1f}"


def _runs(sections: Mapping[str, Sequence[Outcome]]) -> Iterator[str]:
    header = (
        "",
        "rows/s",
        "CPU s",
        "CPU us/row",
        "wall s",
        "peak MiB",
        "requests",
        "all there",
        "file grew",
        "stored, MB",
    )
    for title, outcomes in sections.items():
        yield from (f"### {title}", "", *_table(header, map(_row, outcomes)), "")


def _row(outcome: Outcome) -> tuple[str, ...]:
    if outcome.failure:
        return (outcome.contender.name, "failed: " + " ".join(outcome.failure.split())[-200:].replace("|", "/"))
    return (
        outcome.contender.name,
        f"{outcome.rows / outcome.wall:,.0f}" if outcome.rows else "",
        f"{outcome.cpu:.1f}",
        f"{outcome.cpu_per_row * 1e6:,.0f}" if outcome.rows else "",
        f"{outcome.wall:.1f}",
        f"{outcome.peak >> 20}",
        f"{outcome.requests:,}" + (f" ({outcome.refused} refused)" if outcome.refused else ""),
        _COMPLETE[outcome.complete],
        f"{outcome.growth:.1%}" if outcome.growth else "",
        f"{outcome.stored / 1e6:.0f}" if outcome.stored else "",
    )


def _server(sections: Mapping[str, Sequence[Outcome]]) -> Iterator[str]:
    yield from (_SERVER, "")
    rows = [
        (title, outcome.contender.name, f"{outcome.requests / outcome.asking:,.0f}",
         f"{outcome.server_cpu / outcome.asking:.0%}")
        for title, outcomes in sections.items()
        if title.startswith("First load")
        for outcome in outcomes
        if outcome.asking and not outcome.failure
    ]  # fmt: skip
    yield from _table(("", "", "requests/s while asking", "server's share of a core"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    width = len(header)
    lines = [header, ("---",) * width, *((*row, *("",) * (width - len(row))) for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]
