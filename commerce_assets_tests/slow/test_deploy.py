"""What deploy/ holds: its units and containers name what there is, do their work, and are backed up while they do."""

import configparser
import http.client
import json
import re
import shlex
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dagster_shared.yaml_utils import load_yaml_from_path

from commerce_assets_tests.support.processes import free_port, wait_until
from commerce_assets_tests.support.units import BACKUP, INSTALLED, ROOT, RUNTIME, UNITS, Services, Unit, read_unit
from sample_store import SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.server import serve
from sample_store.shop import build_shop
from sample_store.store import SampleStore

DEPLOY = ROOT / "deploy"
SERVICES = ("code", "webserver", "daemon")
HARDENED = ("NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateDevices", "RestrictNamespaces")
FIRST_DAY = datetime.now(UTC).date() - timedelta(days=40)


def unit_of(service: str) -> Unit:
    return read_unit(UNITS / f"commerce-assets-{service}.service")


def compose() -> dict[str, Any]:
    loaded: Any = load_yaml_from_path(str(DEPLOY / "compose.yaml"))
    assert isinstance(loaded, dict)
    return loaded


def words_of(command: list[str] | str) -> list[str]:
    """A service's command in compose.yaml, that of its shell included, word by word."""
    return [word for part in command for word in shlex.split(part)]


def written_shortly(words: list[str]) -> list[str]:
    """A unit's command as it is in an image whose PATH has the environment, and where a port is published."""
    return [word.removeprefix(f"{INSTALLED}/.venv/bin/").replace("127.0.0.1", "0.0.0.0") for word in words]  # noqa: S104


@pytest.mark.parametrize("path", sorted(UNITS.iterdir()), ids=lambda path: path.name)
def test_unit_files_name_paths_of_the_repository(path: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keeps the names' case
    assert parser.read(path)
    text = path.read_text()

    assert set(parser.sections()) <= {"Unit", "Service", "Timer", "Install"}
    for name in re.findall(rf"{INSTALLED}/(?!\.venv)([\w./-]+)", text):
        assert (ROOT / name).exists(), name
    for module in re.findall(r"(?:-m|--module-name) ([\w.]+)", text):
        assert find_spec(module), module
    for command in re.findall(rf"{INSTALLED}/\.venv/bin/([\w-]+)", text):
        assert (Path(sys.executable).parent / command).exists(), command
    for name in re.findall(r"commerce-assets-[a-z]+\.(?:service|timer)", text):
        assert (UNITS / name).exists(), name


def test_services_are_hardened_and_one_has_the_credentials() -> None:
    for service in (*SERVICES, "backup"):
        unit = unit_of(service)
        assert unit.settings["User"] == ["commerce_assets"]
        assert not [name for name in HARDENED if name not in unit.settings], service
        assert unit.settings["UMask"] == ["0077"]
        assert ("EnvironmentFile" in unit.settings) == (service == "code")
    assert [name for name, service in compose()["services"].items() if "env_file" in service] == ["code"]


def test_the_code_location_starts_first() -> None:
    for service in ("webserver", "daemon"):
        assert unit_of(service).settings["After"] == ["commerce-assets-code.service"]
        assert compose()["services"][service]["depends_on"] == {"code": {"condition": "service_healthy"}}
    assert "commerce_assets.ops.abandoned_runs" in unit_of("code").settings["ExecStartPre"][0]


def test_containers_run_what_units_run_and_the_ui_is_local() -> None:
    services = compose()["services"]

    assert {*services} == {*SERVICES}
    for service in SERVICES:
        written = words_of(services[service]["command"])
        for command in unit_of(service).commands:
            # The socket is waited for by the health check there.
            if command[0] == "/bin/sh":
                continue
            expected = written_shortly(command)
            places = range(len(written) - len(expected) + 1)
            assert any(written[place : place + len(expected)] == expected for place in places), expected
    assert services["webserver"]["ports"] == ["127.0.0.1:3000:3000"]
    assert load_yaml_from_path(str(DEPLOY / "workspace.yaml")) == {
        "load_from": [{"grpc_server": {"socket": f"{RUNTIME}/code.sock", "location_name": "commerce_assets"}}]
    }


def test_the_image_copies_only_files_that_exist() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = [source for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for source in line.split()[:-1]]
    offered = (ROOT / ".dockerignore").read_text().splitlines()

    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{Path(source).parts[0]}" in offered, source
    assert "*" in offered
    assert not [name for name in offered if name.startswith("!") and ".env" in name]
    assert "USER commerce_assets" in dockerfile


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """A state folder with a `.env` that points at a sample store; paced as a real one would be."""
    port = free_port()
    workspace = (DEPLOY / "workspace.yaml").read_text().replace(RUNTIME, str(tmp_path))
    (tmp_path / "workspace.yaml").write_text(workspace)
    with serve(SampleStore(build_shop(now=datetime.now(UTC), days=45))) as server:
        settings = {
            "COMMERCE_API_BASE_URL": server.base_url,
            "COMMERCE_API_ORDERS_PATH": "../v1_3/orders",
            "COMMERCE_API_KEY": SAMPLE_API_KEY,
            "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
            "COMMERCE_ORDERS_START_DATE": FIRST_DAY.isoformat(),
        }
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        yield Services(tmp_path, port)


def ask(port: int, query: str, **variables: object) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = json.dumps({"query": query, "variables": variables})
    connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
    return json.load(connection.getresponse())["data"]


def launch(port: int, job: str, days: tuple[date, date] | None = None) -> None:
    names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    tags = [{"key": name, "value": str(day)} for name, day in zip(names, days or (), strict=bool(days))]
    selector = {
        "repositoryLocationName": "commerce_assets",
        "repositoryName": "__repository__",
        "pipelineName": job,
    }
    answer = ask(
        port,
        "mutation ($run: ExecutionParams!) { launchPipelineExecution(executionParams: $run) { __typename } }",
        run={"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}},
    )
    assert answer["launchPipelineExecution"]["__typename"] == "LaunchRunSuccess"


def statuses(port: int) -> list[str]:
    """Of the runs, the newest first."""
    answer = ask(port, "{ runsOrError { ... on Runs { results { status } } } }")
    return [run["status"] for run in answer["runsOrError"]["results"]]


def has_loaded(port: int) -> bool:
    answer = ask(
        port, "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
    )
    return "RepositoryLocation" in str(answer)


def is_up(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_services_survive_a_restart_of_the_code_location(services: Services) -> None:
    port, days = services.port, (FIRST_DAY, FIRST_DAY + timedelta(days=38))
    with ExitStack() as first:
        first.enter_context(services.running("commerce-assets-code"))
        with services.running("commerce-assets-webserver"), services.running("commerce-assets-daemon"):
            wait_until(lambda: is_up(port))
            wait_until(lambda: has_loaded(port))
            launch(port, "orders", days)
            wait_until(lambda: [*services.folder.glob("data/shop.staging/orders/*/pages.jsonl")])
            first.close()
            wait_until(lambda: statuses(port) == ["FAILURE"])
            with services.running("commerce-assets-code"):
                wait_until(lambda: has_loaded(port))
                launch(port, "orders", days)
                wait_until(lambda: statuses(port) == ["SUCCESS", "FAILURE"])
                assert "resuming after page" in services.log_of("commerce-assets-code")
                services.run(BACKUP)

    (backup,) = services.folder.glob("backups/*")
    with closing(sqlite3.connect(backup / "dagster" / "history" / "runs.db")) as history:
        assert history.execute("SELECT count(*) FROM runs").fetchone() == (2,)
