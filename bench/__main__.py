"""`make bench`: measure this project and its peers on one server, in one session, and write RESULTS.md.

    make bench              everything
    make bench SIZE=small   20,000 orders, in minutes
    make bench SIZE=tiny    a test of the benchmark itself, without peers, in a minute

Contenders: `wire` (requests the pages and discards them), `floor` (a minimal script that loads typed orders into
DuckDB), this project as users run it (`dagster asset materialize`, `dagster job execute`), dlt's rest_api source and
dlt with Arrow tables, plain Dagster with pandas, PyAirbyte, and a Singer tap with target-duckdb. Each peer's
`peers/<name>/run.py` explains its configuration, the fastest documented one. pip creates the environments in `.envs`
from pinned requirements.

With BENCH_POSTGRES_URL, a database that it empties, and after `make install-cluster`, this project takes part a second
time: on a lake, with Dagster's history in PostgreSQL.

The server (`server.py`) is a separate process. Everything is measured from outside: wall clock, CPU and peak memory
from the kernel (`measure.py`), requests counted by the server, rows and amounts queried by another process. The
sample store generates the orders, which stay in `.work` until the end.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import report, scenarios
from bench.contenders import FLOOR, PEERS, WIRE
from bench.scenarios import YEAR, Bench, history

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Size:
    """The amounts to measure: first loads and growth in orders, backfills and the rate-limited backfill in days."""

    loads: tuple[int, ...] = (20_000,)
    growth: tuple[int, ...] = ()
    backfills: tuple[int, ...] = (30, 365)
    paced_days: int = 28
    slow_orders: int = 6_000
    large_table: tuple[int, int] | None = None
    rounds: int = 2
    peers: bool = True


_SIZES = {
    # A test of the benchmark itself; its numbers mean nothing.
    "tiny": Size(loads=(800,), backfills=(30,), paced_days=2, slow_orders=800, rounds=1, peers=False),
    "small": Size(),
    "full": Size(loads=(20_000, 100_000), growth=(10_000, 100_000, 1_000_000), large_table=(10_000, 1_000)),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--size", choices=_SIZES, default="full")
    parser.add_argument("--rounds", type=int, help="repetitions of first loads and backfills")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--work", type=Path, default=HERE / ".work", help="folder of the orders and databases")
    parser.add_argument("--keep", action="store_true", help="keep the generated orders")
    arguments = parser.parse_args()
    # Without written byte code, every Dagster process takes three times as long to start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    size = _SIZES[arguments.size]
    facts = report.machine()
    bench = Bench(arguments.work, arguments.rounds or size.rounds, PEERS if size.peers else ())
    for contender in (WIRE, FLOOR, *bench.ours, *bench.peers):
        print(f"{contender.name}: {contender.versions}", flush=True)
    largest = max(size.loads)
    steps: list[Callable[[], None]] = [
        partial(scenarios.import_times, bench),
        *(partial(scenarios.first_load_and_after, bench, history(orders)) for orders in size.loads),
        *(partial(scenarios.backfill, bench, YEAR, days) for days in size.backfills),
        partial(scenarios.slow_server, bench, history(size.slow_orders)),
        partial(scenarios.one_a_second, bench, history(min(size.loads)), size.paced_days),
        partial(scenarios.one_day, bench, scenarios.DAY),
        partial(scenarios.in_the_ui, bench),
        partial(scenarios.breakdown, bench, history(largest)),
        partial(scenarios.growth, bench, size.growth),
    ]
    if size.large_table:
        orders, times = size.large_table
        steps.append(partial(scenarios.large_table, bench, history(orders), times))
    failed = 0
    for step in steps:
        # A scenario that fails must not discard the results of the others.
        try:
            step()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"this scenario failed: {error}", flush=True)
    text = report.render(bench, facts, largest)
    arguments.output.write_text(text)
    print(text)
    shutil.rmtree(bench.runs, ignore_errors=True)
    if not arguments.keep:
        shutil.rmtree(bench.work, ignore_errors=True)
    ours = [one for outcomes in bench.sections.values() for one in outcomes if one.contender in {FLOOR, *bench.ours}]
    return 1 if failed or any(one.failure or one.complete is False for one in ours) else 0


if __name__ == "__main__":
    sys.exit(main())
