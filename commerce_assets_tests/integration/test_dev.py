"""`make dev`: which store it points the project at, that it ends completely, and that no run is left dangling."""

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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus, EventLogEntry
from dagster._core.events import EngineEventData

from commerce_assets.dev import lock, net, processes, sample, store
from commerce_assets.ops import abandoned_runs

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
_SUPERVISE = """
import os, sys
from commerce_assets.dev.processes import ProcessEnded, StopRequested, Supervisor

with Supervisor(lock=os.open("lock", os.O_CREAT)) as supervisor:
    try:
        supervisor.start("the child", "child", environment=os.environ)
        print("started", flush=True)
        while True:
            supervisor.pause()
    except StopRequested:
        sys.exit(0)
    except ProcessEnded as end:
        sys.exit(end.exit_status)
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
    # One that should have ended by itself, and serves instead, must not run for ever; its keeper ends what it started.
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


def _wait_until(condition: Callable[[], object], *, seconds: float) -> float:
    """Wait for `condition` and return how long it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise AssertionError(f"still waiting after {seconds} seconds")
        time.sleep(0.05)
    return time.monotonic() - start


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((net.HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _ask(port: int, query: str, **variables: object) -> str:
    connection = http.client.HTTPConnection(net.HOST, port, timeout=30)
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


@contextlib.contextmanager
def _instance(project: Path) -> Iterator[DagsterInstance]:
    with contextlib.chdir(project), DagsterInstance.from_config(str(project)) as instance:
        yield instance


def _run_statuses(project: Path) -> list[DagsterRunStatus]:
    with _instance(project) as instance:
        return [run.status for run in instance.get_runs()]


def test_make_dev_serves_the_sample_store_and_a_terminate_signal_ends_every_process_and_the_run(project: Path) -> None:
    port = _free_port()
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
        assert "sample store" in introduction

        second = _command("-m", "commerce_assets.dev", cwd=project)
        [supervisor] = [pid for pid, parent in _parents().items() if parent == make.pid]
        assert second.returncode == 2
        assert second.stderr == f"make dev: already running here as process {supervisor}; end that one first\n"

        _launch_slow_run(port)
        _wait_until((project / "pulled_from").exists, seconds=30)
        remembered = json.loads((project / "data/sample_store.json").read_text())
        assert (project / "pulled_from").read_text() == f"http://127.0.0.1:{remembered['port']}/api/v1/"

        everything = _tree(make.pid)
        make.terminate()
        _wait_until(lambda: not set(everything) & set(_parents()), seconds=10)
    assert len(everything) > 8  # make, supervisor, keeper, store, dagster, two code servers, UI, daemon, run worker
    assert _run_statuses(project) == [DagsterRunStatus.FAILURE]
    assert not list(project.glob(".tmp_dagster_home_*"))
    assert sorted(path.name for path in (project / "data").iterdir()) == ["dagster", "sample_store.json"]


def test_a_run_whose_process_was_killed_is_marked_failed_but_not_one_that_is_alive_in_another_terminal(
    project: Path,
) -> None:
    by_hand = ["dagster", "asset", "materialize", "-m", "slow_definitions", "--select=slow", "--partition=2025-01-02"]
    with _started(sys.executable, "-m", *by_hand, cwd=project, COMMERCE_API_BASE_URL="http://127.0.0.1:9/") as terminal:
        _wait_until((project / "pulled_from").exists, seconds=30)
        with _instance(project) as instance:
            assert abandoned_runs.fail_abandoned_runs(instance) == []
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


def test_a_process_is_told_by_its_age_from_an_earlier_one_with_the_same_number() -> None:
    before = time.time()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    event = DagsterEvent(
        DagsterEventType.ENGINE_EVENT.value, "job", event_specific_data=EngineEventData.in_process(child.pid)
    )

    def names_living_process(*, at: float) -> bool:
        entry = EventLogEntry(None, "info", "", "run", at, "step", "job", event)  # type: ignore[no-untyped-call]
        return abandoned_runs._names_living_process(entry)

    assert names_living_process(at=time.time())
    assert not names_living_process(at=before - 60)
    child.kill()
    _wait_until(lambda: not names_living_process(at=time.time()), seconds=5)  # dead, but not asked how it ended
    child.wait()
    assert not names_living_process(at=time.time())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_the_supervisor_ends_all_descendants(tmp_path: Path, signum: signal.Signals) -> None:
    (tmp_path / "child.py").write_text(_CHILD)
    with _started(sys.executable, "-c", _SUPERVISE, cwd=tmp_path) as supervisor:
        _read_until(supervisor, "started")
        _wait_until(lambda: len(_tree(supervisor.pid)) == 4, seconds=10)  # itself, keeper, child, grandchild
        everything = _tree(supervisor.pid)
        supervisor.send_signal(signum)
        _wait_until(lambda: not set(everything) & set(_parents()), seconds=10)
        assert supervisor.wait() == (0 if signum != signal.SIGKILL else -signal.SIGKILL)


@pytest.mark.parametrize(("child", "status"), [("raise SystemExit(7)", 7), ("", 1), ("import os; os.abort()", 134)])
def test_a_child_that_ends_by_itself_ends_the_supervisor_with_its_status(
    tmp_path: Path, child: str, status: int
) -> None:
    (tmp_path / "child.py").write_text(child)
    assert _command("-c", _SUPERVISE, cwd=tmp_path).returncode == status


def test_a_process_that_ignores_the_terminate_signal_is_killed() -> None:
    ignorant = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    with _started(sys.executable, "-c", ignorant, cwd=Path.cwd()) as process:
        _read_until(process, "\n")
        processes.end_groups([process.pid], grace=0.5)
        assert process.pid not in _parents()


def test_the_lock_of_a_process_that_was_killed_is_free_again(tmp_path: Path) -> None:
    take = "import sys, time; from pathlib import Path; from commerce_assets.dev.lock import exclusive\n"
    take += "with exclusive(Path('dev.lock')): print('taken', flush=True); time.sleep(60)"
    with _started(sys.executable, "-c", take, cwd=tmp_path) as holder:
        _read_until(holder, "taken")
        with (
            pytest.raises(lock.AlreadyRunning, match=f"process {holder.pid};"),
            lock.exclusive(tmp_path / "dev.lock"),
        ):
            pass
        holder.kill()
        holder.wait()
        with lock.exclusive(tmp_path / "dev.lock"):
            assert (tmp_path / "dev.lock").read_text() == f"{os.getpid()}\n"


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
def test_credentials_decide_whose_store_is_pulled_from(
    environ: dict[str, str], dotenv: dict[str, str], *, own_store: bool
) -> None:
    resolved = store.resolve(environ, dotenv)
    assert resolved.own_store is own_store
    assert resolved.environment == environ | dotenv


@pytest.mark.parametrize(
    ("dotenv", "named"),
    [
        ({"COMMERCE_API_KEY": "k3y"} | _STORE, "COMMERCE_API_SECRET is not set"),
        ({"COMMERCE_API_SECRET": "s3cret"} | _STORE, "COMMERCE_API_KEY is not set"),
        (_CREDENTIALS | {"COMMERCE_API_KEY": " "} | _STORE, "COMMERCE_API_KEY is blank"),
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
def test_a_setting_that_is_missing_or_unusable_is_named_in_one_line_without_any_credential(
    project: Path, dotenv: dict[str, str], named: str
) -> None:
    (project / ".env").write_text("".join(f"{name}={value}\n" for name, value in dotenv.items()))
    ended = _command("-m", "commerce_assets.dev", cwd=project)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert named in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not any(value in ended.stderr for value in _CREDENTIALS.values())


def test_the_sample_store_gets_its_own_database_but_leaves_what_the_user_set() -> None:
    chosen = {"COMMERCE_API_REQUESTS_PER_SECOND": "5", "COMMERCE_ORDERS_START_DATE": "2026-01-01"}
    sample_store = {
        "COMMERCE_API_BASE_URL": "http://127.0.0.1:1/api/v1/",
        "COMMERCE_API_ORDERS_PATH": "../v1_3/orders",
        "COMMERCE_API_KEY": "sample-key",
        "COMMERCE_API_SECRET": "sample-secret",
    }
    address, start_date = "http://127.0.0.1:1", "2025-12-24"
    assert store.point_at_sample_store({}, {}, address=address, start_date=start_date) == sample_store | {
        "COMMERCE_API_REQUESTS_PER_SECOND": "0",
        "COMMERCE_ORDERS_START_DATE": "2025-12-24",
        "COMMERCE_DUCKDB_PATH": "data/sample.duckdb",
    }
    environment = store.point_at_sample_store(_STORE, chosen, address=address, start_date=start_date)
    assert environment == sample_store | chosen | {"COMMERCE_DUCKDB_PATH": "data/sample.duckdb"}


def test_the_sample_store_keeps_its_port_and_first_day_after_a_restart_and_gives_way_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sample, "_PREFERRED_PORT", _free_port())
    port, start_date = sample.port_and_start_date()
    monkeypatch.setattr(sample, "_DAYS", 1)
    assert sample.port_and_start_date() == (port, start_date)
    with socket.create_server((net.HOST, port)):
        other_port, same_date = sample.port_and_start_date()
    assert same_date == start_date
    assert other_port > port


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(project: Path) -> None:
    with socket.create_server((net.HOST, 0)) as server:
        port = server.getsockname()[1]
        ended = _command("-m", "commerce_assets.dev", "--port", str(port), cwd=project)
    assert (ended.returncode, ended.stderr) == (
        2,
        f"make dev: port {port} is taken; choose another one with DAGSTER_PORT\n",
    )


def test_the_example_of_a_dotenv_file_holds_no_secret_and_is_refused_until_it_does(project: Path) -> None:
    shutil.copy(_REPOSITORY / ".env.example", project / ".env")
    ended = _command("-m", "commerce_assets.dev", cwd=project)
    assert ended.returncode == 2
    assert "fill in COMMERCE_API_KEY and COMMERCE_API_SECRET" in ended.stderr
