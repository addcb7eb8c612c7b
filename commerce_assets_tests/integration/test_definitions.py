"""What Dagster is given: the names that people rely on, and what an entry in the endpoint table brings with it."""

import contextvars
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest
from dagster import AssetKey, AssetMaterialization, DagsterInstance, DailyPartitionsDefinition, build_schedule_context
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from commerce_assets import definitions as code_location
from commerce_assets.api.request import ListRequest
from commerce_assets.composition import build_definitions
from commerce_assets.endpoint import Column, ColumnType, Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import CommerceSettings, SettingError
from commerce_assets_tests.support.world import World, running
from sample_store.shop import Shop
from sample_store.store import SampleStore

PROJECT = Path(__file__).parents[2]
NO_SETTINGS: Mapping[str, str] = {}

DISCOUNTS = Endpoint(
    name="discounts",
    path="discounts",
    data_selector="discount",
    description="One row per discount code.",
    columns=(
        Column(name="id", type=ColumnType.BIGINT, description="The discount's id."),
        Column(name="code", type=ColumnType.TEXT, description="What the buyer types."),
        Column(name="percent", type=ColumnType.DECIMAL, description="Off the price."),
        Column(name="updated_at", type=ColumnType.TIMESTAMP, description="When it was last changed."),
    ),
)


def test_assets_have_their_group_table_and_pool() -> None:
    definitions = build_definitions(CommerceSettings.read(NO_SETTINGS))
    specs = [spec for spec in definitions.resolve_all_asset_specs() if spec.group_name == "commerce"]

    names = {spec.key.to_user_string() for spec in specs}
    assert names == {endpoint.name for endpoint in ENDPOINTS} >= {"products", "packages", "orders", "subscriptions"}
    for spec in specs:
        assert spec.metadata["dagster/table_name"] == f"commerce.{spec.key.to_user_string()}"
        assert spec.description
        assert spec.kinds == {"duckdb", "python"}
        assert definitions.get_assets_def(spec.key).op.pool == "commerce_api"


def test_orders_have_utc_days_and_single_run_backfills() -> None:
    definitions = build_definitions(CommerceSettings.read({"COMMERCE_ORDERS_START_DATE": "2024-02-29"}))
    orders = definitions.resolve_asset_graph().get(AssetKey("orders"))

    partitions = orders.partitions_def
    assert isinstance(partitions, DailyPartitionsDefinition)
    assert partitions.timezone == "UTC"
    assert partitions.get_first_partition_key() == "2024-02-29"
    assert orders.backfill_policy is not None
    assert orders.backfill_policy.max_partitions_per_run is None


def test_jobs_and_schedules_exist_and_schedules_are_stopped() -> None:
    repository = build_definitions(CommerceSettings.read(NO_SETTINGS)).get_repository_def()

    assert {job.name for job in repository.get_all_jobs()} == {
        *("__ASSET_JOB", "analytics", "catalog", "orders", "orders_refresh", "reconcile", "health_checks")
    }
    assert {
        schedule.name: (schedule.job_name, schedule.cron_schedule, schedule.execution_timezone)
        for schedule in repository.schedule_defs
    } == {
        "catalog_daily": ("catalog", "20 1 * * *", "UTC"),
        "orders_daily": ("orders", "10 0 * * *", "UTC"),
        "orders_refresh_hourly": ("orders_refresh", "40 * * * *", "UTC"),
        "reconcile_weekly": ("reconcile", "20 3 * * 0", "UTC"),
        "health_checks_hourly": ("health_checks", "55 * * * *", "UTC"),
    }
    assert {schedule.default_status.value for schedule in repository.schedule_defs} == {"STOPPED"}


