"""`make dev`: which store the project extracts from, how it ends, and what happens to runs that were killed."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus, EventLogEntry
from dagster._core.events import EngineEventData

from commerce_assets import dev
from commerce_assets.coordination.lock_files import LockFiles
from commerce_assets.ops import abandoned_runs
from commerce_assets.settings import load_dotenv
from commerce_assets_tests.support.processes import free_port, wait_until

_REPOSITORY = Path(__file__).parents[2]
_DEFINITIONS = """
import os
import time
from pathlib import Path

import dagster as dg


@dg.asset(pool="commerce_api", partitions_def=dg.DailyPartitionsDefinition("2025-01-01"))
def slow() -> None:
    Path("pulled_from").write_text(os.environ["COMMERCE_API_BASE_URL"])
    while True:
        time.sleep(0.1)


defs = dg.Definitions([slow], executor=dg.in_process_executor)
"""
_CHILD = """
import subprocess

subprocess.run(["sleep", "60"])
"""
_STUBBORN_CHILD = """
import signal, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
_SUPERVISE = """
import os
from commerce_assets import dev

dev._GRACE_SECONDS = 0.5
processes = dev._ProcessGroup()
try:
    processes.serve("child", environment=dict(os.environ))
    print("started", flush=True)
    processes.wait_until(lambda: False)
except KeyboardInterrupt:
    pass
finally:
    processes.end()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a folder with this repository's instance configuration and one slow asset."""
    shutil.copy(_REPOSITORY / "dagster.yaml", tmp_path)
    workspace = (_REPOSITORY / "workspace.yaml").read_text()
    (tmp_path / "workspace.yaml").write_text(workspace.replace("commerce_assets.definitions", "slow_definitions"))
    (tmp_path / "slow_definitions.py").write_text(_DEFINITIONS)
    return tmp_path


def _environment(**more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("COMMERCE_", "DAGSTER_", "MAKE"))}
    return ours | {"PYTHONPATH": str(_REPOSITORY)} | more


