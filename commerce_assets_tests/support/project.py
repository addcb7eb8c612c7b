"""Former names of world.py and expected.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dagster import DagsterInstance

from commerce_assets.endpoint import Endpoint
from commerce_assets_tests.support.expected import Row, as_stored, without_urls
from commerce_assets_tests.support.faulty_store import FaultyStore, faulty
from commerce_assets_tests.support.items import BY_NAME
from commerce_assets_tests.support.world import _QUIET, World
from sample_store.store import SampleStore

__all__ = ["Row", "as_stored", "without_urls"]


class Project(World):
    """Its database has another name, and is queried as attached as `shop`."""

    def __init__(
        self,
        *,
        store: SampleStore,
        base_url: str,
        folder: Path,
        instance: DagsterInstance,
        server: FaultyStore | None = None,
    ) -> None:
        super().__init__(folder, "commerce.duckdb", running_server=server, running_instance=instance)
        self._store, self._base_url = store, base_url

    @property
    def store(self) -> SampleStore:
        return self._store

    @property
    def base_url(self) -> str:
        return self._base_url

    @property
    def database(self) -> Path:
        return self.path

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{self.path}' AS shop (READ_ONLY)")
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("USE shop.commerce")
            return connection.execute(sql).fetchall()


@contextmanager
def running_project(store: SampleStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with faulty(store) as server, DagsterInstance.ephemeral(settings=_QUIET) as instance:
        project = Project(store=store, base_url=server.base_url, folder=folder, instance=instance, server=server)
        for name, value in project.environment.items():
            monkeypatch.setenv(name, value)
        yield project


def endpoint_named(name: str) -> Endpoint:
    return BY_NAME[name]
