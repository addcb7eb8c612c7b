"""The scenarios. Each is a list of outcomes; its contenders take turns on one server."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from bench import measure
from bench.contenders import FLOOR, LAKE, PEERS, POSTGRES_URL, SELF, WIRE, Contender, Task
from bench.data import START, DataSet
from bench.runs import Outcome, best, run
from bench.store import ROOT, running

# 400 days for any number of orders: a shop's history is days as well as rows.
HISTORY = 400
YEAR = DataSet(380, 55)
"""365 days and some before and after; 20,075 orders in 365 days."""
LATENCY = 0.2
DAY = DataSet(3, 1_000)
_ASKED_FOR_DAYS = {"dlt", "dlt-arrow", "dagster-pandas"}
_ASKED_FOR_CHANGES = {"dlt", "dlt-arrow", "singer"}


@dataclass
class Bench:
    """The session: folders, number of repetitions, contenders and results.

    Attributes:
        ours: This project with a file and, where BENCH_POSTGRES_URL is set, with a lake.
        waits: Seconds that a person waits for a command of this project.
    """

    work: Path
    repeat: int
    peers: Sequence[Contender] = PEERS
    ours: Sequence[Contender] = (SELF, LAKE) if POSTGRES_URL else (SELF,)
    sections: dict[str, list[Outcome]] = field(default_factory=dict)
    parts: dict[str, tuple[float, float]] = field(default_factory=dict)
    imports: tuple[float, float] = (0.0, 0.0)
    waits: dict[str, float] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def runs(self) -> Path:
        return self.work / "runs"

    def peers_in(self, names: Collection[str]) -> list[Contender]:
        return [peer for peer in self.peers if peer.name in names]

    def section(self, title: str) -> list[Outcome]:
        print(title, flush=True)
        return self.sections.setdefault(title, [])

    def in_turn(self, contenders: Sequence[Contender], once: Callable[[Contender], Outcome]) -> list[Outcome]:
        """Return the best run of each contender; every other round is in reverse order."""
        outcomes: dict[str, list[Outcome]] = {contender.name: [] for contender in contenders}
        for number in range(self.repeat):
            for contender in contenders if number % 2 == 0 else contenders[::-1]:
                outcomes[contender.name].append(once(contender))
        return [best(outcomes[contender.name]) for contender in contenders]


def history(orders: int) -> DataSet:
    return DataSet(HISTORY, orders // HISTORY)


def first_load_and_after(bench: Bench, data: DataSet) -> None:
    """Measure a first load, a second one, and a refresh without and with changes, in the same folders."""
    days = (START, data.last_day)
    since = f"{data.last_day + timedelta(days=1)}T00:00:00Z"
    with running(data, bench.data) as store:
        full = Task(store, days)
        changed = Task(store, days, "changed", since)
        section = bench.section(f"First load of {data.orders:,} orders")
        everybody = (WIRE, FLOOR, *bench.ours, *bench.peers)
        section += bench.in_turn(everybody, lambda contender: run(contender, full, bench.runs))
        section = bench.section(f"Second load, nothing changed, {data.orders:,} orders")
        section += [run(contender, full, bench.runs, fresh=False) for contender in (*bench.ours, *bench.peers)]
        _commands(bench, full)
        section = bench.section(f"Refresh, nothing changed, {data.orders:,} orders")
        # The first refresh searches for its start; the second one is like every hourly refresh.
        for contender in bench.ours:
            run(contender, changed, bench.runs, fresh=False, rows=0)
        section += [
            run(contender, changed, bench.runs, fresh=False, rows=0)
            for contender in (*bench.ours, *bench.peers_in(_ASKED_FOR_CHANGES))
        ]
    # On another port it would be another store, whose rows the project refuses.
    with running(data, bench.data, changed=0.01, port=store.port) as store:
        changed = Task(store, days, "changed", since)
        section = bench.section(f"Refresh, 1 % of {data.orders:,} orders changed")
        section += [
            run(contender, changed, bench.runs, fresh=False, rows=data.orders // 100)
            for contender in (*bench.ours, *bench.peers_in(_ASKED_FOR_CHANGES))
        ]


def backfill(bench: Bench, data: DataSet, count: int) -> None:
    first = START + timedelta(days=1)
    with running(data, bench.data) as store:
        task = Task(store, (first, first + timedelta(days=count - 1)))
        section = bench.section(f"Backfill of {count} days")
        section += bench.in_turn(
            (FLOOR, SELF, *bench.peers_in(_ASKED_FOR_DAYS)),
            lambda contender: run(contender, task, bench.runs, whole=False),
        )


def one_day(bench: Bench, data: DataSet) -> None:
    """Measure what a daily run does: the last of three days, after the one before."""
    before = data.last_day - timedelta(days=1)
    with running(data, bench.data) as store:
        section = bench.section(f"A day of {data.per_day:,} orders")
        for contender in (*bench.ours, *bench.peers_in(_ASKED_FOR_DAYS)):
            run(contender, Task(store, (before, before), "day"), bench.runs, whole=False)
            day = Task(store, (data.last_day, data.last_day), "day")
            section.append(
                run(contender, day, bench.runs, whole=False, fresh=False, rows=data.per_day, stored_since=before)
            )


def _commands(bench: Bench, task: Task, rounds: int = 3) -> None:
    """Measure the commands that only read, on the table of this project; the least of some rounds."""
    folder = bench.runs / SELF.name
    environment = SELF.environment(task, folder, whole=True)
    statement = "SELECT created_at::DATE AS day, sum(settled_gross) FROM orders GROUP BY ALL"
    for label, arguments in {"`status`": ["status"], "`query`: a sum of each day": ["query", statement]}.items():
        # `status` ends with 1, because the catalog was never loaded.
        command = ["sh", "-c", '"$@" || true', "sh", str(SELF.bin / "commerce-assets"), *arguments]
        measured = [
            measure.run(command, cwd=folder, environment=environment, log=bench.runs / "command.log")
            for _ in range(rounds)
        ]
        bench.waits[f"{label}, {task.store.largest_id:,} orders"] = min(each.wall for each in measured)


def in_the_ui(bench: Bench) -> None:
    """Measure `make dev` on the sample store until it names the URL of its UI, and a click on *Materialize* there.

    The first start creates the history; the second one is like every other.
    """
    folder = bench.runs / "dev"
    SELF.prepare(folder)
    shutil.copy(ROOT / "workspace.yaml", folder)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "commerce_assets.dev"]
    for clicks in (False, True):
        began = time.monotonic()
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                shown = (line for line in process.stdout if "Dagster's UI" in line)
                port = next(shown, "").rpartition(":")[2].strip()
                if not port:
                    raise ValueError("make dev ended early")
                bench.waits["`make dev`, from the second start on"] = time.monotonic() - began
                if clicks:
                    _click(bench, folder, port, environment)
            finally:
                process.terminate()
                process.stdout.read()  # until it has ended


def _click(bench: Bench, folder: Path, port: str, environment: dict[str, str]) -> None:
    """Materialize a day of orders with the automation of the marts switched on."""
    home = {"DAGSTER_HOME": str(folder / "data/sample")}
    start_sensor = [str(SELF.bin / "dagster"), "sensor", "start", "-w", "workspace.yaml"]
    start_sensor.append("default_automation_condition_sensor")
    subprocess.run(start_sensor, cwd=folder, env=environment | home, check=True, capture_output=True)
    first_day = json.loads((folder / "data/sample/store.json").read_text())["start_date"]
    command = [sys.executable, "-m", "bench.clicks", port, first_day, str(folder / "data/sample.duckdb")]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    bench.waits |= json.loads(done.stdout)


def slow_server(bench: Bench, data: DataSet) -> None:
    """Measure a first load from a slow store: one page at a time, and several in flight."""
    plain = [peer for peer in bench.peers if peer.name == "dlt"]
    with running(data, bench.data, latency=LATENCY) as store:
        title = f"First load of {data.orders:,} orders, {LATENCY * 1000:.0f} ms latency"
        section = bench.section(title)
        task = Task(store, (START, data.last_day))
        section += [run(contender, task, bench.runs) for contender in (FLOOR, SELF, *plain)]
        section = bench.section(f"{title}, COMMERCE_API_CONCURRENCY=1")
        settings = (("COMMERCE_API_CONCURRENCY", "1"),)
        section.append(run(SELF, replace(task, settings=settings), bench.runs))


def one_a_second(bench: Bench, data: DataSet, count: int) -> None:
    days = (START + timedelta(days=1), START + timedelta(days=count))
    settings = (("COMMERCE_API_REQUESTS_PER_SECOND", "1"),)
    with running(data, bench.data, rate=1) as store:
        section = bench.section(f"Backfill of {count} days, a server that allows one request per second")
        section.append(run(SELF, Task(store, days, settings=settings), bench.runs, whole=False))


def growth(bench: Bench, sizes: Sequence[int]) -> None:
    for size in sizes:
        data = history(size)
        with running(data, bench.data) as store:
            section = bench.section(f"Growth: first load of {size:,} orders")
            task = Task(store, (START, data.last_day))
            section += [run(contender, task, bench.runs) for contender in (FLOOR, *bench.ours)]
            section = bench.section(f"Every mart of {size:,} orders")
            marts = replace(task, mode="build")
            section += [run(contender, marts, bench.runs, fresh=False, rows=size) for contender in bench.ours]


def large_table(bench: Bench, data: DataSet, times: int) -> None:
    """Measure a refresh with 1 % of the orders changed, on their table and on one that is `factor` times as large."""
    days = (START, data.last_day)
    for factor in (1, times):
        with running(data, bench.data) as store:
            print(f"  preparing a table of {data.orders * factor:,} rows", flush=True)
            run(SELF, Task(store, days), bench.runs)
            database = bench.runs / SELF.name / SELF.database
            if factor > 1:
                subprocess.run([sys.executable, "-m", "bench.grow", str(database), str(factor)], cwd=ROOT, check=True)
        # On another port it would be another store.
        with running(data, bench.data, changed=0.01, port=store.port) as store:
            changed = data.orders // 100
            section = bench.section(f"Refresh of {changed:,} changed orders on {data.orders * factor:,} rows")
            section.append(run(SELF, Task(store, days, "changed"), bench.runs, fresh=False, rows=changed))
        database.unlink()


def breakdown(bench: Bench, data: DataSet) -> None:
    """Measure the parts of a first load in one process: seconds of wall clock and CPU."""
    folder = bench.runs / "inside"
    SELF.prepare(folder)
    with running(data, bench.data) as store:
        task = Task(store, (START, data.last_day))
        environment = SELF.environment(task, folder, whole=True)
        command = [sys.executable, "-m", "bench.inside", task.days[0].isoformat(), task.days[1].isoformat()]
        done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    parts = {name: (wall, cpu) for name, (wall, cpu) in json.loads(done.stdout.splitlines()[-1]).items()}
    named = sum(wall for name, (wall, _) in parts.items() if name not in {"import", "whole run"})
    named_cpu = sum(cpu for name, (_, cpu) in parts.items() if name not in {"import", "whole run"})
    parts["the rest of Dagster"] = (parts["whole run"][0] - named, parts["whole run"][1] - named_cpu)
    bench.parts = parts


def import_times(bench: Bench, rounds: int = 9) -> None:
    """Measure the seconds to import dagster and the code location in a new process; the minimum of some rounds."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    taken: dict[str, list[float]] = {"dagster": [], "commerce_assets.definitions": []}
    for _ in range(rounds):
        for module, seconds in taken.items():
            began = time.monotonic()
            subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, env=environment, check=True)
            seconds.append(time.monotonic() - began)
    bench.imports = (min(taken["dagster"]), min(taken["commerce_assets.definitions"]))
