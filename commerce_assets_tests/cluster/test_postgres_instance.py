"""Dagster on PostgreSQL, by the dagster.yaml of deploy/cluster: what works on SQLite works here, and starts twice."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterRunStatus

from commerce_assets.ops.abandoned_runs import fail_abandoned_runs, limit_pools
from commerce_assets.settings import build_coordination
from commerce_assets_tests.support.cluster import Cluster
from commerce_assets_tests.support.processes import wait_until
from commerce_assets_tests.support.servers import PASSWORD, PostgresServer, running_redis
from commerce_assets_tests.support.world import serving
from sample_store.shop import build_shop
from sample_store.store import SampleStore

DAYS = 365


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture
def cluster(url: str, redis: str, tmp_path: Path) -> Iterator[Cluster]:
    store = SampleStore(build_shop(now=datetime.now(UTC), days=DAYS + 5))
    with serving(store, tmp_path) as world:
        world.settings["COMMERCE_ORDERS_START_DATE"] = f"{datetime.now(UTC).date() - timedelta(days=DAYS):%Y-%m-%d}"
        yield Cluster(world, postgres_url=url, broker_url=redis)


def test_everything_works_on_postgres_and_starts_twice(cluster: Cluster, postgres: PostgresServer) -> None:
    """Materialize, a backfill of a year, refresh, status and backup; the preparation of a start, twice and at once."""
    prepare = [cluster.start("-m", "commerce_assets.ops.abandoned_runs") for _ in range(2)]
    assert [process.wait(90) for process in prepare] == [0, 0], cluster.log
    cluster.run("-m", "commerce_assets.ops.abandoned_runs")
    with cluster.instance() as instance:
        assert {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()} == {
            "commerce_api": 1,
            "warehouse": 1,
        }

    cluster.run("-m", "dagster", "job", "execute", "-m", "commerce_assets.definitions", "-j", "catalog")
    loaded = cluster.run("-m", "commerce_assets", "pull", "orders")
    assert f"in {DAYS} partitions" in loaded
    with cluster.instance() as instance:
        records = instance.fetch_materializations(AssetKey("orders"), limit=1000, ascending=True).records
    milliseconds = [int(record.timestamp * 1000) for record in records]
    # The UI shows as one what has one stamp.
    assert len(milliseconds) == DAYS
    assert milliseconds == sorted({*milliseconds})
    cluster.run("-m", "commerce_assets", "refresh")
    cluster.run("-m", "commerce_assets", "build")
    cluster.run("-m", "commerce_assets", "status")

    backup = cluster.run("-m", "commerce_assets", "backup", "backups")
    (folder,) = (cluster.folder / "backups").iterdir()
    assert PASSWORD not in backup
    assert {path.name for path in folder.iterdir()} == {"shop.duckdb", "postgres.dump"}
    assert [path.stat().st_mode & 0o077 for path in folder.iterdir()] == [0, 0]
    assert restored_runs(folder / "postgres.dump", postgres) == 4
    with cluster.instance() as instance:
        runs = instance.get_runs()
        assert [run.status for run in runs] == [DagsterRunStatus.SUCCESS] * 4
        assert all("commerce_assets/process" in run.tags for run in runs)


def restored_runs(dump: Path, postgres: PostgresServer) -> int:
    url = postgres.new_database().replace("+psycopg2", "")
    subprocess.run(["pg_restore", "--no-owner", f"--dbname={url}", str(dump)], check=True)
    ((count,),) = postgres.execute("SELECT count(*) FROM runs")
    return int(count)


def test_no_backup_is_made_without_the_history(cluster: Cluster) -> None:
    cluster.run("-m", "commerce_assets", "pull", "products")
    for environment, reason in (
        ({"COMMERCE_POSTGRES_URL": ""}, "Dagster's history is on a database server"),
        ({"PATH": str(cluster.folder)}, "there is no pg_dump here"),
        ({"COMMERCE_POSTGRES_URL": cluster.postgres_url.replace(PASSWORD, "canary")}, "could not be dumped"),
    ):
        said = cluster.run("-m", "commerce_assets", "backup", "backups", succeeds=False, **environment)
        assert "no backup was made: " in said
        assert reason in said
        assert "canary" not in said
        assert [*(cluster.folder / "backups").glob("*")] == []
    cluster.run("-m", "commerce_assets", "backup", "backups", "--no-history", COMMERCE_POSTGRES_URL="")
    assert len([*(cluster.folder / "backups").iterdir()]) == 1


def test_a_starting_machine_leaves_a_live_run_alone(cluster: Cluster) -> None:
    """Fault 108: the run is in another process namespace, so its process id says nothing here."""
    cluster.world.settings["COMMERCE_API_REQUESTS_PER_SECOND"] = "0.2"
    job = ["-m", "dagster", "job", "execute", "-m", "commerce_assets.definitions", "-j", "catalog"]
    with cluster.instance() as instance:
        elsewhere = cluster.start(*job, alone=True)
        wait_until(lambda: any("commerce_assets/process" in run.tags for run in instance.get_runs()))
        (run,) = instance.get_runs()

        assert "marked as failed" not in cluster.run("-m", "commerce_assets.ops.abandoned_runs")
        assert fail_abandoned_runs(instance, build_coordination(None)) == []
        assert instance.get_run_by_id(run.run_id).status == DagsterRunStatus.STARTED  # type: ignore[union-attr]

        elsewhere.kill()
        elsewhere.wait()
        assert f"Run {run.run_id}: its process was killed" in cluster.run("-m", "commerce_assets.ops.abandoned_runs")
        assert instance.get_run_by_id(run.run_id).status == DagsterRunStatus.FAILURE  # type: ignore[union-attr]


def test_a_changed_limit_of_pools_is_followed(cluster: Cluster) -> None:
    with cluster.instance() as instance:
        limit_pools(instance)
        instance.event_log_storage.set_concurrency_slots("warehouse", 3)
    configuration = cluster.home / "dagster.yaml"
    configuration.write_text(configuration.read_text().replace("default_limit: 1", "default_limit: 2"))
    with cluster.instance() as instance:
        limit_pools(instance)
        limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert limits == {"commerce_api": 2, "warehouse": 3}


def test_two_shops_share_a_history_and_a_lake(cluster: Cluster) -> None:
    """Their rows have equal ids, and other numbers of them."""
    shops = ("acme", "bolt")
    cluster.world.settings["COMMERCE_LAKE_DATA"] = str(cluster.folder / "lake")
    counts: dict[str, int] = {}
    for shop in shops:
        cluster.world.settings["COMMERCE_SHOP"] = shop
        cluster.run("-m", "commerce_assets.ops.abandoned_runs")
        cluster.run("-m", "commerce_assets", "pull", "products")
        counts[shop] = len(cluster.world.store.shop.products)
        cluster.world.store.shop.products.pop()
        cluster.world.store.touch()
    with cluster.instance() as instance:
        events = {shop: instance.get_latest_materialization_event(AssetKey([shop, "products"])) for shop in shops}
        pools = {pool.name for pool in instance.event_log_storage.get_pool_limits()}
    rows = {
        shop: event.asset_materialization.metadata["dagster/row_count"].value
        for shop, event in events.items()
        if event and event.asset_materialization
    }
    assert rows == counts
    assert counts["acme"] == counts["bolt"] + 1
    assert pools == {f"{shop}_{pool}" for shop in shops for pool in ("commerce_api", "warehouse")}
    for shop in shops:
        cluster.world.settings["COMMERCE_SHOP"] = shop
        status = json.loads(cluster.run("-m", "commerce_assets", "status", "--format", "json"))
        assert status["shop"] == shop
        assert {table["table"]: table["rows"] for table in status["tables"]}["products"] == counts[shop]
