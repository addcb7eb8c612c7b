"""The commands: output, errors and exit statuses."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
import time_machine
from click.testing import CliRunner, Result
from dagster import AssetKey, DagsterInstance

from commerce_assets.analytics.tables import MODELS
from commerce_assets.api import retry
from commerce_assets.cli.main import COMMANDS, main
from commerce_assets.cli.status import ranges
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.window import Window
from commerce_assets_tests.support.faulty_store import (
    Body,
    Delay,
    Fault,
    FaultyStore,
    OnPage,
    Reset,
    Status,
    faulty,
)
from commerce_assets_tests.support.items import DAY, NOON, order, product, store_of
from commerce_assets_tests.support.other_programs import held
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.shell import Shell, screen_of, screens, settings_for
from commerce_assets_tests.support.world import World
from sample_store.store import SampleStore

CANARY = "buyer-canary@example.com"
TEN_DAYS = ("pull", "orders", "--from", "2024-03-01", "--to", "2024-03-10")
WINDOW = Window.of_days(date(2024, 3, 1), date(2024, 3, 10))
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
DUE = (datetime.now(UTC) - timedelta(days=1, hours=3)).date()
"""The last day that must be loaded: yesterday is due at 03:00."""


def store_of_ten_days() -> SampleStore:
    """Three products, and 120 orders: 12 a day, on ten days from the first of March 2024 on."""
    start = datetime(2024, 3, 1, tzinfo=UTC)
    orders = [
        order(number, start + (number - 1) * timedelta(hours=2), buyer_email=CANARY, settled_gross="12.50")
        for number in range(1, 121)
    ]
    return store_of(products=3, orders=orders)


@pytest.fixture(scope="module")
def ten_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database into which the orders of the ten days have been pulled."""
    folder = tmp_path_factory.mktemp("ten_days")
    with faulty(store_of_ten_days()) as server, contextlib.chdir(folder):
        shell = Shell(folder, settings_for(server.base_url))
        assert shell.run(*TEN_DAYS).exit_code == 0
    return folder / "shop.duckdb"


@pytest.fixture
def server() -> Iterator[FaultyStore]:
    with faulty(store_of_ten_days()) as running:
        yield running


@pytest.fixture
def shell(server: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A folder in which nothing has been pulled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(retry, "FIRST_BACKOFF_SECONDS", 0.0)
    return Shell(tmp_path, settings_for(server.base_url))


@pytest.fixture
def pulled(shell: Shell, ten_days: Path) -> Shell:
    """A folder into which the orders of the ten days have been pulled."""
    shutil.copy(ten_days, shell.folder)
    return shell


@pytest.fixture
def loaded(shell: Shell) -> Shell:
    """As `pulled`, from the server of this test: nothing else may be loaded into a copy from another server."""
    assert shell.run(*TEN_DAYS).exit_code == 0
    return shell


@pytest.fixture
def in_march() -> Iterator[None]:
    """The twentieth of March 2024: what works on every day up to yesterday works on twenty."""
    with time_machine.travel(datetime(2024, 3, 20, 12, tzinfo=UTC)):
        yield


@contextlib.contextmanager
def project_of(shell: Shell, server: FaultyStore) -> Iterator[World]:
    """The shell's folder, as Dagster works in it with the same settings."""
    with pytest.MonkeyPatch.context() as patch, DagsterInstance.ephemeral() as instance:
        project = World(shell.folder, running_server=server, running_instance=instance)
        project.settings["COMMERCE_ORDERS_START_DATE"] = shell.settings["COMMERCE_ORDERS_START_DATE"]
        shell.settings["COMMERCE_DUCKDB_PATH"] = str(project.path)
        for name, value in project.environment.items():
            patch.setenv(name, value)
        yield project


def failed(result: Result, exit_code: int) -> str:
    """The one line about a failure, the last on stderr; nothing was printed as a result."""
    assert result.exit_code == exit_code
    assert result.stdout == ""
    line = result.stderr.splitlines()[-1]
    assert line.startswith("commerce-assets: ")
    assert "Traceback" not in result.output
    return line


def rows_of(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


# The help.


def help_of(*commands: str) -> tuple[str, set[str]]:
    """What another process prints for `--help`, and the modules that it has imported by then."""
    code = (
        "import sys; from commerce_assets.cli.main import main\n"
        "for command in sys.argv[1:]:\n    try: main([*command.split(), '--help'])\n    except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    arguments = [sys.executable, "-c", code, *commands]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split())


def test_the_help_is_there_at_once_and_without_what_takes_time() -> None:
    shown, imported = help_of("")
    assert "pull orders --from 2024-01-01" in shown
    assert not imported & {"dagster", "duckdb", "pyarrow", "requests", "rich", "pydantic"}


def test_the_help_of_each_command_shows_an_example() -> None:
    shown, imported = help_of(*COMMANDS)
    assert "dagster" not in imported
    helps = re.split(r"^Usage: ", shown, flags=re.MULTILINE)[1:]
    names = ", ".join(endpoint.name for endpoint in ENDPOINTS)
    for command, text in zip(COMMANDS, helps, strict=True):
        assert command in text.partition("Example")[2].split()
        assert (f"ENDPOINT  {names}" in text) == (command in {"pull", "preview"})


def test_commands_that_read_do_not_import_dagster(pulled: Shell) -> None:
    code = (
        "import json, sys; from commerce_assets.cli.main import main\n"
        "for command in json.loads(sys.argv[1]):\n    try: main(command)\n"
        "    except SystemExit as end: print('status', end.code, file=sys.stderr)\n"
        "print('dagster' in sys.modules, file=sys.stderr)"
    )
    commands = [
        ["check"],
        ["preview", "orders"],
        ["status"],
        ["query", "FROM orders"],
        ["export", "o"],
        ["backup", "b"],
    ]
    done = subprocess.run(
        [*pulled.command()[:1], "-c", code, json.dumps(commands)],
        cwd=pulled.folder,
        env=pulled.process_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    # `check` misses the field `refunded` in these orders.
    assert done.stderr.splitlines() == ["status 1"] + ["status 0"] * (len(commands) - 1) + ["False"]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "sample-store"])
def test_the_command_list_equals_each_commands_own_help(name: str) -> None:
    with click.Context(main) as context:
        command = main.get_command(context, name)
    assert command is not None
    first_paragraph = (command.help or "").partition("\n\n")[0]
    assert " ".join(first_paragraph.split()).replace("ENDPOINT", "an endpoint") == COMMANDS[name]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pul"], "there is no command pul; there are check, preview, pull"),
        (["--nonsense"], "No such option"),
        (["pull"], "Missing argument 'ENDPOINT'"),
        (["pull", "refunds"], "'refunds' is not one of 'products'"),
        (["pull", "orders", "--from", "March"], "'March' is not a date: write it as YYYY-MM-DD"),
        (
            ["pull", "orders", "--from", "2024-02-01"],
            "--from 2024-02-01 is not a partition: the first is 2024-03-01 (COMMERCE_ORDERS_START_DATE)",
        ),
        (["pull", "orders", "--from", "2024-03-05", "--to", "2024-03-04"], "is later than --to"),
        (["pull", "orders", "--from", "2024-03-05", "--to", "9999-01-01"], "--to 9999-01-01 is not a partition"),
        (["pull", "products", "--from", "2024-03-05"], "products has no partitions: leave out --from and --to"),
        (["preview", "products", "--columns", "id,nonsense"], "products has no column nonsense; it has id"),
        (["query", "DROP TABLE orders"], "DROP is not a query"),
        (["query", "SELECT 1; SELECT 2"], "query takes one statement, not 2"),
        (["query", ""], "query takes one statement, not 0"),
        (["query", "SELEC"], "syntax error"),
        (["query"], "give one statement: as SQL, or as --file FILE"),
        (["query", "SELECT 1", "-o", "o.txt"], "o.txt has no known ending. Fix: use .csv, .tsv"),
        (["query", "SELECT 1", "-o", "o.csv", "--format", "table"], "a table is for the terminal"),
        (["query", "EXPLAIN ANALYZE COPY orders TO 'x.csv'"], "EXPLAIN is not a query"),
        (["query", "COPY (PIVOT orders ON state) TO 'x.csv'"], "syntax error"),
        (["build", "--from", "2024-02-01"], "is not a partition"),
        (["reconcile", "--requests", "1"], "1 is not in the range x>=4"),
        (["export", "out", "nope"], "there is no table nope; there are orders"),
        (["export", "out", "shop.orders"], "there is no table shop.orders. Fix: use orders."),
        (["query", "SELECT 1", "--format", "parquet"], "Parquet needs --output FILE"),
    ],
)
def test_a_usage_error_is_one_line_and_status_2(pulled: Shell, arguments: list[str], says: str) -> None:
    line = failed(pulled.run(*arguments), 2 if "PIVOT" not in str(arguments) else 1)
    assert says in line


