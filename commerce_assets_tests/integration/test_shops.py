"""Several shops on one instance of Dagster: each with its own names, files, history, alerts and status."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import duckdb
import pytest
from click.testing import Result
from dagster_shared.yaml_utils import load_yaml_from_path
from dotenv import dotenv_values

from commerce_assets.composition import build_definitions
from commerce_assets.defs.history_owner import NameTakenError, Owner, owner_of, record_owner, refuse_other_shop
from commerce_assets.defs.pools import API_POOL
from commerce_assets.defs.shop import UNNAMED, Shop
from commerce_assets.ops.abandoned_runs import limit_pools
from commerce_assets.ops.foreign_history import report_foreign_history, report_not_loaded
from commerce_assets.settings import CommerceSettings
from commerce_assets_tests.support.faulty_store import FaultyStore, Status, faulty
from commerce_assets_tests.support.items import order, store_of
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.receiver import Receiver, receiving
from commerce_assets_tests.support.shell import Shell, settings_for
from sample_store.store import SampleStore

EXAMPLE = ROOT / "deploy" / "shops"
FIRST, SECOND, THIRD = (date(2024, 3, day) for day in (1, 2, 3))


@dataclass
class ShopOnDisk:
    """A shop's store, environment file and webhook receiver; commands run in the folder that the shops share."""

    name: str
    server: FaultyStore
    receiver: Receiver
    folder: Path
    cursor: str | None = None

    shop: str | None = None

    @property
    def variables(self) -> dict[str, str]:
        given = settings_for(self.server.base_url) | {"COMMERCE_SHOP": self.name if self.shop is None else self.shop}
        given["COMMERCE_DUCKDB_PATH"] = f"data/{self.name}.duckdb" if self.shop is not None else ""
        return given | {"COMMERCE_ALERT_WEBHOOK_URL": self.receiver.url}

    @property
    def settings(self) -> CommerceSettings:
        return CommerceSettings.read(self.variables)

    @property
    def definitions(self) -> dg.Definitions:
        return build_definitions(self.settings)

    def run(self, *arguments: str, exit_code: int = 0) -> Result:
        file = self.folder / f"{self.name}.env"
        file.write_text("".join(f"{name}={value}\n" for name, value in self.variables.items()))
        result = Shell(self.folder).run("--env-file", file.name, *arguments)
        assert result.exit_code == exit_code, result.output
        return result

    def query(self, sql: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.run("query", sql, "--format", "json").stdout)
        return rows

    def alerts(self, instance: dg.DagsterInstance, definitions: dg.Definitions) -> list[str]:
        """The lines that its receiver gets at a tick of its sensor, in a code location."""
        before = len(self.receiver.texts)
        sensor = definitions.resolve_sensor_def(f"{self.name}_alerts")
        with patch.dict(os.environ, self.variables):
            context = dg.build_sensor_context(
                instance=instance,
                cursor=self.cursor,
                definitions=definitions,
                resources={name: (definitions.resources or {})[name] for name in sensor.required_resource_keys},
            )
            self.cursor = sensor.evaluate_tick(context).cursor
        return [line for text in self.receiver.texts[before:] for line in text.splitlines()]


def store_with(products: int, price: str, *days: date) -> SampleStore:
    """Orders 1, 2 and so on, one on each day."""
    listed = [
        order(number, datetime.combine(day, time(12), UTC), settled_gross=price, buyer_email="a@example.com")
        for number, day in enumerate(days, start=1)
    ]
    return store_of(products=products, orders=listed)


