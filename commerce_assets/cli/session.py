"""What every command works with: settings, the two consoles and the log."""

import json
import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import click

from commerce_assets.cli.console import ConsoleHandler, build_console, say
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.hints import with_program
from commerce_assets.settings import CommerceSettings, SettingError, load_environment, variable_of

NOTHING_YET = "the database is empty. Fix: run `commerce-assets pull products`, or materialize an asset."


class Session:
    """One command at work.

    Attributes:
        out: Results: stdout.
        aside: Progress and the log: stderr.
        log: The log of the API client and the database.
        database: The DuckDB file, instead of COMMERCE_DUCKDB_PATH.
        env_file: The file with the settings, instead of `.env`.
    """

    def __init__(self) -> None:
        self.out = build_console(stderr=False)
        self.aside = build_console(stderr=True)
        self.log = logging.getLogger("commerce_assets.cli")
        self.handler = ConsoleHandler(self.aside)
        # Replaces the handler of an earlier command in the same process.
        self.log.handlers = [self.handler]
        self.log.propagate = False
        self.database: Path | None = None
        self.env_file: Path | None = None

    @cached_property
    def environment(self) -> Mapping[str, str]:
        override = {variable_of("env_file"): str(self.env_file)} if self.env_file else {}
        if self.database:
            override |= {variable_of("duckdb_path"): str(self.database), variable_of("lake_data"): ""}
        return {**load_environment(self.env_file), **override}

    @cached_property
    def settings(self) -> CommerceSettings:
        return CommerceSettings.read(self.environment)

    def typed(self, text: str) -> str:
        """Return a text with commands as they are typed for the same settings."""
        try:
            file = self.environment.get(variable_of("env_file"), "").strip()
        except (SettingError, OSError):  # the file cannot be read, which the text may say
            return with_program(text, self.env_file)
        return with_program(text, Path(file) if file else None)


pass_session = click.make_pass_decorator(Session, ensure=True)


def say_json(value: object) -> None:
    """Print a result for a program."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def _endpoint_named(ctx: click.Context, param: click.Parameter, value: str) -> Endpoint:  # noqa: ARG001 - click's
    return next(endpoint for endpoint in ENDPOINTS if endpoint.name == value)


ENDPOINT_ARGUMENT = {"ENDPOINT": ", ".join(endpoint.name for endpoint in ENDPOINTS)}
endpoint_argument = click.argument(
    "endpoint",
    metavar="ENDPOINT",
    type=click.Choice([endpoint.name for endpoint in ENDPOINTS]),
    callback=_endpoint_named,
)


def _use_database(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:  # noqa: ARG001 - click's
    ctx.ensure_object(Session).database = value


database_option = click.option(
    "--database",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    expose_value=False,
    callback=_use_database,
    help="The DuckDB file, instead of COMMERCE_DUCKDB_PATH.",
)
