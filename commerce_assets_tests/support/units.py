"""The systemd units of deploy/, and their commands in a folder: with this interpreter, and nothing installed."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
INSTALLED = "/opt/commerce_assets"
RUNTIME = "/run/commerce_assets"
PORT = "3000"
BACKUP = f"{INSTALLED}/.venv/bin/python -m commerce_assets backup backups"
"""What commerce-assets-backup.service executes."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit's settings: each name has a list of values."""

    name: str
    settings: Mapping[str, Sequence[str]]

    @property
    def commands(self) -> list[list[str]]:
        """What it executes, in order."""
        names = ("ExecStartPre", "ExecStart", "ExecStartPost")
        return [shlex.split(command) for name in names for command in self.settings.get(name, ())]

    @property
    def environment(self) -> dict[str, str]:
        return dict(assignment.split("=", 1) for assignment in self.settings.get("Environment", ()))


def read_unit(path: Path) -> Unit:
    settings: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            settings[name].append(value)
    return Unit(path.stem, settings)


@dataclass
class Services:
    """What runs in a folder as the units say: the working directory has a `.env`, the port is a free one."""

    folder: Path
    port: int

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace.yaml"

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """A unit's service, once it is up; ended as systemd ends it, and killed if that takes too long."""
        unit = read_unit(UNITS / f"{name}.service")
        environment = self._environment(unit)
        with (self.folder / f"{name}.log").open("w") as log:

            def start(command: list[str]) -> "subprocess.Popen[bytes]":
                return subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

            for before in unit.settings.get("ExecStartPre", ()):
                assert start(self._here(before)).wait(60) == 0, self.log_of(name)
            (command,) = unit.settings["ExecStart"]
            service = start(self._here(command))
            try:
                for after in unit.settings.get("ExecStartPost", ()):
                    assert start(self._here(after)).wait(60) == 0, self.log_of(name)
                yield service
                assert service.poll() is None, self.log_of(name)
            finally:
                end(service, seconds=float(unit.settings.get("TimeoutStopSec", ["90"])[0]))

    def run(self, command: str, **environment: str) -> str:
        """What a command prints that a person types in the working directory; it succeeds."""
        done = subprocess.run(
            self._here(command),
            cwd=self.folder,
            env=self._environment() | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def log_of(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def _here(self, command: str) -> list[str]:
        paths = {
            f"{INSTALLED}/.venv/bin": str(Path(sys.executable).parent),
            f"{INSTALLED}/deploy/workspace.yaml": str(self.workspace),
            INSTALLED: str(ROOT),
            RUNTIME: str(self.folder),
            f"--port {PORT}": f"--port {self.port}",
        }
        for there, here in paths.items():
            command = command.replace(there, here)
        return shlex.split(command)

    def _environment(self, unit: Unit | None = None) -> dict[str, str]:
        """Nothing of this machine's own settings."""
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COMMERCE_", "DAGSTER_", "PYTEST_")) and name != "PYTHONDONTWRITEBYTECODE"
        }
        declared = {
            name: value.replace(INSTALLED, str(ROOT)) for name, value in (unit.environment if unit else {}).items()
        }
        files = {}
        if unit and "EnvironmentFile" in unit.settings:
            lines = (self.folder / ".env").read_text().splitlines()
            files = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        return (
            ours | {"PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(ROOT)} | declared | files
        )


def end(service: "subprocess.Popen[bytes]", *, seconds: float) -> None:
    """SIGTERM to the service and all that it has started; what is left after these seconds is killed.

    Raises:
        TimeoutExpired: Something was left.
    """
    members = [service.pid, *descendants(service.pid)]
    for pid in members:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    try:
        service.wait(seconds)
    finally:
        deadline = time.monotonic() + 5
        while (left := [pid for pid in members[1:] if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in (*left, *([service.pid] if service.poll() is None else [])):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]
