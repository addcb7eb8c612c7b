"""The command behind `make dev`."""

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from commerce_assets.dev.lock import AlreadyRunning, exclusive
from commerce_assets.dev.net import HOST, answers, is_free, next_free_port
from commerce_assets.dev.processes import ProcessEnded, StopRequested, Supervisor
from commerce_assets.dev.sample import port_and_start_date
from commerce_assets.dev.store import API_BASE_URL, Environment, point_at_sample_store, resolve
from commerce_assets.settings import CommerceSettings, SettingError, load_dotenv

_USAGE_ERROR = 2
_DEFAULT_PORT = 3000
# The storage of dagster.yaml.
_HISTORY = "data/dagster"
# What newcomers would stumble over and cannot change: that another command will replace `dagster dev`, and that the
# asset's backfill policy, chosen on purpose, is in beta.
_SILENCED_WARNINGS = (
    "ignore:Function `dev_command` is superseded",
    "ignore:Parameter `backfill_policy` of function `asset` is currently in beta",
)


def main() -> int:
    try:
        return _run(_parse_port())
    except (SettingError, AlreadyRunning) as error:
        _say(f"make dev: {error}", to_stderr=True)
        return _USAGE_ERROR
    except KeyboardInterrupt:  # before the supervisor takes the signals over there is nothing to end
        return 0


def _parse_port() -> str | None:
    parser = argparse.ArgumentParser(prog="python -m commerce_assets.dev", description=__doc__)
    parser.add_argument("--port", help="of Dagster's UI; DAGSTER_PORT or 3000 unless given")
    port: str | None = parser.parse_args().port
    return port


def _run(port_option: str | None) -> int:
    if not Path("workspace.yaml").exists():
        raise SettingError("there is no workspace.yaml here; start it in the project's folder")
    dotenv = load_dotenv()
    choice = resolve(os.environ, dotenv)
    home = _dagster_home(choice.environment)
    history = Path(_HISTORY) if home == Path.cwd() else home
    with exclusive(history / "dev.lock") as lock:
        environment = _dagster_environment(choice.environment, home)
        sample_port = None
        if not choice.own_store:
            sample_port, start_date = port_and_start_date()
            address = f"http://{HOST}:{sample_port}"
            environment = point_at_sample_store(environment, dotenv, address=address, start_date=start_date)
        database = CommerceSettings.read(environment).duckdb_path
        # Last, so that of a setting that cannot be used nothing is told but that.
        port = _choose_port(port_option or choice.environment.get("DAGSTER_PORT"))
        introduction = (
            "",
            f"  Dagster's UI  http://{HOST}:{port}",
            f"  Store         {_store(environment, own=choice.own_store)}",
            f"  Database      {database}",
            f"  Run history   {history}",
            "",
            "Ctrl-C ends it.",
        )
        with Supervisor(lock=lock) as supervisor:
            try:
                _start(supervisor, environment, port=port, sample_port=sample_port)
                _say(*introduction)
                while True:
                    supervisor.pause()
            except StopRequested:
                _say("Stopping ...")
                return 0
            except ProcessEnded as end:
                _say(f"make dev: {end}", to_stderr=True)
                return end.exit_status


def _dagster_home(environment: Environment) -> Path:
    """Return the folder whose dagster.yaml counts: the project's own unless the user chose another one."""
    home = Path(environment.get("DAGSTER_HOME") or Path.cwd())
    if not home.is_absolute() or not home.is_dir():
        raise SettingError(f"DAGSTER_HOME is {home}, which is not an existing folder with an absolute path")
    return home


def _choose_port(wanted: str | None) -> int:
    if not wanted:
        port = next_free_port(_DEFAULT_PORT)
        if port != _DEFAULT_PORT:
            _say(f"Port {_DEFAULT_PORT} is taken, so the UI goes to {port}.")
        return port
    if not wanted.isdecimal() or not 0 < int(wanted) < 65_536:  # noqa: PLR2004 - the ports there are
        raise SettingError(f"{wanted} is no port; give DAGSTER_PORT or --port a number from 1 to 65535")
    if not is_free(int(wanted)):
        raise SettingError(f"port {wanted} is taken; choose another one with DAGSTER_PORT")
    return int(wanted)


def _dagster_environment(environment: Environment, home: Path) -> Environment:
    warnings = (environment.get("PYTHONWARNINGS"), *_SILENCED_WARNINGS)
    return environment | {
        # Without it, Dagster keeps what is not in dagster.yaml in a temporary folder, and says so at length.
        "DAGSTER_HOME": str(home),
        # dagster.yaml turns telemetry off; this spares the folders that the uploader makes nevertheless.
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": ",".join(filter(None, warnings)),
    }


def _start(supervisor: Supervisor, environment: Environment, *, port: int, sample_port: int | None) -> None:
    if sample_port:
        store = ("sample_store", "--port", str(sample_port))
        supervisor.start("the sample store", *store, environment=environment, quiet=True)
    supervisor.run("the check of the run history", "commerce_assets.ops.abandoned_runs", environment=environment)
    while sample_port and not answers(sample_port):
        supervisor.pause()
    _say("Starting Dagster ...")
    # At level info, the daemon writes two lines every few seconds for as long as a run is waiting.
    dagster = ("dagster", "dev", "--host", HOST, "--port", str(port), "--log-level", "warning")
    supervisor.start("dagster dev", *dagster, environment=environment)
    while not answers(port):
        supervisor.pause()


def _store(environment: Environment, *, own: bool) -> str:
    address = urlsplit(environment[API_BASE_URL]).netloc.rpartition("@")[2]
    return address if own else f"the bundled sample store on {address} (for your own, see .env.example)"


def _say(*lines: str, to_stderr: bool = False) -> None:
    print(*lines, sep="\n", file=sys.stderr if to_stderr else sys.stdout, flush=True)


if __name__ == "__main__":
    sys.exit(main())
