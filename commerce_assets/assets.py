"""An asset for each endpoint, built from its entry in the endpoint table."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    Config,
    DagsterLogManager,
    DailyPartitionsDefinition,
    Failure,
    MaterializeResult,
    multi_asset,
)
from pydantic import Field

from commerce_assets.api.pull import Pull
from commerce_assets.checks import build_check_specs, check_results
from commerce_assets.endpoint import Endpoint
from commerce_assets.extract import pull_into_staging
from commerce_assets.extraction import Extraction
from commerce_assets.metadata import definition_metadata
from commerce_assets.resources import CommerceApiResource, Warehouse
from commerce_assets.staging import StagedPull
from commerce_assets.warehouse.findings import Scope
from commerce_assets.warehouse.history import has_loaded
from commerce_assets.warehouse.vanished import count_vanished
from commerce_assets.window import Window

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient

GROUP = "commerce"
_PAGES_THAT_CAN_SHIFT = 2
API_POOL = "commerce_api"
"""The pool of every step that calls the API: one step at a time, as one address is counted by the API as one caller.

All that write to the DuckDB file call the API first, so that this pool keeps the file to one writer as well.
"""


class LoadConfig(Config):
    """What a person can say about a run from the launchpad."""

    believe_shrinkage: bool = Field(
        default=False,
        description="Load although the store now gives less than half of the rows that are stored: it is true.",
    )


def build_partitions(*, start: date) -> DailyPartitionsDefinition:
    """UTC days, whole ones only: today becomes a partition tomorrow."""
    return DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC")


def build_endpoint_asset(*, endpoint: Endpoint, partitions: DailyPartitionsDefinition | None) -> AssetsDefinition:
    """The asset that pulls an endpoint, has it stored by the IO manager, and checks what is stored.

    A range of partitions is one run, one pull and one load.
    """
    spec = AssetSpec(
        endpoint.name,
        group_name=GROUP,
        description=endpoint.description,
        kinds={"duckdb", "python"},
        owners=["team:data"],
        tags={"source": "commerce_api"},
        metadata=definition_metadata(endpoint),
        partitions_def=partitions,
    )

    # An asset of a multi-asset, because its op then has a name of its own: the job has that of the asset.
    @multi_asset(
        name=f"pull_{endpoint.name}",
        specs=[spec.with_io_manager_key("warehouse_io_manager")],
        check_specs=build_check_specs(endpoint=endpoint),
        # For the unpartitioned ones too: then everything, and a range of days, is one run and one command.
        backfill_policy=BackfillPolicy.single_run(),
        pool=API_POOL,
    )
    def endpoint_asset(
        context: AssetExecutionContext, config: LoadConfig, commerce_api: CommerceApiResource, warehouse: Warehouse
    ) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        window = _window_of(context, partitions) if partitions else None
        pull = Pull(endpoint=endpoint, window=window)
        with (
            commerce_api.client(context.log) as client,
            extraction(pull, client, warehouse, context.log) as pulled,
        ):
            pulled.believe_shrinkage = config.believe_shrinkage
            # The IO manager stores it while this function waits here: what follows looks at what is stored.
            yield MaterializeResult(value=pulled)
            pulled.staged.discard()
            context.log.info("%s: %s", pull, pulled.result)
            scope = Scope(endpoint, window, pulled.staged.manifest.began_at)
            with warehouse.database(context.log).read() as connection:
                yield from check_results(connection, scope)

    return endpoint_asset


def _window_of(context: AssetExecutionContext, partitions: DailyPartitionsDefinition) -> Window:
    """The days of the run, every one of which is a partition: a range given by tags is not looked at by Dagster."""
    start, end = context.partition_time_window
    window = Window(start.astimezone(UTC), end.astimezone(UTC))
    for day in (window.first_day.isoformat(), window.last_day.isoformat()):
        if not partitions.has_partition_key(day):
            raise Failure(
                f"{day} is no partition: the first is COMMERCE_ORDERS_START_DATE, the last is yesterday in UTC."
            )
    return window


@contextmanager
def extraction(
    pull: Pull, client: "CommerceClient", warehouse: Warehouse, log: DagsterLogManager
) -> Iterator[Extraction]:
    """A pull, staged whole; its folder is this process's own as long as the context lasts."""
    warehouse.database(log).prepare()
    store = f"{client.url_of(pull.endpoint.name, pull.endpoint.path)} {client.account}"
    with warehouse.staging(log).hold(pull, store=store, wait_seconds=warehouse.lock_timeout) as staged:
        if staged.is_complete and _is_stored(staged.manifest.pull_id, warehouse, log):
            staged.clear()
        cost = pull_into_staging(client, staged, log=log)
        if vanished := _count_vanished(staged, warehouse, log):
            log.warning("%s: %d stored rows are not in the list; reading it once more to be sure", pull, vanished)
            staged.clear()
            cost = pull_into_staging(client, staged, log=log)
        yield Extraction(staged=staged, cost=cost)


def _count_vanished(staged: StagedPull, warehouse: Warehouse, log: DagsterLogManager) -> int:
    """How many rows a whole list of several pages seems to have lost; a list of one page is read at one moment."""
    pull, database = staged.pull, warehouse.database(log)
    if pull.endpoint.is_partitioned or len(staged.pages) < _PAGES_THAT_CAN_SHIFT or not database.path.exists():
        return 0
    with database.read() as connection:
        return count_vanished(connection, staged)


def _is_stored(pull_id: str, warehouse: Warehouse, log: DagsterLogManager) -> bool:
    """Whether a crash came between the commit of this very pull and the end of its staged pages."""
    database = warehouse.database(log)
    if not database.path.exists():
        return False
    with database.read() as connection:
        return has_loaded(connection, pull_id)
