"""An asset for each endpoint, built from its entry in the endpoint table."""

from collections.abc import Iterator
from datetime import UTC, date
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    Config,
    DailyPartitionsDefinition,
    Failure,
    MaterializeResult,
    multi_asset,
)
from pydantic import Field

from commerce_assets.api.request import ListRequest
from commerce_assets.defs.checks import build_check_specs, check_results, shrinkage_result
from commerce_assets.defs.metadata import definition_metadata
from commerce_assets.defs.pools import API_POOL
from commerce_assets.defs.resources import CommerceApiResource, Warehouse
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import extraction
from commerce_assets.warehouse.check_queries import Scope
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY, PersonalDataPolicy
from commerce_assets.window import Window

GROUP = "commerce"


class LoadConfig(Config):
    """What a person can say about a run from the launchpad."""

    allow_shrinkage: bool = Field(
        default=False,
        description="Load although the store now gives less than half of the rows that are stored: it is true.",
    )


def build_partitions(*, start: date) -> DailyPartitionsDefinition:
    """UTC days, whole ones only: today becomes a partition tomorrow."""
    return DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC")


def build_endpoint_asset(
    *,
    endpoint: Endpoint,
    partitions: DailyPartitionsDefinition | None,
    policy: PersonalDataPolicy = DEFAULT_POLICY,
) -> AssetsDefinition:
    """The asset that pulls an endpoint, has it stored by the IO manager, and checks what is stored.

    A range of partitions is one run, one pull and one load.
    """
    spec = AssetSpec(
        endpoint.name,
        group_name=GROUP,
        description=_described(endpoint),
        kinds={"duckdb", "python"},
        tags={"source": "commerce_api"},
        metadata=definition_metadata(endpoint, policy),
        partitions_def=partitions,
    )

    # An asset of a multi-asset, because its op then has a name of its own: the job has that of the asset. It can be
    # skipped, because what is not believed is not stored, and nothing is materialized then.
    @multi_asset(
        name=f"pull_{endpoint.name}",
        specs=[spec.with_io_manager_key("warehouse_io_manager").replace_attributes(skippable=True)],
        check_specs=build_check_specs(endpoint=endpoint),
        # For the unpartitioned ones too: then everything, and a range of days, is one run and one command.
        backfill_policy=BackfillPolicy.single_run(),
        pool=API_POOL,
    )
    def endpoint_asset(
        context: AssetExecutionContext, config: LoadConfig, commerce_api: CommerceApiResource, warehouse: Warehouse
    ) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        window = window_of(context, partitions) if partitions else None
        pull = ListRequest(endpoint=endpoint, window=window)
        with (
            commerce_api.client(context.log) as client,
            extraction(pull, client, warehouse, context.log) as pulled,
        ):
            pulled.allow_shrinkage = config.allow_shrinkage
            if pulled.is_allowed:
                # The IO manager stores it while this function waits here: what follows looks at what is stored.
                yield MaterializeResult(value=pulled)
                context.log.info("%s: %s", pull, pulled.result)
            pulled.staged.discard()
            scope = Scope(endpoint, window, pulled.staged.manifest.began_at)
            yield shrinkage_result(endpoint, pulled)
            with warehouse.database(context.log).read() as connection:
                yield from check_results(connection, scope)

    return endpoint_asset


def _described(endpoint: Endpoint) -> str:
    """What a row is; then what keeps the table up to date, and where to see whether it is."""
    name = endpoint.name
    if not endpoint.is_partitioned:
        return (
            f"{endpoint.description}\n\nRead whole by the schedule `catalog_daily`, once it is switched on. What the "
            "store no longer has keeps its row, with `_deleted_at`. Fresh? See the check `fresh`. Right? The others."
        )
    changes = f", `{name}_refresh_hourly` what has changed later, and today" if endpoint.update_filter else ""
    return (
        f"{endpoint.description}\n\nA partition is a UTC day of `{endpoint.cursor}`. The schedule `{name}_daily` "
        f"brings yesterday{changes}, once switched on. Fresh? See the check `fresh`. Complete? `complete`, which "
        "`reconcile_weekly` asks the store for. Right? The others."
    )


def window_of(context: AssetExecutionContext, partitions: DailyPartitionsDefinition) -> Window:
    """The days of the run, every one of which is a partition: a range given by tags is not looked at by Dagster."""
    start, end = context.partition_time_window
    window = Window(start.astimezone(UTC), end.astimezone(UTC))
    for day in (window.first_day.isoformat(), window.last_day.isoformat()):
        if not partitions.has_partition_key(day):
            raise Failure(
                f"{day} is no partition: the first is COMMERCE_ORDERS_START_DATE, the last is yesterday in UTC."
            )
    return window