@pytest.mark.parametrize("settings", [NO_SETTINGS, {"COMMERCE_SHOP": "acme"}], ids=["unnamed", "acme"])
def test_asset_descriptions_name_only_what_exists(settings: Mapping[str, str]) -> None:
    definitions = build_definitions(CommerceSettings.read(settings))
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    named = {
        *(schedule.name for schedule in repository.schedule_defs),
        *(sensor.name for sensor in repository.sensor_defs),
        *(key.name for key in graph.asset_check_keys),
        *(key.path[-1] for key in graph.get_all_asset_keys()),
        *(str(path.relative_to(PROJECT)) for path in (PROJECT / "commerce_assets/analytics/sql").glob("*.sql")),
    }

    for spec in definitions.resolve_all_asset_specs():
        row, kept_up = (spec.description or "").split("\n\n", 1)
        is_table = "duckdb" in spec.kinds
        columns = {column.name for column in spec.metadata["dagster/column_schema"].columns} if is_table else set()
        assert row.startswith("One row " if is_table else "One HTML page ")
        assert set(re.findall(r"`([^`]+)`", kept_up)) <= named | columns


def test_loading_the_definitions_warns_of_nothing() -> None:
    """Dagster warns of each parameter in beta or preview that is used, in every terminal."""
    code = "from commerce_assets.definitions import defs; defs.get_repository_def()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=bare_environment(PYTHONPATH=str(PROJECT)),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == ""


@pytest.mark.parametrize("owner", [None, "team:data", "ann@example.com"])
def test_the_owner_of_the_settings_owns_every_asset(owner: str | None) -> None:
    definitions = build_definitions(CommerceSettings.read({"COMMERCE_OWNER": owner or ""}))

    assert {tuple(spec.owners) for spec in definitions.resolve_all_asset_specs()} == {(owner,) if owner else ()}


def test_unpartitioned_lists_have_the_freshness_policy_of_their_check() -> None:
    specs = build_definitions(CommerceSettings.read(NO_SETTINGS)).resolve_all_asset_specs()
    windows = {
        spec.key.to_user_string(): spec.freshness_policy.fail_window.to_timedelta()
        for spec in specs
        if isinstance(spec.freshness_policy, TimeWindowFreshnessPolicy)
    }

    assert windows == {endpoint.name: timedelta(hours=26) for endpoint in ENDPOINTS if not endpoint.is_partitioned}


def test_every_schedule_sensor_job_and_check_is_described() -> None:
    definitions = build_definitions(CommerceSettings.read(NO_SETTINGS))
    repository = definitions.get_repository_def()
    described = {
        **{schedule.name: schedule.description for schedule in repository.schedule_defs},
        **{sensor.name: sensor.description for sensor in repository.sensor_defs},
        **{job.name: job.description for job in repository.get_all_jobs() if not job.name.startswith("__")},
    }
    graph = definitions.resolve_asset_graph()
    checks = {key.to_user_string(): graph.get_check_spec(key).description for key in graph.asset_check_keys}

    assert [name for name, description in (described | checks).items() if not description] == []


def test_every_endpoint_field_is_a_described_column() -> None:
    definitions = build_definitions(CommerceSettings.read(NO_SETTINGS))
    for endpoint in ENDPOINTS:
        spec = definitions.resolve_asset_graph().get(AssetKey(endpoint.name))
        columns = spec.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == [column.name for column in endpoint.stored_columns]
        assert all(column.description for column in columns)


@pytest.fixture
def with_discounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    endpoints = (*ENDPOINTS, DISCOUNTS)
    rows = [{"id": 1, "code": "MAY", "percent": "7.5", "updated_at": "2024-05-01T00:00:00Z"}]
    store = SampleStore(Shop(others={"discounts": rows}), endpoints=endpoints)
    with running(store, tmp_path, monkeypatch) as project:
        project.endpoints = endpoints
        yield project


