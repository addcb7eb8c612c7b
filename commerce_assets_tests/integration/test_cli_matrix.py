"""Each command in each situation: exit status, output and error line."""

import contextlib
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb
import pytest

from commerce_assets.api import retry
from commerce_assets.cli.main import COMMANDS
from commerce_assets_tests.support.faulty_store import FaultyStore, faulty
from commerce_assets_tests.support.items import order, store_of
from commerce_assets_tests.support.shell import Shell, screens, settings_for

# Recent days: a reconciliation extracts every day up to yesterday.
DAY = datetime.now(UTC).date() - timedelta(days=3)
START = DAY - timedelta(days=14)
WRONG_KEY = "401 Unauthorized: the key or the secret is wrong"
WRONG_URL = "404 Not Found: the path is wrong. Fix: look at COMMERCE_API_BASE_URL"
DOWN = "nothing listens at its address. Fix: check that the store is up"
# The identity of a store is its host, port and key; the test of a folder in which nothing is stored is in test_cli.py.
ANOTHER_STORE = "the stored rows came from another store or API key"
NOTHING = "the database is empty. Fix: run `commerce-assets pull products`"
NOT_BUILT = "analytics.orders_enriched is not built yet. Fix: run `commerce-assets build`."


class Shown(NamedTuple):
    """What a command ends with: its status, words of what it prints, and words of the line that says why it failed."""

    status: int
    screen: str = ""
    error: str = ""