def test_a_setting_that_cannot_be_used_is_named_with_status_2(shell: Shell) -> None:
    shell.settings["COMMERCE_ORDERS_START_DATE"] = "yesterday"
    assert "COMMERCE_ORDERS_START_DATE is 'yesterday'. Fix: set it to a UTC day" in failed(shell.run("status"), 2)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("commerce-assets p", {"preview", "pull"}),
        ("commerce-assets --ver", {"--version"}),
        ("commerce-assets pull o", {"orders"}),
        ("commerce-assets query --form", {"--format"}),
    ],
)
def test_the_shell_completes_what_is_typed(typed: str, completed: set[str]) -> None:
    """As the script does that click gives to bash, and that the help explains."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")), "_COMMERCE_ASSETS_COMPLETE": "bash_complete"}
    assert set(CliRunner(env=words).invoke(main, prog_name="commerce-assets").stdout.split()) == {
        f"plain,{word}" for word in completed
    }
    script = CliRunner(env={"_COMMERCE_ASSETS_COMPLETE": "bash_source"}).invoke(main, prog_name="commerce-assets")
    assert "commerce-assets" in script.stdout
    assert "_COMMERCE_ASSETS_COMPLETE=bash_source commerce-assets" in help_of("")[0]


def test_no_command_at_all_shows_the_help_with_status_2(shell: Shell) -> None:
    result = shell.run()
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: commerce-assets")


def test_dotenv_wins_over_the_environment_as_in_dagster(pulled: Shell) -> None:
    assert pulled.run("status", COMMERCE_DUCKDB_PATH="elsewhere.duckdb").exit_code == 0


def test_settings_in_another_encoding_are_refused_in_one_line(shell: Shell) -> None:
    (shell.folder / "utf-16.env").write_text("COMMERCE_SHOP=acme\n", encoding="utf-16")
    result = shell.run("--env-file", "utf-16.env", "status")
    assert result.exit_code == 2
    assert result.stderr == "commerce-assets: utf-16.env is not text in UTF-8. Fix: save it in that encoding.\n"


# preview


def test_preview_shows_the_newest_orders_with_masked_data(shell: Shell, server: FaultyStore) -> None:
    result = shell.run("preview", "orders", "--rows", "3")
    assert result.exit_code == 0
    heading, *rows = result.stdout.splitlines()
    assert heading.split()[:3] == ["id", "created_at", "state"]
    assert [row.split()[0] for row in rows] == ["120", "119", "118"]
    assert all("***" in row for row in rows)
    assert CANARY not in result.output
    assert server.requests[-1].query["per_page"] == "3"
    assert not list(shell.folder.glob("shop*"))


def test_a_preview_shows_personal_data_to_who_asks_for_it(shell: Shell) -> None:
    result = shell.run("preview", "orders", "--columns", "id,buyer_email", "--show-personal-data")
    assert result.stdout.splitlines()[1].split() == ["120", CANARY]


def test_terminal_escape_sequences_are_shown_and_not_executed(shell: Shell, server: FaultyStore) -> None:
    server.store.add("products", product(9, name="\x1b[2J[red]\u202e!\n"))
    result = shell.run("preview", "products")
    assert "\N{REPLACEMENT CHARACTER}[2J[red]\N{REPLACEMENT CHARACTER}!" in result.stdout
    assert "\x1b" not in result.stdout


def test_preview_names_undeclared_fields_and_an_empty_list(shell: Shell, server: FaultyStore) -> None:
    assert shell.run("preview", "packages").stdout == "the list of packages is empty\n"
    server.store.add("packages", product(1, surprise=CANARY))
    result = shell.run("preview", "packages")
    assert "not declared, kept in _extra: 'surprise'" in result.stderr
    assert CANARY not in result.output


def test_preview_shows_the_columns_that_fit_the_terminal(shell: Shell) -> None:
    result = shell.run("preview", "orders", TTY_COMPATIBLE="1", TERM="xterm", COLUMNS="60")
    assert all(len(line) <= 60 for line in click.unstyle(result.stdout).splitlines())
    assert "2 more columns hold something: --columns NAME,... shows them" in result.stderr


# pull


def test_a_pull_reports_rows_and_checks(shell: Shell) -> None:
    result = shell.run("pull", "orders", "--from", "2024-03-02", "--to", "2024-03-03")
    assert result.exit_code == 0
    loaded, checks, *failing = result.stdout.splitlines()
    assert loaded == "orders: 24 rows in 2 partitions (24 inserted, 0 updated, 0 unchanged, 0 removed)"
    assert checks == "9 of 11 checks passed"
    # Most days were never loaded; both checks name the command that loads them.
    assert all("`commerce-assets pull orders --from 2024-03-01" in line for line in failing)
    assert "orders of 2024-03-02...2024-03-03: 24 rows loaded in " in result.stderr
    assert not list((shell.folder / "shop.staging").glob("*/*/*"))


def test_a_pull_without_an_end_goes_up_to_yesterday(shell: Shell) -> None:
    shell.settings["COMMERCE_ORDERS_START_DATE"] = (YESTERDAY - timedelta(days=3)).isoformat()
    assert "orders: 0 rows in 4 partitions" in shell.run("pull", "orders").stdout
    assert "days missing" not in shell.run("status").stdout


def test_a_pull_resumes_after_one_that_failed(shell: Shell, server: FaultyStore) -> None:
    server.script(otherwise=OnPage(3, Status(503)))
    line = failed(shell.run(*TEN_DAYS), 1)
    assert "orders of 2024-03-01...2024-03-10, page 3, attempt 4: the store answered 503" in line
    server.script()
    server.forget()
    result = shell.run(*TEN_DAYS)
    assert server.pages == [2, 3, 4]
    assert "resuming after page 2 of an earlier run, 100 rows" in result.stderr
    assert "orders: 120 rows in 10 partitions (120 inserted" in result.stdout


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Body(b"<html>"), "the store answered 200 with a web page instead of JSON"),
        (Reset(), "the connection broke in the middle of the answer"),
    ],
    ids=["website", "hangs up"],
)
@pytest.mark.parametrize(("command", "attempts"), [("pull", "attempt 4"), ("preview", "first attempt")])
def test_an_api_error_is_one_line(
    shell: Shell, server: FaultyStore, *, command: str, attempts: str, fault: Fault, says: str
) -> None:
    server.script(otherwise=fault)
    assert f"products, page 1, {attempts}: {says}" in failed(shell.run(command, "products"), 1)


@pytest.mark.parametrize(("key", "says"), [("another", "401 Unauthorized"), ("", "COMMERCE_API_KEY is blank. Fix: ")])
def test_a_wrong_key_is_status_2(shell: Shell, key: str, says: str) -> None:
    shell.settings["COMMERCE_API_KEY"] = key
    for command in (("pull", "products"), ("refresh",), ("preview", "orders")):
        assert says in failed(shell.run(*command), 2)


def instance_of(folder: Path) -> DagsterInstance:
    """The instance that the UI opens in a folder."""
    return DagsterInstance.from_config(str(folder))


@pytest.mark.usefixtures("in_march")
def test_the_instance_lists_what_the_command_line_ran(shell: Shell) -> None:
    shutil.copy(ROOT / "dagster.yaml", shell.folder)
    assert shell.run(*TEN_DAYS).exit_code == 0
    assert shell.run("refresh").exit_code == 0
    assert shell.run("reconcile").exit_code == 0
    assert shell.run("build", "--to", "2024-03-10").exit_code == 0
    with instance_of(shell.folder) as instance:
        runs = {run.job_name: run.status.value for run in instance.get_runs()}
        assert runs == dict.fromkeys(("orders", "orders_refresh", "reconcile", "analytics"), "SUCCESS")
        days = {day.isoformat() for day in WINDOW.days}
        assert days <= instance.get_materialized_partitions(AssetKey("orders"))
        assert len(instance.get_materialized_partitions(AssetKey("order_items"))) == 10


def test_dagster_home_of_dotenv_is_the_instance(shell: Shell) -> None:
    home = shell.folder / "home"
    home.mkdir()
    shell.settings["DAGSTER_HOME"] = str(home)
    before = dict(os.environ)
    result = shell.run("pull", "products")
    assert (result.exit_code, "no UI will list this run" in result.stderr) == (0, False)
    assert os.environ == before
    with instance_of(home) as instance:
        assert [run.job_name for run in instance.get_runs()] == ["catalog"]


def test_without_an_instance_a_run_says_so(shell: Shell) -> None:
    result = shell.run("pull", "products")
    assert result.exit_code == 0
    assert result.stderr.startswith("no dagster.yaml in this folder and no DAGSTER_HOME")


def test_stderr_of_a_run_has_only_lines_of_the_package(shell: Shell, server: FaultyStore) -> None:
    """In a separate process: Dagster's warnings and log lines would come here."""
    shutil.copy(ROOT / "dagster.yaml", shell.folder)
    pull = shell.start("pull", "products")
    _, stderr = pull.communicate(timeout=60)
    assert [line.partition(":")[0] for line in stderr.splitlines()] == ["products"] * 3
    server.script(otherwise=Status(404))
    pull = shell.start("pull", "products")
    _, stderr = pull.communicate(timeout=60)
    assert [line.partition(":")[0] for line in stderr.splitlines()] == ["products", "commerce-assets"]


