"""Dagster's commands in processes of their own, on a test's world."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.world import World

DAYS = ("2026-01-01", "2026-01-10")
PATIENCE = 60.0
ORDERS = ("--select", "orders", "--partition-range", "...".join(DAYS))


def materialize(project: World, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
    """`dagster asset materialize`, as typed in a terminal, with its own history."""
    return dagster(project, "asset", "materialize", *arguments, **settings)


def dagster(project: World, *command: str, **settings: str) -> "subprocess.Popen[str]":
    """Start a command on the project's definitions, with its own history.

    Only one process at a time can create the SQLite files of an instance.
    """
    home = Path(mkdtemp(dir=project.folder))
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    what, verb, *arguments = command
    module = ("-m", "commerce_assets.definitions")
    return start(project, "dagster", what, verb, *module, *arguments, DAGSTER_HOME=str(home), **settings)


def start(project: World, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
    """Start `python -m <arguments>` in the project's folder, with its settings."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", *arguments],
        cwd=project.folder,
        env={
            **os.environ,
            **project.environment,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(project.folder),
            **settings,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(condition: Callable[[], object], *, seconds: float = PATIENCE, interval: float = 0.01) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(interval)


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
