"""The contenders: the command of each task, and the table of the result."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal

from bench.data import START
from bench.environments import HERE, NotInstalledError, environment, version_of
from bench.store import ROOT, Store
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET

Mode = Literal["full", "day", "changed", "build"]
OURS = "commerce_assets"
_FILE = "shop.duckdb"
POSTGRES_URL = os.environ.get("BENCH_POSTGRES_URL", "")
_LAKE_INSTANCE = """\
storage: {postgres: {postgres_url: {env: COMMERCE_POSTGRES_URL}}}
telemetry: {enabled: false}
"""
_DROP_ALL = """\
import os, psycopg2
connection = psycopg2.connect(os.environ["BENCH_POSTGRES_URL"].replace("+psycopg2", ""))
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'")
for (schema,) in cursor.fetchall():
    cursor.execute(f'DROP SCHEMA "{schema}" CASCADE')
cursor.execute("CREATE SCHEMA public")
"""


@dataclass(frozen=True)
class Task:
    """An extraction from a store: `days`, the first and the last one, or the rows updated `since`.

    A `day` is added to those that are stored; `build` requests nothing and builds the marts.
    """

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
        database: The name of its database file, or of the folder of its lake; empty if it has none.
        table: The table of the orders.
        asks_for_days: It sends `from` and `to` also for a full extraction.
        on_lake: It is this project with a lake; the catalog and Dagster's history are in PostgreSQL.
    """

    name: str
    packages: tuple[str, ...]
    database: str = "warehouse.duckdb"
    table: str = "shop.orders"
    asks_for_days: bool = False
    on_lake: bool = False

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(OURS)

    @property
    def folder(self) -> Path:
        return HERE / "peers" / self.name.replace("-", "_")

    @property
    def bin(self) -> Path:
        if self.on_lake:
            return ROOT / ".venv-cluster" / "bin"
        if (self.folder / "requirements.txt").exists():
            return environment(self.folder.name)
        return Path(sys.executable).parent

    @property
    def versions(self) -> str:
        try:
            return version_of(self.bin / "python", *self.packages)
        except (NotInstalledError, FileNotFoundError):
            return "not installed"

    def command(self, task: Task) -> list[str]:
        if self.is_ours:
            dagster = str(self.bin / "dagster")
            module = ["-m", "commerce_assets.definitions"]
            if task.mode == "changed":
                return [dagster, "job", "execute", *module, "-j", "orders_refresh"]
            if task.mode == "build":
                return [str(self.bin / "commerce-assets"), "build"]
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
        if self.is_ours:
            if self.on_lake:
                environment |= {
                    "COMMERCE_LAKE_DATA": str(folder / self.database),
                    "COMMERCE_POSTGRES_URL": POSTGRES_URL,
                    # As deploy/cluster/dagster.yaml says.
                    "DAGSTER_EVENT_BATCH_SIZE": "1000",
                }
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
                # With a lake, the database is not there, and other files are beside it.
                "COMMERCE_DUCKDB_PATH": str(folder / _FILE),
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
        if self.on_lake:
            (folder / "dagster.yaml").write_text(_LAKE_INSTANCE)
            subprocess.run([str(self.bin / "python"), "-c", _DROP_ALL], check=True)
        elif self.is_ours:
            shutil.copy(ROOT / "dagster.yaml", folder)
        else:
            (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

    def found(self, task: Task, folder: Path) -> tuple[int, int]:
        """Count the rows and the cents of `settled_gross` in its database, up to the largest id of the store."""
        cents = "CAST(sum(CAST(settled_gross AS DECIMAL(18, 4))) * 100 AS BIGINT) AS cents"
        query = f"SELECT count(*) AS rows, {cents} FROM {self.table} WHERE id <= {task.store.largest_id}"
        if self.on_lake:
            command = [str(self.bin / "commerce-assets"), "query", query, "--format", "jsonl"]
            environment = self.environment(task, folder, whole=True)
        else:
            command, environment = [sys.executable, "-m", "bench.check", str(folder / self.database), query], None
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        counted = json.loads(done.stdout)
        return counted["rows"], counted["cents"] or 0

    def stored(self, folder: Path) -> tuple[int, int]:
        """Return the bytes and the number of files of its database."""
        if not self.database:
            return 0, 0
        place = folder / self.database
        files = [path for path in (place, *place.rglob("*")) if path.is_file()]
        return sum(path.stat().st_size for path in files), len(files)


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
SELF = Contender(OURS, ("dagster", "duckdb"), database=_FILE, table="commerce.orders", asks_for_days=True)
LAKE = replace(SELF, name=f"{OURS}, lake", database="lake", on_lake=True)
PEERS = (
    Contender("dlt", ("dlt", "duckdb")),
    Contender("dlt-arrow", ("dlt", "duckdb")),
    Contender("dagster-pandas", ("dagster", "dagster-duckdb-pandas", "pandas", "duckdb"), asks_for_days=True),
    Contender("pyairbyte", ("airbyte", "airbyte-cdk", "duckdb")),
    Contender("singer", ("singer-sdk", "target-duckdb", "duckdb")),
)
