"""`commerce-assets check` distinguishes the mistakes of a setup, in words that docs/check.md explains."""

import ast
import contextlib
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from click.testing import Result

from commerce_assets.endpoints import ENDPOINTS
from commerce_assets_tests.support.certificates import issue_certificate
from commerce_assets_tests.support.faulty_store import (
    Body,
    Edit,
    Exchange,
    Fault,
    FaultyStore,
    Raw,
    Redirect,
    Reset,
    Serve,
    Status,
    faulty,
)
from commerce_assets_tests.support.items import NOON, order, store_of
from commerce_assets_tests.support.other_programs import held
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.shell import Shell, settings_for
from sample_store.store import SampleStore

DOCS = ROOT / "docs" / "check.md"


@dataclass(frozen=True)
class OnPath:
    """A fault on the requests for one list; the others are served."""

    end: str
    fault: Fault

    def __call__(self, exchange: Exchange) -> None:
        fault = self.fault if exchange.request.path.endswith(self.end) else Serve()
        fault(exchange)


@dataclass(frozen=True)
class Ignoring:
    """Answers as the store would without these parameters."""

    names: tuple[str, ...]

    def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        query = {name: value for name, value in request.query.items() if name not in self.names}
        exchange.send_answer(exchange.store.respond(request.path, query, request.headers))