def test_a_fifth_endpoint_is_one_entry_and_no_other_edit(with_discounts: World) -> None:
    definitions = with_discounts.definitions
    spec = definitions.resolve_asset_graph().get(AssetKey("discounts"))

    assert spec.group_name == "commerce"
    assert [column.name for column in spec.metadata["dagster/column_schema"].columns] == [
        *("id", "code", "percent", "updated_at"),
        *("_extra", "_invalid", "_extracted_at", "_deleted_at"),
    ]
    assert {check.name for check in spec.check_keys} == {
        "columns_match_schema",
        "id_is_unique_and_present",
        "values_fit_their_types",
        "no_undeclared_fields",
        "row_count_not_collapsed",
        "list_was_consistent",
        "text_is_valid",
        "fresh",
    }
    catalog = definitions.resolve_job_def("catalog")
    assert AssetKey("discounts") in catalog.asset_layer.executable_asset_keys
    with_discounts.run("catalog")
    assert with_discounts.query("SELECT id, code, percent FROM discounts") == [(1, "MAY", Decimal("7.5"))]


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("COMMERCE_ORDERS_START_DATE", "2024-02-30", "a UTC day"),
        ("COMMERCE_ORDERS_START_DATE", "20240101", "a UTC day"),
        ("COMMERCE_ORDERS_START_DATE", "2999-01-01", "not in the future"),
        ("COMMERCE_API_REQUESTS_PER_SECOND", "-1", "a number of at least 0"),
        ("COMMERCE_API_REQUESTS_PER_SECOND", "fast", "a number of at least 0"),
        ("COMMERCE_API_ORDERS_PATH", "https://elsewhere.example/orders", "relative"),
        ("COMMERCE_PERSONNEL_DATA", "drop", "Did you mean COMMERCE_PERSONAL_DATA?"),
    ],
)
def test_definitions_name_an_unusable_setting(setting: str, value: str, said: str) -> None:
    with pytest.raises(SettingError, match=f"{setting}.*{re.escape(said)}"):
        build_definitions(CommerceSettings.read({setting: value}))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("orders", "https://shop.example/api/v1/orders"),
        ("/orders", "https://shop.example/api/v1/orders"),
        ("../v1_3/orders", "https://shop.example/api/v1_3/orders"),
    ],
)
def test_path_is_relative_to_the_base_url(path: str, expected: str) -> None:
    from commerce_assets.api.client import CommerceClient  # noqa: PLC0415
    from commerce_assets.api.rate_limit import RateLimiter  # noqa: PLC0415

    base_url = "https://shop.example/api/v1/"
    pacer = RateLimiter(base_url=base_url, requests_per_second=0)
    with CommerceClient(base_url=base_url, key="k", secret="s", pacer=pacer, paths={"orders": path}) as client:
        orders = ListRequest(endpoint=next(endpoint for endpoint in ENDPOINTS if endpoint.name == "orders"))
        assert client.url_of(orders.endpoint.name, orders.endpoint.path) == expected


def bare_environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMMERCE_", "DAGSTER_"))}
    return {**kept, **settings}


