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
from commerce_assets.defs.resources import CommerceApiResource, WarehouseResource
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import ingest
from commerce_assets.ingest.verify import RowCountCollapsedError
from commerce_assets.warehouse.check_queries import Scope
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
) -> dg.AssetsDefinition:
    """Build the asset that extracts an endpoint, loads it and checks the stored rows.

    A range of partitions is one run, one extraction and one load. `ingest` loads the rows, so the asset hands no value
    to the IO manager, which loads the table for downstream assets.
    """
    spec = dg.AssetSpec(
        endpoint.name,
        group_name=GROUP,
        description=_description(endpoint),
        kinds={"duckdb", "python"},
        tags={"source": "commerce_api"},
        metadata=definition_metadata(endpoint, policy),
        partitions_def=partitions,
        # If the rows are refused, nothing is materialized.
        skippable=True,
    )

    # A multi-asset, because it can name its op: the op of an asset has the asset's name, which is also the job's.
    @dg.multi_asset(
        name=op_name(endpoint),
        specs=[spec.with_io_manager_key("warehouse_io_manager")],
        check_specs=build_check_specs(endpoint=endpoint),
        # Unpartitioned assets too, so that one backfill of all assets and a range of days is one run.
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=API_POOL,
        # The UI offers the asset without its checks, and each check without the asset.
        can_subset=True,
    )
    def endpoint_asset(
        context: dg.AssetExecutionContext,
        config: LoadConfig,
        commerce_api: CommerceApiResource,
        warehouse: WarehouseResource,
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        if not context.selected_asset_keys:
            with known_errors_as_failures():
                file = warehouse.open(context.log).file
                yield from results_without_load(context.instance, endpoint, file, selected)
            return
        window = window_of(context, partitions) if partitions else None
        request = ListRequest(endpoint=endpoint, window=window)
        with known_errors_as_failures():
            opened = warehouse.open(context.log)
            try:
                with commerce_api.client(context.log) as client:
                    ingested = ingest(
                        request,
                        client=client,
                        warehouse=opened,
                        log=context.log,
                        allow_shrinkage=config.allow_shrinkage,
                        store_moved=config.store_moved,
                    )
            except (RowCountCollapsedError, PullError) as error:
                if refused := refused_result(endpoint, error):
                    yield from _of(selected, [refused])
                raise
            with opened.file.read() as connection:
                metadata = load_metadata(connection, ingested)
                if window:
                    for day, values in partitions_metadata(connection, ingested, window.days, newest=metadata).items():
                        context.add_asset_metadata(values, partition_key=day.isoformat())
                yield dg.MaterializeResult(metadata=None if window else metadata)
                yield from _of(selected, verified_results(endpoint, ingested.verified))
                yield from _of(selected, check_results(connection, Scope(endpoint, window, ingested.began_at)))

    return endpoint_asset


def _of(selected: Collection[str], results: Iterable[dg.AssetCheckResult]) -> Iterator[dg.AssetCheckResult]:
    return (result for result in results if result.check_name in selected)


def op_name(endpoint: Endpoint) -> str:
    """Return the name of the asset's op, the key of its run config."""
    return f"extract_{endpoint.name}"


def _description(endpoint: Endpoint) -> str:
    """Return what a row is, what keeps the table up to date, and the checks of its health."""
    name = endpoint.name
    if not endpoint.is_partitioned:
        return (
            f"{endpoint.description}\n\nFull refresh by the schedule `catalog_daily`. Rows deleted upstream are "
            "soft-deleted (`_deleted_at`).\n\nHealth: see check `fresh`."
        )
    changes = f" `{name}_refresh_hourly` upserts later changes and today's rows." if endpoint.update_filter else ""
    return (
        f"{endpoint.description}\n\nPartitioned by UTC day of `{endpoint.cursor}`. The schedule `{name}_daily` loads "
        f"yesterday.{changes}\n\nHealth: see checks `fresh` and `complete`. `reconcile_weekly` compares row counts "
        "with the store."
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
