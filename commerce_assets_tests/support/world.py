"""The world of a test: a store behind a server that can fail, and the folder with the warehouse that it fills."""

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from commerce_assets.api.client import CommerceClient, Limits
from commerce_assets.api.decoding import Page, PageDecoder
from commerce_assets.api.pagination import ListEnd
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.api.request import ListRequest
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.ingest.ingest import Ingested, ingest
from commerce_assets.ingest.stage import PullStats, stage
from commerce_assets.ingest.staging import StagedPages, Staging
from commerce_assets.warehouse import MEMORY_LIMIT
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.load import LoadResult, load
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY
from commerce_assets.warehouse.warehouse import Warehouse
from commerce_assets.window import Window
from commerce_assets_tests.support.clock import Sleeper
from commerce_assets_tests.support.expected import Row
from commerce_assets_tests.support.faulty_store import FaultyStore, faulty
from commerce_assets_tests.support.items import PRODUCT_LIST, Item, body_of
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.store import SampleStore

if TYPE_CHECKING:
    import pytest
    from dagster import DagsterInstance, Definitions, ExecuteInProcessResult

LOG = logging.getLogger("world")
ENDED = ListEnd(proven=True, consistent=True, gapless=True, page_size=50, reason="page 2 is empty")
FIRST_PULL = datetime(2025, 1, 1, tzinfo=UTC)
IMPATIENT = Limits(connect_seconds=1, read_seconds=0.25, total_seconds=0.4)
_QUIET = {"python_logs": {"python_log_level": "WARNING"}}


@dataclass(frozen=True)
class Pulled:
    """A finished pull: what was staged before it was discarded, and what it cost."""

    rows: list[dict[str, Any]]
    cost: PullStats

    @property
    def ids(self) -> list[int]:
        """In the order of their first occurrence: pages overlap."""
        return list(dict.fromkeys(row["id"] for row in self.rows))


