"""A pull on its way into the warehouse: what an asset hands to the IO manager, and the command line to the load."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import duckdb

from commerce_assets.api.request import ListRequest
from commerce_assets.ingest.stage_pages import PullStats, Watcher, stage
from commerce_assets.ingest.staging import StagedPages, Staging
from commerce_assets.warehouse.diff import Comparison, compare
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.load import LoadResult, load
from commerce_assets.warehouse.load_log import has_loaded
from commerce_assets.warehouse.parse import StagedItemsUnreadableError
from commerce_assets.warehouse.privacy.policy import PersonalDataPolicy

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient


class Storage(Protocol):
    """Where pulls are staged and loaded; `lock_timeout` is how many seconds whoever else is at it is waited for."""

    @property
    def lock_timeout(self) -> float: ...

    def prepare(self, log: logging.Logger) -> None: ...

    def database(self, log: logging.Logger) -> DatabaseFile: ...

    def staging(self, log: logging.Logger) -> Staging: ...

    def policy(self) -> PersonalDataPolicy: ...


@dataclass(slots=True, kw_only=True)
class StagedLoad:
    """A pull on its way into the warehouse; `result` is set once it is there."""

    staged: StagedPages
    cost: PullStats
    comparison: Comparison
    policy: PersonalDataPolicy
    allow_shrinkage: bool = False
    result: LoadResult | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether it may be loaded: it holds about what is stored, or a person has said that it is true."""
        return self.allow_shrinkage or not self.comparison.has_collapsed


@contextmanager
def extraction(
    pull: ListRequest,
    client: "CommerceClient",
    storage: Storage,
    log: logging.Logger,
    *,
    watcher: Watcher | None = None,
) -> Iterator[StagedLoad]:
    """A pull, staged whole; its folder is this process's own as long as the context lasts."""
    storage.prepare(log)
    policy = storage.policy()
    store = f"{client.url_of(pull.endpoint.name, pull.endpoint.path)} {client.account}"
    with storage.staging(log).hold(pull, store=store, wait_seconds=storage.lock_timeout) as staged:
        if staged.is_complete and _is_stored(staged.manifest.pull_id, storage, log):
            staged.clear()
        cost = stage(client, staged, log=log, watcher=watcher)
        comparison = _compare(staged, storage, log)
        if comparison.vanished and not staged.is_gapless:
            log.warning(
                "%s: %d stored rows are not in the answer; asking once more to be sure", pull, comparison.vanished
            )
            staged.clear()
            cost = stage(client, staged, log=log, watcher=watcher)
            comparison = _compare(staged, storage, log)
        yield StagedLoad(staged=staged, cost=cost, comparison=comparison, policy=policy)


def load_staged(
    connection: duckdb.DuckDBPyConnection, pulled: StagedLoad, *, not_before: datetime | None = None
) -> LoadResult:
    """Loads what is staged, in the transaction of the connection; `not_before` is that of `load`.

    Raises:
        LoadError: It is not to be stored. What DuckDB cannot parse is not kept for the next run either.
    """
    try:
        pulled.result = load(
            connection,
            pulled.staged,
            not_before=not_before,
            allow_shrinkage=pulled.allow_shrinkage,
            policy=pulled.policy,
        )
    except StagedItemsUnreadableError:
        pulled.staged.discard()
        raise
    return pulled.result


def _compare(staged: StagedPages, storage: Storage, log: logging.Logger) -> Comparison:
    database = storage.database(log)
    if staged.pull.updated_after or not database.path.exists():
        return Comparison(stored=0, pulled=staged.count)
    with database.read() as connection:
        return compare(connection, staged)


def _is_stored(pull_id: str, storage: Storage, log: logging.Logger) -> bool:
    """Whether a crash came between the commit of this very pull and the end of its staged pages."""
    database = storage.database(log)
    if not database.path.exists():
        return False
    with database.read() as connection:
        return has_loaded(connection, pull_id)
