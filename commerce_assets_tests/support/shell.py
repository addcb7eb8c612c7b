"""Commands typed in a folder with a `.env`, in this process, in another one or on a terminal."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner, Result

from commerce_assets.cli.main import main
from commerce_assets_tests.support.pages import ROOT
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET


@dataclass
class Shell:
    """Runs commands in the working directory; `settings` are written to its `.env` before each."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, typed: str = "", **environment: str) -> Result:
        """Run the command in this process, without a terminal."""
        self._write_dotenv()
        runner = CliRunner(env={**self._clean(), **self.environment, **environment})
        return runner.invoke(main, arguments, input=typed, prog_name="commerce-assets")

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start the command in another process, with pipes."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.process_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start_on_terminal(self, *arguments: str, columns: int = 100) -> "tuple[subprocess.Popen[bytes], int]":
        """Start the command in another process, on a terminal whose other end is the returned file descriptor."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = self.process_environment(TERM="xterm-256color", LC_ALL="C.UTF-8")
        process = subprocess.Popen(
            self.command(*arguments), cwd=self.folder, env=environment, stdin=its, stdout=its, stderr=its
        )
        os.close(its)
        return process, ours

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of another process that runs it."""
        self._write_dotenv()
        return [sys.executable, "-m", "commerce_assets", *arguments]

    def process_environment(self, **environment: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), **self.environment, **environment}

    def write_settings(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f'{name}="{value}"\n' for name, value in self.settings.items()))

    def _write_dotenv(self) -> None:
        if not self.settings:
            (self.folder / ".env").unlink(missing_ok=True)
            return
        self.write_settings(self.folder / ".env")

    def _clean(self) -> Mapping[str, None]:
        """Unset the settings of this machine."""
        return {name: None for name in os.environ if name.startswith("COMMERCE_")}


def screens(terminal: int) -> Iterator[bytes]:
    """Yield all that has been written to a terminal so far, after each output; close it when its process ends."""
    screen = b""
    # At the end of the process, Linux reports an error instead of the end of a file.
    with contextlib.suppress(OSError):
        while read := os.read(terminal, 4096):
            screen += read
            yield screen
    os.close(terminal)


def screen_of(terminal: int) -> bytes:
    """All that a process writes to a terminal."""
    return [b"", *screens(terminal)][-1]


def settings_for(base_url: str) -> dict[str, str]:
    return {
        "COMMERCE_API_BASE_URL": base_url,
        "COMMERCE_API_KEY": SAMPLE_API_KEY,
        "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
        "COMMERCE_API_ORDERS_PATH": ORDERS_PATH,
        "COMMERCE_API_REQUESTS_PER_SECOND": "0",
        "COMMERCE_ORDERS_START_DATE": "2024-03-01",
        "COMMERCE_DUCKDB_PATH": "shop.duckdb",
        "COMMERCE_DUCKDB_LOCK_TIMEOUT": "0",
    }
