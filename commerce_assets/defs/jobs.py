"""The jobs and their schedules, derived from the endpoint table."""

from collections.abc import Sequence
from datetime import UTC, date, timedelta

from dagster import (
    AssetChecksDefinition,
    AssetKey,
    AssetSelection,
    DagsterInstance,
    DailyPartitionsDefinition,
    ExecutorDefinition,
    JobDefinition,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    define_asset_job,
    schedule,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from commerce_assets.defs.incremental import build_refresh_job
from commerce_assets.defs.reconcile_job import build_reconcile_job
from commerce_assets.defs.shop import Shop
from commerce_assets.endpoint import Endpoint

# After midnight UTC, and not on the hour, when most other jobs start.
_CATALOG_AT = "20 1 * * *"
_YESTERDAY_AT = "10 0 * * *"
_HOURLY = "40 * * * *"
_HEALTH_CHECKS_AT = "55 * * * *"
_ON_SUNDAYS_AT = "20 3 * * 0"
# `complete` names days that were missed longer ago.
_DAYS_TO_CATCH_UP = 31

AnyJob = JobDefinition | UnresolvedAssetJobDefinition


def build_catalog_job(
    *, endpoints: Sequence[Endpoint], executor: ExecutorDefinition, shop: Shop
) -> UnresolvedAssetJobDefinition:
    """Build the job `catalog`: a full refresh of every unpartitioned endpoint."""
    names = [endpoint.name for endpoint in endpoints if not endpoint.is_partitioned]
    return define_asset_job(
        shop.named("catalog"),
        selection=AssetSelection.assets(*map(shop.key, names)),
        description=f"Full refresh of the unpartitioned assets: {', '.join(names)}.",
        executor_def=executor,
    )


def build_partitioned_job(
    *, endpoint: Endpoint, executor: ExecutorDefinition, shop: Shop
) -> UnresolvedAssetJobDefinition:
    """Build the job `<endpoint>`: load some of its partitions."""
    return define_asset_job(
        shop.named(endpoint.name),
        selection=AssetSelection.assets(shop.key(endpoint.name)),
        description=f"Loads the partitions of {endpoint.name} that you choose; a range of days is one run.",
        executor_def=executor,
    )


def build_daily_schedule(
    *, job: UnresolvedAssetJobDefinition, asset: AssetKey, partitions: DailyPartitionsDefinition
) -> ScheduleDefinition:
    """Build `<endpoint>_daily`: load yesterday, and the days that earlier runs have missed."""

    @schedule(
        name=f"{job.name}_daily",
        job=job,
        cron_schedule=_YESTERDAY_AT,
        execution_timezone="UTC",
        description="Loads yesterday (UTC) after midnight, and the days of the last month that were missed.",
    )
    def daily(context: ScheduleEvaluationContext) -> RunRequest | None:
        yesterday = context.scheduled_execution_time.astimezone(UTC).date() - timedelta(days=1)
        if not partitions.has_partition_key(yesterday.isoformat()):
            return None
        first = _first_missed(context.instance, asset, yesterday)
        # A range is one run. Days within it that are loaded already cost only their requests.
        tags = {
            "dagster/asset_partition_range_start": first.isoformat(),
            "dagster/asset_partition_range_end": yesterday.isoformat(),
        }
        if first == yesterday:
            return RunRequest(run_key=yesterday.isoformat(), partition_key=yesterday.isoformat())
        return RunRequest(run_key=yesterday.isoformat(), tags=tags)

    return daily


def _first_missed(instance: DagsterInstance, asset: AssetKey, yesterday: date) -> date:
    """Return the first missing day of the last month that follows a materialized one; else yesterday."""
    keys = instance.get_materialized_partitions(asset)
    recent = [yesterday - timedelta(days=back) for back in range(_DAYS_TO_CATCH_UP, 0, -1)]
    materialized = [day for day in recent if day.isoformat() in keys]
    if not materialized:
        return yesterday
    return next((day for day in recent if day > materialized[0] and day.isoformat() not in keys), yesterday)


def build_health_checks_job(
    *, checks: Sequence[AssetChecksDefinition], executor: ExecutorDefinition, shop: Shop
) -> UnresolvedAssetJobDefinition:
    """Build the job `health_checks`: freshness, completeness and change tracking, without a request."""
    return define_asset_job(
        shop.named("health_checks"),
        selection=AssetSelection.checks(*checks),
        description="Checks that every table is fresh and complete and that changes arrive; makes no request.",
        executor_def=executor,
    )


def build_jobs_and_schedules(
    *,
    endpoints: Sequence[Endpoint],
    partitions: DailyPartitionsDefinition,
    health_checks: Sequence[AssetChecksDefinition],
    lookback_days: int,
    request_budget: int,
    executor: ExecutorDefinition,
    shop: Shop,
) -> tuple[list[AnyJob], list[ScheduleDefinition]]:
    """Build every job and every schedule; schedules are off until somebody switches them on."""
    catalog = build_catalog_job(endpoints=endpoints, executor=executor, shop=shop)
    health = build_health_checks_job(checks=health_checks, executor=executor, shop=shop)
    reconcile = build_reconcile_job(
        endpoints=endpoints, partitions=partitions, request_budget=request_budget, executor=executor, shop=shop
    )
    jobs: list[AnyJob] = [catalog, health, reconcile]
    schedules: list[ScheduleDefinition] = [
        _schedule(
            shop.named("catalog_daily"), catalog, _CATALOG_AT, "Full refresh of the unpartitioned assets once a day."
        ),
        _schedule(
            shop.named("health_checks_hourly"),
            health,
            _HEALTH_CHECKS_AT,
            "Checks every hour that every table is fresh and complete.",
        ),
        _schedule(
            shop.named("reconcile_weekly"),
            reconcile,
            _ON_SUNDAYS_AT,
            "Compares the row count of every day with the store, and extracts the days again that differ.",
        ),
    ]
    for endpoint in endpoints:
        if not endpoint.is_partitioned:
            continue
        days = build_partitioned_job(endpoint=endpoint, executor=executor, shop=shop)
        jobs.append(days)
        schedules.append(build_daily_schedule(job=days, asset=shop.key(endpoint.name), partitions=partitions))
        if endpoint.update_filter:
            refresh = build_refresh_job(
                endpoint=endpoint, partitions=partitions, lookback_days=lookback_days, executor=executor, shop=shop
            )
            jobs.append(refresh)
            description = f"Upserts {endpoint.name} changed since the last refresh, today's included."
            schedules.append(_schedule(f"{refresh.name}_hourly", refresh, _HOURLY, description))
    return jobs, schedules


def _schedule(name: str, job: AnyJob, cron: str, description: str) -> ScheduleDefinition:
    return ScheduleDefinition(name=name, job=job, cron_schedule=cron, execution_timezone="UTC", description=description)