@pytest.fixture
def shops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ShopOnDisk, ShopOnDisk]]:
    """Two shops whose rows have the same ids: `acme` has orders of two days, `bolt` of three."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\nconcurrency: {pools: {default_limit: 1}}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with ExitStack() as stack:
        stores = {"acme": store_with(3, "10.00", FIRST, SECOND), "bolt": store_with(2, "7.50", FIRST, SECOND, THIRD)}
        acme, bolt = (
            ShopOnDisk(name, stack.enter_context(faulty(store)), stack.enter_context(receiving()), tmp_path)
            for name, store in stores.items()
        )
        yield acme, bolt


def load(shop: ShopOnDisk, last: date) -> None:
    shop.run("pull", "products")
    shop.run("pull", "orders", "--from", str(FIRST), "--to", str(last))
    shop.run("build", "--to", str(last))


def test_shops_with_equal_ids_stay_apart(shops: tuple[ShopOnDisk, ShopOnDisk]) -> None:
    acme, bolt = shops
    load(acme, SECOND)
    load(bolt, THIRD)

    for shop, products, orders, net in ((acme, 3, 2, "20.0000"), (bolt, 2, 3, "22.5000")):
        assert (shop.folder / f"data/{shop.name}.duckdb").exists()
        assert shop.query("SELECT count(*) AS rows FROM commerce.products") == [{"rows": products}]
        assert shop.query("SELECT count(*) AS rows, sum(settled_gross)::VARCHAR AS gross FROM commerce.orders") == [
            {"rows": orders, "gross": net}
        ]
        assert shop.query("SELECT sum(net)::VARCHAR AS net FROM analytics.daily_revenue") == [{"net": net}]
    with dg.DagsterInstance.get() as instance:
        assert {key.path[0] for key in instance.all_asset_keys()} == {"acme", "bolt"}
        assert instance.get_materialized_partitions(dg.AssetKey(["acme", "orders"])) == {str(FIRST), str(SECOND)}
        assert instance.get_materialized_partitions(dg.AssetKey(["bolt", "orders"])) == {
            *(str(FIRST), str(SECOND), str(THIRD))
        }
        assert [
            *report_foreign_history(instance, acme.settings),
            *report_foreign_history(instance, bolt.settings),
        ] == []


def test_status_is_that_of_the_shop_and_its_commands_name_it(shops: tuple[ShopOnDisk, ShopOnDisk]) -> None:
    acme, bolt = shops
    acme.run("pull", "orders", "--from", str(FIRST), "--to", str(SECOND))
    bolt.run("pull", "orders", "--from", str(FIRST), "--to", str(FIRST))

    for shop, rows in ((acme, 2), (bolt, 1)):
        status = json.loads(shop.run("status", "--format", "json").stdout)
        tables = {table["table"]: table for table in status["tables"]}
        assert (status["shop"], tables["orders"]["rows"]) == (shop.name, rows)
        commands = [finding["command"] for table in status["tables"] for finding in table["findings"]]
        assert commands
        assert all(f"commerce-assets --env-file {shop.name}.env" in command for command in commands)
        assert shop.run("status").stdout.startswith(f"shop {shop.name}\n")


def test_hints_in_the_ui_name_what_the_shop_has(shops: tuple[ShopOnDisk, ShopOnDisk]) -> None:
    """Each job is the shop's, and there is no command: it would take the settings of another shop."""
    acme, _ = shops
    acme.run("pull", "products")
    job = acme.definitions.resolve_implicit_global_asset_job_def()
    with patch.dict(os.environ, acme.variables), dg.DagsterInstance.get() as instance:
        checks = acme.definitions.resolve_job_def("acme_health_checks").execute_in_process(instance=instance)
        report = job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(["acme", "shop_report"])], raise_on_error=False
        )
    said = [str(each.description) for each in checks.get_asset_check_evaluations()]
    failures = [event.step_failure_data.user_failure_data for event in report.all_events if event.is_step_failure]
    said += [str(failure.description) for failure in failures if failure]
    said += report_not_loaded(acme.settings)

    named = {job for text in said for job in re.findall(r"run the job (\w+)", text)}
    assert named == {"acme_analytics", "acme_catalog"}
    assert named <= {job.name for job in acme.definitions.get_repository_def().get_all_jobs()}
    assert any(f"backfill orders (Materialize `[{FIRST}..." in text for text in said)
    assert not any("commerce-assets" in text for text in said)


def test_errors_of_commands_name_the_file_of_the_shop(shops: tuple[ShopOnDisk, ShopOnDisk]) -> None:
    acme, _ = shops
    acme.run("pull", "products")

    for command in (["query", "FROM analytics.refunds"], ["report"]):
        assert "un `commerce-assets --env-file acme.env build`" in acme.run(*command, exit_code=1).stderr
    missing = acme.run("query", "FROM orders", exit_code=1).stderr
    assert "run `commerce-assets --env-file acme.env pull orders`" in missing


