"""The whole project against a sample store over HTTP: its definitions, a DuckDB file and an instance of its own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dagster import DagsterInstance, Definitions, ExecuteInProcessResult

from commerce_assets.definitions import build_definitions
from commerce_assets.endpoint import ColumnType, Endpoint
from commerce_assets.endpoints import ENDPOINTS
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.server import serve
from sample_store.store import SampleStore

Row = dict[str, Any]
_QUIET = {"python_logs": {"python_log_level": "WARNING"}}


@dataclass(slots=True)
class Project:
    """A project folder and the store that it pulls from."""

    store: SampleStore
    base_url: str
    folder: Path
    instance: DagsterInstance
    settings: dict[str, str] = field(default_factory=dict)
    endpoints: Sequence[Endpoint] = ENDPOINTS

    @property
    def database(self) -> Path:
        return self.folder / "commerce.duckdb"

    @property
    def environment(self) -> dict[str, str]:
        """What a person would have set, credentials included."""
        return {
            "COMMERCE_API_BASE_URL": self.base_url,
            "COMMERCE_API_KEY": SAMPLE_API_KEY,
            "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
            "COMMERCE_API_ORDERS_PATH": ORDERS_PATH,
            "COMMERCE_API_REQUESTS_PER_SECOND": "0",
            "COMMERCE_ORDERS_START_DATE": "2024-01-01",
            "COMMERCE_DUCKDB_PATH": str(self.database),
            **self.settings,
        }

    @property
    def definitions(self) -> Definitions:
        return build_definitions(environment=self.environment, endpoints=self.endpoints)

    def run(
        self,
        job: str,
        *,
        days: tuple[date, date] | None = None,
        config: Mapping[str, Any] | None = None,
        expect_success: bool = True,
    ) -> ExecuteInProcessResult:
        """Runs a job in this process, as Dagster's own executor would; `days` are the first and the last."""
        tags = {}
        if days:
            tags["dagster/asset_partition_range_start"] = days[0].isoformat()
            tags["dagster/asset_partition_range_end"] = days[1].isoformat()
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, tags=tags, run_config=config, raise_on_error=expect_success
        )

    def requests(self) -> int:
        return len(self.store.requests)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What a person who has attached the file, and uses its schema, is answered."""
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{self.database}' AS shop (READ_ONLY)")
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("USE shop.commerce")
            return connection.execute(sql).fetchall()

    def rows(self, endpoint: Endpoint, *, where: str = "TRUE") -> dict[int, Row]:
        """The stored rows by id, times and amounts as Python has them, JSON as text."""
        names = [column.name for column in endpoint.stored_columns]
        rows = self.query(f"SELECT {', '.join(names)} FROM {endpoint.name} WHERE {where}")
        return {row[names.index(endpoint.primary_key)]: dict(zip(names, row, strict=True)) for row in rows}


@contextmanager
def running_project(store: SampleStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Serves the store, and sets the credentials as `EnvVar` finds them."""
    with serve(store) as server, DagsterInstance.ephemeral(settings=_QUIET) as instance:
        project = Project(store=store, base_url=server.base_url, folder=folder, instance=instance)
        for name, value in project.environment.items():
            monkeypatch.setenv(name, value)
        yield project


def endpoint_named(name: str) -> Endpoint:
    return next(endpoint for endpoint in ENDPOINTS if endpoint.name == name)


def as_stored(endpoint: Endpoint, item: Mapping[str, Any]) -> Row:
    """What a row of the table must hold for an item of the store, unless it was said what is to be kept and what not.

    Reckoned here, with nothing of the project's code.
    """
    row: Row = {}
    for column in endpoint.columns:
        value = item.get(column.name)
        if value is None or column.name in {"download_url", "subscription_management_url"}:
            row[column.name] = None
        elif column.name in {"download_items", "downloads"}:
            row[column.name] = without_urls(value)
        elif column.type == ColumnType.DECIMAL:
            row[column.name] = Decimal(str(value))
        elif column.type == ColumnType.TIMESTAMP:
            row[column.name] = datetime.fromisoformat(value).astimezone(UTC)
        else:
            row[column.name] = value
    return row


def without_urls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_urls(member) for name, member in value.items()}
    if isinstance(value, list):
        return [without_urls(element) for element in value]
    return None if isinstance(value, str) and "://" in value else value
