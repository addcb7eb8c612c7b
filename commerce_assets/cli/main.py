"""The command line's entry: finds the command that is meant, and tells what goes wrong in one line.

Nothing is imported here that takes time: `--help` answers at once, and a command pays for what it uses.
"""

import contextlib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from commerce_assets import __version__
from commerce_assets.cli.command import debug_option, write_examples
from commerce_assets.cli.exits import INTERRUPTED, NOT_SO, OK, USAGE

_PACKAGE = "commerce_assets"
# Command to its line in the list of commands; its module has its name.
COMMANDS: Mapping[str, str] = {
    "check": "Ask each endpoint once, and say what is wrong with the settings.",
    "preview": "Show one page of an endpoint as the store gives it, without storing it.",
    "pull": "Materialize an endpoint's asset: extract it and load it.",
    "refresh": "Upsert the rows changed since the last refresh.",
    "reconcile": "Compare the row count of every day with the store, and repair.",
    "build": "Build the marts.",
    "status": "Show what is stored, how new it is, which days are missing and which checks fail.",
    "query": "Ask the database with SQL; nothing is changed.",
    "export": "Write the tables to Parquet files, orders by day.",
    "sample-store": "Serve the bundled sample store until interrupted.",
}
# Commands that share a module.
_MODULES: Mapping[str, str] = dict.fromkeys(("pull", "refresh", "reconcile", "build"), "run")
_EXAMPLES = (
    ("check", "are the settings right?"),
    ("pull orders --from 2024-01-01", "everything since then, up to yesterday"),
    ('query "SELECT count(*) FROM orders"', "ask what is stored"),
)
_EPILOG = """Settings come from the environment and from .env in this folder; .env wins, as in Dagster.

Exit status: 0 all is well; 1 it failed, or what was asked is not so; 2 the command or a setting cannot be used;
130 interrupted.

\b
Completion of commerce-assets in bash (zsh, fish: zsh_source, fish_source):
eval "$(_COMMERCE_ASSETS_COMPLETE=bash_source commerce-assets)"
"""


class Commands(click.Group):
    """The commands by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{_PACKAGE}.cli.{_MODULES.get(cmd_name, cmd_name.replace('-', '_'))}")
        command: click.Command = getattr(module, cmd_name if cmd_name in _MODULES else "command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so, without importing any of them, and the options."""
        names = [CompletionItem(name, help=told) for name, told in COMMANDS.items() if name.startswith(incomplete)]
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
        status = OK
        try:
            status = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has seen enough, as `head` does. Nothing can be told to it any more, not even by the flush
            # at the end of the process.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status

    def main(  # type: ignore[override] # of click's two modes, there is one here
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Runs the command, and exits with its status; what goes wrong is one line on stderr."""
        _prepare()
        try:
            status = super().main(args, prog_name, standalone_mode=False, **extra)
        except (click.Abort, KeyboardInterrupt):
            _tell("interrupted")
            status = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - whatever it is, a person gets one line
            status = _told(error)
        sys.exit(status or OK)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(__version__, message="%(prog)s %(version)s")
@debug_option
def main() -> None:
    """A shop's products, packages, orders and subscriptions, from its commerce API into DuckDB."""


def _prepare() -> None:
    for name in ("stdin", "stdout", "stderr"):
        # Closed by whoever has started it, as by `>&-`: nothing comes from there, and what goes there is for nobody.
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("r" if name == "stdin" else "w"))  # noqa: SIM115 - for good
    logging.getLogger(_PACKAGE).setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows a question mark; the command goes on.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")


def _told(error: Exception) -> int:
    """Tells an error in one line; returns the exit status that it stands for."""
    if logging.getLogger(_PACKAGE).isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USAGE
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else _PACKAGE
        _tell(f"{error.format_message().rstrip('.')}. See {where} --help.")
        return USAGE
    if isinstance(error, click.ClickException):
        _tell(error.format_message())
        return error.exit_code
    if type(error).__module__.partition(".")[0] == _PACKAGE:
        # The project's own errors are written for people: they say where, why and what to do.
        _tell(str(error))
        # Pydantic costs the help a tenth of a second.
        from commerce_assets.settings import SettingError  # noqa: PLC0415

        return USAGE if isinstance(error, SettingError) else NOT_SO
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "what is written to"
        _tell(f"{place} cannot be used ({error.strerror}). What to do: see that it is there, may be used and has room.")
        return NOT_SO
    # Anything else may quote what it stumbled over, which may be a buyer's.
    _tell(f"stopped by an unforeseen {type(error).__name__}. What to do: run it again with --debug, which shows where.")
    return NOT_SO


def _tell(message: str) -> None:
    click.echo(" ".join(f"commerce-assets: {message}".split()), err=True)