def test_alerts_reach_the_shop_that_they_are_about(shops: tuple[ShopOnDisk, ShopOnDisk]) -> None:
    acme, bolt = shops
    # In one code location, as in somebody else's project: harder to keep apart than in two.
    both = dg.Definitions.merge(acme.definitions, bolt.definitions)
    with dg.DagsterInstance.get() as instance:
        assert [acme.alerts(instance, both), bolt.alerts(instance, both)] == [[], []]
        acme.server.script(otherwise=Status(403))
        acme.run("pull", "products", exit_code=1)
        bolt.run("pull", "products")

        (heading, line), none = acme.alerts(instance, both), bolt.alerts(instance, both)

    assert heading == "acme: 1 failed"
    assert line.startswith("- job acme_catalog failed with PullError: ")
    assert none == []


def test_every_definition_has_the_name_of_the_shop() -> None:
    definitions = build_definitions(CommerceSettings.read({"COMMERCE_SHOP": "acme", "COMMERCE_ORDER_HISTORY": "true"}))
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    ops = {op for job in repository.get_all_jobs() for op in job.graph.node_dict}

    assert {key.path[0] for key in graph.get_all_asset_keys()} == {"acme"}
    assert {key.asset_key.path[0] for key in graph.asset_check_keys} == {"acme"}
    names = {
        *(job.name for job in repository.get_all_jobs() if job.name != "__ASSET_JOB"),
        *(schedule.name for schedule in repository.schedule_defs),
        *(sensor.name for sensor in repository.sensor_defs),
        *(definitions.resources or {}),
        *ops,
        *(spec.group_name for spec in definitions.resolve_all_asset_specs()),
        *(assets.op.pool for assets in graph.assets_defs if assets.is_executable and assets.op.pool),
    }
    assert {
        "acme_orders",
        "acme_orders_daily",
        "acme_alerts",
        "acme_warehouse",
        "acme_commerce",
        "acme_commerce_api",
    } <= {*names}
    assert [name for name in names if not str(name).startswith("acme_")] == []


def test_shops_and_other_definitions_merge_in_one_location() -> None:
    @dg.asset
    def orders() -> None: ...

    own = dg.Definitions(
        assets=[orders],
        jobs=[dg.define_asset_job("catalog", selection=[orders])],
        resources={"warehouse": 1, "commerce_api": 2},
        executor=dg.multiprocess_executor,
    )

    shops = [build_definitions(CommerceSettings.read({"COMMERCE_SHOP": shop})) for shop in ("acme", "bolt")]
    merged = dg.Definitions.merge(own, *shops)

    dg.Definitions.validate_loadable(merged)
    assert len(merged.resolve_asset_graph().get_all_asset_keys()) == 1 + 2 * len(
        shops[0].resolve_asset_graph().get_all_asset_keys()
    )


def test_a_second_shop_under_the_same_names_is_refused(shops: tuple[ShopOnDisk, ShopOnDisk]) -> None:
    """Fault 116."""
    acme, bolt = shops
    acme.shop = bolt.shop = ""
    acme.run("pull", "products")
    for _ in range(2):
        refused = bolt.run("pull", "products", exit_code=1)
        assert "this instance of Dagster has the history of another shop under the same names: " in refused.stderr
        assert "Fix: set COMMERCE_SHOP to a name in each shop's settings; or, " in refused.stderr
    assert not bolt.server.store.requests
    with dg.DagsterInstance.get() as instance:
        (sentence,) = report_foreign_history(instance, bolt.settings)
        assert "another shop" in sentence
        assert not report_of(instance, acme)
    acme.run("pull", "products")

    bolt.run("pull", "products", "--store-moved")

    acme.run("pull", "products", exit_code=1)


def report_of(instance: dg.DagsterInstance, shop: ShopOnDisk) -> list[str]:
    return [*report_foreign_history(instance, shop.settings)]