# Where the store is out of reach, three products have been pulled before; an empty database is a file without a table.
MATRIX: dict[tuple[str, str], Shown] = {
    ("check", "on a terminal"): Shown(0, "answers with 3 products"),
    ("check", "in a pipe"): Shown(0, "ok      products               answers with 3 products"),
    ("check", "wrong key"): Shown(1, "the store answered 401 Unauthorized: the key or the secret is wrong  "),
    ("check", "wrong URL"): Shown(1, "No list is there, so it is COMMERCE_API_BASE_URL"),
    ("check", "store down"): Shown(1, "nothing listens at its address"),
    ("check", "empty database"): Shown(0, "shop.duckdb can be written to"),
    ("preview", "on a terminal"): Shown(0, "Product 3"),
    ("preview", "in a pipe"): Shown(0, " 3  Product 3   9.00"),
    ("preview", "wrong key"): Shown(2, error=WRONG_KEY),
    ("preview", "wrong URL"): Shown(1, error=WRONG_URL),
    ("preview", "store down"): Shown(1, error=DOWN),
    ("preview", "empty database"): Shown(0, "Product 3"),
    ("pull", "on a terminal"): Shown(0, "8 of 8 checks passed"),
    ("pull", "in a pipe"): Shown(0, "products: 3 rows (0 inserted, 0 updated, 3 unchanged, 0 removed)"),
    ("pull", "wrong key"): Shown(2, error=WRONG_KEY),
    ("pull", "wrong URL"): Shown(1, error=WRONG_URL),
    ("pull", "store down"): Shown(1, error=DOWN),
    ("pull", "empty database"): Shown(0, "products: 3 rows (3 inserted"),
    ("refresh", "on a terminal"): Shown(0, "orders_refresh: nothing to change"),
    ("refresh", "in a pipe"): Shown(0, "orders_refresh: nothing to change"),
    ("refresh", "wrong key"): Shown(2, error=WRONG_KEY),
    ("refresh", "wrong URL"): Shown(1, error=WRONG_URL),
    ("refresh", "store down"): Shown(1, error=DOWN),
    ("refresh", "empty database"): Shown(0, "orders_refresh: nothing to change"),
    # Days from the start date on were never loaded.
    ("reconcile", "on a terminal"): Shown(1, f"days from {START} were never loaded"),
    ("reconcile", "in a pipe"): Shown(1, f"days from {START} were never loaded"),
    ("reconcile", "wrong key"): Shown(2, error=WRONG_KEY),
    ("reconcile", "wrong URL"): Shown(1, error=WRONG_URL),
    ("reconcile", "store down"): Shown(1, error=DOWN),
    ("reconcile", "empty database"): Shown(0, "reconcile: nothing to change"),
    ("build", "on a terminal"): Shown(0, "25 of 25 checks passed"),
    ("build", "in a pipe"): Shown(0, "25 of 25 checks passed"),
    ("build", "wrong key"): Shown(0, "25 of 25 checks passed"),
    ("build", "wrong URL"): Shown(0, "25 of 25 checks passed"),
    ("build", "store down"): Shown(0, "25 of 25 checks passed"),
    ("build", "empty database"): Shown(0, "daily_revenue: 0 rows"),
    ("status", "on a terminal"): Shown(0, "orders: days missing: "),
    ("status", "in a pipe"): Shown(0, "products          3  2024-01-01 00:00"),
    ("status", "wrong key"): Shown(0, "products          3  2024-01-01 00:00"),
    ("status", "wrong URL"): Shown(0, "products          3  2024-01-01 00:00"),
    ("status", "store down"): Shown(0, "products          3  2024-01-01 00:00"),
    ("status", "empty database"): Shown(1, error=NOTHING),
    ("query", "on a terminal"): Shown(0, "Product 2"),
    ("query", "in a pipe"): Shown(0, "id,name\n2,Product 2\n"),
    ("query", "wrong key"): Shown(0, "2,Product 2\n"),
    ("query", "wrong URL"): Shown(0, "2,Product 2\n"),
    ("query", "store down"): Shown(0, "2,Product 2\n"),
    ("query", "empty database"): Shown(1, error="commerce.products is not loaded yet. Fix: "),
    ("export", "on a terminal"): Shown(0, "products: 3 rows in out/products"),
    ("export", "in a pipe"): Shown(0, "products: 3 rows in out/products\norders: 1 row in out/orders\n"),
    ("export", "wrong key"): Shown(0, "products: 3 rows in out/products\n"),
    ("export", "wrong URL"): Shown(0, "products: 3 rows in out/products\n"),
    ("export", "store down"): Shown(0, "products: 3 rows in out/products\n"),
    ("export", "empty database"): Shown(1, error=NOTHING),
    # No marts are built.
    ("report", "on a terminal"): Shown(1, "analytics.orders_enriched is not built yet"),
    ("report", "in a pipe"): Shown(1, error=NOT_BUILT),
    ("report", "wrong key"): Shown(1, error=NOT_BUILT),
    ("report", "wrong URL"): Shown(1, error=NOT_BUILT),
    ("report", "store down"): Shown(1, error=NOT_BUILT),
    ("report", "empty database"): Shown(1, error="the database is empty. Fix: run `commerce-assets pull orders`"),
    ("backup", "on a terminal"): Shown(0, "backups/20"),
    ("backup", "in a pipe"): Shown(0, "backups/20"),
    ("backup", "wrong key"): Shown(0, "backups/20"),
    ("backup", "wrong URL"): Shown(0, "backups/20"),
    ("backup", "store down"): Shown(0, "backups/20"),
    ("backup", "empty database"): Shown(0, "backups/20"),
    # It has no settings and no database, and serves until it is interrupted.
    ("sample-store", "on a terminal"): Shown(0, "Sample store with 25 products"),
    ("sample-store", "in a pipe"): Shown(0, "Sample store with 25 products"),
    ("sample-store", "wrong key"): Shown(0, "COMMERCE_API_KEY=sample-key"),
    ("sample-store", "wrong URL"): Shown(0, "COMMERCE_API_BASE_URL=http://127.0.0.1:"),
    ("sample-store", "store down"): Shown(0, "Sample store with 25 products"),
    ("sample-store", "empty database"): Shown(0, "Sample store with 25 products"),
}
TYPED = {
    "preview": ("preview", "products", "--columns", "id,name,price"),
    "pull": ("pull", "products"),
    "build": ("build", "--to", str(DAY)),
    "backup": ("backup", "backups"),
    "query": ("query", "SELECT id, name FROM products WHERE id = 2"),
    "export": ("export", "out"),
    "sample-store": ("sample-store", "--port", "0", "--days", "1"),
}


