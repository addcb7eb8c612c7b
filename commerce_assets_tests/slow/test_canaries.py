"""A key, a secret and a buyer that occur nowhere else are searched for after every failure and at every log level."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pytest
import requests

from commerce_assets_tests.support.canaries import (
    BUYER,
    CREDENTIALS,
    ECHOES,
    IN_THE_DATABASE,
    KEY,
    QUERY,
    SECRET,
    STAGED,
    days,
    orders_of,
    seen_in,
)
from commerce_assets_tests.support.command_line import ByDay, Command, materialize_orders, runs_of
from commerce_assets_tests.support.processes import free_port
from sample_store.values import timestamp


@pytest.mark.slow
def test_no_failure_leaks_a_credential_a_query_or_a_buyer(tmp_path: Path) -> None:
    """Faults 65, 66, 67."""
    cases = days(len(ECHOES) + 1)
    faults = {day: fault for day, (_, fault) in zip(cases, ECHOES.values(), strict=False)}
    commands = [
        materialize_orders(day, name, says=says) for day, (name, (says, _)) in zip(cases, ECHOES.items(), strict=False)
    ]
    large = cases[-1]
    (tmp_path / "file").touch()
    (tmp_path / "corrupt.duckdb").write_bytes(b"no database" * 1000)

    def in_settings(says: str, **settings: str | None) -> Command:
        return materialize_orders(large, f"{len(commands)} {says}", says=says, settings=settings)

    with (
        runs_of(
            tmp_path, [item for day in cases for item in orders_of(day, tag="x" * 60_000 * (day == large))]
        ) as runs,
        duckdb.connect(str(tmp_path / "locked.duckdb")),
    ):
        runs.server.script(otherwise=ByDay(faults))
        for says, settings in (
            ("could not be reached", {"COMMERCE_API_BASE_URL": f"http://127.0.0.1:{free_port()}/"}),
            ("COMMERCE_STAGING_DIR", {"COMMERCE_STAGING_DIR": "file/staging"}),
            ("COMMERCE_DUCKDB_PATH", {"COMMERCE_DUCKDB_PATH": "missing/commerce.duckdb"}),
            ("locked.duckdb", {"COMMERCE_DUCKDB_PATH": "locked.duckdb", "COMMERCE_DUCKDB_LOCK_TIMEOUT": "0"}),
            ("corrupt.duckdb", {"COMMERCE_DUCKDB_PATH": "corrupt.duckdb"}),
            ("COMMERCE_API_KEY", {"COMMERCE_API_KEY": None}),
            ("COMMERCE_API_KEY holds a line break", {"COMMERCE_API_KEY": f"{KEY}\nX: {KEY}"}),
            ("COMMERCE_API_SECRET holds a line break", {"COMMERCE_API_SECRET": f"{SECRET}\r{SECRET}"}),
            (
                "COMMERCE_API_BASE_URL must not",
                {"COMMERCE_API_BASE_URL": f"http://{KEY}:{quote(SECRET, safe='')}@127.0.0.1/"},
            ),
            ("COMMERCE_API_BASE_URL is not a valid URL", {"COMMERCE_API_BASE_URL": f"https://[{SECRET}"}),
            (
                "COMMERCE_API_ORDERS_PATH is not a path",
                {"COMMERCE_API_ORDERS_PATH": f"https://{KEY}:{SECRET}@a.example/"},
            ),
        ):
            commands.append(in_settings(says, **settings))
        commands.append(materialize_orders(large, "full disk", says="File too large", largest_file=2_000_000))
        codes = runs.run(commands, instance={"telemetry": {"enabled": True}})

    assert {name for name, code in codes.items() if not code} == set()
    assert [command.name for command in commands if command.says not in runs.says(command)] == []
    assert runs.found(CREDENTIALS | QUERY) == set()
    places = {find.where for find in runs.found(BUYER)}
    assert {place for place in places if not STAGED.fullmatch(place)} == set()
    assert len(places) > 10


@pytest.mark.slow
def test_debug_logs_hold_no_credential_and_no_buyer(tmp_path: Path) -> None:
    """Faults 65, 66."""
    stored, refused = days(2)
    orders = [item for day in days(2) for item in orders_of(day)]
    # Seen by the refresh.
    orders[0]["updated_at"] = timestamp(datetime.now(UTC))
    commands = [
        materialize_orders(stored, "orders"),
        Command(name="products", arguments=("asset", "materialize", "--select", "products")),
        Command(name="refresh", arguments=("job", "execute", "-j", "orders_refresh")),
        Command(name="assets", arguments=("asset", "list", "--select", "*")),
        Command(name="jobs", arguments=("job", "list")),
        Command(name="validate", arguments=("definitions", "validate")),
        materialize_orders(refused, "refused"),
    ]
    with runs_of(tmp_path, orders) as runs:
        runs.server.script(otherwise=ByDay({refused: ECHOES["500"][1]}))
        codes = runs.run(
            commands, instance={"python_logs": {"managed_python_loggers": ["root"], "python_log_level": "DEBUG"}}
        )

    assert {name for name, code in codes.items() if code} == {"refused"}
    # The lines are there.
    assert '"GET /api/v1/orders?from=2026-01-01&' in runs.says(commands[0])
    assert runs.found(CREDENTIALS) == set()
    places = {find.where for find in runs.found(BUYER)}
    assert {place for place in places if not STAGED.fullmatch(place)} == IN_THE_DATABASE


@pytest.mark.slow
def test_the_resources_page_shows_the_names_of_the_variables(tmp_path: Path) -> None:
    """Fault 65."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/graphql"
    query = """{ allTopLevelResourceDetailsOrError(repositorySelector: {
        repositoryName: "__repository__", repositoryLocationName: "commerce_assets.definitions"}) {
        __typename ... on ResourceDetailsList { results { name configFields { name defaultValueAsJson }
        configuredValues { key value type } } } } }"""
    with runs_of(tmp_path) as runs:
        (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}")
        with (tmp_path / "output" / "webserver.txt").open("wb") as output:
            server = subprocess.Popen(
                [
                    *(sys.executable, "-m", "dagster_webserver", "-m", "commerce_assets.definitions"),
                    *("-h", "127.0.0.1", "-p", str(port)),
                ],
                cwd=tmp_path,
                env={**os.environ, **runs.settings},
                stdout=output,
                stderr=output,
            )
        try:
            answer = asked(url, query, patience=60)
        finally:
            server.terminate()
            server.wait(30)

    (api,) = [
        resource
        for resource in answer["data"]["allTopLevelResourceDetailsOrError"]["results"]
        if resource["name"] == "commerce_api"
    ]
    configured = {value["key"]: (value["type"], value["value"]) for value in api["configuredValues"]}
    assert configured["api_key"] == ("ENV_VAR", "COMMERCE_API_KEY")
    assert configured["api_secret"] == ("ENV_VAR", "COMMERCE_API_SECRET")
    assert seen_in(json.dumps(answer).encode(), CREDENTIALS) == set()
    assert runs.found(CREDENTIALS) == set()


def asked(url: str, query: str, *, patience: float) -> Any:
    """What a webserver answers, once it is up."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return requests.post(url, json={"query": query}, timeout=10).json()
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
