"""The benchmark still runs; what it measures is another matter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_benchmark_runs_all_scenarios_and_finds_every_order(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    bench = ("-m", "bench", "--size", "tiny", "--work", str(tmp_path / "work"), "--output", str(results))
    done = subprocess.run(
        # A process's peak of memory counts that of who started it: a shell is small.
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, *bench],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("COMMERCE_", "DAGSTER_"))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    text = results.read_text()
    for scenario in (
        "First load of 800 orders",
        "Refresh, 1 % of",
        "Backfill of 30 days",
        "200 ms latency",
        "one request per second",
    ):
        assert scenario in text.partition("## Runs")[2], scenario
    # Each run of the project was looked into by another process.
    assert "**no**" not in text.partition("## Runs")[2].partition("## Is the server")[0]
