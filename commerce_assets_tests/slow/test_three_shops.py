"""The example of deploy/shops: three code locations with an environment file each, on one instance with its daemon."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import pytest

from commerce_assets.defs.history_owner import Owner, location_of, owner_of
from commerce_assets.defs.shop import Shop
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.cluster import kill
from commerce_assets_tests.support.faulty_store import FaultyStore, faulty
from commerce_assets_tests.support.items import store_of
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.processes import wait_until
from sample_store import SAMPLE_API_KEY, SAMPLE_API_SECRET

EXAMPLE = ROOT / "deploy" / "shops"
SHOPS = ("acme", "bolt", "cove")
PATIENCE = 240.0


@dataclass
class Example:
    """A folder with the example's files, and a store per shop."""

    folder: Path
    stores: dict[str, FaultyStore] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if not name.startswith(("COMMERCE_", "DAGSTER_"))}
        files = {shop: f"shops/{shop}" for shop in SHOPS}
        return {
            **given,
            "DAGSTER_HOME": str(self.folder),
            "DAGSTER_PROJECT_ENV_FILE_PATHS": json.dumps(files),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }

    def write(self, shop: str, **settings: str) -> None:
        """Fill in the environment file of a shop."""
        store = self.stores[shop]
        values = {
            "COMMERCE_API_BASE_URL": store.base_url,
            "COMMERCE_API_KEY": SAMPLE_API_KEY,
            "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
            "COMMERCE_API_REQUESTS_PER_SECOND": "0",
            **settings,
        }
        lines = (EXAMPLE / f"{shop}.env.example").read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in values]
        file = self.folder / "shops" / shop / ".env"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in values.items())]) + "\n")

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def daemon(self) -> Iterator[None]:
        with (self.folder / "daemon.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dagster._daemon", "run", "-w", str(EXAMPLE / "workspace.yaml")],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield
            finally:
                kill(process)

    def launch(self, location: str, job: str) -> None:
        self.run("dagster", "job", "launch", "-w", str(EXAMPLE / "workspace.yaml"), "-l", location, "-j", job)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    # The paths in dagster.yaml are relative to it.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with ExitStack() as stack:
        example = Example(tmp_path)
        for number, shop in enumerate(SHOPS, start=1):
            example.stores[shop] = stack.enter_context(faulty(store_of(products=number)))
            example.write(shop)
        yield example


def products_in(file: Path) -> object:
    with DatabaseFile(path=file).read() as connection:
        return connection.execute("SELECT count(*) FROM commerce.products").fetchall()


def ended(instance: dg.DagsterInstance, count: int) -> dict[str, str]:
    """Wait until that number of runs has ended; return their status by code location."""
    wait_until(
        lambda: len(runs := instance.get_runs()) == count and all(run.is_finished for run in runs),
        seconds=PATIENCE,
        interval=0.5,
    )
    return {str(location_of(run)): run.status.value for run in instance.get_runs()}


@pytest.mark.slow
def test_locations_load_their_own_shop_and_refuse_another(example: Example) -> None:
    """`cove` has the name of `acme` by mistake."""
    example.write("cove", COMMERCE_SHOP="acme", COMMERCE_DUCKDB_PATH="data/cove.duckdb")
    files = [f"shops/{shop}/.env" for shop in SHOPS]
    example.run("commerce_assets.ops.abandoned_runs", *files)
    with (
        example.daemon(),
        patch.dict(os.environ, example.environment),
        dg.DagsterInstance.get() as instance,
    ):
        example.launch("acme", "acme_catalog")
        example.launch("bolt", "bolt_catalog")
        assert ended(instance, 2) == {"acme": "SUCCESS", "bolt": "SUCCESS"}
        example.launch("cove", "acme_catalog")
        assert ended(instance, 3) == {"acme": "SUCCESS", "bolt": "SUCCESS", "cove": "FAILURE"}
        owner = owner_of(instance, Shop("acme"))
        (failed,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        said = [str(entry.dagster_event) for entry in instance.all_logs(failed.run_id) if entry.dagster_event]

    assert isinstance(owner, Owner)
    assert owner.location == "acme"
    assert any("under the same names, in the code location acme" in line for line in said)
    assert not example.stores["cove"].store.requests
    assert [products_in(example.folder / f"data/{shop}.duckdb") for shop in ("acme", "bolt")] == [[(1,)], [(2,)]]
    status = json.loads(example.run("commerce_assets", "--env-file", files[1], "status", "--format", "json"))
    assert status["shop"] == "bolt"
    assert {table["table"]: table["rows"] for table in status["tables"]}["products"] == 2
    # A start looks at each shop's history; that of the wrong name is not its own.
    said_at_start = example.run("commerce_assets.ops.abandoned_runs", *files)
    assert said_at_start.count("this instance of Dagster has the history of another shop") == 1
