"""The jobs and their schedules, derived from the endpoint table: a new endpoint edits nothing here."""

from collections.abc import Sequence
from datetime import UTC, timedelta

from dagster import (
    AssetSelection,
    DailyPartitionsDefinition,
    JobDefinition,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    define_asset_job,
    in_process_executor,
    schedule,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from commerce_assets.endpoint import Endpoint
from commerce_assets.refresh import build_refresh_job

# After midnight UTC, and not at the full hour, when everybody else's jobs start.
_CATALOG_AT = "20 1 * * *"
_YESTERDAY_AT = "10 0 * * *"
_HOURLY = "40 * * * *"

AnyJob = JobDefinition | UnresolvedAssetJobDefinition


def build_catalog_job(*, endpoints: Sequence[Endpoint]) -> UnresolvedAssetJobDefinition:
    """The job `catalog`: all endpoints that are read whole."""
    return define_asset_job(
        "catalog",
        selection=AssetSelection.assets(*(endpoint.name for endpoint in endpoints if not endpoint.is_partitioned)),
        description="Reads the catalogue whole: products, packages, plans and whatever else has no date filter.",
        executor_def=in_process_executor,
    )


def build_partitioned_job(*, endpoint: Endpoint) -> UnresolvedAssetJobDefinition:
    """The job `<endpoint>`: some of its days."""
    return define_asset_job(
        endpoint.name,
        selection=AssetSelection.assets(endpoint.name),
        description=f"Pulls {endpoint.name} of some days; a range of days is one run.",
        executor_def=in_process_executor,
    )


def build_yesterday_schedule(
    *, job: UnresolvedAssetJobDefinition, partitions: DailyPartitionsDefinition
) -> ScheduleDefinition:
    """Every day, the day before: `<endpoint>_daily`."""

    @schedule(
        name=f"{job.name}_daily",
        job=job,
        cron_schedule=_YESTERDAY_AT,
        execution_timezone="UTC",
        description="Pulls yesterday (UTC) as soon as it is over.",
    )
    def yesterday(context: ScheduleEvaluationContext) -> RunRequest | None:
        day = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date().isoformat()
        if not partitions.has_partition_key(day):
            return None
        return RunRequest(run_key=day, partition_key=day)

    return yesterday


def build_jobs_and_schedules(
    *, endpoints: Sequence[Endpoint], partitions: DailyPartitionsDefinition, lookback_days: int
) -> tuple[list[AnyJob], list[ScheduleDefinition]]:
    """Every job and every schedule; schedules are off until somebody switches them on."""
    catalog = build_catalog_job(endpoints=endpoints)
    jobs: list[AnyJob] = [catalog]
    schedules: list[ScheduleDefinition] = [
        ScheduleDefinition(
            name="catalog_daily",
            job=catalog,
            cron_schedule=_CATALOG_AT,
            execution_timezone="UTC",
            description="Reads the catalogue once a day.",
        )
    ]
    for endpoint in endpoints:
        if not endpoint.is_partitioned:
            continue
        days = build_partitioned_job(endpoint=endpoint)
        jobs.append(days)
        schedules.append(build_yesterday_schedule(job=days, partitions=partitions))
        if endpoint.update_filter:
            refresh = build_refresh_job(endpoint=endpoint, partitions=partitions, lookback_days=lookback_days)
            jobs.append(refresh)
            schedules.append(
                ScheduleDefinition(
                    name=f"{refresh.name}_hourly",
                    job=refresh,
                    cron_schedule=_HOURLY,
                    execution_timezone="UTC",
                    description="Brings in refunds, renewals and edits of the last hour, and today's orders.",
                )
            )
    return jobs, schedules
