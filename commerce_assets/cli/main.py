"""The command line's entry point: find the command, run it, and report an error in one line.

This module imports nothing slow: `--help` answers at once, and a command imports what it uses.
"""

import contextlib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from commerce_assets import __version__
from commerce_assets.cli.command import debug_option, with_commands, write_examples
from commerce_assets.cli.exits import INTERRUPTED, NOT_SO, OK, USAGE, exit_status
from commerce_assets.hints import PROGRAM, program, with_program

if TYPE_CHECKING:
    from commerce_assets.cli.session import Session

_PACKAGE = "commerce_assets"
_COMPLETE = "_COMMERCE_ASSETS_COMPLETE"
# Command to its line in the list of commands; its module has its name.
COMMANDS: Mapping[str, str] = {
    "check": "Test the settings with one request per endpoint.",
    "preview": "Show one page of an endpoint as the API returns it; nothing is stored.",
    "pull": "Extract an endpoint from the store and load it, as a run of its asset.",
    "refresh": "Upsert the rows changed since the last refresh, across all partitions.",
    "reconcile": "Compare the row count of every day with the store, and repair.",
    "build": "Build the marts from the stored tables, without a request.",
    "status": "Show what is stored, how new it is, which days are missing and which checks fail.",
    "query": "Query the database with SQL; it is opened read-only.",
    "export": "Write the tables to Parquet or CSV files, partitioned ones by day.",
    "report": "Write an HTML page about the shop, to read or to send.",
    "backup": "Back up the DuckDB file and Dagster's history while runs go on.",
    "sample-store": "Serve the bundled sample store until interrupted.",
}
# Commands that share a module.
_MODULES: Mapping[str, str] = {
    **dict.fromkeys(("pull", "refresh", "reconcile", "build"), "run"),
    **dict.fromkeys(("query", "export"), "sql"),
}
_EXAMPLES = (
    ("check", "are the settings right?"),
    ("pull orders --from 2024-01-01", "everything since then, up to yesterday"),
    ('query "SELECT count(*) FROM orders"', "query what is stored"),
)
_EPILOG = f"""Settings come from the environment and from .env in this folder; .env wins, as in Dagster.

Exit status: 0 success; 1 failure, or a finding; 2 a wrong command, setting or key; 130 interrupted.

\b
Completion of {PROGRAM} in bash (zsh, fish: zsh_source, fish_source):
eval "$({_COMPLETE}=bash_source {PROGRAM})"
"""


class Commands(click.Group):
    """The commands by name."""

    session: "Session | None" = None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{_PACKAGE}.cli.{_MODULES.get(cmd_name, cmd_name.replace('-', '_'))}")
        command: click.Command = getattr(module, cmd_name if cmd_name in _MODULES else "command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the commands, without importing any of them, and the options."""
        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise click.UsageError(f"there is no command {name}; there are {', '.join(COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter, _EXAMPLES)
        super().format_epilog(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        status, self.session = OK, ctx.obj
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as `head`, has closed the pipe. The flush at the end of the process would fail again.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status

    def main(  # type: ignore[override] # of click's two modes, there is one here
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Run the command, and exit with its status; an error is one line on stderr."""
        _prepare()
        self.session = None
        try:
            # A shell completes the name, not a path.
            prog_name = prog_name or (PROGRAM if _COMPLETE in os.environ else program())
            status = super().main(args, prog_name, standalone_mode=False, **extra)
        except (click.Abort, KeyboardInterrupt):
            _say("interrupted")
            status = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - every error becomes one line
            status = _report(error, self.session)
        sys.exit(status or OK)


def _use_env_file(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:  # noqa: ARG001 - click's
    if value:
        from commerce_assets.cli.session import Session  # noqa: PLC0415 - the help does not wait for its import

        ctx.ensure_object(Session).env_file = value


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(__version__, message=f"{PROGRAM} %(version)s")
@click.option(
    "--env-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    expose_value=False,
    callback=_use_env_file,
    help="Settings from FILE instead of .env: those of the sample store, or of one of several shops.",
)
@debug_option
def main() -> None:
    """A shop's products, packages, orders and subscriptions, from its commerce API into DuckDB."""


def _prepare() -> None:
    for name in ("stdin", "stdout", "stderr"):
        # Closed by the caller, as by `>&-`: reads find nothing, and writes go nowhere.
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115 - for good
    logging.getLogger(_PACKAGE).setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        # A character that the encoding lacks becomes a question mark instead of an error.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")


def _report(error: Exception, session: "Session | None") -> int:
    """Report an error in one line, with commands as they are typed for its settings; return its exit status."""

    def said(text: str) -> str:
        return session.typed(with_commands(text)) if session else with_program(with_commands(text))

    if logging.getLogger(_PACKAGE).isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USAGE
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else _PACKAGE
        _say(f"{error.format_message().rstrip('.')}. See {where} --help.")
        return USAGE
    if isinstance(error, click.ClickException):
        _say(said(error.format_message()))
        return error.exit_code
    if type(error).__module__.partition(".")[0] == _PACKAGE:
        # The package's own errors are sentences that say what failed, why and how to fix it.
        _say(said(str(error)))
        return exit_status(type(error).__name__, getattr(getattr(error, "error", None), "status", None))
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "the output"
        _say(f"{place} cannot be used: {error.strerror}. Fix: check that it exists, may be used and has room.")
        return NOT_SO
    # The message of any other error may quote a buyer's data.
    _say(f"stopped by an unexpected {type(error).__name__}. Fix: run it again with --debug, which shows where.")
    return NOT_SO


def _say(message: str) -> None:
    from commerce_assets.cli.console import printable  # noqa: PLC0415 - the help does not wait for its import

    # The message may quote a stored value.
    click.echo(printable(" ".join(f"commerce-assets: {message}".split())), err=True)