@pytest.mark.parametrize(
    ("owner", "location", "store", "stored", "is_refused"),
    [
        (None, "b", "new", set(), False),
        # The same shop: the same store, place or database.
        (Owner("old", "a"), "b", "old", set(), False),
        (Owner("old", "a"), "a", "new", set(), False),
        (Owner("old", "a"), "b", "new", {"old"}, False),
        # Another one.
        (Owner("old", "a"), "b", "new", set(), True),
        (Owner("old", "a"), "b", "new", {"new"}, True),
        (Owner("old", "a"), None, "new", set(), True),
        (Owner("old"), "b", "new", set(), True),
        (Owner("old"), None, "new", set(), True),
        # Marts and health checks call no store.
        (Owner("old", "a"), "b", None, set(), True),
        (Owner("old", "a"), "b", None, {"old", "new"}, False),
        (Owner("old", "a"), None, None, set(), False),
        (Owner("old"), "b", None, set(), False),
    ],
)
def test_a_shop_is_the_same_by_store_location_or_database(
    owner: Owner | None, location: str | None, store: str | None, stored: set[str], *, is_refused: bool
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        if owner:
            record_owner(instance, UNNAMED, location=owner.location, store=owner.store)
        with pytest.raises(NameTakenError) if is_refused else nullcontext():
            refuse_other_shop(instance, UNNAMED, location=location, store=store, stored=lambda: stored)


def test_a_command_does_not_forget_the_code_location() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        record_owner(instance, UNNAMED, location="a", store="old")
        record_owner(instance, UNNAMED, location=None, store="old")
        assert owner_of(instance, UNNAMED) == Owner("old", "a")
        assert owner_of(instance, Shop("acme")) is None


def test_the_example_has_an_environment_file_per_location() -> None:
    workspace = load_yaml_from_path(str(EXAMPLE / "workspace.yaml"))
    assert isinstance(workspace, dict)
    locations = [entry["python_module"] for entry in workspace["load_from"]]
    files = {path.name.partition(".")[0]: dotenv_values(path) for path in EXAMPLE.glob("*.env.example")}

    assert [location["location_name"] for location in locations] == ["acme", "bolt", "cove"] == sorted(files)
    for shop, values in files.items():
        settings = CommerceSettings.read({name: value or "" for name, value in values.items()})
        assert (settings.shop, settings.duckdb_path) == (shop, Path(f"data/{shop}.duckdb"))


def test_a_wrong_file_stops_only_the_location_of_its_shop(tmp_path: Path) -> None:
    for shop in ("acme", "bolt", "cove"):
        (tmp_path / "shops" / shop).mkdir(parents=True)
        text = (EXAMPLE / f"{shop}.env.example").read_text()
        (tmp_path / "shops" / shop / ".env").write_text(text.replace("Europe/Berlin", "Berlin"))
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(EXAMPLE / "workspace.yaml")],
        cwd=tmp_path,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("COMMERCE_", "DAGSTER_"))},
            "DAGSTER_HOME": str(tmp_path),
            "DAGSTER_PROJECT_ENV_FILE_PATHS": json.dumps({shop: f"shops/{shop}" for shop in ("acme", "bolt", "cove")}),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    said = done.stdout + done.stderr
    assert re.findall(r"Validation successful for code location (\w+)", said) == ["acme", "cove"]
    assert "COMMERCE_TIMEZONE is 'Berlin'. Fix: " in said


def test_own_assets_are_stored_without_the_name_of_the_shop(shops: tuple[ShopOnDisk, ShopOnDisk]) -> None:
    acme, _ = shops
    acme.run("pull", "products")

    @dg.asset(
        key_prefix=["acme", "reporting"],
        io_manager_key="acme_warehouse_io_manager",
        ins={"products": dg.AssetIn(key_prefix="acme")},
    )
    def names(products: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
        return products.select("name")

    @dg.asset(
        key_prefix="acme",
        io_manager_key="acme_warehouse_io_manager",
        ins={"names": dg.AssetIn(key_prefix=["acme", "reporting"])},
    )
    def counts(names: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
        return names.aggregate("count(*) AS products")

    definitions = dg.Definitions.merge(acme.definitions, dg.Definitions(assets=[names, counts]))
    with dg.DagsterInstance.get() as instance, patch.dict(os.environ, acme.variables):
        job = definitions.resolve_implicit_global_asset_job_def()
        job.execute_in_process(instance=instance, asset_selection=[names.key, counts.key])

    assert acme.query("SELECT count(*) AS rows FROM reporting.names") == [{"rows": 3}]
    assert acme.query("SELECT products FROM commerce.counts") == [{"products": 3}]


def test_pools_of_each_shop_are_limited(shops: tuple[ShopOnDisk, ShopOnDisk]) -> None:
    with dg.DagsterInstance.get() as instance:
        for shop in shops:
            limit_pools(instance, Shop(shop.name))
        limits = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}

    assert {f"{shop.name}_{API_POOL}": 1 for shop in shops}.items() <= limits.items()
