"""Extract one list of the API into the warehouse: request, stage, verify, load.

Everything that stores rows of the API goes through `ingest`: the assets, the refresh, the reconciliation and the
command line, which runs their jobs.
"""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import duckdb

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.request import ListRequest
from commerce_assets.ingest.stage import PullStats, Watcher, stage
from commerce_assets.ingest.staging import StagedPages, Staging
from commerce_assets.ingest.verify import StoreChangedError, VerificationError, Verified, check_store, verify
from commerce_assets.warehouse import LOAD_MEMORY_LIMIT
from commerce_assets.warehouse.database import Database, DatabaseMemoryError, limit_memory
from commerce_assets.warehouse.load import LoadResult, load
from commerce_assets.warehouse.load_log import has_loaded, needs_day_before, note_day_before
from commerce_assets.warehouse.parse import LoadMemoryError, StagedItemsUnreadableError
from commerce_assets.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient

AfterLoad = Callable[[duckdb.DuckDBPyConnection, StagedPages], None]
"""Writes more in the transaction of the load, such as a high-water mark."""

WATCHER: ContextVar[Watcher | None] = ContextVar("WATCHER", default=None)
"""Receives the pages of every `ingest` in this context; the command line's progress bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """The result of `ingest`.

    Attributes:
        request: The list that was extracted.
        began_at: When its first page was requested, by this machine's clock (UTC); `_extracted_at` of its rows.
        stats: What the extraction cost.
        verified: The comparison of stored and extracted rows before the load.
        load: The row counts of the load.
    """

    request: ListRequest
    began_at: datetime
    stats: PullStats
    verified: Verified
    load: LoadResult


def ingest(
    request: ListRequest,
    *,
    client: "CommerceClient",
    warehouse: Warehouse,
    log: logging.Logger,
    allow_shrinkage: bool = False,
    store_moved: bool = False,
    not_before: datetime | None = None,
    after_load: AfterLoad | None = None,
) -> Ingested:
    """Extract a list and load it, in one transaction.

    An interrupted extraction resumes after its last complete page. If another process extracts the same list, it waits.

    Args:
        request: The list, and the part of it to extract.
        client: The client of the store.
        warehouse: The database and the staging directory.
        log: Receives progress, waits and retries.
        allow_shrinkage: Load although the store returns less than half of the stored rows, or without proof that the
            missing ones were deleted. Only a person sets it.
        store_moved: Load although another store or account was loaded before. Only a person sets it.
        not_before: A request for changes inserts no rows from before this instant, because no load covers their days.
        after_load: Writes more in the same transaction.

    Raises:
        PullError: A page could not be fetched; the pages before it stay staged.
        FilterIgnoredError: The store ignores `updated_after`.
        VerificationError: The staged rows must not replace the stored ones; nothing was stored.
        LoadError: The staged items cannot be parsed; nothing was stored.
        WarehouseError: The database cannot be used.
    """
    warehouse.database.prepare()
    try:
        check_store(warehouse.database, request.endpoint, client.store, moved=store_moved)
    except StoreChangedError:
        # A wrong key is another key, too: then the store's own answer says more.
        client.page(request, PageDecoder(request.endpoint), 1)
        raise
    run = partial(
        _ingest,
        client=client,
        warehouse=warehouse,
        log=log,
        allow_shrinkage=allow_shrinkage,
        not_before=not_before,
        after_load=after_load,
    )
    if request.window is None:
        return run(request)
    with warehouse.database.read_or_empty() as connection:
        day_before = needs_day_before(connection, request.endpoint)
    try:
        return run(replace(request, day_before=day_before), learn=True)
    except _WindowNotProvenError:
        log.info("%s: the response may lack the first rows; requesting the day before, too", request)
    # Noted first, so that a run that resumes this one makes the same request. Nothing is learned from its response:
    # a shop with few orders would be asked twice for every other day.
    with warehouse.database.write() as connection:
        note_day_before(connection, request.endpoint, is_needed=True)
    return run(request)


class _WindowNotProvenError(Exception):
    """The response may lack the first rows of the window."""


def _ingest(
    request: ListRequest,
    *,
    client: "CommerceClient",
    warehouse: Warehouse,
    log: logging.Logger,
    allow_shrinkage: bool,
    not_before: datetime | None,
    after_load: AfterLoad | None,
    learn: bool = False,
) -> Ingested:
    """Extract and load a list; with `learn`, note whether the next windows need the day before."""
    watcher = WATCHER.get()
    staging = Staging(warehouse.staging_dir, log=log)
    url = client.url_of(request.endpoint.name, request.endpoint.path)
    with staging.hold(request, store=client.store, url=url, wait_seconds=warehouse.database.lock_timeout) as staged:
        # What was too large for the same limit may be smaller in the store by now.
        is_too_large = staged.manifest.too_large_for == warehouse.database.memory_limit
        if staged.is_complete and (is_too_large or _is_stored(warehouse, staged)):
            staged.clear()
        stats = stage(client, staged, log=log, watcher=watcher)

        def read_again() -> None:
            nonlocal stats
            staged.clear()
            stats = stage(client, staged, log=log, watcher=watcher)

        def write(connection: duckdb.DuckDBPyConnection) -> LoadResult:
            loaded = load(connection, staged, not_before=not_before, policy=warehouse.policy)
            if learn:
                note_day_before(connection, request.endpoint, is_needed=is_needed)
            if after_load:
                after_load(connection, staged)
            return loaded

        try:
            is_needed = _needs_day_before(staged)
            verified = verify(staged, warehouse.database, log, read_again=read_again, allow_shrinkage=allow_shrinkage)
            if watcher:
                watcher.loading()
            loaded = _write_frugally(warehouse.database, write, log)
        except (_WindowNotProvenError, VerificationError, StagedItemsUnreadableError):
            # The next run reads the list again: the store may have recovered, and a person confirms what it says now.
            staged.discard()
            raise
        except (LoadMemoryError, DatabaseMemoryError):
            staged.keep_for_more_memory(warehouse.database.memory_limit)
            raise
        staged.discard()
        log.info("%s: %s", request, loaded)
        return Ingested(request=request, began_at=staged.manifest.began_at, stats=stats, verified=verified, load=loaded)


def _write_frugally(
    database: Database, write: Callable[[duckdb.DuckDBPyConnection], LoadResult], log: logging.Logger
) -> LoadResult:
    """Load with little memory or, where that is too little, with all that the setting allows."""
    is_limited = False
    try:
        with database.write() as connection:
            is_limited = limit_memory(connection, LOAD_MEMORY_LIMIT)
            return write(connection)
    except (LoadMemoryError, DatabaseMemoryError):
        if not is_limited:
            raise
    log.info("the load needs more memory than %s; loading again with %s", LOAD_MEMORY_LIMIT, database.memory_limit)
    with database.write() as connection:
        return write(connection)


def _needs_day_before(staged: StagedPages) -> bool:
    """Return whether a request for a window has to ask for the day before it, by this response.

    Raises:
        _WindowNotProvenError: It has, and this one did not.
    """
    request = staged.pull
    if request.window is None:
        return True
    is_needed = request.window.needs_day_before(staged.oldest, day_before=request.day_before)
    if is_needed and not request.day_before:
        raise _WindowNotProvenError
    return is_needed


def _is_stored(warehouse: Warehouse, staged: StagedPages) -> bool:
    """Whether this extraction was loaded already, and a crash left its staged pages."""
    with warehouse.database.read_or_empty() as connection:
        return has_loaded(connection, staged.manifest.pull_id)