@pytest.mark.usefixtures("in_march")
@pytest.mark.parametrize(
    "command", [("pull", "products"), ("refresh",), ("reconcile",), ("build", "--to", "2024-03-10")]
)
def test_a_run_as_json_is_a_list_of_runs(loaded: Shell, command: tuple[str, ...]) -> None:
    (run,) = json.loads(loaded.run(*command, "--format", "json").stdout)
    assert run["success"]
    assert run["errors"] == []
    # Yesterday is not loaded.
    assert all(check["passed"] for check in run["checks"] if check["check"] != "fresh")
    if command[0] == "pull":
        assert run["materialized"][0]["rows"] == run["materialized"][0]["rows_inserted"] == 3


def test_a_refresh_counts_the_new_orders_of_today(loaded: Shell, server: FaultyStore) -> None:
    loaded.run("refresh")
    assert "orders_refresh: nothing to change" in loaded.run("refresh").stdout
    server.store.add("orders", order(900, datetime.now(UTC)))
    expected = "orders: 1 inserted, 0 updated, 0 unchanged, 0 removed on days that are not complete partitions"
    shown = loaded.run("refresh").stdout
    assert expected in shown
    assert "nothing to change" not in shown
    server.store.update_order(7, settled_gross="1.00")
    server.store.add("orders", order(901, datetime.now(UTC)))
    (run,) = json.loads(loaded.run("refresh", "--format", "json").stdout)
    assert run["materialized"][0]["rows_updated"] == 1
    changes = {"rows_inserted": 1, "rows_updated": 0, "rows_unchanged": 1, "rows_removed": 0}
    assert run["on_other_days"] == [{"asset": "orders", **changes}]


@pytest.mark.usefixtures("in_march")
def test_a_refresh_and_a_reconciliation_bring_what_changed(loaded: Shell, server: FaultyStore) -> None:
    loaded.run("refresh")
    server.store.update_order(7, settled_gross="1.00")
    assert "orders: 12 rows in 1 partition (0 inserted, 1 updated" in loaded.run("refresh").stdout
    server.store.add("orders", order(900, datetime(2024, 3, 4, 12, tzinfo=UTC)))
    compared = loaded.run("reconcile", "--no-repair")
    assert compared.exit_code == 1
    assert "check warns: orders: complete: " in compared.stdout
    repaired = loaded.run("reconcile")
    assert repaired.exit_code == 0
    # Days that were never loaded are extracted, too.
    assert re.search(r"orders: 13 rows in \d+ partitions \(1 inserted", repaired.stdout)


