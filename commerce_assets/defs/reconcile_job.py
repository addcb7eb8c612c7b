"""The job `reconcile`: compare the row counts of the loaded days with the store, and repair the days that differ.

It finds the store's counts by a binary search of its list, at a few requests per month of data. It also extracts days
after the first load that were never loaded. Earlier days are only named: a backfill may take hours and is for a person
to start. A list that is not sorted by creation cannot be searched: all loaded days are extracted again then, if that
takes no more requests than the comparison may make.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.offset_search import NotInOrderError, OffsetSearch
from commerce_assets.api.request import ListRequest
from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.defs.materialization_events import report_checks, report_health, report_load, report_unevaluated
from commerce_assets.defs.pools import API_POOL
from commerce_assets.defs.resources import API, WAREHOUSE, open_shop
from commerce_assets.defs.shop import Shop
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import ingest
from commerce_assets.ingest.reconciliation import ReconciliationReport, days_to_compare, reconcile
from commerce_assets.warehouse.freshness import describe_never_loaded, due_days_never_loaded
from commerce_assets.warehouse.load_log import Kind, count_by_day, loaded_windows, write_note
from commerce_assets.warehouse.warehouse import Warehouse
from commerce_assets.window import Window, join_windows

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient


def build_reconcile_job(
    *,
    endpoints: Sequence[Endpoint],
    partitions: dg.DailyPartitionsDefinition,
    request_budget: int,
    executor: dg.ExecutorDefinition,
    shop: Shop,
) -> dg.JobDefinition:
    """Build the job `reconcile`, for every partitioned endpoint."""
    ops = [
        _build_reconcile_op(endpoint=endpoint, partitions=partitions, request_budget=request_budget, shop=shop)
        for endpoint in endpoints
        if endpoint.is_partitioned
    ]

    @dg.job(
        name=shop.named("reconcile"),
        description="Compares the row count of every day with the store, and extracts the days again that differ.",
        executor_def=executor,
    )
    def reconcile_job() -> None:
        for reconcile_endpoint in ops:
            reconcile_endpoint()

    return reconcile_job


def _build_reconcile_op(
    *, endpoint: Endpoint, partitions: dg.DailyPartitionsDefinition, request_budget: int, shop: Shop
) -> dg.OpDefinition:
    class ReconcileConfig(dg.Config):
        """What a person can choose from the launchpad."""

        requests: int = Field(
            default=request_budget,
            ge=4,
            description="Requests that the comparison may make (COMMERCE_RECONCILE_REQUESTS).",
        )
        repair: bool = Field(default=True, description="Extract the days again on which store and warehouse differ.")

    @dg.op(
        name=shop.named(f"reconcile_{endpoint.name}"),
        required_resource_keys={shop.named(API), shop.named(WAREHOUSE)},
        pool=shop.named(API_POOL),
        out=dg.Out(dg.Nothing),
        description=f"Compares the row count of every day of {endpoint.name} with the store, and repairs what differs.",
    )
    def reconcile_endpoint(context: dg.OpExecutionContext, config: ReconcileConfig) -> None:
        log = context.log
        with known_errors_as_failures(shop), open_shop(context, shop) as (client, opened):

            def extract(windows: Sequence[Window], *, why: str) -> None:
                for window in windows:
                    request = ListRequest(endpoint=endpoint, window=window)
                    ingested = ingest(request, client=client, warehouse=opened, log=log)
                    report_load(
                        context,
                        ingested,
                        opened.database,
                        shop=shop,
                        partitions=partitions,
                        description=why,
                        whole_window=True,
                    )
                    report_checks(context, ingested, opened.database, shop=shop, partitions=partitions)

            start = partitions.start.astimezone(UTC).date()
            missing = _days_never_loaded(opened, endpoint, start=start)
            try:
                found = _compare(client, opened, log, endpoint=endpoint, requests=config.requests)
                windows = _to_extract(found, missing) if found and config.repair else []
            except NotInOrderError as error:
                budget = config.requests if config.repair else 0
                found, windows = None, [_all_days(opened, endpoint, error, budget=budget)]
            if named := [
                day for day in missing if not any(window.first_day <= day <= window.last_day for window in windows)
            ]:
                log.warning("%s: %s", endpoint.name, shop.hint(describe_never_loaded(endpoint, named)))
            if found is None and not windows:
                log.info("%s: no day has been loaded yet, nothing to compare", endpoint.name)
                return
            if found is None:
                log.warning("%s: the list is not sorted by creation; extracting all loaded days", endpoint.name)
                extract(windows, why="Extracted again, because the list cannot be compared")
                found = _as_extracted(opened, endpoint, windows[0], client.tally.requests)
            elif windows:
                extract(windows, why="Differed from the store")
                found = _compare(client, opened, log, endpoint=endpoint, requests=config.requests) or found
            with opened.database.write() as connection:
                write_note(connection, endpoint, Kind.RECONCILIATION, found.as_json())
            with opened.database.read() as connection:
                report_health(context, endpoint, connection, shop=shop, partitions=partitions)
            report_unevaluated(context, endpoint, opened.database, shop=shop, start=start)

    return reconcile_endpoint


def _days_never_loaded(warehouse: Warehouse, endpoint: Endpoint, *, start: date) -> list[date]:
    """Return the due days that no load has covered; before the first load, all of them."""
    with warehouse.database.read_or_empty() as connection:
        return due_days_never_loaded(connection, endpoint, start, datetime.now(UTC))


def _to_extract(found: ReconciliationReport, missing: Sequence[date]) -> list[Window]:
    """Return the days that differ, and the compared days that were never loaded; consecutive days are one window."""
    gaps = (Window.of_days(day, day) for day in missing if day >= found.window.first_day)
    return join_windows([*(difference.window for difference in found.differences), *gaps])


def _all_days(warehouse: Warehouse, endpoint: Endpoint, error: NotInOrderError, *, budget: int) -> Window:
    """Return the window of all loaded days, of a list that cannot be compared.

    Raises:
        NotInOrderError: Extracting them would take more requests than the budget.
    """
    with warehouse.database.read() as connection:
        window = days_to_compare(loaded_windows(connection, endpoint)[0].first_day, datetime.now(UTC))
        rows = sum(count_by_day(connection, endpoint, window).values())
    pages = rows // endpoint.paginator.limit + 2
    if window is None or pages > budget:
        raise NotInOrderError(
            f"{error.reason}; to extract all loaded days again takes about {pages:,} requests",
            hint=f"Backfill the days of which you are not sure, or set COMMERCE_RECONCILE_REQUESTS to {pages}.",
        )
    return window


def _as_extracted(warehouse: Warehouse, endpoint: Endpoint, window: Window, requests: int) -> ReconciliationReport:
    """Return the report of days that have just been extracted, and so do not differ from the store."""
    with warehouse.database.read() as connection:
        rows = sum(count_by_day(connection, endpoint, window).values())
    return ReconciliationReport(
        window=window, in_store=rows, stored=rows, differences=(), requests=requests, within_budget=True
    )


def _compare(
    client: "CommerceClient", warehouse: Warehouse, log: dg.DagsterLogManager, *, endpoint: Endpoint, requests: int
) -> ReconciliationReport | None:
    """Compare the loaded days with the store and log what differs; None if nothing has been loaded."""
    with warehouse.database.read_or_empty() as connection:
        windows = loaded_windows(connection, endpoint)
        stored = count_by_day(connection, endpoint) if windows else {}
    first = windows[0].first_day if windows else None
    window = days_to_compare(first, datetime.now(UTC)) if first else None
    if window is None:
        return None
    found = reconcile(_offset_search(client, endpoint, window, requests), stored, window)
    log.info(
        "%s of %s: %s rows in the store, %s stored; %d requests",
        endpoint.name,
        window,
        f"{found.in_store:,}",
        f"{found.stored:,}",
        found.requests,
    )
    for difference in found.differences:
        log.warning("%s of %s", endpoint.name, difference)
    if not found.within_budget:
        log.warning(
            "%d requests did not narrow the difference down to days. Fix: raise COMMERCE_RECONCILE_REQUESTS.", requests
        )
    return found


def _offset_search(client: "CommerceClient", endpoint: Endpoint, window: Window, requests: int) -> OffsetSearch:
    request, decoder = ListRequest(endpoint=endpoint, window=window), PageDecoder(endpoint)
    return OffsetSearch(
        lambda number: client.page(request, decoder, number), per_page=client.page_size(endpoint), budget=requests
    )
