"""A key, a secret and a buyer that occur nowhere else are searched for in everything that runs leave behind.

The runs are those of Dagster's command line, in processes of their own, with an instance on disk. Credentials must be
nowhere; a buyer only in the columns of the database, and in the staged pages of a pull that has not been loaded.
"""

import json
import logging
import os
import pickle
import re
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from stat import S_IMODE
from typing import Any
from urllib.parse import quote

import duckdb
import pytest
import requests
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.errors import PullError
from commerce_assets.api.request import ListRequest
from commerce_assets.definitions import build_definitions
from commerce_assets.defs.resources import CommerceApiResource
from commerce_assets.ingest.ingest import Ingested
from commerce_assets.ingest.stage_pages import stage
from commerce_assets.ingest.verify import Verified
from commerce_assets.settings import CommerceSettings
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.load import LoadResult, load
from commerce_assets.warehouse.parse import StagedItemsUnreadableError
from commerce_assets.window import Window
from commerce_assets_tests.support.canaries import (
    BUYER,
    CREDENTIALS,
    ECHOES,
    KEY,
    QUERY,
    SECRET,
    UNLOADABLE,
    days,
    orders_of,
)
from commerce_assets_tests.support.command_line import ByDay, Command, materialize_orders, runs_of
from commerce_assets_tests.support.pulling import BY_NAME, LOG, puller_of, store_of
from sample_store.store import SampleStore
from sample_store.values import timestamp

TESTS = Path(__file__).parents[1]

# Where a buyer may be, and nowhere else.
IN_THE_DATABASE = {
    "commerce.duckdb",
    *(f"commerce.duckdb:orders.{column}" for column in ("buyer_email", "buyer_name", "paypal_email")),
    *(f"commerce.duckdb:orders.{column}" for column in ("billing_address1", "buyer_ip_address")),
    *(f"commerce.duckdb:orders.{column}" for column in ("order_custom_checkout_fields", "_invalid", "_extra")),
    "commerce.duckdb:products.self_hosted_url",
}
STAGED = re.compile(r"\w+\.staging/orders/[^/]+/items-\d+\.jsonl")
PULL = ListRequest(endpoint=BY_NAME["orders"], window=Window.of_days(*days(1) * 2))


def canary_store() -> SampleStore:
    return store_of(orders=orders_of(days(1)[0]), api_key=KEY, api_secret=SECRET)


def seen_in(text: bytes, needles: Mapping[str, set[bytes]]) -> set[str]:
    return {what for what, forms in needles.items() if any(form in text for form in forms)}