@dataclass(frozen=True)
class LaterBy:
    """A store whose clock is ahead."""

    ahead: timedelta

    def __call__(self, exchange: Exchange) -> None:
        Serve({"date": format_datetime(datetime.now(UTC) + self.ahead, usegmt=True)})(exchange)


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What somebody did, and what `check` says of it: where, how bad, in which words, with which advice."""

    subject: str
    says: str
    advises: str
    status: str = "wrong"
    settings: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[Fault | None, ...] = ()
    otherwise: Fault | None = None


def url(value: str) -> dict[str, str]:
    return {"COMMERCE_API_BASE_URL": value}


MISTAKES: dict[str, Mistake] = {
    "no address": Mistake(subject="COMMERCE_API_BASE_URL", says="is blank", advises="Set it", settings=url("")),
    "no URL": Mistake(
        subject="COMMERCE_API_BASE_URL", says="is not a valid URL", advises="https://", settings=url("sendowl")
    ),
    "not encrypted": Mistake(
        subject="COMMERCE_API_BASE_URL",
        says="is not encrypted",
        advises="Use https://shop.example",
        settings=url("http://shop.example/api/v1/"),
    ),
    "credentials in the address": Mistake(
        subject="COMMERCE_API_BASE_URL",
        says="must not hold credentials",
        advises="COMMERCE_API_KEY",
        settings=url("https://key:secret@shop.example/"),
    ),
    "unknown host": Mistake(
        subject="products",
        says="its host name is unknown here",
        advises="spelling in COMMERCE_API_BASE_URL",
        settings=url("https://store.invalid/api/v1/"),
    ),
    "no TLS": Mistake(
        subject="products",
        says="there is no TLS where https was asked for",
        advises="another port",
        settings=url("https://127.0.0.1:{port}/api/v1/"),
    ),
    "a website": Mistake(
        subject="products",
        says="a web page instead of JSON",
        advises="base URL",
        otherwise=Body(b"<!doctype html>", "text/html"),
    ),
    "moved": Mistake(
        subject="products",
        says="redirects to https://elsewhere.example",
        advises="set COMMERCE_API_BASE_URL",
        otherwise=Redirect("https://elsewhere.example/api/v1/products"),
    ),
    "wrong version everywhere": Mistake(
        subject="products",
        says="404 Not Found",
        advises="it is COMMERCE_API_BASE_URL",
        settings={**url("http://127.0.0.1:{port}/api/v9/"), "COMMERCE_API_ORDERS_PATH": "orders"},
    ),
    "wrong version but for orders": Mistake(
        subject="products",
        says="404 Not Found",
        advises="look at the version in COMMERCE_API_BASE_URL",
        settings=url("http://127.0.0.1:{port}/api/v9/"),
    ),
    "one wrong path": Mistake(
        subject="products",
        says="404 Not Found",
        advises="this path alone: look at COMMERCE_API_PRODUCTS_PATH",
        settings={"COMMERCE_API_PRODUCTS_PATH": "things"},
    ),
    "old orders": Mistake(
        subject="orders",
        says="is the old version of the list",
        advises="COMMERCE_API_ORDERS_PATH=../v1_3/orders",
        settings={"COMMERCE_API_ORDERS_PATH": "orders"},
    ),
    "wrong key": Mistake(
        subject="products",
        says="401 Unauthorized",
        advises="Correct COMMERCE_API_KEY and COMMERCE_API_SECRET",
        settings={"COMMERCE_API_KEY": "another"},
    ),
    "swapped": Mistake(
        subject="products",
        says="key and secret are in each other's place",
        advises="Exchange",
        settings={"COMMERCE_API_KEY": "sample-secret", "COMMERCE_API_SECRET": "sample-key"},
    ),
    "the key twice": Mistake(
        subject="COMMERCE_API_SECRET",
        says="is the same as COMMERCE_API_KEY",
        advises="Copy the secret",
        settings={"COMMERCE_API_SECRET": "sample-key"},
    ),
    "no key": Mistake(
        subject="COMMERCE_API_KEY", says="is blank", advises="Copy it from", settings={"COMMERCE_API_KEY": " "}
    ),
    "line break": Mistake(
        subject="COMMERCE_API_SECRET",
        says="holds a line break",
        advises="Copy it again",
        settings={"COMMERCE_API_SECRET": "sample\\nsecret"},
    ),
    "quotes": Mistake(
        subject="COMMERCE_API_KEY", says="is in quotes", advises="out", settings={"COMMERCE_API_KEY": "'sample-key'"}
    ),
    "no permission": Mistake(
        subject="orders", says="403 Forbidden", advises="Tick its permission", otherwise=OnPath("orders", Status(403))
    ),
    "no JSON": Mistake(
        subject="packages",
        says="415 Unsupported",
        advises="any proxy between",
        otherwise=OnPath("packages", Status(415)),
    ),
    "too fast": Mistake(
        subject="packages",
        says="429 Too Many Requests",
        advises="COMMERCE_API_REQUESTS_PER_SECOND",
        faults=(None,),
        otherwise=Status(429),
    ),
    "blocked": Mistake(
        subject="packages",
        says="after it had accepted the key",
        advises="Look at the key in the store's API settings",
        faults=(None,),
        otherwise=Status(401),
    ),
    "another selector": Mistake(
        subject="products",
        says='where only "product" belongs',
        advises="dialect",
        otherwise=OnPath("products", Edit(lambda body: body.replace(b'{"product":', b'{"item":'))),
    ),
    "an object": Mistake(
        subject="products",
        says="with an object other than",
        advises="dialect",
        otherwise=OnPath("products", Body(b'{"error": "scripted"}')),
    ),
    "no list": Mistake(
        subject="products", says="instead of a list", advises="dialect", otherwise=OnPath("products", Body(b"42"))
    ),
    "no objects": Mistake(
        subject="products",
        says="holds is not an object",
        advises="dialect",
        otherwise=OnPath("products", Body(b'[{"product": 42}]')),
    ),
    "no ids": Mistake(
        subject="products",
        says="is missing or not a whole number",
        advises="dialect",
        otherwise=OnPath("products", Body(b'[{"product": {"name": "Ink"}}]')),
    ),
    "no time": Mistake(
        subject="orders",
        says="is missing or no instant",
        advises="belongs to no partition",
        otherwise=OnPath("orders", Body(b'[{"order": {"id": 1, "created_at": "in spring"}}]')),
    ),
    "empty body": Mistake(
        subject="products",
        says="with an empty body",
        advises="An empty list would be []",
        otherwise=OnPath("products", Body(b"")),
    ),
    "cut off": Mistake(
        subject="products",
        says="is not valid JSON, or was cut off",
        advises="store's support",
        otherwise=OnPath("products", Body(b'[{"product": {"id": 1')),
    ),
    "nested too deeply": Mistake(
        subject="products",
        says="is nested too deeply",
        advises="dialect",
        otherwise=OnPath("products", Body(b'[{"product": ' + b"[" * 100_000)),
    ),
    "compression": Mistake(
        subject="products",
        says="compression is broken",
        advises="store's support",
        otherwise=OnPath("products", Serve({"content-encoding": "gzip"})),
    ),
    "breaks off": Mistake(
        subject="products", says="broke in the middle of the answer", advises="Run it again", otherwise=Reset()
    ),
    "hangs up": Mistake(
        subject="products", says="could not be reached, or hung up", advises="the network", otherwise=Raw()
    ),
    "no host name": Mistake(
        subject="products",
        says="the request could not be sent",
        advises="Look at COMMERCE_API_BASE_URL",
        settings=url(f"https://{64 * 'a'}.invalid/"),
    ),
    "circles": Mistake(
        subject="products",
        says="redirects in circles",
        advises="the endpoint's path",
        otherwise=Redirect("/api/v1/products?page=1"),
    ),
    "in trouble": Mistake(
        subject="products", says="503 Service Unavailable", advises="Run it again later", otherwise=Status(503)
    ),
    "not understood": Mistake(
        subject="products", says="400 Bad Request", advises="path and filters", otherwise=Status(400)
    ),
    "days ignored": Mistake(
        subject="orders by day",
        says="`from` and `to` not supported",
        advises="reads far more pages",
        status="look",
        otherwise=Ignoring(("from", "to")),
    ),
    "changes ignored": Mistake(
        subject="orders by change",
        says="`updated_after` not supported",
        advises="reads far more pages",
        status="look",
        otherwise=Ignoring(("updated_after",)),
    ),
    "clock": Mistake(
        subject="clock",
        says="minutes behind the store's",
        advises="time server",
        status="look",
        otherwise=LaterBy(timedelta(hours=3)),
    ),
    "no folder": Mistake(
        subject="database",
        says="does not exist",
        advises="Create it",
        settings={"COMMERCE_DUCKDB_PATH": "nowhere/shop.duckdb"},
    ),
    "no database": Mistake(
        subject="database",
        says="cannot be opened",
        advises="restore a damaged file",
        settings={"COMMERCE_DUCKDB_PATH": ".env"},
    ),
    "no staging": Mistake(
        subject="staging",
        says="cannot be written to",
        advises="COMMERCE_STAGING_DIR",
        settings={"COMMERCE_STAGING_DIR": ".env/staging"},
    ),
}


def store_of_a_fortnight() -> SampleStore:
    """Orders of three days of a fortnight, in the version that has `refunded`."""
    orders = [order(day, NOON + timedelta(days=5 * day), refunded=False) for day in (1, 2, 3)]
    return store_of(products=3, orders=orders)


@pytest.fixture
def server() -> Iterator[FaultyStore]:
    with faulty(store_of_a_fortnight()) as running:
        yield running


@pytest.fixture
def shell(server: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, settings_for(server.base_url))


def rows_of(screen: str) -> dict[str, tuple[str, str]]:
    """Subject to status and the rest of the row."""
    heading, *lines = screen.splitlines()
    status, what, finding = (heading.index(name) for name in ("status", "what ", "finding"))
    return {
        line[what:finding].strip(): (line[status:what].strip(), re.sub(" {2,}", "  ", line[finding:])) for line in lines
    }


def test_with_everything_right_every_row_is_ok(shell: Shell, server: FaultyStore) -> None:
    result = shell.run("check")
    assert result.exit_code == 0
    assert {status for status, _ in rows_of(result.stdout).values()} == {"ok"}
    # A list with a cursor is requested twice more, for its filters.
    assert [request.path.rpartition("/")[2] for request in server.requests] == [
        endpoint.name for endpoint in ENDPOINTS for _ in range(3 if endpoint.cursor else 1)
    ]
    assert not (shell.folder / "shop.duckdb").exists()
    assert result.stderr == ""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What `check` shows after each mistake."""
    results = {}
    for name, mistake in MISTAKES.items():
        folder = tmp_path_factory.mktemp("mistake")
        with faulty(store_of_a_fortnight()) as server, contextlib.chdir(folder):
            shell = Shell(folder, settings_for(server.base_url))
            shell.settings |= {
                key: value.replace("{port}", str(server.port)) for key, value in mistake.settings.items()
            }
            server.script(*mistake.faults, otherwise=mistake.otherwise)
            results[name] = shell.run("check")
    return results


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_a_row_with_its_cause_and_fix(made: Mapping[str, Result], name: str) -> None:
    mistake, result = MISTAKES[name], made[name]
    status, shown = rows_of(result.stdout)[mistake.subject]
    assert (status, result.exit_code) == (mistake.status, 1 if mistake.status == "wrong" else 0)
    assert mistake.says in shown
    assert mistake.advises in shown
    assert "sample-secret" not in result.output


