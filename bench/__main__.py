"""`make bench`: this project and its peers on one server, in turn, in one session; the table goes to RESULTS.md.

    make bench              everything; an hour or so
    make bench SIZE=small   20,000 orders only; some minutes

Who runs: `wire` (asks for the pages and throws them away), `floor` (the least script that gets typed orders into
DuckDB), this project as people run it (`dagster asset materialize`, `dagster job execute`), dlt's rest_api source and
dlt with Arrow tables, plain Dagster with pandas, PyAirbyte, and a Singer tap with target-duckdb. Each peer's
`peers/<name>/run.py` says how it is configured, and why that is its fast way. Environments are made in `.envs` from
pinned requirements, with pip.

The server (`server.py`) is a process of its own. Everything is measured from outside: wall clock, the kernel's account
of CPU and peak memory (`measure.py`), requests as the server counts them, and rows and amounts by another process that
opens the database. Orders are made by the sample store's generator and kept in `.work` until the end.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import report, scenarios
from bench.contenders import EVERYBODY
from bench.scenarios import Bench, history

HERE = Path(__file__).resolve().parent
_SIZES = {"small": (20_000,), "full": (20_000, 100_000)}
_GROWTH = {"small": (), "full": (10_000, 100_000, 1_000_000)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--size", choices=_SIZES, default="full")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of first loads and backfills")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--keep", action="store_true", help="keep the generated orders for the next time")
    arguments = parser.parse_args()
    # Byte code that is not written triples the start of every Dagster process.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    facts = report.machine()
    for contender in EVERYBODY:
        print(f"{contender.name}: {contender.versions}", flush=True)
    bench = Bench(HERE / ".work", arguments.repeat)
    largest = max(_SIZES[arguments.size])
    steps: list[Callable[[], None]] = [
        partial(scenarios.import_times, bench),
        *(partial(scenarios.first_load_and_after, bench, history(size)) for size in _SIZES[arguments.size]),
        *(partial(scenarios.backfill, bench, days) for days in (30, 365)),
        partial(scenarios.slow_server, bench),
        partial(scenarios.one_a_second, bench),
        partial(scenarios.breakdown, bench, history(largest)),
    ]
    if growth := _GROWTH[arguments.size]:
        steps += [partial(scenarios.growth, bench, growth), partial(scenarios.large_table, bench, times=1_000)]
    for step in steps:
        # What has been measured is not thrown away because of what cannot be.
        try:
            step()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            print(f"this scenario failed: {error}", flush=True)
    text = report.render(bench, facts, largest)
    arguments.output.write_text(text)
    print(text)
    shutil.rmtree(bench.runs, ignore_errors=True)
    if not arguments.keep:
        shutil.rmtree(bench.work, ignore_errors=True)
    complete = (outcome.complete for outcomes in bench.sections.values() for outcome in outcomes)
    return 1 if any(one is False for one in complete) else 0


if __name__ == "__main__":
    sys.exit(main())