def test_a_pull_keeps_versions_if_the_setting_says_so(shell: Shell) -> None:
    shell.settings["COMMERCE_ORDER_HISTORY"] = "true"
    assert shell.run(*TEN_DAYS).exit_code == 0
    sql = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM orders_history)"
    assert shell.run("query", sql).stdout.splitlines()[1] == "120,120"


def test_a_refused_load_names_the_option_that_allows_it(shell: Shell, server: FaultyStore) -> None:
    for number in range(10, 40):
        server.store.add("products", product(number))
    shell.run("pull", "products")
    server.store.shop.products.clear()
    server.store.touch()
    refused = shell.run("pull", "products")
    assert refused.exit_code == 1
    assert "check failed: products: row_count_not_collapsed: " in refused.stdout
    assert refused.stderr.splitlines()[-1].endswith("--allow-shrinkage.")
    result = shell.run("pull", "products", "--allow-shrinkage")
    assert (result.exit_code, "33 removed" in result.stdout) == (0, True)


def test_a_warning_of_a_check_leaves_the_status_0(shell: Shell, server: FaultyStore) -> None:
    server.store.add("products", product(9, price="cheap"))
    result = shell.run("pull", "products")
    assert result.exit_code == 0
    assert "7 of 8 checks passed" in result.stdout
    assert "check warns: products: values_fit_their_types: " in result.stdout


def test_a_pull_into_a_held_database_names_the_holder(pulled: Shell) -> None:
    with held(pulled.folder / "shop.duckdb") as holder:
        line = failed(pulled.run("pull", "products"), 1)
    assert f"(pid {holder.process.pid})" in line


def test_an_interrupted_pull_keeps_its_pages_and_says_so(shell: Shell, server: FaultyStore) -> None:
    server.script(otherwise=OnPage(3, Delay(60)))
    pull = shell.start(*TEN_DAYS)
    while 3 not in server.pages:
        time.sleep(0.02)
    pull.send_signal(signal.SIGINT)
    stdout, stderr = pull.communicate(timeout=60)
    assert (pull.returncode, stdout) == (130, "")
    assert "extracted pages are kept for 12 hours, and the same command resumes after them" in stderr
    assert stderr.splitlines()[-1] == "commerce-assets: interrupted"
    server.script()
    server.forget()
    assert shell.run(*TEN_DAYS).exit_code == 0
    assert server.pages == [2, 3, 4]


def test_the_bar_of_a_pull_is_shown_on_a_terminal(shell: Shell, server: FaultyStore) -> None:
    """With an instance as the UI's, which by itself would redirect stderr during a step."""
    shutil.copy(ROOT / "dagster.yaml", shell.folder)
    server.script(otherwise=OnPage(3, Delay(60)))
    pull, terminal = shell.start_on_terminal(*TEN_DAYS)
    screen, interrupted = b"", False
    for screen in screens(terminal):
        if b"100 rows" in screen and not interrupted:
            interrupted = True
            pull.send_signal(signal.SIGINT)
    assert pull.wait(timeout=60) == 130
    shown = click.unstyle(screen.decode())
    assert "orders of 2024-03-01...2024-03-10" in shown
    assert "100 rows" in shown
    assert "page 2, " not in shown
    assert "Traceback" not in shown
    # The cursor is shown again.
    assert b"\x1b[?25h" in screen


def test_a_dumb_terminal_shows_lines_of_progress(shell: Shell) -> None:
    result = shell.run(*TEN_DAYS, TTY_COMPATIBLE="1", TERM="dumb")
    assert "GET http://127.0.0.1:" in result.stderr
    assert "120 rows loaded" in result.stderr


def test_a_pull_with_a_closed_pipe_is_stored(shell: Shell, server: FaultyStore) -> None:
    server.script(otherwise=Delay(0.5))
    pull = shell.start("pull", "products")
    assert pull.stdout is not None
    pull.stdout.close()
    assert pull.wait(timeout=60) == 0
    assert shell.run("query", "SELECT count(*) FROM products").stdout.splitlines()[1] == "3"


# backup


def test_a_backup_is_a_folder_named_after_its_time(pulled: Shell) -> None:
    said = json.loads(pulled.run("backup", "backups", "--format", "json").stdout)
    assert re.fullmatch(r"backups/20\d\d-\d\d-\d\dT\d{6}Z", said["folder"])
    assert (pulled.folder / said["folder"] / "shop.duckdb").stat().st_size == said["bytes"]


# status


def test_status_shows_rows_dates_and_missing_days(shell: Shell) -> None:
    shell.run("pull", "orders", "--from", "2024-03-02", "--to", "2024-03-03")
    shell.run("pull", "orders", "--from", "2024-03-05", "--to", "2024-03-05")
    shell.run("pull", "products")
    result = shell.run("status")
    assert result.exit_code == 0
    heading, *lines = result.stdout.splitlines()
    table, marts, remarks = "\n".join(lines).split("\n\n")
    assert ["analytics.refunds", "not built"] in [re.split(" {2,}", line) for line in marts.splitlines()]
    assert re.split(" {2,}", heading) == ["table", "rows", "newest (UTC)", "refreshed", "fresh", "complete", "in step"]
    assert [re.split(" {2,}", line) for line in table.splitlines()] == [
        ["products", "3", "2024-01-01 00:00", "just now", "yes", "-", "-"],
        ["packages", "never loaded"],
        ["orders", "36", "2024-03-05 22:00", "just now", "no", "no", "-"],
        ["subscriptions", "never loaded"],
    ]
    missing = (DUE - date(2024, 3, 1)).days + 1 - 3
    ranges_text = f"2024-03-01, 2024-03-04, 2024-03-06...{DUE}"
    windows = (("2024-03-01", "2024-03-01"), ("2024-03-04", "2024-03-04"), ("2024-03-06", DUE))
    fix = " && ".join(f"commerce-assets pull orders --from {first} --to {last}" for first, last in windows)
    # The missing days are one finding, although neither freshness nor completeness holds.
    assert remarks.splitlines()[:5] == [
        "packages: never loaded",
        "  Fix: commerce-assets pull packages",
        f"orders: days missing: {missing:,} ({ranges_text})",
        f"  Fix: {fix}",
        "subscriptions: never loaded",
    ]


