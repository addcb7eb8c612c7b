"""Build an asset per endpoint from its entry in the endpoint table."""

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date

import dagster as dg
from pydantic import Field

from commerce_assets.api.errors import PullError
from commerce_assets.api.request import ListRequest
from commerce_assets.defs.checks import (
    build_check_specs,
    check_results,
    refused_result,
    results_without_load,
    verified_results,
)
from commerce_assets.defs.failures import KnownError, known_errors_as_failures
from commerce_assets.defs.metadata import definition_metadata, load_metadata, partitions_metadata
from commerce_assets.defs.pools import API_POOL
from commerce_assets.defs.resources import API, IO_MANAGER, WAREHOUSE, open_shop, open_warehouse
from commerce_assets.defs.shop import UNNAMED, Shop
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import ingest
from commerce_assets.ingest.verify import RowCountCollapsedError
from commerce_assets.warehouse.check_queries import Scope
from commerce_assets.warehouse.freshness import FULL_REFRESH_IS_DUE_AFTER
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY, PersonalDataPolicy
from commerce_assets.window import Window

GROUP = "commerce"


class LoadConfig(dg.Config):
    """Run config of an extraction: what a person allows for one run."""

    allow_shrinkage: bool = Field(
        default=False,
        description="Load although stored rows are missing from the API's response: they were deleted in the store.",
    )
    store_moved: bool = Field(
        default=False,
        description="Load although the stored rows came from another address or API key: it is the same store.",
    )


def build_partitions(*, start: date) -> dg.DailyPartitionsDefinition:
    """Build the partitions: complete UTC days. Today becomes a partition tomorrow."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC")


def build_endpoint_asset(
    *,
    endpoint: Endpoint,
    partitions: dg.DailyPartitionsDefinition | None,
    policy: PersonalDataPolicy = DEFAULT_POLICY,
    shop: Shop = UNNAMED,
) -> dg.AssetsDefinition:
    """Build the asset that extracts an endpoint, loads it and checks the stored rows.

    A range of partitions is one run, one extraction and one load. `ingest` loads the rows, so the asset hands no value
    to the IO manager, which loads the table for downstream assets.
    """
    spec = dg.AssetSpec(
        shop.key(endpoint.name),
        group_name=shop.named(GROUP),
        description=_description(endpoint, shop),
        kinds={"duckdb", "python"},
        tags={"source": "commerce_api"},
        metadata=definition_metadata(endpoint, policy),
        partitions_def=partitions,
        # Of days, Dagster's policies would only see the last load of any of them.
        freshness_policy=None if partitions else dg.FreshnessPolicy.time_window(fail_window=FULL_REFRESH_IS_DUE_AFTER),
        # If the rows are refused, nothing is materialized.
        skippable=True,
    )

    # A multi-asset, because it can name its op: the op of an asset has the asset's name, which is also the job's.
    @dg.multi_asset(
        name=op_name(endpoint, shop),
        specs=[spec.with_io_manager_key(shop.named(IO_MANAGER))],
        check_specs=build_check_specs(endpoint=endpoint, shop=shop),
        required_resource_keys={shop.named(API), shop.named(WAREHOUSE)},
        # Unpartitioned assets too, so that one backfill of all assets and a range of days is one run.
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=shop.named(API_POOL),
        # The UI offers the asset without its checks, and each check without the asset.
        can_subset=True,
    )
    def endpoint_asset(
        context: dg.AssetExecutionContext, config: LoadConfig
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        if not context.selected_asset_keys:
            with known_errors_as_failures(shop):
                file = open_warehouse(context, shop).database
                yield from results_without_load(context.instance, endpoint, file, selected, shop=shop)
            return
        window = window_of(context, partitions) if partitions else None
        request = ListRequest(endpoint=endpoint, window=window)
        with known_errors_as_failures(shop):
            try:
                with open_shop(context, shop, store_moved=config.store_moved) as (client, opened):
                    ingested = ingest(
                        request,
                        client=client,
                        warehouse=opened,
                        log=context.log,
                        allow_shrinkage=config.allow_shrinkage,
                        store_moved=config.store_moved,
                    )
            except (RowCountCollapsedError, PullError) as error:
                if refused := refused_result(error):
                    yield from _of(selected, [refused])
                raise
            with opened.database.read() as connection:
                metadata = load_metadata(connection, ingested)
                if window:
                    for day, values in partitions_metadata(connection, ingested, window.days, newest=metadata).items():
                        context.add_asset_metadata(values, partition_key=day.isoformat())
                yield dg.MaterializeResult(metadata=None if window else metadata)
                yield from _of(selected, verified_results(ingested.verified))
                yield from _of(selected, check_results(connection, Scope(endpoint, window, ingested.began_at)))

    return endpoint_asset


def _of(selected: Collection[str], results: Iterable[dg.AssetCheckResult]) -> Iterator[dg.AssetCheckResult]:
    return (result for result in results if result.check_name in selected)


def op_name(endpoint: Endpoint, shop: Shop) -> str:
    """Return the name of the asset's op, the key of its run config."""
    return shop.named(f"extract_{endpoint.name}")


def _description(endpoint: Endpoint, shop: Shop) -> str:
    """Return what a row is, what keeps the table up to date, and the checks of its health."""
    name = endpoint.name
    if not endpoint.is_partitioned:
        return (
            f"{endpoint.description}\n\nFull refresh by the schedule `{shop.named('catalog_daily')}`. Rows deleted "
            "upstream are soft-deleted (`_deleted_at`).\n\nHealth: see check `fresh`."
        )
    changes = (
        f" `{shop.named(name)}_refresh_hourly` upserts later changes and today's rows."
        if endpoint.update_filter
        else ""
    )
    return (
        f"{endpoint.description}\n\nPartitioned by UTC day of `{endpoint.cursor}`. The schedule "
        f"`{shop.named(name)}_daily` loads yesterday.{changes}\n\nHealth: see checks `fresh` and `complete`. "
        f"`{shop.named('reconcile_weekly')}` compares row counts with the store."
    )


def window_of(context: dg.AssetExecutionContext, partitions: dg.DailyPartitionsDefinition) -> Window:
    """Return the days of the run, all of which must be partitions: Dagster does not validate a range set by tags."""
    start, end = context.partition_time_window
    window = Window(start.astimezone(UTC), end.astimezone(UTC))
    for day in (window.first_day.isoformat(), window.last_day.isoformat()):
        if not partitions.has_partition_key(day):
            raise KnownError(
                f"{day} is not a partition. Fix: choose days from COMMERCE_ORDERS_START_DATE to yesterday (UTC).",
                kind="PartitionError",
            )
    return window
