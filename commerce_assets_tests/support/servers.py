"""PostgreSQL and Redis from Debian's packages, on free ports of the loopback, with their data in a temporary folder."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commerce_assets_tests.support.processes import free_port

PASSWORD = "s3cret-password"


@dataclass
class PostgresServer:
    """A server that a test can stop and start; durable enough for that, not for a power cut."""

    folder: Path
    port: int
    databases: list[str] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        command = ["postgres", "-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder)]
        settings = ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=200"]
        with (self.folder / "log").open("ab") as log:
            self.process = _start([*command, *(f"-c{each}" for each in settings)], stdout=log, stderr=log)
        while not _answers(self.port) or not self._is_ready():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it at once, with all connections."""
        assert self.process
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def new_database(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"shop{len(self.databases)}"
        self.databases.append(name)
        self.execute(f"CREATE DATABASE {name}", database="postgres")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg2://commerce:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def execute(self, sql: str, *, database: str = "") -> list[tuple[Any, ...]]:
        import psycopg2  # noqa: PLC0415 - only .venv-cluster has it

        name = database or self.databases[-1]
        connection = psycopg2.connect(self.url(name).replace("+psycopg2", ""))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _is_ready(self) -> bool:
        with suppress(Exception):
            return self.execute("SELECT 1", database="postgres") == [(1,)]
        return False


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """An empty server with the user `commerce`."""
    with _server_folder() as folder:
        password = folder / "password"
        password.write_text(PASSWORD)
        options = ["--username=commerce", f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync"]
        made = _start(["initdb", "-D", str(folder / "data"), *options], stdout=subprocess.PIPE)
        output, _ = made.communicate()
        assert made.returncode == 0, output
        server = PostgresServer(folder, free_port())
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def running_redis() -> Iterator[str]:
    """A Redis without persistence; its URL."""
    port = free_port()
    with _server_folder() as folder:
        process = _start(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)],
            stdout=subprocess.DEVNULL,
        )
        try:
            while not _answers(port):
                assert process.poll() is None
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(10)


def _start(command: list[str], *, stdout: Any, stderr: Any = None) -> "subprocess.Popen[bytes]":
    """Start a server's program, not as root, which PostgreSQL refuses."""
    path = os.pathsep.join([*map(str, Path("/usr/lib/postgresql").glob("*/bin")), os.environ["PATH"]])
    program = shutil.which(command[0], path=path)
    assert program, f"{command[0]} is missing. Fix: apt-get install postgresql redis-server"
    other_user: Any = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    return subprocess.Popen([program, *command[1:]], cwd="/", stdout=stdout, stderr=stderr, **other_user)


@contextmanager
def _server_folder() -> Iterator[Path]:
    """A folder of the servers' user; pytest's own folders are for this user only."""
    with tempfile.TemporaryDirectory(prefix="server-", dir="/tmp") as folder:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        yield Path(folder)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
