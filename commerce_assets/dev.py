"""`make dev`: Dagster's UI and daemon on 127.0.0.1 and, without credentials, the sample store."""

import argparse
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import IO, Any
from urllib.parse import urlsplit

from commerce_assets.hints import PROGRAM, with_program
from commerce_assets.settings import (
    PREFIX,
    CommerceSettings,
    SettingError,
    checked_base_url,
    checked_webhook_url,
    load_dotenv,
)
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET

HOST = "127.0.0.1"
SAMPLE_HOME = Path("data/sample")
SAMPLE_SETTINGS = SAMPLE_HOME.with_suffix(".env")
_URL, _KEY, _SECRET = "COMMERCE_API_BASE_URL", "COMMERCE_API_KEY", "COMMERCE_API_SECRET"
_SAMPLE_DAYS = 60
_DEFAULT_PORT = 3000
# A run that is interrupted needs two to five seconds to say so in its history.
_GRACE_SECONDS = 7.0
# Warnings that users cannot act on: `dagster dev` will be superseded, and the assets' backfill policy is in beta.
_SILENCED_WARNINGS = (
    "ignore:Function `dev_command` is superseded",
    "ignore:Parameter `backfill_policy` of function `asset` is currently in beta",
)
# Said of the sample's dagster.yaml, which is a copy, and by the sample store to those who start it themselves.
_MISLEADING_OUTPUT = (b"Found a dagster instance configuration value", b"export COMMERCE_API_BASE_URL=")

Environment = dict[str, str]


def choose_store(environ: Mapping[str, str], dotenv: Mapping[str, str]) -> tuple[Environment, bool]:
    """Merge `.env` over the environment, as Dagster does, and return whether the result names a real store."""
    environment = {**environ, **dotenv}
    given = [name for name in (_KEY, _SECRET) if environment.get(name, "").strip()]
    if len(given) == 1:
        (missing,) = {_KEY, _SECRET} - {*given}
        raise SettingError(f"{missing} is not set, but {given[0]} is. Fix: set both, or neither for the sample store.")
    if given and not environment.get(_URL, "").strip():
        raise SettingError(
            f"{_URL} is not set. Fix: set it; for SendOwl, {_URL}=https://www.sendowl.com/api/v1/"
            f" and COMMERCE_API_ORDERS_PATH={ORDERS_PATH}"
        )
    if given:
        checked_base_url(environment[_URL])
    if webhook := environment.get("COMMERCE_ALERT_WEBHOOK_URL", "").strip():
        checked_webhook_url(webhook)
    return environment, bool(given)


def point_at_sample_store(environment: Environment, dotenv: Mapping[str, str], *, port: int, start: str) -> Environment:
    """Return the environment that extracts from the sample store, with a database and a run history apart."""
    defaults = {
        "COMMERCE_API_REQUESTS_PER_SECOND": "0",
        "COMMERCE_ORDERS_START_DATE": start,
        "COMMERCE_DUCKDB_PATH": f"{SAMPLE_HOME}.duckdb",
    }
    chosen = {name: environment.get(name, "").strip() or value for name, value in defaults.items()} | {
        _URL: f"http://{HOST}:{port}/api/v1/",
        "COMMERCE_API_ORDERS_PATH": ORDERS_PATH,
        _KEY: SAMPLE_API_KEY,
        _SECRET: SAMPLE_API_SECRET,
        "COMMERCE_ENV_FILE": str(SAMPLE_SETTINGS),
        "DAGSTER_HOME": str(SAMPLE_HOME.resolve()),
    }
    for name, value in chosen.items():
        # Every process of Dagster reads .env again, and .env wins.
        if dotenv.get(name, value) != value:
            raise SettingError(
                f".env sets {name} but no credentials. Fix: fill in {_KEY} and {_SECRET}, or remove {name} to use the"
                " sample store."
            )
    return environment | chosen


def prepare_sample(preferred_port: int = 8765) -> tuple[int, str]:
    """Write the sample's instance configuration; return a port and the first day of orders, stable across restarts."""
    SAMPLE_HOME.mkdir(parents=True, exist_ok=True)
    configure(SAMPLE_HOME)
    state_file = SAMPLE_HOME / "store.json"
    if not state_file.exists():
        start = datetime.now(UTC).date() - timedelta(days=_SAMPLE_DAYS)
        state_file.write_text(json.dumps({"port": free_port(preferred_port), "start_date": str(start)}) + "\n")
    state = json.loads(state_file.read_text())
    return free_port(state["port"]), state["start_date"]