def _command(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    # A command that should end by itself must not run for ever.
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=_environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@contextlib.contextmanager
def _started(*command: str, cwd: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command that leads a process group, as one typed in a terminal does; kill what a failed test leaves."""
    with subprocess.Popen(
        command, cwd=cwd, env=_environment(**more), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            for pid in _tree(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _read_until(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return "".join(lines)
    raise AssertionError(f"ended without {wanted!r}: {lines}")


def _parents() -> dict[int, int]:
    """Return the parent of each process that runs; what is dead but not yet buried does not."""
    command = ["ps", "-A", "-o", "pid=,ppid=,stat="]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def _tree(root: int) -> list[int]:
    parents = _parents()
    tree = [root] if root in parents else []
    for pid in tree:
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def _ask(port: int, query: str, **variables: object) -> str:
    connection = http.client.HTTPConnection(dev.HOST, port, timeout=30)
    body = json.dumps({"query": query, "variables": variables})
    connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
    return connection.getresponse().read().decode()


def _launch_slow_run(port: int) -> None:
    selector = {
        "repositoryLocationName": "commerce_assets",
        "repositoryName": "__repository__",
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [{"path": ["slow"]}],
    }
    tags = [{"key": "dagster/partition", "value": "2025-01-02"}]
    answer = _ask(
        port,
        "mutation ($run: ExecutionParams!) { launchPipelineExecution(executionParams: $run) { __typename } }",
        run={"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}},
    )
    assert "LaunchRunSuccess" in answer


def _pulled_from(project: Path) -> str:
    """The URL that the asset `slow` wrote; empty until it has, since a file exists before its first byte."""
    file = project / "pulled_from"
    return file.read_text() if file.exists() else ""


@contextlib.contextmanager
def _instance(project: Path, home: str = ".") -> Iterator[dg.DagsterInstance]:
    with contextlib.chdir(project), dg.DagsterInstance.from_config(str(project / home)) as instance:
        yield instance


def _run_statuses(project: Path, home: str = ".") -> list[DagsterRunStatus]:
    with _instance(project, home) as instance:
        return [run.status for run in instance.get_runs()]


def test_sigterm_ends_every_process_of_make_dev_and_the_run(project: Path) -> None:
    port = free_port()
    environment = str(Path(sys.prefix))
    # The environment that runs this test is as good as the one that make would make.
    command = (
        "make",
        "-f",
        str(_REPOSITORY / "Makefile"),
        f"VENV={environment}",
        "-o",
        f"{environment}/.runtime",
        "dev",
    )
    with _started(*command, cwd=project, DAGSTER_PORT=str(port)) as make:
        introduction = _read_until(make, "Ctrl-C")
        assert f"http://127.0.0.1:{port}" in introduction
        assert "data/sample.duckdb" in introduction
        assert "the sample store" in introduction

        second = _command("-m", "commerce_assets.dev", cwd=project)
        assert second.returncode == 2
        assert f"already running here: http://127.0.0.1:{port}. Fix: open it, or end it" in second.stderr

        _launch_slow_run(port)
        wait_until(lambda: _pulled_from(project), seconds=30)
        remembered = json.loads((project / "data/sample/store.json").read_text())
        assert _pulled_from(project) == f"http://127.0.0.1:{remembered['port']}/api/v1/"

        everything = _tree(make.pid)
        make.terminate()
        wait_until(lambda: not set(everything) & set(_parents()), seconds=10)
        assert make.stdout
        assert make.stdout.read() == "Stopping ...\n"
    assert len(everything) > 7  # make, dev, store, dagster, two code servers, UI, daemon, run worker
    assert _run_statuses(project, "data/sample") == [DagsterRunStatus.FAILURE]
    assert not list(project.glob(".tmp_dagster_home_*"))
    assert sorted(path.name for path in (project / "data").iterdir()) == ["sample", "sample.env"]


def test_dagster_dev_says_that_the_history_is_kept(project: Path) -> None:
    command = f"exec {sys.executable} -m dagster dev --port {free_port()} 2>&1"
    with _started("bash", "-c", command, cwd=project) as dagster:
        said = _read_until(dagster, "keeps the run history in data/dagster/history/runs")
        assert "This will be removed" in said
        wait_until((project / "data/dagster/history/runs/index.db").exists, seconds=60)


def test_after_a_kill_the_next_start_says_how_to_end_it(project: Path) -> None:
    port = str(free_port())
    with _started(sys.executable, "-m", "commerce_assets.dev", "--port", port, cwd=project) as killed:
        _read_until(killed, "Ctrl-C")
        everything = _tree(killed.pid)
        killed.kill()
        killed.wait()

        refused = _command("-m", "commerce_assets.dev", cwd=project)
        assert f"http://127.0.0.1:{port}" in refused.stderr
        subprocess.run(refused.stderr.rpartition("with: ")[2].split(), check=True)
        wait_until(lambda: not set(everything) & set(_parents()), seconds=30)
    with contextlib.chdir(project):
        os.close(dev._lock(dev.SAMPLE_HOME))


def test_runs_on_the_sample_store_leave_the_real_history_empty(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    key = dg.AssetKey("slow")
    dev.prepare_sample()
    with _instance(project, str(dev.SAMPLE_HOME)) as sample:
        sample.report_runless_asset_event(dg.AssetMaterialization(key, partition="2025-01-02"))

    with _instance(project) as real:
        assert not real.get_materialized_partitions(key)
        assert not real.get_latest_materialization_event(key)
    with _instance(project, str(dev.SAMPLE_HOME)) as sample:
        assert sample.get_materialized_partitions(key) == {"2025-01-02"}
    assert (project / "data/sample/history/runs/index.db").exists()


def test_only_runs_whose_process_is_gone_are_marked_as_failed(
    project: Path,
) -> None:
    by_hand = ["dagster", "asset", "materialize", "-m", "slow_definitions", "--select=slow", "--partition=2025-01-02"]
    with _started(sys.executable, "-m", *by_hand, cwd=project, COMMERCE_API_BASE_URL="http://127.0.0.1:9/") as terminal:
        wait_until(lambda: _pulled_from(project), seconds=30)
        with _instance(project) as instance:
            assert abandoned_runs.fail_abandoned_runs(instance, LockFiles()) == []
        assert _run_statuses(project) == [DagsterRunStatus.STARTED]

        terminal.kill()
        terminal.wait()
        next_start = _command("-m", "commerce_assets.ops.abandoned_runs", cwd=project, DAGSTER_HOME=str(project))
        assert "marked as failed" in next_start.stdout
    assert _run_statuses(project) == [DagsterRunStatus.FAILURE]


def test_each_pool_has_its_limit_before_the_first_run_is_queued(project: Path) -> None:
    assert _command("-m", "commerce_assets.ops.abandoned_runs", cwd=project, DAGSTER_HOME=str(project)).returncode == 0

    with _instance(project) as instance:
        pools = instance.event_log_storage.get_pool_limits()
        assert {pool.name: pool.limit for pool in pools} == {"commerce_api": 1, "warehouse": 1}
        assert all(pool.from_default for pool in pools)


def test_an_own_configuration_is_compared_with_the_projects(project: Path) -> None:
    home = project / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("concurrency: {pools: {default_limit: 2}}")

    def prepare() -> str:
        return _command("-m", "commerce_assets.ops.abandoned_runs", cwd=project, DAGSTER_HOME=str(home)).stdout

    assert (
        "(telemetry: enabled: false; concurrency: pools: default_limit: 1; retention). Fix: copy them from" in prepare()
    )
    with contextlib.chdir(project):
        dev.configure(home)
    assert "dagster.yaml" not in prepare()


def test_another_dagster_home_receives_the_configuration(project: Path) -> None:
    home = project / "home"
    home.mkdir()
    port = str(free_port())
    store = {"COMMERCE_API_BASE_URL": "http://127.0.0.1:9/", "COMMERCE_API_KEY": "k3y", "COMMERCE_API_SECRET": "s3cret"}
    command = (sys.executable, "-m", "commerce_assets.dev", "--port", port)
    with _started(*command, cwd=project, DAGSTER_HOME=str(home), **store) as make:
        introduction = _read_until(make, "Ctrl-C")
        make.terminate()
        make.communicate()

    assert f"Wrote {home}/dagster.yaml" in introduction
    assert f"Run history   {home}\n" in introduction
    with _instance(project, "home") as instance:
        assert not instance.telemetry_enabled
        assert instance.global_op_concurrency_default_limit == 1
    assert (home / "history/runs/index.db").exists()
    assert not (project / "data/dagster").exists()


def test_a_reused_process_id_does_not_count_as_the_runs_own() -> None:
    before = time.time()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    event = dg.DagsterEvent(
        dg.DagsterEventType.ENGINE_EVENT.value, "job", event_specific_data=EngineEventData.in_process(child.pid)
    )

    def names_living_process(*, at: float) -> bool:
        entry = EventLogEntry(None, "info", "", "run", at, "step", "job", event)  # type: ignore[no-untyped-call]
        return abandoned_runs._names_living_process(entry)

    assert names_living_process(at=time.time())
    assert not names_living_process(at=before - 60)
    child.kill()
    wait_until(lambda: not names_living_process(at=time.time()), seconds=5)  # dead, but not asked how it ended
    child.wait()
    assert not names_living_process(at=time.time())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_each_signal_ends_all_descendants(tmp_path: Path, signum: signal.Signals) -> None:
    (tmp_path / "child.py").write_text(_CHILD)
    with _started(sys.executable, "-c", _SUPERVISE, cwd=tmp_path) as supervisor:
        _read_until(supervisor, "started")
        wait_until(lambda: len(_tree(supervisor.pid)) == 3, seconds=10)  # itself, child, grandchild
        everything = _tree(supervisor.pid)
        supervisor.send_signal(signum)
        wait_until(lambda: not set(everything) & set(_parents()), seconds=10)
        assert supervisor.wait() == 0


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(_STUBBORN_CHILD)
    with _started(sys.executable, "-c", _SUPERVISE, cwd=tmp_path) as supervisor:
        _read_until(supervisor, "ready")
        everything = _tree(supervisor.pid)
        supervisor.terminate()
        wait_until(lambda: not set(everything) & set(_parents()), seconds=10)


def test_a_service_that_ends_by_itself_ends_the_others(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text("print('cause'); raise SystemExit(7)")
    ended = _command("-c", _SUPERVISE, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (1, "make dev: child ended by itself with status 7\n")


_CREDENTIALS = {"COMMERCE_API_KEY": "k3y", "COMMERCE_API_SECRET": "s3cret"}
_STORE = {"COMMERCE_API_BASE_URL": "https://shop.example/api/"}


@pytest.mark.parametrize(
    ("environ", "dotenv", "own_store"),
    [
        ({}, {}, False),
        (_STORE, {}, False),
        ({"COMMERCE_API_KEY": "", "COMMERCE_API_SECRET": " "}, {}, False),
        (_CREDENTIALS | _STORE, {}, True),
        (_CREDENTIALS, _STORE, True),
        ({}, _CREDENTIALS | _STORE, True),
        (_CREDENTIALS | {"COMMERCE_API_SECRET": ""} | _STORE, _CREDENTIALS, True),
    ],
)
def test_credentials_decide_which_store_is_used(
    environ: dict[str, str], dotenv: dict[str, str], *, own_store: bool
) -> None:
    assert dev.choose_store(environ, dotenv) == (environ | dotenv, own_store)


@pytest.mark.parametrize(
    ("dotenv", "named"),
    [
        ({"COMMERCE_API_KEY": "k3y"} | _STORE, "COMMERCE_API_SECRET is not set"),
        ({"COMMERCE_API_SECRET": "s3cret"} | _STORE, "COMMERCE_API_KEY is not set"),
        (_CREDENTIALS | {"COMMERCE_API_KEY": " "} | _STORE, "COMMERCE_API_KEY is not set"),
        (_CREDENTIALS, "COMMERCE_API_BASE_URL=https://www.sendowl.com/api/v1/"),
        (_STORE, "COMMERCE_API_BASE_URL"),
        ({"COMMERCE_API_KEY": "", "COMMERCE_API_SECRET": ""}, "COMMERCE_API_KEY"),
        ({"COMMERCE_DUCKDB_PATH": ""}, "COMMERCE_DUCKDB_PATH"),
        ({"COMMERCE_ORDERS_START_DATE": "yesterday"}, "COMMERCE_ORDERS_START_DATE"),
        (_CREDENTIALS | {"COMMERCE_API_BASE_URL": "shop"}, "COMMERCE_API_BASE_URL is not a valid URL"),
        (
            _CREDENTIALS | {"COMMERCE_API_BASE_URL": "http://shop.example.com/"},
            "COMMERCE_API_BASE_URL is not encrypted",
        ),
        ({"COMMERCE_ALERT_WEBHOOK_URL": "hooks"}, "COMMERCE_ALERT_WEBHOOK_URL is not a valid URL"),
        ({"COMMERCE_PERSONNEL_DATA": "drop"}, "Did you mean COMMERCE_PERSONAL_DATA?"),
        ({"DAGSTER_PORT": "http"}, "DAGSTER_PORT"),
        ({"DAGSTER_HOME": "elsewhere"}, "DAGSTER_HOME"),
    ],
)
def test_an_unusable_setting_is_named_without_credentials(project: Path, dotenv: dict[str, str], named: str) -> None:
    (project / ".env").write_text("".join(f"{name}={value}\n" for name, value in dotenv.items()))
    ended = _command("-m", "commerce_assets.dev", cwd=project)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert named in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not any(value in ended.stderr for value in _CREDENTIALS.values())


def test_the_sample_store_gets_its_own_database_and_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = {"COMMERCE_API_REQUESTS_PER_SECOND": "5", "COMMERCE_ORDERS_START_DATE": "2026-01-01"}
    sample = {
        "COMMERCE_API_BASE_URL": "http://127.0.0.1:1/api/v1/",
        "COMMERCE_API_ORDERS_PATH": "../v1_3/orders",
        "COMMERCE_API_KEY": "sample-key",
        "COMMERCE_API_SECRET": "sample-secret",
        "COMMERCE_DUCKDB_PATH": "data/sample.duckdb",
        "COMMERCE_ENV_FILE": "data/sample.env",
        "DAGSTER_HOME": str(tmp_path / "data/sample"),
    }
    assert dev.point_at_sample_store({}, {}, port=1, start="2025-12-24") == sample | {
        "COMMERCE_API_REQUESTS_PER_SECOND": "0",
        "COMMERCE_ORDERS_START_DATE": "2025-12-24",
    }
    environment = dev.point_at_sample_store(_STORE | chosen, chosen, port=1, start="2025-12-24")
    assert environment == sample | chosen


def test_the_file_of_the_sample_store_has_all_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    dev.SAMPLE_SETTINGS.write_text("# a copy that others may read")
    own = {"COMMERCE_OWNER": "team:data", "COMMERCE_PERSONAL_DATA_KEY": r"it's \ a ${PATH} 'secret' # of $mine${"}
    environment = dev.point_at_sample_store(own, own, port=1, start="2025-12-24")

    dev.write_sample_settings(environment | {"PATH": "/bin"})

    assert load_dotenv(dev.SAMPLE_SETTINGS) == environment
    assert dev.SAMPLE_SETTINGS.stat().st_mode & 0o777 == 0o600


def test_the_sample_store_keeps_its_port_and_first_day(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    port, start_date = dev.prepare_sample(free_port())
    monkeypatch.setattr(dev, "_SAMPLE_DAYS", 1)
    assert dev.prepare_sample() == (port, start_date)
    with socket.create_server((dev.HOST, port)):
        other_port, same_date = dev.prepare_sample()
    assert same_date == start_date
    assert other_port > port


def test_a_chosen_port_that_is_taken_is_an_error(project: Path) -> None:
    with socket.create_server((dev.HOST, 0)) as server:
        port = server.getsockname()[1]
        ended = _command("-m", "commerce_assets.dev", "--port", str(port), cwd=project)
    assert (ended.returncode, ended.stderr) == (
        2,
        f"make dev: port {port} is taken. Fix: choose another with DAGSTER_PORT, or leave it out.\n",
    )


def test_env_example_is_refused_until_it_has_credentials(project: Path) -> None:
    shutil.copy(_REPOSITORY / ".env.example", project / ".env")
    ended = _command("-m", "commerce_assets.dev", cwd=project)
    assert ended.returncode == 2
    assert "fill in COMMERCE_API_KEY and COMMERCE_API_SECRET" in ended.stderr