def settings_of(server: FaultyStore) -> dict[str, str]:
    return settings_for(server.base_url) | {"COMMERCE_ORDERS_START_DATE": str(START)}


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyStore]:
    created = datetime.combine(DAY, time(12), UTC)
    with faulty(store_of(products=3, orders=[order(1, created, refunded=False)])) as running:
        yield running


@pytest.fixture(scope="module")
def stored(server: FaultyStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with three products and an order."""
    folder = tmp_path_factory.mktemp("stored")
    with contextlib.chdir(folder):
        shell = Shell(folder, settings_of(server))
        assert shell.run("pull", "products").exit_code == 0
        assert shell.run("pull", "orders", "--from", str(DAY), "--to", str(DAY)).exit_code == 0
    return folder / "shop.duckdb"


@pytest.fixture
def shell(server: FaultyStore, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(retry, "FIRST_BACKOFF_SECONDS", 0.0)
    shutil.copy(stored, tmp_path)
    return Shell(tmp_path, settings_of(server))


def make_database_empty(shell: Shell) -> None:
    (shell.folder / "shop.duckdb").unlink()
    duckdb.connect(shell.folder / "shop.duckdb").close()


def make_url_wrong(shell: Shell) -> None:
    base_url = shell.settings["COMMERCE_API_BASE_URL"].replace("/api/v1/", "/api/v9/")
    shell.settings |= {"COMMERCE_API_BASE_URL": base_url, "COMMERCE_API_ORDERS_PATH": "orders"}


def take_store_down(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        shell.settings["COMMERCE_API_BASE_URL"] = f"http://127.0.0.1:{free.getsockname()[1]}/api/v1/"


SITUATIONS: dict[str, Callable[[Shell], object]] = {
    "on a terminal": lambda shell: shell,
    "in a pipe": lambda shell: shell,
    "wrong key": lambda shell: shell.settings.update(COMMERCE_API_KEY="another"),
    "wrong URL": make_url_wrong,
    "store down": take_store_down,
    "empty database": make_database_empty,
}


def test_every_command_is_in_the_matrix_in_every_situation() -> None:
    assert [*MATRIX] == [(command, situation) for command in COMMANDS for situation in SITUATIONS]


@pytest.mark.parametrize(("command", "situation"), MATRIX, ids=str)
def test_status_output_and_error_of_a_command(shell: Shell, command: str, situation: str) -> None:
    expected = MATRIX[command, situation]
    SITUATIONS[situation](shell)
    arguments = TYPED.get(command, (command,))
    if situation == "on a terminal":
        status, screen, error = on_terminal(shell, *arguments)
    elif situation == "in a pipe" or command == "sample-store":
        status, screen, error = in_pipe(shell, *arguments)
    else:
        result = shell.run(*arguments)
        status, screen, error = result.exit_code, result.stdout, result.stderr

    assert status == expected.status, (screen, error)
    assert expected.screen in screen
    assert "Traceback" not in screen + error
    if expected.error:
        last = error.splitlines()[-1]
        assert screen == ""
        assert last.startswith("commerce-assets: ")
        assert expected.error in last
    elif command not in {"pull", "refresh", "reconcile", "build"}:
        # A run logs its progress.
        assert error == ""
    if situation != "on a terminal":
        assert "\x1b" not in screen + error


def on_terminal(shell: Shell, *arguments: str) -> tuple[int, str, str]:
    process, terminal = shell.start_on_terminal(*arguments)
    screen = b""
    for screen in screens(terminal):
        if arguments[0] == "sample-store" and b"COMMERCE_API_SECRET=" in screen:
            process.send_signal(signal.SIGINT)
    return process.wait(timeout=60), screen.decode(), ""


def in_pipe(shell: Shell, *arguments: str) -> tuple[int, str, str]:
    """With nothing to type into either, as under cron."""
    process = subprocess.Popen(
        shell.command(*arguments),
        cwd=shell.folder,
        env=shell.process_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    screen = ""
    if arguments[0] == "sample-store":
        assert process.stdout is not None
        screen = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
    rest, error = process.communicate(timeout=60)
    return process.returncode, screen + rest, error