@pytest.mark.parametrize(("hour", "missing"), [(2, []), (3, ["2024-03-19"])])
def test_yesterday_is_missing_once_it_is_due(loaded: Shell, hour: int, missing: list[str]) -> None:
    """The schedule loads it after midnight; a script that asks for --strict meanwhile must not fail every night."""
    loaded.settings["COMMERCE_ORDERS_START_DATE"] = "2024-03-11"
    with time_machine.travel(datetime(2024, 3, 20, hour, tzinfo=UTC)):
        loaded.run("pull", "orders", "--to", "2024-03-18")
        tables = json.loads(loaded.run("status", "--format", "json").stdout)["tables"]
    (found,) = [table for table in tables if table["table"] == "orders"]
    assert found["days_missing"] == missing
    assert found["fresh"]["passed"] is (not missing)


def test_every_command_of_status_fixes_its_finding(shell: Shell, server: FaultyStore) -> None:
    """After a first load of one day, nine days ago, the commands that status names lead to a shop that is well."""
    start = YESTERDAY - timedelta(days=11)
    shell.settings["COMMERCE_ORDERS_START_DATE"] = start.isoformat()
    server.store.add("orders", order(900, datetime.combine(start, NOON.timetz())))
    with time_machine.travel(datetime.now(UTC) - timedelta(days=9)):
        shell.run("pull", "orders", "--from", str(start), "--to", str(start))
        shell.run("build")
    server.store.update_order(900, settled_gross="99.00", settled_currency="EUR")
    seen = set()
    for _ in range(4):
        shown = json.loads(shell.run("status", "--format", "json").stdout)
        commands = [found["command"] for table in shown["tables"] for found in table["findings"]]
        if not commands:
            break
        for command in dict.fromkeys(part for line in commands for part in line.split(" && ")):
            seen.add(command.split()[1])
            assert shell.run(*shlex.split(command)[1:]).exit_code == 0, command
    assert shell.run("status", "--strict").exit_code == 0
    assert seen == {"pull", "refresh", "reconcile", "build"}


@pytest.mark.parametrize(
    ("change", "check", "exit_code"),
    [
        ("UPDATE shop.commerce.orders SET _extra = '{\"new\": 1}' WHERE id = 1", "no_undeclared_fields", 0),
        ("UPDATE shop.commerce.orders SET id = 1 WHERE id = 2", "id_is_unique_and_present", 1),
        ("ALTER TABLE shop.commerce.orders DROP COLUMN _extra", "columns_match_schema", 1),
        ("UPDATE shop.commerce.orders SET _invalid = '{\"tag\": 1}' WHERE id = 1", "values_fit_their_types", 0),
    ],
)
def test_status_names_failed_checks_and_is_1_if_one_blocks(
    pulled: Shell, change: str, check: str, exit_code: int
) -> None:
    with duckdb.connect() as connection:
        connection.execute("ATTACH 'shop.duckdb' AS shop")
        connection.execute(change)
    result = pulled.run("status")
    assert result.exit_code == exit_code
    assert [line for line in result.stdout.splitlines() if line.startswith(f"orders: check failing: {check}: ")]
    shown = json.loads(pulled.run("status", "--format", "json").stdout)
    assert (shown["is_blocked"], shown["is_well"]) == (exit_code == 1, False)
    (orders,) = (table for table in shown["tables"] if table["table"] == "orders")
    finding = next(found for found in orders["findings"] if check in found["finding"])
    assert finding["fixes"] == (check in {"id_is_unique_and_present", "columns_match_schema"})
    if not finding["fixes"]:
        seen = pulled.run(*shlex.split(finding["command"])[1:], "--format", "csv")
        assert (seen.exit_code, len(seen.stdout.splitlines())) == (0, 2)


def test_status_names_the_marts_that_are_not_built_and_their_command(pulled: Shell) -> None:
    lines = pulled.run("status").stdout.splitlines()
    place = lines.index("analytics.daily_revenue: not built")
    assert lines[place + 1] == "  Fix: commerce-assets build"
    assert pulled.run("build", "--to", "2024-03-10").exit_code == 0
    assert "not built" not in pulled.run("status").stdout


def test_status_of_a_healthy_shop_is_0_also_with_strict(shell: Shell, server: FaultyStore) -> None:
    shell.settings["COMMERCE_ORDERS_START_DATE"] = YESTERDAY.isoformat()
    server.store.add("orders", order(900, datetime.combine(YESTERDAY, NOON.timetz())))
    with project_of(shell, server) as project:
        project.run("catalog")
        project.run("orders", days=(YESTERDAY, YESTERDAY))
        project.run("orders_refresh")
        project.run("reconcile")
        project.run("analytics", days=(YESTERDAY, YESTERDAY))
        strict = shell.run("status", "--strict")
        assert strict.exit_code == 0
        assert strict.stdout.splitlines()[-1] == "no day is missing, and no check fails"
        rows = {line.split()[0]: line.split() for line in strict.stdout.splitlines() if line}
        assert rows["orders"][-3:] == ["yes", "yes", "yes"]
        assert {rows[f"analytics.{model.name}"][-1] for model in MODELS if not model.needs_history} == {"yes"}

        server.store.update_order(900, settled_gross="99.00", settled_currency="EUR")
        project.run("orders_refresh")
    assert shell.run("status").exit_code == 0
    behind = shell.run("status", "--strict")
    assert behind.exit_code == 1
    assert "analytics.daily_revenue: not in step: money_equals_orders: " in behind.stdout
    shown = {table["table"]: table for table in json.loads(shell.run("status", "--format", "json").stdout)["tables"]}
    assert shown["orders"]["in_step"]["passed"] is True
    assert shown["analytics.daily_revenue"]["in_step"]["passed"] is False
    assert shown["analytics.daily_revenue"]["rows"] == 0


def test_the_status_counts_the_versions_where_they_are_kept(shell: Shell) -> None:
    shell.settings["COMMERCE_ORDER_HISTORY"] = "true"
    shell.run(*TEN_DAYS)
    assert re.search(r"^orders_history +120 +2024-03-10 22:00", shell.run("status").stdout, re.MULTILINE)


@pytest.mark.parametrize("command", [("status",), ("query", "SELECT 1"), ("export", "out")])
def test_without_a_database_a_command_that_reads_says_so(shell: Shell, command: tuple[str, ...]) -> None:
    assert "there is no database at shop.duckdb" in failed(shell.run(*command), 1)


@pytest.mark.parametrize(
    ("days", "found"),
    [
        ([DAY], [(DAY, DAY)]),
        ([DAY + timedelta(days=n) for n in range(3)], [(DAY, DAY + timedelta(days=2))]),
        ([DAY, DAY + timedelta(days=2)], [(DAY, DAY), (DAY + timedelta(days=2), DAY + timedelta(days=2))]),
        ([], []),
    ],
)
def test_consecutive_days_are_a_range(days: list[date], found: list[tuple[date, date]]) -> None:
    assert ranges(days) == found


# query


