"""What a command works with: the settings, the two consoles, the log, and what is opened with them."""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commerce_assets.cli.console import ConsoleHandler, build_console
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import CommerceSettings, load_environment
from commerce_assets.warehouse.file import DatabaseFile

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient


NOTHING_YET = "nothing is stored yet. What to do: pull or materialize something first."


class Session:
    """One command at work. It is the `Storage` that pulls are staged and loaded in.

    Attributes:
        out: For what was asked for: stdout.
        aside: For all else, such as progress: stderr.
        log: What the API client and the database tell; shown aside.
        database_path: The DuckDB file, where it is not that of the settings.
    """

    def __init__(self) -> None:
        self.out = build_console(stderr=False)
        self.aside = build_console(stderr=True)
        self.log = logging.getLogger("commerce_assets.cli")
        self.handler = ConsoleHandler(self.aside)
        # Instead of the handler of an earlier command in the same process, as in tests.
        self.log.handlers = [self.handler]
        self.log.propagate = False
        self.database_path: Path | None = None

    @cached_property
    def environment(self) -> Mapping[str, str]:
        return load_environment()

    @cached_property
    def settings(self) -> CommerceSettings:
        return CommerceSettings.read(self.environment)

    def database(self, log: logging.Logger, *, lock_timeout: float | None = None) -> DatabaseFile:
        return DatabaseFile(
            path=self.database_path or self.settings.duckdb_path,
            lock_timeout=self.settings.duckdb_lock_timeout if lock_timeout is None else lock_timeout,
            memory_limit=self.settings.duckdb_memory_limit,
            log=log,
        )

    def client(self, *, per_page: int | None = None, swapped: bool = False) -> "CommerceClient":
        """Build a client of the store that the settings name.

        Args:
            per_page: Items to request per page. None: the limit of the endpoint's paginator.
            swapped: Exchange key and secret.

        Raises:
            SettingError: A setting is missing or cannot be used.
        """
        settings = self.settings
        if swapped:
            settings = settings.model_copy(update={"api_key": settings.api_secret, "api_secret": settings.api_key})
        return settings.build_client(self.log, per_page=per_page)


pass_session = click.make_pass_decorator(Session, ensure=True)


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
    ctx.ensure_object(Session).database_path = value


database_option = click.option(
    "--database",
    metavar="FILE",
    type=click.Path(path_type=Path),
    expose_value=False,
    callback=_use_database,
    help="The DuckDB file, instead of COMMERCE_DUCKDB_PATH.",
)