def run(*command: str, cwd: Path, **settings: str) -> str:
    """Run a command of the virtual environment and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env=bare_environment(PYTHONPATH=str(PROJECT), **settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ("dagster", "asset", "materialize", "-m", "commerce_assets.definitions", "--select", "products"),
        ("dagster", "job", "execute", "-m", "commerce_assets.definitions", "-j", "catalog"),
        ("dagster", "definitions", "validate", "-m", "commerce_assets.definitions"),
        ("dagster_dg_cli.cli", "check", "defs"),
        ("dagster_dg_cli.cli", "list", "defs"),
    ],
    ids=lambda command: "-".join(command[:3]),
)
def test_commands_of_dagster_print_one_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *command],
        cwd=PROJECT,
        env=bare_environment(
            PYTHONPATH=str(PROJECT), DAGSTER_HOME=str(tmp_path), COMMERCE_API_REQUESTS_PER_SECOND="fast"
        ),
        capture_output=True,
        text=True,
        check=False,
    )

    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert said.count("COMMERCE_API_REQUESTS_PER_SECOND is 'fast'. Fix: set it to a number of at least 0") == 1
    assert "Traceback" not in said
    assert "Stack Trace" not in said


def test_definitions_load_without_credentials_or_network(tmp_path: Path) -> None:
    run(
        *("dagster", "definitions", "validate", "-m", "commerce_assets.definitions"),
        cwd=tmp_path,
        DAGSTER_HOME=str(tmp_path),
    )
    assert not list(tmp_path.glob("**/*.duckdb"))


@pytest.mark.parametrize("workspace", [[], ["-w", "workspace.yaml"]], ids=["pyproject", "workspace"])
def test_pyproject_and_workspace_name_one_code_location(workspace: list[str], tmp_path: Path) -> None:
    said = run("dagster", "definitions", "validate", *workspace, cwd=PROJECT, DAGSTER_HOME=str(tmp_path))

    assert re.findall(r"Validation successful for code location (\w+)", said) == ["commerce_assets"]


def test_dg_lists_and_checks_the_definitions() -> None:
    listed = json.loads(run("dagster_dg_cli.cli", "list", "defs", "--json", cwd=PROJECT))
    repository = build_definitions(CommerceSettings.read(NO_SETTINGS)).get_repository_def()
    graph = repository.asset_graph

    assert {asset["asset_key"] for asset in listed["assets"]} == {
        key.to_user_string() for key in graph.get_all_asset_keys()
    }
    assert len(listed["asset_checks"]) == len(graph.asset_check_keys)
    assert {job["name"] for job in listed["jobs"]} == set(repository.job_names) - {"__ASSET_JOB"}
    assert "All definitions loaded successfully" in run("dagster_dg_cli.cli", "check", "defs", cwd=PROJECT)


def test_every_job_runs_in_one_process() -> None:
    jobs = build_definitions(CommerceSettings.read(NO_SETTINGS)).get_repository_def().get_all_jobs()

    assert len(jobs) == 7
    assert {job.name for job in jobs if job.executor_def != dg.in_process_executor} == {"__ASSET_JOB"}
    assert code_location.defs.executor == dg.in_process_executor


def test_definitions_can_be_merged_with_an_executor() -> None:
    theirs = dg.Definitions(executor=dg.multiprocess_executor)

    merged = dg.Definitions.merge(build_definitions(CommerceSettings.read(NO_SETTINGS)), theirs)

    jobs = {job.name: job.executor_def for job in merged.get_repository_def().get_all_jobs()}
    assert jobs.pop("__ASSET_JOB") == dg.multiprocess_executor
    assert set(jobs.values()) == {dg.in_process_executor}


def test_secrets_of_the_resources_are_env_vars() -> None:
    settings = {
        "COMMERCE_API_BASE_URL": "https://shop.example/canary/",
        "COMMERCE_API_KEY": "canary",
        "COMMERCE_API_SECRET": "canary",
        "COMMERCE_PERSONAL_DATA": "hash",
        "COMMERCE_PERSONAL_DATA_KEY": "canary-of-16-characters",
        "COMMERCE_ALERT_WEBHOOK_URL": "https://hooks.example/canary",
    }
    resources = build_definitions(CommerceSettings.read(settings)).resources or {}
    fields = {
        field for resource in resources.values() for field in vars(resource).values() if isinstance(field, dg.EnvVar)
    }

    assert fields == set(settings) - {"COMMERCE_PERSONAL_DATA"}
    assert "canary" not in str([vars(resource) for resource in resources.values()])


def test_import_of_definitions_does_no_io_and_is_fast() -> None:
    script = """
import os, sys, time
began = time.process_time()
import dagster
print(time.process_time() - began)
opened = []
def audit(event, args):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen"):
        opened.append((event, args))
    if event == "open" and isinstance(args[0], str) and not args[0].endswith((".py", ".pyc", ".so")):
        # Files of the package, such as the lineage of the marts, are part of it.
        if not args[0].startswith((sys.prefix, sys.base_prefix, os.environ["PYTHONPATH"] + "/commerce_assets/")):
            opened.append((event, args[0]))