def test_a_query_finds_tables_by_any_name_with_times_in_utc(pulled: Shell) -> None:
    sql = "SELECT min(o.created_at) AS first, count(*) AS n FROM orders o JOIN commerce.orders USING (id)"
    result = pulled.run("query", sql, TZ="America/New_York")
    assert result.stdout == "first,n\n2024-03-01 00:00:00+00,120\n"


@pytest.mark.parametrize(
    "sql",
    [
        "-- first\n/* and */ SELECT 'a;b' AS s, count(*) AS n FROM commerce.orders -- last",
        "WITH o AS (FROM orders) SELECT 'a;b' AS s, count(*) AS n FROM o; -- é ;",
        "PIVOT (SELECT 'a;b' AS s, 'n' AS k, id FROM orders) ON k USING count(*) GROUP BY s;",
    ],
)
@pytest.mark.parametrize("way", ["argument", "stdin", "file"])
def test_comments_and_pivot_are_fine_however_they_come(pulled: Shell, sql: str, way: str) -> None:
    (pulled.folder / "q.sql").write_text(sql)
    arguments = {"argument": [sql], "stdin": ["-"], "file": ["-f", "q.sql"]}[way]
    result = pulled.run("query", *arguments, typed=sql)
    assert (result.stdout, result.exit_code) == ("s,n\na;b,120\n", 0)


def test_a_mart_is_found_once_built_and_before_names_its_command(pulled: Shell) -> None:
    for name in ("analytics.daily_revenue", "daily_revenue"):
        line = failed(pulled.run("query", f"FROM {name}"), 1)
        assert "analytics.daily_revenue is not built yet. Fix: run `commerce-assets build`." in line
    assert pulled.run("build", "--to", "2024-03-10").exit_code == 0
    for name in ("analytics.daily_revenue", "daily_revenue"):
        assert pulled.run("query", f"SELECT sum(orders) AS n FROM {name}").stdout == "n\n120\n"
    assert "Fix: run `commerce-assets pull products`" in failed(pulled.run("query", "FROM products"), 1)


def test_json_keeps_numbers_amounts_and_nested_values_exact(shell: Shell, server: FaultyStore) -> None:
    server.store.add("products", product(9, price=None, attachment={"size": 9007199254740993}))
    shell.run("pull", "products")
    sql = "SELECT id, price, attachment FROM products WHERE id IN (1, 9) ORDER BY id"
    result = shell.run("query", sql, "--format", "json")
    rows = [
        {"id": 1, "price": Decimal("9.0000"), "attachment": None},
        {"id": 9, "price": None, "attachment": {"size": 9007199254740993}},
    ]
    assert json.loads(result.stdout, parse_float=Decimal) == rows
    lines = shell.run("query", sql, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line, parse_float=Decimal) for line in lines] == rows
    assert json.loads(shell.run("query", "FROM products WHERE id < 0", "--format", "json").stdout) == []


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "jsonl", "table"])
def test_a_pipe_receives_every_row(pulled: Shell, form: str) -> None:
    result = pulled.run("query", "FROM range(20000)", "--format", form)
    assert result.exit_code == 0
    heads = {"csv": 1, "tsv": 1, "table": 1, "json": 2, "jsonl": 0}
    assert len(result.stdout.splitlines()) == 20_000 + heads[form]


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_the_ending_of_a_file_selects_its_format(pulled: Shell, ending: str) -> None:
    output = pulled.folder / f"orders.{ending}"
    result = pulled.run("query", "FROM orders;", "--output", str(output))
    assert (result.exit_code, result.output) == (0, "")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert rows_of(f"SELECT count(*) FROM '{output}'") == [(120,)]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_that_cannot_be_written_whole_is_unchanged(pulled: Shell, form: str) -> None:
    """A limit on the size of files is like a full disk."""
    output = pulled.folder / f"o.{form}"
    output.write_text("before")
    query = shlex.join(pulled.command("query", "SELECT range, random() FROM range(1000000)", "-o", output.name))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 64; {query}"],
        cwd=pulled.folder,
        env=pulled.process_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{output.name} cannot be written: " in done.stderr
    assert "Fix: choose another place with --output." in done.stderr
    assert output.read_text() == "before"
    assert not list(pulled.folder.glob(".o.*"))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_where_there_is_no_folder_is_one_line(pulled: Shell, form: str) -> None:
    line = failed(pulled.run("query", "FROM orders", "--output", f"nowhere/o.{form}"), 1)
    assert "nowhere/o." in line
    assert "No such file or directory" in line


def test_an_output_that_is_full_is_one_line(pulled: Shell) -> None:
    """`status` and `query` write in different ways."""
    for command in (("status",), ("query", "SELECT 1")):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                pulled.command(*command),
                cwd=pulled.folder,
                env=pulled.process_environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.startswith("commerce-assets: the output cannot be used: No space left on device.")
        assert done.stderr.count("\n") == 1


def test_an_output_that_is_closed_is_for_nobody(pulled: Shell) -> None:
    script = f"{shlex.join(pulled.command('query', '-', '--format', 'csv'))} <&- >&-"
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=pulled.folder,
        env=pulled.process_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "query takes one statement, not 0" in done.stderr


def test_stdout_is_written_to_and_not_replaced_by_a_file(pulled: Shell) -> None:
    # /dev/stdout by another name, under which a mistake here replaces nothing of this machine's.
    with (pulled.folder / "o.csv").open("w") as file:
        query = pulled.command("query", "SELECT 1 AS one", "--format", "csv", "--output", "/dev/fd/1")
        subprocess.run(query, cwd=pulled.folder, env=pulled.process_environment(), stdout=file, check=True)
        assert os.fstat(file.fileno()).st_size == len("one\n1\n")


def test_a_link_stays_and_what_it_leads_to_is_replaced(pulled: Shell) -> None:
    link = pulled.folder / "latest.csv"
    link.symlink_to("march.csv")
    assert pulled.run("query", "SELECT 1 AS one", "--output", "latest.csv").exit_code == 0
    assert link.is_symlink()
    assert (pulled.folder / "march.csv").read_text() == "one\n1\n"


def test_query_for_a_missing_table_names_the_existing_ones(pulled: Shell) -> None:
    line = failed(pulled.run("query", "FROM nope"), 1)
    assert "there is no table nope. Fix: use one of commerce.orders, commerce_loads." in line


def test_query_for_a_table_in_another_schema_names_its_schema(pulled: Shell) -> None:
    pulled.run("build", "--to", "2024-03-10")
    for name in ("analytics.orders", "nope.orders", "main.ORDERS"):
        line = failed(pulled.run("query", f"FROM {name}"), 1)
        assert "the schema in the query has no table orders. Fix: use commerce.orders." in line
    line = failed(pulled.run("query", "FROM commerce.daily_revenue"), 1)
    assert "Fix: use analytics.daily_revenue." in line


