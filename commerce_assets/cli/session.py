"""What a command works with: the settings, the two consoles, the log, and what is opened with them."""

import logging
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click
from dotenv import dotenv_values

from commerce_assets.access import build_client
from commerce_assets.cli.console import ConsoleHandler, build_console
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.ingest.staging import Staging
from commerce_assets.settings import Settings, checked_hash_key
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.privacy.policy import PersonalDataPolicy
from commerce_assets.warehouse.publish import PublishedCopy

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
        """The environment with `.env` of the working directory over it: Dagster's order."""
        dotenv = {name: value for name, value in dotenv_values(".env").items() if value is not None}
        return {**os.environ, **dotenv}

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment, ENDPOINTS)

    @property
    def lock_timeout(self) -> float:
        return self.settings.lock_timeout

    def prepare(self, log: logging.Logger) -> None:
        """Sees that what is pulled can be stored and published; says what to do if not."""
        self.database(log).prepare()
        if copy := self._copy(log):
            copy.prepare()

    def publish(self, log: logging.Logger) -> None:
        """Renews the copy for readers, if there is to be one; raises if that cannot be done."""
        if copy := self._copy(log):
            copy.renew()

    def database(self, log: logging.Logger, *, lock_timeout: float | None = None) -> DatabaseFile:
        return DatabaseFile(
            path=self.database_path or self.settings.database,
            lock_timeout=self.lock_timeout if lock_timeout is None else lock_timeout,
            memory_limit=self.settings.memory_limit,
            log=log,
        )

    def staging(self, log: logging.Logger) -> Staging:
        return Staging(self.settings.staging, log=log)

    def policy(self) -> PersonalDataPolicy:
        """The policy for personal data, with the key of the hash if it needs one.

        Raises:
            SettingError: The key is missing or cannot be used.
        """
        policy = self.settings.personal_data
        key = self.environment.get("COMMERCE_PERSONAL_DATA_KEY", "")
        return policy.with_key(checked_hash_key(key)) if policy.hashes else policy

    def _copy(self, log: logging.Logger) -> PublishedCopy | None:
        publish = self.settings.publish
        return PublishedCopy(path=publish, source=self.database(log), log=log) if publish else None

    def client(self, *, per_page: int | None = None, swapped: bool = False) -> "CommerceClient":
        """A client of the store that the settings name.

        Args:
            per_page: Items to request per page. None: the limit of the endpoint's paginator.
            swapped: Key and secret change places.

        Raises:
            SettingError: Names what is missing or cannot be used.
        """
        credentials = [self.environment.get(f"COMMERCE_API_{name}", "") for name in ("KEY", "SECRET")]
        key, secret = reversed(credentials) if swapped else credentials
        return build_client(
            base_url=self.environment.get("COMMERCE_API_BASE_URL", ""),
            key=key,
            secret=secret,
            paths=self.settings.paths,
            requests_per_second=self.settings.requests_per_second,
            concurrency=self.settings.concurrency,
            overlap_windows=self.settings.overlap_windows,
            per_page=per_page,
            log=self.log,
        )


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
