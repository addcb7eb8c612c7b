"""The contenders: the command of each task, and the table of the result."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from bench.data import START
from bench.environments import HERE, NotInstalledError, environment, version_of
from bench.store import ROOT, Store
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET

Mode = Literal["full", "changed"]
OURS = "commerce_assets"


@dataclass(frozen=True)
class Task:
    """An extraction from a store: `days`, the first and the last one, or the rows updated `since`."""

    store: Store
    days: tuple[date, date]
    mode: Mode = "full"
    since: str = ""
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Contender:
    """One way to load orders into DuckDB.

    Attributes:
        name: The name in the report.
        packages: The packages whose versions are reported.
        database: The name of its database file; empty if it has none.
        table: The table of the orders.
        asks_for_days: It sends `from` and `to` also for a full extraction.
    """

    name: str
    packages: tuple[str, ...]
    database: str = "warehouse.duckdb"
    table: str = "shop.orders"
    asks_for_days: bool = False

    @property
    def folder(self) -> Path:
        return HERE / "peers" / self.name.replace("-", "_")

    @property
    def bin(self) -> Path:
        if (self.folder / "requirements.txt").exists():
            return environment(self.folder.name)
        return Path(sys.executable).parent

    @property
    def versions(self) -> str:
        try:
            return version_of(self.bin / "python", *self.packages)
        except NotInstalledError:
            return "not installed"

    def command(self, task: Task) -> list[str]:
        if self.name == OURS:
            dagster = str(self.bin / "dagster")
            module = ["-m", "commerce_assets.definitions"]
            if task.mode == "changed":
                return [dagster, "job", "execute", *module, "-j", "orders_refresh"]
            days = f"{task.days[0]}...{task.days[1]}"
            return [dagster, "asset", "materialize", *module, "--select", "orders", "--partition-range", days]
        script = str(self.folder / "run.py")
        if self.name == "dagster-pandas":
            days = f"{task.days[0]}...{task.days[1]}"
            return [
                *(str(self.bin / "dagster"), "asset", "materialize", "-f", script),
                *("--select", "orders", "--partition-range", days),
            ]
        return [str(self.bin / "python"), script]

    def environment(self, task: Task, folder: Path, *, whole: bool) -> dict[str, str]:
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment["DAGSTER_HOME"] = str(folder)
        if self.name == OURS:
            return environment | {
                "PYTHONPATH": str(ROOT),
                "COMMERCE_API_BASE_URL": task.store.base_url,
                "COMMERCE_API_ORDERS_PATH": ORDERS_PATH,
                "COMMERCE_API_KEY": SAMPLE_API_KEY,
                "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
                "COMMERCE_API_REQUESTS_PER_SECOND": "0",
                # The peers request lists only.
                "COMMERCE_REFUND_REQUESTS": "0",
                "COMMERCE_ORDERS_START_DATE": START.isoformat(),
                "COMMERCE_DUCKDB_PATH": str(folder / self.database),
                **dict(task.settings),
            }
        types = {name: kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ") for name, kind in _columns().items()}
        environment |= {
            "BENCH_ORDERS_URL": task.store.orders_url,
            "BENCH_KEY": SAMPLE_API_KEY,
            "BENCH_SECRET": SAMPLE_API_SECRET,
            "BENCH_START": START.isoformat(),
            "BENCH_MODE": task.mode,
            "BENCH_SINCE": task.since,
            "BENCH_COLUMNS": ",".join(types),
            "BENCH_TYPES": json.dumps(types),
        }
        if not whole:
            environment |= {"BENCH_FROM": task.days[0].isoformat(), "BENCH_TO": task.days[1].isoformat()}
        return environment

    def prepare(self, folder: Path) -> None:
        """Create an empty folder with the Dagster instance that users have."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self.name == OURS:
            shutil.copy(ROOT / "dagster.yaml", folder)
        else:
            (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

    def found(self, folder: Path, *, up_to_id: int) -> tuple[int, int]:
        """Count the rows and the cents of `settled_gross` in its database, up to an id."""
        query = f"SELECT count(*), sum(CAST(settled_gross AS DECIMAL(18, 4))) FROM {self.table} WHERE id <= {up_to_id}"
        command = [sys.executable, "-m", "bench.check", str(folder / self.database), query]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        rows, cents = json.loads(done.stdout)
        return rows, cents


def _columns() -> dict[str, str]:
    """The declared columns and their types, from another process, to keep this one small."""
    code = (
        "import json; from commerce_assets.endpoints import ENDPOINTS; "
        "print(json.dumps({c.name: str(c.type) for e in ENDPOINTS if e.name == 'orders' for c in e.columns}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    columns: dict[str, str] = json.loads(done.stdout)
    return columns


WIRE = Contender("wire", ("requests",), database="")
FLOOR = Contender("floor", ("requests", "duckdb"), table="orders")
SELF = Contender(OURS, ("dagster", "duckdb"), database="commerce.duckdb", table="commerce.orders", asks_for_days=True)
PEERS = (
    Contender("dlt", ("dlt", "duckdb")),
    Contender("dlt-arrow", ("dlt", "duckdb")),
    Contender("dagster-pandas", ("dagster", "dagster-duckdb-pandas", "pandas", "duckdb"), asks_for_days=True),
    Contender("pyairbyte", ("airbyte", "airbyte-cdk", "duckdb")),
    Contender("singer", ("singer-sdk", "target-duckdb", "duckdb")),
)