def write_sample_settings(environment: Environment) -> None:
    """Write the settings to a file, for commands typed in another shell."""
    SAMPLE_SETTINGS.touch(mode=0o600)
    # The file may be there already, and holds what is secret among the settings.
    SAMPLE_SETTINGS.chmod(0o600)
    SAMPLE_SETTINGS.write_text(
        "# Written by `make dev`: the settings of the sample store, for the option --env-file of commands.\n"
        + "".join(
            f"{name}='{_escaped(value)}'\n"
            for name, value in sorted(environment.items())
            if name.startswith(PREFIX) or name == "DAGSTER_HOME"
        )
    )


def _escaped(value: str) -> str:
    """Return a value as python-dotenv reads it between quotes; there, `${NAME}` is replaced too."""
    # A variable without a name has its default.
    value = value.replace("${", "${:-$}{")
    return value.replace("\\", "\\\\").replace("'", "\\'")


def configure(home: Path) -> None:
    """Write this project's instance configuration to a folder that is to contain the run history."""
    (home / "dagster.yaml").write_text(Path("dagster.yaml").read_text().replace("data/dagster", str(home)))


def free_port(first: int) -> int:
    return next(port for port in range(first, 65_536) if not _is_open(port))


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


class _ProcessGroup:
    """The processes that `make dev` starts, in a process group of their own: a Ctrl-C reaches only this process."""

    def __init__(self) -> None:
        self.group = 0
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self._stop_requested = False
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:  # nohup ignores it on purpose
                signal.signal(signum, self._request_stop)

    def serve(self, *arguments: str, environment: Environment, **options: Any) -> None:
        """Start `python -m <arguments>`, which must not end by itself."""
        self._services[arguments[0]] = self._spawn(*arguments, environment=environment, **options)

    def run(self, module: str, *, environment: Environment) -> None:
        """Run `python -m <module>` to its end."""
        process = self._spawn(module, environment=environment)
        self.wait_until(lambda: process.poll() is not None)
        if not self._services:
            # Nothing is left of the group, which no other process can join then.
            self.group = 0
        if process.returncode:
            raise SystemExit(f"make dev: {module} failed with status {process.returncode}")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait. Raise KeyboardInterrupt at a signal, and SystemExit if a service ends by itself."""
        while not condition():
            time.sleep(0.1)
            if self._stop_requested:
                raise KeyboardInterrupt
            for name, process in self._services.items():
                if process.poll() is not None:
                    raise SystemExit(f"make dev: {name} ended by itself with status {process.returncode}")

    def end(self) -> None:
        """Terminate the group, and kill what is left of it after some seconds."""
        self._stop_requested = True
        deadline = time.monotonic() + _GRACE_SECONDS
        is_alive = self._signal(signal.SIGTERM)
        while is_alive and time.monotonic() < deadline:
            time.sleep(0.05)
            is_alive = self._signal(0)
        self._signal(signal.SIGKILL)

    def _request_stop(self, *_: object) -> None:
        self._stop_requested = True

    def _copy_output(self, output: IO[bytes]) -> None:
        for line in output:
            # Ended halfway, DuckDB's Python module prints a page about leaked objects.
            if not self._stop_requested and not any(words in line for words in _MISLEADING_OUTPUT):
                sys.stdout.buffer.write(line)
                sys.stdout.flush()

    def _spawn(self, *arguments: str, environment: Environment, **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - this interpreter, and our modules
            [sys.executable, "-m", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=self.group,
            **options,
        )
        self.group = self.group or process.pid
        Thread(target=self._copy_output, args=(process.stdout,), daemon=True).start()
        return process

    def _signal(self, signum: int) -> bool:
        """Signal the group; False if nothing is left of it."""
        with suppress(ChildProcessError):  # a zombie counts as alive until its parent has waited for it
            while self.group and os.waitpid(-self.group, os.WNOHANG) != (0, 0):
                pass
        with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a group of zombies
            if self.group:
                os.killpg(self.group, signum)
                return True
        return False


def _lock(history: Path) -> int:
    """Return the descriptor of the locked file `dev.lock`: one `make dev` per run history."""
    history.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(history / "dev.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        running = os.pread(descriptor, 200, 0).decode() or "it has just been started"
        raise SettingError(f"already running here: {running}") from None
    os.ftruncate(descriptor, 0)
    return descriptor


def _choose_port(wanted: str | None) -> int:
    if not wanted:
        return free_port(_DEFAULT_PORT)
    if not wanted.isdecimal() or not 0 < int(wanted) < 65_536:  # noqa: PLR2004 - the range of ports
        raise SettingError(f"{wanted} is not a port. Fix: give DAGSTER_PORT or --port a number from 1 to 65535.")
    if _is_open(int(wanted)):
        raise SettingError(f"port {wanted} is taken. Fix: choose another with DAGSTER_PORT, or leave it out.")
    return int(wanted)


def _run(port_option: str | None) -> None:
    if not Path("workspace.yaml").exists():
        raise SettingError("there is no workspace.yaml here. Fix: start it in the project's folder.")
    dotenv = load_dotenv()
    environment, is_real_store = choose_store(os.environ, dotenv)
    home = Path(environment.get("DAGSTER_HOME") or Path.cwd())
    if not home.is_absolute() or not home.is_dir():
        raise SettingError(f"DAGSTER_HOME is {home}. Fix: set it to the absolute path of an existing folder.")
    environment["DAGSTER_HOME"] = str(home)
    history = Path("data/dagster") if home == Path.cwd() else home
    if is_real_store and not (home / "dagster.yaml").exists():
        # Without it, Dagster would send usage data, start runs of a pool at once and keep every tick.
        configure(home)
        _say(f"Wrote {home / 'dagster.yaml'}, a copy of this folder's.")
    store_port = 0
    if not is_real_store:
        store_port, start = prepare_sample()
        environment, history = point_at_sample_store(environment, dotenv, port=store_port, start=start), SAMPLE_HOME
    settings = CommerceSettings.read(environment)
    # dagster.yaml disables telemetry; this also spares the folders that its uploader makes.
    environment["DAGSTER_DISABLE_TELEMETRY"] = "1"
    environment["PYTHONWARNINGS"] = ",".join(filter(None, (environment.get("PYTHONWARNINGS"), *_SILENCED_WARNINGS)))
    lock = _lock(history)
    if store_port:
        write_sample_settings(environment)
    port = _choose_port(port_option or environment.get("DAGSTER_PORT"))
    url, store = f"http://{HOST}:{port}", urlsplit(environment[_URL]).netloc.rpartition("@")[2]
    processes = _ProcessGroup()
    try:
        _say("Starting Dagster ...")
        if store_port:
            arguments = ["sample_store", "--port", str(store_port)]
            processes.serve(*arguments, environment=environment)
        processes.run("commerce_assets.ops.abandoned_runs", environment=environment)
        processes.wait_until(lambda: not store_port or _is_open(store_port))
        # At level info, the daemon writes two lines every few seconds while a run waits.
        arguments = ["dagster", "dev", "--host", HOST, "--port", str(port), "--log-level", "warning"]
        # `dagster dev` holds the lock too: if this process is killed, the next one still names it.
        processes.serve(*arguments, environment=environment, pass_fds=(lock,))
        os.pwrite(lock, f"{url}. Fix: open it, or end it with: kill -- -{processes.group}".encode(), 0)
        processes.wait_until(lambda: _is_open(port))
        _say(
            "",
            f"  Dagster's UI  {url}",
            f"  Store         {store}" + (" (the sample store; for your own, see .env.example)" if store_port else ""),
            f"  Database      {settings.duckdb_path}",
            f"  Run history   {history}",
            f"  Commands      {with_program(f'{PROGRAM} status', settings.env_file)}",
            "",
            "Ctrl-C ends it.",
        )
        processes.wait_until(lambda: False)
    except KeyboardInterrupt:
        _say("Stopping ...")
    finally:
        processes.end()


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - the command's output


def main() -> int:
    """Run until a signal comes; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m commerce_assets.dev", description=__doc__)
    parser.add_argument("--port", help="port of Dagster's UI; DAGSTER_PORT or 3000 unless given")
    try:
        _run(parser.parse_args().port)
    except SettingError as error:
        sys.stderr.write(f"make dev: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