@dataclass
class World:
    """A folder with a warehouse; `serving` adds a server, `running` an instance of Dagster."""

    folder: Path
    name: str = "shop.duckdb"
    memory_limit: str = MEMORY_LIMIT
    settings: dict[str, str] = field(default_factory=dict)
    endpoints: Sequence[Endpoint] = ENDPOINTS
    sleeper: Sleeper = field(default_factory=Sleeper)
    running_server: FaultyStore | None = None
    running_instance: "DagsterInstance | None" = None
    pulls: "count[int]" = field(default_factory=count)

    @property
    def server(self) -> FaultyStore:
        assert self.running_server
        return self.running_server

    @property
    def instance(self) -> "DagsterInstance":
        assert self.running_instance
        return self.running_instance

    @property
    def store(self) -> SampleStore:
        return self.server.store

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def file(self) -> DatabaseFile:
        return DatabaseFile(path=self.path, lock_timeout=5, memory_limit=self.memory_limit, log=LOG)

    @property
    def warehouse_fields(self) -> dict[str, Any]:
        """With these fields, a resource finds the database."""
        return {"database": str(self.path)}

    @property
    def staging(self) -> Path:
        return self.folder / "staging"

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(database=self.file, staging_dir=self.staging, policy=DEFAULT_POLICY)

    # From the store to staged pages

    def client(self, **fields: Any) -> CommerceClient:
        return build_client(**{"base_url": self.base_url, "sleep": self.sleeper, "log": LOG, **fields})

    @contextmanager
    def hold(self, request: ListRequest, *, store: str | None = None, wait_seconds: float = 5) -> Iterator[StagedPages]:
        staging = Staging(self.staging, log=LOG)
        with staging.hold(request, store=store or self.base_url, wait_seconds=wait_seconds) as staged:
            yield staged

    def pull(self, request: ListRequest = PRODUCT_LIST, **client_fields: Any) -> Pulled:
        """Stage the list to its end, read what is staged and discard it, as a run does that succeeds."""
        with self.hold(request) as staged, self.client(**client_fields) as client:
            cost = stage(client, staged, log=LOG)
            rows = staged_rows(staged)
            staged.discard()
            return Pulled(rows, cost)

    def page(self, request: ListRequest = PRODUCT_LIST, number: int = 1, **client_fields: Any) -> Page:
        with self.client(**client_fields) as client:
            return client.page(request, PageDecoder(request.endpoint), number)

    def remove(self, kind: str, *ids: int) -> None:
        """Delete rows in the store."""
        rows = getattr(self.store.shop, kind)
        rows[:] = [row for row in rows if row["id"] not in ids]
        self.store.touch()

    # From staged pages to the table

    def stage(
        self,
        endpoint: Endpoint,
        items: Sequence[Item],
        *,
        window: Window | None = None,
        updated_after: datetime | None = None,
        per_page: int = 50,
    ) -> StagedPages:
        """Stage a complete pull of the items without a store; each pull begins an hour after the last."""
        number = next(self.pulls)
        request = ListRequest(endpoint=endpoint, window=window, updated_after=updated_after)
        decoder = PageDecoder(endpoint)
        staging = Staging(self.folder / f"staging-{number}", log=LOG)
        with staging.hold(request, store="https://store.example/", wait_seconds=0) as staged:
            staged.manifest = msgspec.structs.replace(staged.manifest, began_at=FIRST_PULL + timedelta(hours=number))
            with staged.writer() as writer:
                for first in range(0, max(len(items), 1), per_page):
                    body = body_of(*items[first : first + per_page], selector=str(endpoint.data_selector))
                    page = decoder.decode(body, number=first // per_page + 1)
                    facts = page.facts(per_page=per_page)
                    end = ENDED if first + per_page >= len(items) else None
                    writer.write(page, facts, end=end, store_clock=0.0)
        return staged

    def put(self, staged: StagedPages, **options: Any) -> LoadResult:
        """Load staged pages; `options` are those of `load`."""
        with self.file.write() as connection:
            return load(connection, staged, **options)

    def load(
        self,
        endpoint: Endpoint,
        items: Sequence[Item],
        *,
        window: Window | None = None,
        updated_after: datetime | None = None,
        per_page: int = 50,
        **options: Any,
    ) -> LoadResult:
        """Stage the items without a store and load them."""
        staged = self.stage(endpoint, items, window=window, updated_after=updated_after, per_page=per_page)
        return self.put(staged, **options)

    # All the way

    def ingest(self, request: ListRequest, *, key: str = SAMPLE_API_KEY, **options: Any) -> Ingested:
        with self.client(key=key) as client:
            return ingest(request, client=client, warehouse=self.warehouse, log=LOG, **options)

    @property
    def environment(self) -> dict[str, str]:
        """The project's settings as a person sets them, credentials included."""
        return {
            "COMMERCE_API_BASE_URL": self.base_url,
            "COMMERCE_API_KEY": SAMPLE_API_KEY,
            "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
            "COMMERCE_API_ORDERS_PATH": ORDERS_PATH,
            "COMMERCE_API_REQUESTS_PER_SECOND": "0",
            # Most tests count the requests of lists.
            "COMMERCE_REFUND_REQUESTS": "0",
            "COMMERCE_ORDERS_START_DATE": "2024-01-01",
            "COMMERCE_DUCKDB_PATH": str(self.path),
            **self.settings,
        }

    def enter(self, monkeypatch: "pytest.MonkeyPatch") -> None:
        """Put the settings into the environment, from which a run reads the secret ones."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)

    @property
    def definitions(self) -> "Definitions":
        return _definitions_of(tuple(self.environment.items()), tuple(self.endpoints))

    def run(
        self,
        job: str,
        *,
        days: tuple[date, date] | None = None,
        config: Mapping[str, Any] | None = None,
        expect_success: bool = True,
    ) -> "ExecuteInProcessResult":
        """Run a job in this process, as Dagster's own executor would; `days` are the first and the last."""
        tags = {}
        if days:
            tags["dagster/asset_partition_range_start"] = days[0].isoformat()
            tags["dagster/asset_partition_range_end"] = days[1].isoformat()
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, tags=tags, run_config=config, raise_on_error=expect_success
        )

    def check_statuses(self, asset: str) -> dict[str, str]:
        """The status of each check of an asset, as the UI resolves it."""
        from dagster._core.loader import LoadingContextForTest  # noqa: PLC0415 - as above

        keys = [key for key in self.definitions.resolve_asset_graph().asset_check_keys if key.asset_key.path == [asset]]
        summaries = self.instance.event_log_storage.get_asset_check_summary_records(keys)
        context = LoadingContextForTest(self.instance)
        latest = {key.name: summary.last_check_execution_record for key, summary in summaries.items()}
        return {name: asyncio.run(record.resolve_status(context)).value for name, record in latest.items() if record}

    def requests(self) -> int:
        return len(self.store.requests)

    # What is stored

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Query the file; tables of the schema `commerce` need no schema."""
        with self.file.read() as connection:
            if connection.execute("FROM duckdb_schemas() WHERE schema_name = 'commerce'").fetchall():
                (database,) = connection.execute("SELECT current_database()").fetchone() or ()
                connection.execute(f"SET search_path = '{database}.commerce,{database}.main'")
            return connection.execute(sql).fetchall()

    def rows(self, endpoint: Endpoint, *, where: str = "TRUE") -> dict[int, Row]:
        """The stored rows by id, times and amounts as Python has them, JSON as text."""
        names = [column.name for column in endpoint.stored_columns]
        rows = self.query(f"SELECT {', '.join(names)} FROM {endpoint.name} WHERE {where}")
        return {row[names.index(endpoint.primary_key)]: dict(zip(names, row, strict=True)) for row in rows}

    def execute(self, *statements: str) -> None:
        """Change the file as another program does."""
        with self.file.write() as connection:
            for statement in statements:
                connection.execute(statement)


@lru_cache(maxsize=2)
def _definitions_of(environment: tuple[tuple[str, str], ...], endpoints: tuple[Endpoint, ...]) -> "Definitions":
    # A process that only reads or writes the file starts without Dagster.
    from commerce_assets.composition import build_definitions  # noqa: PLC0415
    from commerce_assets.settings import CommerceSettings  # noqa: PLC0415

    return build_definitions(CommerceSettings.read(dict(environment), endpoints=endpoints))


MakeWorld = Callable[..., World]
"""Makes a world of a folder: `World` itself, with a DuckDB file, or one with a lake."""


@contextmanager
def serving(store: SampleStore, folder: Path, make_world: MakeWorld = World) -> Iterator[World]:
    """A world whose store is served."""
    with faulty(store) as server:
        yield make_world(folder, running_server=server)


@contextmanager
def running(
    store: SampleStore, folder: Path, monkeypatch: "pytest.MonkeyPatch", make_world: MakeWorld = World
) -> Iterator[World]:
    """A world whose store is served, with an instance of Dagster and the settings in the environment."""
    from dagster import DagsterInstance  # noqa: PLC0415 - as above

    with (
        serving(store, folder, make_world) as world,
        DagsterInstance.ephemeral(settings=_QUIET) as world.running_instance,
    ):
        world.enter(monkeypatch)
        yield world


@contextmanager
def copied(loaded: World, folder: Path, monkeypatch: "pytest.MonkeyPatch") -> Iterator[World]:
    """A copy of a running world: the store's rows, the database file and Dagster's history. A load takes longer.

    Both have one server, which serves the copy's store meanwhile: another address would be another store.
    """
    from dagster import DagsterInstance  # noqa: PLC0415 - as above

    server, store = loaded.server, loaded.store
    shutil.copy(loaded.path, folder)
    with DagsterInstance.ephemeral(settings=_QUIET) as instance:
        for kind in ("run_storage", "event_log_storage"):
            source, target = (getattr(each, kind)._held_conn.connection for each in (loaded.instance, instance))
            source.driver_connection.backup(target.driver_connection)
        world = replace(loaded, folder=folder, settings={**loaded.settings}, running_instance=instance)
        server.store = SampleStore(deepcopy(store.shop))
        world.enter(monkeypatch)
        yield world
    server.store = store


def build_client(*, base_url: str, **fields: Any) -> CommerceClient:
    """A client with the sample store's credentials and no rate limit."""
    defaults: dict[str, Any] = {
        "base_url": base_url,
        "key": SAMPLE_API_KEY,
        "secret": SAMPLE_API_SECRET,
        "paths": {"orders": ORDERS_PATH},
        "pacer": RateLimiter(base_url=base_url, requests_per_second=0),
    }
    return CommerceClient(**{**defaults, **fields})


def staged_rows(staged: StagedPages) -> list[dict[str, Any]]:
    return [json.loads(line) for path in staged.segments for line in path.read_bytes().splitlines()]


def counts(result: LoadResult) -> tuple[int, int, int, int]:
    return result.inserted, result.updated, result.unchanged, result.removed