sys.addaudithook(audit)
began = time.process_time()
import commerce_assets.definitions
print(time.process_time() - began)
assert not opened, opened
"""
    times: list[list[float]] = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=bare_environment(PYTHONPATH=str(PROJECT)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        times.append([float(line) for line in done.stdout.split()])

    # Seconds of CPU, the best of five. On a slow or busy machine, Dagster's own import says how slow.
    dagster, ours = map(min, zip(*times, strict=True))
    assert ours < max(0.35, 0.5 * dagster)


def daily_requests(tick: str, *materialized: str) -> list[tuple[str | None, str | None, str | None]]:
    """What the daily schedule asks for, where those days are materialized: a partition, or the ends of a range.

    In its own context: an evaluated schedule leaves its instance in a variable of the context.
    """
    return contextvars.copy_context().run(evaluate_daily, tick, *materialized)


def evaluate_daily(tick: str, *materialized: str) -> list[tuple[str | None, str | None, str | None]]:
    definitions = build_definitions(CommerceSettings.read({"COMMERCE_ORDERS_START_DATE": "2024-01-01"}))
    with DagsterInstance.local_temp() as instance:
        for day in materialized:
            instance.report_runless_asset_event(AssetMaterialization("orders", partition=day))
        context = build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime.fromisoformat(tick),
            repository_def=definitions.get_repository_def(),
        )
        evaluated = definitions.resolve_schedule_def("orders_daily").evaluate_tick(context)
    start, end = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
    return [
        (request.partition_key, request.tags.get(start), request.tags.get(end))
        for request in evaluated.run_requests or []
    ]


@pytest.mark.parametrize(
    ("tick", "day"),
    [
        ("2026-03-05T00:10:00+00:00", "2026-03-04"),
        ("2024-03-01T00:10:00+00:00", "2024-02-29"),
        # Five hours behind UTC: the day that is over is that of UTC.
        ("2026-03-04T19:10:00-05:00", "2026-03-04"),
    ],
)
def test_daily_schedule_requests_the_last_complete_day(tick: str, day: str) -> None:
    assert daily_requests(tick) == [(day, None, None)]


def test_daily_schedule_skips_the_first_day() -> None:
    assert daily_requests("2024-01-01T00:10:00+00:00") == []


@pytest.mark.parametrize(
    ("materialized", "first"),
    [
        (["2026-03-01", "2026-03-02", "2026-03-03"], None),
        (["2026-02-27", "2026-02-28"], "2026-03-01"),
        # What is missing before the first day that is there was never asked for, or is older than a month.
        (["2026-02-10", "2026-02-12", "2026-03-03"], "2026-02-11"),
        (["2025-12-01"], None),
    ],
)
def test_daily_schedule_includes_missed_days(materialized: list[str], first: str | None) -> None:
    (asked,) = daily_requests("2026-03-05T00:10:00+00:00", *materialized)

    assert asked == ((None, first, "2026-03-04") if first else ("2026-03-04", None, None))


def test_a_run_without_credentials_fails_with_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    definitions = build_definitions(CommerceSettings.read({"COMMERCE_DUCKDB_PATH": str(tmp_path / "shop.duckdb")}))

    result = definitions.resolve_job_def("catalog").execute_in_process(raise_on_error=False)

    failures = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    said = [failure.description or "" for failure in failures if failure]
    assert len(said) == len(failures) > 0
    assert all(sentence.startswith("COMMERCE_API_BASE_URL is blank. Fix: set it in .env") for sentence in said)
    # Neither the UI nor the terminal shows a traceback.
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    assert [(error.cls_name, error.to_string()) for error in errors if error] == [
        ("SettingError", sentence) for sentence in said
    ]
    assert "Stack Trace" not in capfd.readouterr().err