def error_of(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - that is what is asked for
        return error
    raise AssertionError("nothing was raised")


def variables_of(error: BaseException) -> Iterator[tuple[str, bytes]]:
    """`function.variable` and its repr, of all frames of an error and of those before it, but for the tests' own."""
    known: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        one = errors.pop()
        if one is None or id(one) in known:
            continue
        known.add(id(one))
        # The context is looked at also where `from None` hides it.
        errors += [one.__cause__, one.__context__]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if not Path(frame.f_code.co_filename).is_relative_to(TESTS):
                for name, value in dict(frame.f_locals).items():
                    yield f"{frame.f_code.co_qualname}.{name}", repr(value).encode()


def test_credentials_and_buyers_are_only_in_their_columns(tmp_path: Path) -> None:
    """Faults 65, 66, 68: and what holds the buyer can be read by the owner alone."""
    stored, refused, unloadable = days(3)
    commands = [
        materialize_orders(stored, "stored"),
        materialize_orders(refused, "refused"),
        materialize_orders(unloadable, "unloadable"),
    ]
    with runs_of(tmp_path, [item for day in days(3) for item in orders_of(day)]) as runs:
        faults = {refused: ECHOES["422 of what was sent"][1], unloadable: UNLOADABLE[1]}
        runs.server.script(otherwise=ByDay(faults))
        codes = runs.run(commands, instance={"telemetry": {"enabled": True}})

    assert codes == {"stored": 0, "refused": 1, "unloadable": 1}
    assert "the store answered 422 Unprocessable Entity (page too far)" in runs.says(commands[1])
    assert "cannot be parsed" in runs.says(commands[2])
    assert (tmp_path / "home" / "logs" / "event.log").stat().st_size
    assert runs.found(CREDENTIALS | QUERY) == set()
    places = {find.where for find in runs.found(BUYER)}
    staged = {place for place in places if STAGED.fullmatch(place)}
    # Of the pull that can go on, and not of that which is of no use.
    assert staged == {f"commerce.staging/orders/{refused}_{refused}/items-00001.jsonl"}
    assert places - staged == IN_THE_DATABASE - {"commerce.duckdb:products.self_hosted_url"}
    holding = [tmp_path / place for place in ("commerce.duckdb", *staged)]
    assert {oct(S_IMODE(path.stat().st_mode)) for path in holding} == {"0o600"}


# What can be printed, and what goes off with a traceback


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dagster_gets_variable_names_and_no_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault 65."""
    monkeypatch.setenv("COMMERCE_API_KEY", KEY)
    monkeypatch.setenv("COMMERCE_API_SECRET", SECRET)
    definitions = build_definitions()
    resource = (definitions.resources or {})["commerce_api"]

    snapshot = serialize_value(RepositorySnap.from_def(definitions.get_repository_def()))
    shown = f"{snapshot} {definitions!r} {resource!r} {vars(resource)!r} {vars(definitions)!r}".encode()

    assert seen_in(shown + pickle.dumps(resource), CREDENTIALS) == set()
    for variable in (b"COMMERCE_API_KEY", b"COMMERCE_API_SECRET"):
        assert variable in snapshot.encode()


def test_no_repr_and_no_pickle_shows_a_credential(
    tmp_path: Path,
) -> None:
    """Faults 65, 66."""
    api = CommerceApiResource(base_url="http://127.0.0.1/", api_key=KEY, api_secret=SECRET)
    with puller_of(canary_store(), tmp_path) as puller, puller.hold(PULL) as staged:
        with puller.client(key=KEY, secret=SECRET, paths={}) as client:
            page = client.page(PULL, PageDecoder(PULL.endpoint), 1)
            cost = stage(client, staged, log=LOG)
            verified = Verified(stored=0, extracted=staged.count)
            began_at = staged.manifest.began_at
            done = Ingested(request=PULL, began_at=began_at, stats=cost, verified=verified, load=LoadResult())
        things = [
            api,
            client,
            client.tally,
            client.store,
            page,
            page.items[0],
            page.facts(per_page=50),
            PULL,
            done,
            staged,
        ]
        things += [
            staged.manifest,
            vars(staged),
            CommerceSettings.read({"COMMERCE_API_KEY": KEY, "COMMERCE_API_SECRET": SECRET}),
        ]
        shown = " ".join(f"{thing!r} {thing}" for thing in things).encode()
        kept = pickle.dumps([PULL, done])

    assert seen_in(shown + kept, CREDENTIALS | BUYER) == set()


def test_the_staged_account_distinguishes_keys_and_hides_them(tmp_path: Path) -> None:
    """Fault 65."""
    with puller_of(canary_store(), tmp_path) as puller:
        accounts = [puller.client(key=key, secret=SECRET).store for key in (KEY, f"{KEY}2", KEY)]

    assert accounts[0] == accounts[2] != accounts[1]
    assert all(re.fullmatch(r"http://127\.0\.0\.1:\d+ [0-9a-f]{16}", account) for account in accounts)


@pytest.mark.parametrize("name", [name for name in ECHOES if name != "unloadable"])
def test_traceback_variables_hold_no_body_and_no_credential(tmp_path: Path, name: str) -> None:
    """Faults 65, 66: tools that report errors send them off."""
    says, fault = ECHOES[name]
    with puller_of(canary_store(), tmp_path) as puller:
        puller.server.script(otherwise=fault)
        with puller.hold(PULL) as staged, puller.client(key=KEY, secret=SECRET, paths={}) as client:
            error = error_of(lambda: stage(client, staged, log=LOG))

    assert isinstance(error, PullError)
    assert says in str(error)
    variables = list(variables_of(error))
    # Not for want of variables.
    assert {"query", "url"} <= {name.rpartition(".")[2] for name, _ in variables}
    assert {(name, seen) for name, value in variables for seen in seen_in(value, CREDENTIALS | BUYER)} == set()


def test_the_variables_in_a_traceback_of_a_load_hold_no_item(tmp_path: Path) -> None:
    """Fault 66."""
    with puller_of(canary_store(), tmp_path / "staging") as puller:
        puller.server.script(otherwise=UNLOADABLE[1])
        with puller.hold(PULL) as staged, puller.client(key=KEY, secret=SECRET, paths={}) as client:
            stage(client, staged, log=LOG)

            def store() -> None:
                with DatabaseFile(path=tmp_path / "commerce.duckdb", log=LOG).write() as connection:
                    load(connection, staged)

            error = error_of(store)

    assert isinstance(error, StagedItemsUnreadableError)
    variables = list(variables_of(error))
    assert "load.staged" in {name for name, _ in variables}
    assert {(name, seen) for name, value in variables for seen in seen_in(value, CREDENTIALS | BUYER)} == set()


def test_only_the_http_library_logs_the_query_at_debug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Faults 65, 66: with `managed_python_loggers: [root]` these lines are in Dagster's event log."""
    caplog.set_level(logging.DEBUG)
    with puller_of(canary_store(), tmp_path) as puller:
        puller.pull(PULL, key=KEY, secret=SECRET, paths={})

    assert caplog.records
    lines = "\n".join(record.getMessage() for record in caplog.records).encode()
    assert seen_in(lines, CREDENTIALS | BUYER) == set()
    quoting = {record.name for record in caplog.records if "per_page=" in record.getMessage()}
    assert quoting == {"urllib3.connectionpool"}


# Everything else that can happen, and every place that it could be seen in


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
            ("could not be reached", {"COMMERCE_API_BASE_URL": f"http://127.0.0.1:{closed_port()}/"}),
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
    port = closed_port()
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


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
