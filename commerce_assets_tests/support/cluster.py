"""Several machines on one PostgreSQL: processes with the dagster.yaml of deploy/cluster, each with its own TMPDIR."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from unittest.mock import patch

from dagster import DagsterInstance

from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.world import World

CONFIGURATION = ROOT / "deploy" / "cluster" / "dagster.yaml"


@dataclass
class Cluster:
    """A shop that several machines load; they share a folder, as on one network file system."""

    world: World
    postgres_url: str
    broker_url: str
    machines: "count[int]" = field(default_factory=count)

    def __post_init__(self) -> None:
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text(CONFIGURATION.read_text())
        (self.folder / "workspace.yaml").write_text((ROOT / "workspace.yaml").read_text())

    @property
    def folder(self) -> Path:
        return self.world.folder

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()[-5000:]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.world.environment,
            "COMMERCE_POSTGRES_URL": self.postgres_url,
            "CELERY_BROKER_URL": self.broker_url,
            "DAGSTER_EVENT_BATCH_SIZE": "1000",
            "DAGSTER_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }

    def start(self, *arguments: str, alone: bool = False) -> "subprocess.Popen[bytes]":
        """Start Python as on a machine that has just been added; `alone`, in its own process-id namespace."""
        temporary = self.folder / f"machine-{next(self.machines)}"
        temporary.mkdir()
        namespace = ["unshare", "--pid", "--fork", "--kill-child", *([] if os.getuid() == 0 else ["--map-root-user"])]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*(namespace if alone else []), sys.executable, *arguments],
                cwd=self.folder,
                env={**os.environ, **self.environment, "TMPDIR": str(temporary)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @contextmanager
    def running(self, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A service; it and what it has started is killed in the end."""
        process = self.start(*arguments)
        try:
            yield process
        finally:
            kill(process)

    def run(self, *arguments: str, succeeds: bool = True, **environment: str) -> str:
        """Run Python to its end and return what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        with patch.dict(os.environ, self.environment), DagsterInstance.get() as instance:
            yield instance


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children as a power cut does."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
