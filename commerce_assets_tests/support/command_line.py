"""Dagster's command line in processes of their own, with an instance, a database and temporary files in one folder."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from commerce_assets_tests.support.canaries import KEY, PRIVATE_URL, SECRET
from commerce_assets_tests.support.faulty_store import Exchange, Fault, FaultyStore, Serve, faulty
from commerce_assets_tests.support.items import product
from commerce_assets_tests.support.leftovers import Find, search
from sample_store.shop import Shop
from sample_store.store import SampleStore
from sample_store.values import Item

ROOT = Path(__file__).parents[2]

# Runs commands of Dagster's command line one after the other, each as a process that need not import Dagster again; it
# imports the definitions, which read its settings. Nobody waits for retries here.
RUNNER = """
import json, os, resource, sys, time
really_sleep = time.sleep
time.sleep = lambda seconds: really_sleep(min(seconds, 0.01))
from dagster._cli import create_dagster_cli
from dagster import DagsterInstance
import commerce_assets.api.client, commerce_assets.defs.io_manager, commerce_assets.defs.jobs
# Makes the instance's databases, and imports what that takes.
DagsterInstance.get().dispose()
codes = []
for command in json.load(sys.stdin):
    if not (child := os.fork()):
        output = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for name, value in command["settings"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if limit := command["largest_file"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        sys.argv = ["dagster", *command["arguments"]]
        create_dagster_cli()(command["arguments"])
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A `dagster` command, its own settings, and what it is to say."""

    name: str
    arguments: Sequence[str]
    settings: Mapping[str, str | None] = field(default_factory=dict)
    largest_file: int = 0
    says: str = ""


@dataclass
class Runs:
    """A folder with an instance of Dagster, a database, temporary files, and whatever else commands leave there."""

    folder: Path
    server: FaultyStore

    def __post_init__(self) -> None:
        for name in ("home", "tmp", "output"):
            (self.folder / name).mkdir()

    @property
    def settings(self) -> dict[str, str]:
        return {
            "COMMERCE_API_BASE_URL": self.server.base_url,
            "COMMERCE_API_KEY": KEY,
            "COMMERCE_API_SECRET": SECRET,
            "COMMERCE_API_REQUESTS_PER_SECOND": "0",
            "COMMERCE_ORDERS_START_DATE": "2026-01-01",
            "COMMERCE_DUCKDB_PATH": str(self.folder / "commerce.duckdb"),
            "DAGSTER_HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }

    def run(self, commands: Sequence[Command], *, instance: Mapping[str, Any]) -> dict[str, int]:
        """Runs the commands one after the other; returns their exit codes by name."""
        (self.folder / "home" / "dagster.yaml").write_text(json.dumps(instance))
        asked = [
            {
                "arguments": [*command.arguments, "-m", "commerce_assets.definitions"],
                "settings": dict(command.settings),
                "largest_file": command.largest_file,
                "output": str(self.output_of(command)),
            }
            for command in commands
        ]
        done = subprocess.run(
            [sys.executable, "-c", RUNNER],
            cwd=self.folder,
            env={**os.environ, **self.settings},
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
        return dict(zip([command.name for command in commands], json.loads(done.stdout), strict=True))

    def output_of(self, command: Command) -> Path:
        return self.folder / "output" / f"{command.name}.txt"

    def says(self, command: Command) -> str:
        return self.output_of(command).read_text()

    def found(self, needles: Mapping[str, set[bytes]]) -> set[Find]:
        return search(self.folder, needles)


@dataclass(frozen=True)
class ByDay:
    """A fault for the pulls of each day; what is asked for without a day is served."""

    faults: Mapping[date, Fault]

    def __call__(self, exchange: Exchange) -> None:
        asked = exchange.request.query.get("from")
        # The window is asked for with a day more on either side.
        day = date.fromisoformat(asked) + timedelta(days=1) if asked else None
        fault = self.faults.get(day, Serve()) if day else Serve()
        fault(exchange)


@contextmanager
def runs_of(folder: Path, orders: Sequence[Item] = ()) -> Iterator[Runs]:
    shop = Shop(products=[product(1, self_hosted_url=PRIVATE_URL)], orders=[*orders])
    with faulty(SampleStore(shop, api_key=KEY, api_secret=SECRET)) as server:
        yield Runs(folder, server)


def materialize_orders(day: date, name: str, **options: Any) -> Command:
    arguments = ("asset", "materialize", "--select", "orders", "--partition", day.isoformat())
    return Command(name=name, arguments=arguments, **options)
