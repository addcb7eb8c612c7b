"""Completeness, proven: does the warehouse hold the orders that the store holds, and only these?

The job `reconcile` counts the store's rows by searching its list, at a few requests a month of data, compares them
with the warehouse's, and pulls the days again on which they differ: a run that failed unseen, a machine that slept, an
order that was deleted or came late.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    Config,
    DagsterLogManager,
    DailyPartitionsDefinition,
    JobDefinition,
    MetadataValue,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    Out,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.offset_search import OffsetSearch
from commerce_assets.api.request import ListRequest
from commerce_assets.defs.checks import metadata_of
from commerce_assets.defs.materialization_events import report, report_checks, store
from commerce_assets.defs.pools import API_POOL
from commerce_assets.defs.resources import CommerceApiResource, Warehouse
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import extraction
from commerce_assets.ingest.reconciliation import ReconciliationReport, days_to_compare, reconcile
from commerce_assets.warehouse import freshness
from commerce_assets.warehouse.load_log import count_by_day, loaded_windows
from commerce_assets.warehouse.notes import Kind, write_note
from commerce_assets.window import Window

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient


def build_reconcile_job(
    *, endpoints: Sequence[Endpoint], partitions: DailyPartitionsDefinition, request_budget: int
) -> JobDefinition:
    """The job `reconcile`: every endpoint that has days."""
    ops = [
        _build_reconcile_op(endpoint=endpoint, partitions=partitions, request_budget=request_budget)
        for endpoint in endpoints
        if endpoint.is_partitioned
    ]

    @job(
        description="Compares the number of rows of every day with the store's, and pulls the days again that differ.",
        executor_def=in_process_executor,
    )
    def reconcile() -> None:
        for reconcile_endpoint in ops:
            reconcile_endpoint()

    return reconcile


def _build_reconcile_op(
    *, endpoint: Endpoint, partitions: DailyPartitionsDefinition, request_budget: int
) -> OpDefinition:
    class ReconcileConfig(Config):
        """What a person can say from the launchpad."""

        requests: int = Field(
            default=request_budget,
            ge=4,
            description="Requests that the comparison may make (COMMERCE_RECONCILE_REQUESTS).",
        )
        repair: bool = Field(default=True, description="Pull the days again on which store and warehouse differ.")

    @op(
        name=f"reconcile_{endpoint.name}",
        pool=API_POOL,
        out=Out(Nothing),
        description=f"Compares the {endpoint.name} of every day with the store's, and pulls again what differs.",
    )
    def reconcile(
        context: OpExecutionContext, config: ReconcileConfig, commerce_api: CommerceApiResource, warehouse: Warehouse
    ) -> None:
        log = context.log
        with commerce_api.client(log) as client:
            found = _compare(client, warehouse, log, endpoint=endpoint, requests=config.requests)
            if found is None:
                log.info("no %s have been loaded yet: there is nothing to compare", endpoint.name)
                return
            if found.differences and config.repair:
                for window in _joined(found):
                    with extraction(ListRequest(endpoint=endpoint, window=window), client, warehouse, log) as pulled:
                        stored = store(pulled, warehouse, log, partitions=partitions, report_whole_window=True)
                    report(context, endpoint, stored, description="Differed from the store")
                found = _compare(client, warehouse, log, endpoint=endpoint, requests=config.requests) or found
                report_checks(context, endpoint, warehouse)
        with warehouse.database(log).read() as connection:
            finding = freshness.complete(connection, endpoint, datetime.now(UTC))
        context.instance.report_runless_asset_event(
            AssetCheckEvaluation(
                asset_key=AssetKey(endpoint.name),
                check_name=freshness.complete.__name__,
                passed=finding.passed,
                severity=AssetCheckSeverity.WARN,
                description=finding.summary,
                metadata={
                    **metadata_of(finding),
                    "requests": found.requests,
                    "run": MetadataValue.dagster_run(context.run_id),
                },
            )
        )
        warehouse.publish(log)

    return reconcile


def _compare(
    client: "CommerceClient", warehouse: Warehouse, log: DagsterLogManager, *, endpoint: Endpoint, requests: int
) -> ReconciliationReport | None:
    """Compares, tells and remembers; None if nothing has been loaded."""
    database = warehouse.database(log)
    if not database.path.exists():
        return None
    with database.read() as connection:
        windows = loaded_windows(connection, endpoint)
        stored = count_by_day(connection, endpoint) if windows else {}
    first = min((window.first_day for window in windows), default=None)
    window = days_to_compare(first, datetime.now(UTC)) if first else None
    if window is None:
        return None
    found = reconcile(_positions(client, endpoint, window, requests), stored, window)
    log.info(
        "%s of %s: %s in the store, %s here; %d requests",
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
            "%d requests did not suffice to tell the days; raise COMMERCE_RECONCILE_REQUESTS to pull less again",
            requests,
        )
    with database.write() as connection:
        write_note(connection, endpoint, Kind.RECONCILIATION, found.as_json())
    return found


def _positions(client: "CommerceClient", endpoint: Endpoint, window: Window, requests: int) -> OffsetSearch:
    pull, decoder = ListRequest(endpoint=endpoint, window=window), PageDecoder(endpoint)
    return OffsetSearch(
        lambda number: client.page(pull, decoder, number), per_page=client.page_size(endpoint), budget=requests
    )


def _joined(found: ReconciliationReport) -> list[Window]:
    """The windows to pull: days in a row are one."""
    joined: list[Window] = []
    for window in (difference.window for difference in found.differences):
        if joined and joined[-1].end == window.start:
            joined[-1] = Window(joined[-1].start, window.end)
        else:
            joined.append(window)
    return joined
