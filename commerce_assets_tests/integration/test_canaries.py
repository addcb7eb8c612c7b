"""A key, a secret and a buyer that occur nowhere else are searched for in everything that runs leave behind.

The runs are those of Dagster's command line, in processes of their own, with an instance on disk. Credentials must be
nowhere; a buyer only in the columns of the database, and in the staged pages of a pull that has not been loaded.
"""

import logging
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_IMODE

import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.errors import PullError
from commerce_assets.api.request import ListRequest
from commerce_assets.composition import build_definitions
from commerce_assets.defs.resources import CommerceApiResource
from commerce_assets.ingest.ingest import Ingested
from commerce_assets.ingest.stage import stage
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
    IN_THE_DATABASE,
    KEY,
    QUERY,
    SECRET,
    STAGED,
    UNLOADABLE,
    days,
    orders_of,
    seen_in,
)
from commerce_assets_tests.support.command_line import ByDay, materialize_orders, runs_of
from commerce_assets_tests.support.items import BY_NAME, store_of
from commerce_assets_tests.support.world import LOG, serving
from sample_store.store import SampleStore

TESTS = Path(__file__).parents[1]

PULL = ListRequest(endpoint=BY_NAME["orders"], window=Window.of_days(*days(1) * 2))


def canary_store() -> SampleStore:
    return store_of(orders=orders_of(days(1)[0]), api_key=KEY, api_secret=SECRET)


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
        faults = {refused: ECHOES["redirect with secret"][1], unloadable: UNLOADABLE[1]}
        runs.server.script(otherwise=ByDay(faults))
        codes = runs.run(commands, instance={"telemetry": {"enabled": True}})

    assert codes == {"stored": 0, "refused": 1, "unloadable": 1}
    assert "the store redirects to another host, where credentials are not sent" in runs.says(commands[1])
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
    definitions = build_definitions(CommerceSettings.read())
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
    with serving(canary_store(), tmp_path) as puller, puller.hold(PULL) as staged:
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
    with serving(canary_store(), tmp_path) as puller:
        accounts = [puller.client(key=key, secret=SECRET).store for key in (KEY, f"{KEY}2", KEY)]

    assert accounts[0] == accounts[2] != accounts[1]
    assert all(re.fullmatch(r"http://127\.0\.0\.1:\d+ [0-9a-f]{16}", account) for account in accounts)


@pytest.mark.parametrize("name", [name for name in ECHOES if name != "unloadable"])
def test_traceback_variables_hold_no_body_and_no_credential(tmp_path: Path, name: str) -> None:
    """Faults 65, 66: tools that report errors send them off."""
    says, fault = ECHOES[name]
    with serving(canary_store(), tmp_path) as puller:
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
    with serving(canary_store(), tmp_path) as puller:
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
    with serving(canary_store(), tmp_path) as puller:
        puller.pull(PULL, key=KEY, secret=SECRET, paths={})

    assert caplog.records
    lines = "\n".join(record.getMessage() for record in caplog.records).encode()
    assert seen_in(lines, CREDENTIALS | BUYER) == set()
    quoting = {record.name for record in caplog.records if "per_page=" in record.getMessage()}
    assert quoting == {"urllib3.connectionpool"}
