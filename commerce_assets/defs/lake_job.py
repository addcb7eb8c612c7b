"""The job `tidy_lake` of a warehouse that is a lake: every load leaves small files, which slow down every reader."""

import dagster as dg

from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.defs.pools import WAREHOUSE_POOL
from commerce_assets.defs.resources import WAREHOUSE, open_warehouse
from commerce_assets.defs.shop import Shop
from commerce_assets.warehouse.lake import READERS_END_WITHIN, Lake

_ON_SUNDAYS_AT = "50 4 * * 0"


def build_lake_job(*, executor: dg.ExecutorDefinition, shop: Shop) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """Build the job and its weekly schedule."""
    description = (
        "Merges small files of the lake, removes deleted rows from them, and deletes what no snapshot of the last "
        f"{READERS_END_WITHIN.days * 24} hours names."
    )

    @dg.op(
        name=shop.named("merge_and_expire"),
        required_resource_keys={shop.named(WAREHOUSE)},
        pool=shop.named(WAREHOUSE_POOL),
        out=dg.Out(dg.Nothing),
        description=description,
    )
    def merge_and_expire(context: dg.OpExecutionContext) -> None:
        with known_errors_as_failures(shop):
            lake = open_warehouse(context, shop).database
            assert isinstance(lake, Lake)  # noqa: S101 - the job exists only for one
            before, after = lake.tidy()
        context.log.info("%s: %d files, %d after tidying", lake, before, after)

    @dg.job(name=shop.named("tidy_lake"), description=description, executor_def=executor)
    def tidy_lake() -> None:
        merge_and_expire()

    schedule = dg.ScheduleDefinition(
        name=shop.named("tidy_lake_weekly"),
        job=tidy_lake,
        cron_schedule=_ON_SUNDAYS_AT,
        execution_timezone="UTC",
        description=description,
    )
    return tidy_lake, schedule
