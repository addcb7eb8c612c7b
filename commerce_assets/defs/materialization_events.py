"""Report rows that a job has stored outside a materialization: late changes, and days that were extracted again.

The rows may belong to any partitions. Those that changed are reported as materialized, so that what is downstream of
them is brought up to date, and every check of the asset is evaluated again: to Dagster, a check belongs to the
materialization that it was evaluated with.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import duckdb
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from commerce_assets.defs.checks import (
    build_check_specs,
    build_health_check_specs,
    check_results,
    health_results,
    results_without_load,
    verified_results,
)
from commerce_assets.defs.metadata import changes_metadata, load_metadata, partitions_metadata
from commerce_assets.defs.shop import Shop
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import Ingested
from commerce_assets.warehouse.check_queries import Scope
from commerce_assets.warehouse.database import Database
from commerce_assets.warehouse.load_log import loaded_windows
from commerce_assets.window import Window

_OTHER_DAYS = "days that are not complete partitions"


def report_load(
    context: dg.OpExecutionContext,
    ingested: Ingested,
    database: Database,
    *,
    shop: Shop,
    partitions: dg.DailyPartitionsDefinition,
    description: str,
    whole_window: bool = False,
) -> list[date]:
    """Report the partitions that a load changed; returns them.

    With `whole_window`, every day of the request's window is reported, also one that was found unchanged. An
    observation carries the numbers where no partition changed, so that the run shows on the asset all the same, and
    those of days that are not complete partitions, such as today.
    """
    endpoint, window = ingested.request.endpoint, ingested.request.window
    days = {day for day, counts in ingested.load.days.items() if counts.touched}
    if window and whole_window:
        days.update(window.days)
    with database.read() as connection:
        windows = loaded_windows(connection, endpoint)
        reported = [day for day in sorted(days) if _is_loaded(day, windows, partitions)]
        totals = load_metadata(connection, ingested)
        by_day = partitions_metadata(connection, ingested, reported, newest=totals)
    for day, metadata in by_day.items():
        context.log_event(
            dg.AssetMaterialization(
                asset_key=shop.key(endpoint.name), partition=day.isoformat(), description=description, metadata=metadata
            )
        )
    others = [counts for day, counts in ingested.load.days.items() if counts.touched and day not in by_day]
    if others:
        metadata = ({} if by_day else totals) | changes_metadata(others)
        context.log_event(
            dg.AssetObservation(
                asset_key=shop.key(endpoint.name), description=f"{description}: {_OTHER_DAYS}", metadata=metadata
            )
        )
    elif not by_day:
        context.log_event(
            dg.AssetObservation(asset_key=shop.key(endpoint.name), description=f"{description}: none", metadata=totals)
        )
    context.log.info("%s: partitions changed: %s", context.job_name, ", ".join(map(str, by_day)) or "none")
    return reported


def report_checks(
    context: dg.OpExecutionContext,
    ingested: Ingested,
    database: Database,
    *,
    shop: Shop,
    partitions: dg.DailyPartitionsDefinition,
) -> None:
    """Evaluate every check of the asset after a load; keys are compared only with those that it wrote."""
    endpoint = ingested.request.endpoint
    with database.read() as connection:
        key = shop.key(endpoint.name)
        _report(context, key, verified_results(ingested.verified))
        _report(context, key, check_results(connection, Scope(endpoint, None, ingested.began_at, only_written=True)))
        report_health(context, endpoint, connection, shop=shop, partitions=partitions)


def report_health(
    context: dg.OpExecutionContext,
    endpoint: Endpoint,
    connection: duckdb.DuckDBPyConnection,
    *,
    shop: Shop,
    partitions: dg.DailyPartitionsDefinition,
) -> None:
    """Evaluate the health checks of an asset."""
    start = partitions.start.astimezone(UTC).date()
    results = health_results(connection, endpoint, shop=shop, start=start, now=datetime.now(UTC))
    _report(context, shop.key(endpoint.name), results)


def report_unevaluated(
    context: dg.OpExecutionContext, endpoint: Endpoint, database: Database, *, shop: Shop, start: date
) -> None:
    """Evaluate the checks that a run has planned but, as it failed or was killed, not evaluated.

    The UI shows such a check as failed until it is evaluated again.

    Args:
        context: Of the op that reports them.
        endpoint: The asset.
        database: The database.
        shop: Names the asset.
        start: The first day that must be loaded, if the asset is partitioned.
    """
    own = build_check_specs(endpoint=endpoint, shop=shop)
    specs = [*own, *build_health_check_specs(endpoint=endpoint, shop=shop)]
    records = context.instance.event_log_storage.get_latest_asset_check_execution_by_key([spec.key for spec in specs])
    planned = [record for record in records.values() if record.status == AssetCheckExecutionRecordStatus.PLANNED]
    if not planned:
        return
    runs = context.instance.get_runs(dg.RunsFilter(run_ids=[record.run_id for record in planned]))
    ended = {run.run_id for run in runs if run.is_finished}
    names = {record.key.name for record in planned if record.run_id in ended}
    alone = names & {spec.name for spec in own}
    key = shop.key(endpoint.name)
    _report(context, key, results_without_load(context.instance, endpoint, database, alone, shop=shop))
    if names - alone:
        with database.read_or_empty() as connection:
            found = health_results(connection, endpoint, shop=shop, start=start, now=datetime.now(UTC))
            _report(context, key, (result for result in found if result.check_name in names))


def _report(context: dg.OpExecutionContext, key: dg.AssetKey, results: Iterable[dg.AssetCheckResult]) -> None:
    for result in results:
        # The signature of log_event names fewer kinds of events than it takes.
        evaluation: Any = evaluation_of(key, result)
        context.log_event(evaluation)


def evaluation_of(key: dg.AssetKey, result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Build the event of a check that no step has planned."""
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=str(result.check_name),
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )


def _is_loaded(day: date, windows: list[Window], partitions: dg.DailyPartitionsDefinition) -> bool:
    """Whether a day is a partition that has been loaded whole.

    Rows of today are stored like all others, but today is not a partition yet; and a day of which only late changes
    are stored must not look materialized.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return partitions.has_partition_key(day.isoformat()) and any(window.contains(midnight) for window in windows)