def test_no_two_mistakes_have_the_same_words(made: Mapping[str, Result]) -> None:
    shown = {name: rows_of(made[name].stdout)[mistake.subject][1] for name, mistake in MISTAKES.items()}
    assert len(set(shown.values())) == len(shown) >= 12
    # Nor could a person take one for another: of no other is the same said, and the same advised.
    for name, mistake in MISTAKES.items():
        assert [other for other, words in shown.items() if mistake.says in words and mistake.advises in words] == [name]


def test_another_path_than_sendowls_is_worth_a_look(shell: Shell) -> None:
    # Without a key, nobody is asked.
    shell.settings |= {**url("https://www.sendowl.com/"), "COMMERCE_API_KEY": ""}
    status, shown = rows_of(shell.run("check").stdout)["COMMERCE_API_BASE_URL"]
    assert status == "look"
    assert shown == "has another path than SendOwl's: /  Note: for SendOwl it is https://www.sendowl.com/api/v1/"


def test_a_store_that_is_down_is_asked_once_and_not_waited_for(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shell.settings |= url(f"http://127.0.0.1:{port}/api/v1/")
    result = shell.run("check")
    rows = rows_of(result.stdout)
    assert result.exit_code == 1
    assert "nothing listens at its address" in rows["products"][1]
    assert [rows[name][0] for name in ("packages", "orders", "subscriptions")] == ["skipped"] * 3


def test_a_store_in_trouble_is_asked_once_an_endpoint(shell: Shell, server: FaultyStore) -> None:
    server.script(otherwise=Status(503))
    assert "503 Service Unavailable" in rows_of(shell.run("check").stdout)["orders"][1]
    assert len(server.requests) == len(ENDPOINTS)


def test_one_order_is_enough_to_tell_that_days_are_ignored(shell: Shell) -> None:
    with faulty(store_of(orders=[order(1, refunded=False)])) as small:
        small.script(otherwise=Ignoring(("from", "to")))
        shell.settings |= url(small.base_url)
        assert "not supported" in rows_of(shell.run("check").stdout)["orders by day"][1]


def test_an_untrusted_certificate_is_named_and_nothing_is_sent(shell: Shell, tmp_path: Path) -> None:
    context, _ = issue_certificate(tmp_path, name="127.0.0.1")
    with faulty(store_of(products=1), tls=context) as encrypted:
        shell.settings |= url(encrypted.base_url)
        result = shell.run("check")
        assert encrypted.requests == []
    assert result.exit_code == 1
    assert "the store's certificate is not valid for its name, or not trusted" in rows_of(result.stdout)["products"][1]


def test_a_held_database_is_named_with_its_holder(shell: Shell, tmp_path: Path) -> None:
    with held(tmp_path / "shop.duckdb") as holder:
        result = shell.run("check")
    status, shown = rows_of(result.stdout)["database"]
    assert (status, result.stderr) == ("look", "")
    assert "is held by python" in shown
    assert f"(pid {holder.process.pid})" in shown


def test_without_settings_a_missing_dotenv_is_named(shell: Shell, server: FaultyStore) -> None:
    shell.settings.clear()
    result = shell.run("check")
    rows = rows_of(result.stdout)
    assert result.exit_code == 1
    assert rows["store"] == ("skipped", "needs the settings above")
    assert "there is no .env in this folder" in rows["COMMERCE_API_KEY"][1]
    assert server.requests == []


def test_a_wrong_key_costs_two_requests(shell: Shell, server: FaultyStore) -> None:
    shell.settings["COMMERCE_API_KEY"] = "another"
    shell.run("check")
    assert len(server.requests) == 2


def test_an_account_without_orders_leaves_the_filters_open(shell: Shell) -> None:
    with faulty(store_of(products=1)) as empty:
        shell.settings |= url(empty.base_url)
        result = shell.run("check")
    assert result.exit_code == 0
    assert rows_of(result.stdout)["orders by day"][0] == "skipped"


def test_on_a_terminal_the_fix_is_below_the_finding(shell: Shell) -> None:
    shell.settings["COMMERCE_API_KEY"] = "another"
    screen = shell.run("check", TTY_COMPATIBLE="1", NO_COLOR="1", TERM="dumb", COLUMNS="80").stdout
    assert all(len(line) <= 80 for line in screen.splitlines())
    assert "-> Correct COMMERCE_API_KEY" in screen


# Where each is shown to be said, if that is no mistake of the table above.
ELSEWHERE = {
    "is not a URL that both Dagster and this project can use": "test_settings.py",
    "nothing listens at its address": "test_a_store_that_is_down_is_asked_once_and_not_waited_for",
    "would get the same answer": "test_a_store_that_is_down_is_asked_once_and_not_waited_for",
    "certificate is not valid for its name, or not trusted": "test_an_untrusted_certificate_is_named",
    "is held by": "test_a_held_database_is_named_with_its_holder",
    "is a mount point itself": "test_file.py",
    "has another path than SendOwl's": "test_another_path_than_sendowls_is_worth_a_look",
    "needs the settings above": "test_without_settings_a_missing_dotenv_is_named",
    "needs an order in the account": "test_an_account_without_orders_leaves_the_filters_open",
    "did not answer in time": "test_client.py",
    "the answer is larger than": "test_client.py",
    "compressed in a way that was not asked for": "test_client.py",
    "the encrypted connection broke": "test_retry.py",
    "and drops the query": "test_client.py",
    "it is throttled": "test_decoding.py",
    "longer than a run is kept waiting": "test_client.py",
}


def explained() -> set[str]:
    """The words that docs/check.md explains."""
    return {words.replace("`", "") for words in re.findall(r"^\| `(.+?)` \|", DOCS.read_text(), re.MULTILINE)}


def test_the_docs_explain_each_mistake_in_the_words_of_the_check() -> None:
    assert explained() == {mistake.says.replace("`", "") for mistake in MISTAKES.values()} | ELSEWHERE.keys()
    tests = {path.name: path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py")}
    for words, where in ELSEWHERE.items():
        if where in tests:
            assert words in tests[where], words
        else:
            assert f"def {where}" in tests[Path(__file__).name], where


# What `check` can say is written in these functions and modules: of the settings, of where the data goes, by the client
# and of the answers. The first words of each are its finding.
SAYING = {
    "cli/check.py": {"Row"},
    "settings.py": {"SettingError"},
    "api/client.py": {"ApiError"},
    "api/responses.py": {"ApiError", "TransientApiError"},
    "api/decoding.py": {"ApiError", "BlockedApiError", "TransientApiError"},
    "warehouse/file.py": {"WarehouseError"},
}
# Errors of settings that end any command, of a file that is only read, and of an item that is requested alone: `check`
# has no row for them.
NOT_BY_CHECK = (
    *("COMMERCE_ALERT_WEBHOOK_URL", "COMMERCE_API_CA_BUNDLE", "COMMERCE_LAKE_DATA", "COMMERCE_PERSONAL_DATA_KEY"),
    "... is not a path",
    "... is not text in UTF-8",
    "the store answered with another item",
    "there is no database at",
)


def said() -> Iterator[tuple[str, str]]:
    """Where in the code something is said that is not well, and what."""
    for name, makers in SAYING.items():
        for call in ast.walk(ast.parse((ROOT / "commerce_assets" / name).read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in makers:
                continue
            is_row = call.func.id == "Row"
            if is_row and ast.unparse(call.args[1]) == "Status.OK":
                continue
            words = example_of(call.args[2] if is_row else call.args[0])
            if words and not words.startswith(NOT_BY_CHECK):
                yield f"{name}:{call.lineno}", words


# What the values in the words are in the docs; any other one is dots here.
EXAMPLES = {
    "selector": "product",
    "selector or name": "product",
    "endpoint.item_name": "product",
    "target": "https://elsewhere.example",
    "names": "from and to",
    "direction": "behind",
    "expected": "a list",
}


def example_of(node: ast.expr) -> str:
    """A literal, with examples for the values in it; empty for what was put together elsewhere."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if not isinstance(node, ast.JoinedStr):
        return ""
    return "".join(
        EXAMPLES.get(ast.unparse(part.value), "...") if isinstance(part, ast.FormattedValue) else ast.literal_eval(part)
        for part in node.values
    )


def test_whatever_the_check_can_say_is_explained_in_the_docs() -> None:
    found = dict(said())
    assert len(found) > 30
    unexplained = {
        place: words
        for place, words in found.items()
        if not any(part in words.replace("`", "") for part in explained())
    }
    assert unexplained == {}