def test_a_query_that_needs_too_much_memory_names_the_setting(pulled: Shell) -> None:
    pulled.settings["COMMERCE_DUCKDB_MEMORY_LIMIT"] = "20MB"
    result = pulled.run("query", "SELECT list(range) FROM range(20000000)")
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert "needs more memory than 20MB. Fix: raise COMMERCE_DUCKDB_MEMORY_LIMIT" in line


def test_what_is_no_regular_file_is_written_to_and_not_replaced(pulled: Shell) -> None:
    """A named pipe here; /dev/stdout and /dev/null are as little to be replaced."""
    pipe = pulled.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    result = pulled.run("query", "SELECT 1 AS one", "--format", "csv", "--output", "pipe")
    assert (result.exit_code, os.read(reader, 100)) == (0, b"one\n1\n")
    os.close(reader)
    assert pipe.is_fifo()


def test_a_failed_query_leaves_no_file_and_says_why(pulled: Shell) -> None:
    line = failed(pulled.run("query", "SELECT foo FROM orders", "--output", "o.csv"), 1)
    assert 'Referenced column "foo" not found in FROM clause!' in line
    failed(pulled.run("query", "SELECT error('no') FROM orders", "--output", "o.parquet"), 1)
    assert not list(pulled.folder.glob("*o.*"))


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM orders", "COPY orders TO 'x.csv'", "ATTACH 'x.duckdb'", "SET threads = 1", "EXPORT DATABASE 'x.d'"],
)
def test_a_query_changes_nothing(pulled: Shell, statement: str) -> None:
    failed(pulled.run("query", statement), 2)
    assert not list(pulled.folder.glob("x.*"))


def test_a_query_that_takes_too_long_can_be_interrupted(pulled: Shell) -> None:
    query = pulled.start("query", "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range = 3")
    # DuckDB, once it has read the file, is at work on all its threads.
    while query.poll() is None and not seconds_of_work(query.pid) > 1:
        time.sleep(0.02)
    query.send_signal(signal.SIGINT)
    assert query.communicate(timeout=20) == ("", "\ncommerce-assets: interrupted\n")
    assert query.returncode == 130


def seconds_of_work(pid: int) -> float:
    """What a process has used of the processor so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_terminal_shows_a_thousand_rows_and_says_so(pulled: Shell) -> None:
    result = pulled.run("query", "SELECT * FROM range(1001)", TTY_COMPATIBLE="1", TERM="xterm", PAGER="cat")
    assert "999" in result.stdout
    assert "1000" not in click.unstyle(result.stdout)
    assert "the first 1,000 rows. Fix: use --output FILE for all" in result.stderr


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
def test_no_control_character_reaches_a_terminal(pulled: Shell, form: str) -> None:
    """Fault 96."""
    sql = "SELECT 'a' || chr(27) || '[2Jb' || chr(8238) AS x"
    query, terminal = pulled.start_on_terminal("query", sql, "--format", form)
    screen = screen_of(terminal)
    assert query.wait(timeout=20) == 0
    assert b"[2Jb" in screen
    assert b"\x1b[2J" not in screen
    assert "\u202e" not in screen.decode()


def test_no_control_character_of_a_message_reaches_a_terminal(pulled: Shell) -> None:
    """Fault 96."""
    with duckdb.connect() as connection:
        connection.execute("ATTACH 'shop.duckdb' AS shop")
        connection.execute("UPDATE shop.commerce.orders SET tag = 'a tag'")
    query, terminal = pulled.start_on_terminal("query", "SELECT (tag || chr(27) || '[2J')::INT AS x FROM orders")
    screen = screen_of(terminal)
    assert query.wait(timeout=20) == 1
    assert b"[2J" in screen
    assert b"\x1b[2J" not in screen


def test_another_database_can_be_named(pulled: Shell) -> None:
    pulled.settings["COMMERCE_DUCKDB_PATH"] = "empty.duckdb"
    assert pulled.run("query", "SELECT count(*) FROM orders", "--database", "shop.duckdb").exit_code == 0


@pytest.mark.parametrize("command", [["status"], ["query", "SELECT 1"], ["export", "out"]])
def test_a_database_that_is_named_must_exist(pulled: Shell, command: list[str]) -> None:
    result = pulled.run(*command, "--database", "nowhere.duckdb")
    assert result.exit_code == 2
    assert "'--database': File 'nowhere.duckdb' does not exist." in result.stderr


# export


def test_an_export_writes_orders_by_day_and_other_tables_whole(loaded: Shell) -> None:
    loaded.run("pull", "products")
    result = loaded.run("export", "out")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["products: 3 rows in out/products", "orders: 120 rows in out/orders"]
    out = loaded.folder / "out"
    days = rows_of(
        f"SELECT day, count(*) FROM read_parquet('{out}/orders/*/*.parquet', hive_partitioning = true) "
        "GROUP BY day ORDER BY day"
    )
    assert days == [(date(2024, 3, day), 12) for day in range(1, 11)]
    assert rows_of(f"SELECT count(*) FROM '{out}/products/*.parquet'") == [(3,)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*.parquet")} == {0o600}
    assert not list(out.glob(".*"))


def test_an_export_without_personal_data_has_none(pulled: Shell) -> None:
    pulled.run("build", "--to", "2024-03-10")
    pulled.run("export", "out", "--without-personal-data")
    columns = {name for name, *_ in rows_of(f"DESCRIBE FROM '{pulled.folder}/out/orders/*/*.parquet'")}
    assert {"id", "state", "settled_gross"} <= columns
    assert not {"buyer_email", "billing_city", "download_url", "_extra", "_invalid"} & columns
    assert not {"tag", "refund_transactions", "gateway_transaction_ids"} & columns
    columns = {name for name, *_ in rows_of(f"DESCRIBE FROM '{pulled.folder}/out/customers/*.parquet'")}
    assert ("customer" in columns, "sales" in columns) == (False, True)
    needle = CANARY.encode()
    assert not [path for path in (pulled.folder / "out").rglob("*.parquet") if needle in path.read_bytes()]


def test_an_export_of_chosen_tables_as_csv_marts_included(pulled: Shell) -> None:
    line = failed(pulled.run("export", "out", "analytics.daily_revenue"), 1)
    assert "analytics.daily_revenue is not built yet. Fix: run `commerce-assets build`." in line
    pulled.run("build", "--to", "2024-03-10")
    result = pulled.run("export", "out", "daily_revenue", "analytics.order_items", "--as", "csv", "--format", "json")
    assert json.loads(result.stdout) == [
        {"table": "analytics.daily_revenue", "rows": 10, "folder": "out/daily_revenue"},
        {"table": "analytics.order_items", "rows": 0, "folder": "out/order_items"},
    ]
    assert rows_of(f"SELECT sum(orders) FROM '{pulled.folder}/out/daily_revenue/daily_revenue.csv'") == [(120,)]
    pulled.run("export", "all", "commerce.orders", "--as", "csv")
    assert len(list((pulled.folder / "all" / "orders").glob("day=2024-03-*/*.csv"))) == 10


def test_an_export_has_the_tables_of_own_assets(pulled: Shell) -> None:
    with duckdb.connect() as connection:
        connection.execute("ATTACH 'shop.duckdb' AS shop; CREATE SCHEMA shop.reporting")
        connection.execute("CREATE TABLE shop.reporting.orders AS SELECT 1 AS id")
    result = pulled.run("export", "out", "--as", "csv")
    assert result.stdout.splitlines()[-1] == "reporting.orders: 1 row in out/reporting.orders"
    assert (pulled.folder / "out" / "reporting.orders" / "orders.csv").read_text() == "id\n1\n"
    # What its columns hold is not declared.
    assert "reporting" not in pulled.run("export", "shared", "--without-personal-data").stdout
    line = failed(pulled.run("export", "own", "reporting.orders", "--without-personal-data"), 1)
    assert "its personal data is not declared. Fix: export it without --without-personal-data" in line


def test_history_that_is_not_kept_names_the_setting(pulled: Shell) -> None:
    for arguments in (("query", "FROM orders_history"), ("export", "out", "orders_history")):
        line = failed(pulled.run(*arguments), 1)
        assert "Fix: set COMMERCE_ORDER_HISTORY=true, then run `commerce-assets pull orders`." in line


def test_export_replaces_a_table_only_when_asked_to(pulled: Shell) -> None:
    pulled.run("export", "out")
    mine = pulled.folder / "out" / "notes.txt"
    mine.write_text("mine")
    assert "out/orders exists. Fix: choose another folder, or use --replace" in failed(pulled.run("export", "out"), 1)
    assert pulled.run("export", "out", "--replace").exit_code == 0
    assert mine.read_text() == "mine"


def test_export_prints_its_lines_below_its_bar(loaded: Shell) -> None:
    loaded.run("pull", "products")
    screen = loaded.run("export", "out", TTY_COMPATIBLE="1", TERM="xterm").output
    for line in ("products: 3 rows in out/products", "orders: 120 rows in out/orders"):
        before, _, _ = screen.partition(line)
        # The line that held the bar has been erased, and the cursor shown again.
        assert before.endswith(("\x1b[2K", "\x1b[?25h"))


def test_an_export_whose_reader_has_seen_enough_is_whole(loaded: Shell) -> None:
    loaded.run("pull", "products")
    export = loaded.start("export", "out")
    assert export.stdout is not None
    export.stdout.close()
    assert export.wait(timeout=20) == 0
    assert sorted(path.name for path in (loaded.folder / "out").iterdir()) == ["orders", "products"]


# Pipes, terminals, what nobody has foreseen.


def test_a_reader_that_has_seen_enough_is_no_failure(pulled: Shell) -> None:
    query = pulled.start("query", "SELECT * FROM range(1000000)", "--format", "csv")
    assert query.stdout is not None
    assert query.stderr is not None
    assert query.stdout.readline() == "range\n"
    query.stdout.close()
    assert query.stderr.read() == ""
    assert query.wait(timeout=20) == 0


def test_the_encoding_of_the_terminal_does_not_change_a_file(pulled: Shell) -> None:
    query = pulled.start("query", "SELECT 'Søndag' AS name", PYTHONIOENCODING="ascii")
    assert query.communicate(timeout=20) == ("name\nSøndag\n", "")


def test_an_unexpected_error_hides_its_message_unless_asked_for(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr("commerce_assets.cli.preview._filled", stumble)
    result = shell.run("preview", "products")
    line = failed(result, 1)
    assert "stopped by an unexpected RuntimeError. Fix: run it again with --debug" in line
    assert CANARY not in result.output
    for arguments in (("--debug", "preview", "products"), ("preview", "products", "--debug")):
        assert "Traceback (most recent call last)" in shell.run(*arguments).stderr


# The pages.


def commands_of(*pages: str) -> list[str]:
    """The commands that the pages show, as typed, in blocks and within sentences."""
    texts = [(ROOT / page).read_text() for page in pages]
    command = r"(?:\.venv/bin/)?commerce-assets [^`\n]+"
    return [found for text in texts for found in re.findall(rf"^{command}|(?<=`){command}(?=`)", text, re.MULTILINE)]


def hints() -> list[str]:
    """The commands that the messages of the package name, without those that a test fills in."""
    source = "".join(path.read_text() for path in (ROOT / "commerce_assets").rglob("*.py"))
    return [each for each in re.findall(r"`(commerce-assets [^`]+)`", source) if not re.search(r"[{^]", each)]


@pytest.mark.usefixtures("in_march")
def test_every_command_of_the_pages_works_as_typed(shell: Shell) -> None:
    (shell.folder / "query.sql").write_text("FROM orders")
    shown = commands_of("README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
    assert '.venv/bin/commerce-assets query "FROM orders LIMIT 10"' in shown
    shown = list(dict.fromkeys([*shown, *hints()]))
    typed = {command: shlex.split(command, comments=True)[1:] for command in shown}
    assert {words[2 if words[0] == "--env-file" else 0] for words in typed.values()} <= COMMANDS.keys()
    assert len(shown) > 5
    with faulty(store_of(products=3, orders=[order(1, refunded=False)])) as server:
        shell.settings |= settings_for(server.base_url)
        # First what loads this shop.
        for command, arguments in sorted(typed.items(), key=lambda item: item[1][0] == "--env-file"):
            if arguments[0] == "--env-file":
                shell.write_settings(shell.folder / arguments[1])
            # It serves until it is interrupted; it has a test below.
            if arguments != ["sample-store"]:
                result = shell.run(*arguments)
                assert result.exit_code == 0, (command, result.output)
    assert {path.name for path in shell.folder.iterdir()} >= {"backups"}


# sample-store


def test_the_sample_store_serves_until_it_is_stopped(shell: Shell) -> None:
    store = shell.start("sample-store", "--port", "0", "--days", "3")
    assert store.stdout is not None
    words = store.stdout.readline().split()
    said = dict(word.split("=", 1) for word in words if "=" in word)
    shell.settings |= {"COMMERCE_API_BASE_URL": said["COMMERCE_API_BASE_URL"]}
    assert shell.run("check").exit_code == 0
    os.kill(store.pid, signal.SIGTERM)
    assert store.wait(timeout=20) == 0


def test_a_bad_option_of_the_sample_store_is_refused_in_a_line(shell: Shell) -> None:
    result = shell.run("sample-store", "--port", "many")
    assert result.exit_code == 2
    said = "Invalid value for '--port': 'many' is not a valid integer range. See commerce-assets sample-store --help."
    assert result.stderr == f"commerce-assets: {said}\n"
