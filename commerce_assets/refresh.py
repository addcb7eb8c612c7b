"""Late changes: orders that were refunded, renewed or edited after the day they belong to had been loaded.

`<endpoint>_refresh` asks for what has changed since the high-water mark, with an overlap, and upserts it by key into
whichever days the rows belong to. It reports materializations of just the partitions that it has touched.
"""

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from dagster import (
    AssetMaterialization,
    DagsterLogManager,
    DailyPartitionsDefinition,
    JobDefinition,
    Nothing,
    OpExecutionContext,
    Out,
    in_process_executor,
    job,
    op,
)
from dagster._core.definitions.metadata import RawMetadataValue

from commerce_assets.api.pages import PageDecoder
from commerce_assets.api.pull import Pull
from commerce_assets.assets import API_POOL
from commerce_assets.endpoint import Endpoint
from commerce_assets.extract import FilterIgnoredError
from commerce_assets.extraction import Extraction, extraction
from commerce_assets.metadata import load_metadata, partitions_metadata
from commerce_assets.resources import CommerceApiResource, Warehouse
from commerce_assets.warehouse.history import Followed, followed, loaded_windows, set_mark
from commerce_assets.warehouse.load import LoadResult, StagedItemsUnreadableError, load
from commerce_assets.window import Window

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient

# Against clocks that disagree, rows that are stamped earlier than they can be seen, and equal stamps.
OVERLAP = timedelta(days=1)


class Refreshed(NamedTuple):
    """What a refresh did: its load, the numbers of the run, and those of each partition that it touched, by key."""

    result: LoadResult
    numbers: dict[str, RawMetadataValue]
    partitions: dict[str, dict[str, RawMetadataValue]]


def build_refresh_job(
    *, endpoint: Endpoint, partitions: DailyPartitionsDefinition, lookback_days: int
) -> JobDefinition:
    """The job `<endpoint>_refresh`."""
    name = f"{endpoint.name}_refresh"

    @op(
        name=f"pull_late_changes_of_{endpoint.name}",
        pool=API_POOL,
        out=Out(Nothing),
        description=f"Brings late changes into {endpoint.name}.",
    )
    def refresh(context: OpExecutionContext, commerce_api: CommerceApiResource, warehouse: Warehouse) -> None:
        with commerce_api.client(context.log) as client:
            refreshed = _refresh(
                client, warehouse, context.log, endpoint=endpoint, partitions=partitions, lookback_days=lookback_days
            )
        for key, numbers in refreshed.partitions.items():
            context.log_event(
                AssetMaterialization(
                    asset_key=endpoint.name,
                    partition=key,
                    description="Late changes",
                    metadata={**refreshed.numbers, **numbers},
                )
            )
        touched = ", ".join(refreshed.partitions) or "none"
        context.log.info("%s: %s; partitions touched: %s", name, refreshed.result, touched)

    @job(
        name=name,
        description=f"Brings what has changed since the last time into {endpoint.name}, whichever days it belongs to.",
        executor_def=in_process_executor,
    )
    def refresh_job() -> None:
        refresh()

    return refresh_job


def _refresh(
    client: "CommerceClient",
    warehouse: Warehouse,
    log: DagsterLogManager,
    *,
    endpoint: Endpoint,
    partitions: DailyPartitionsDefinition,
    lookback_days: int,
) -> Refreshed:
    known = _followed(endpoint, warehouse, log)
    base = known.mark or _first_mark(client, endpoint, known)
    changes = Pull(endpoint=endpoint, updated_after=(base - OVERLAP).replace(microsecond=0))
    first_day = partitions.start.astimezone(UTC)
    try:
        with extraction(changes, client, warehouse, log) as pulled:
            mark = _next_mark(pulled, base)
            return _load(pulled, warehouse, log, partitions=partitions, not_before=first_day, mark=mark)
    except FilterIgnoredError:
        today = (datetime.now(UTC) + timedelta(seconds=client.store_clock)).date()
        first = max(today - timedelta(days=lookback_days - 1), first_day.date())
        window = Window.of_days(first, today)
        log.warning("the store does not heed %s; pulling %s instead", endpoint.update_filter, window)
        with extraction(Pull(endpoint=endpoint, window=window), client, warehouse, log) as pulled:
            return _load(pulled, warehouse, log, partitions=partitions, not_before=None, mark=None)


def _followed(endpoint: Endpoint, warehouse: Warehouse, log: DagsterLogManager) -> Followed:
    database = warehouse.database(log)
    if not database.path.exists():
        return Followed(None, None, None)
    with database.read() as connection:
        return followed(connection, endpoint)


def _first_mark(client: "CommerceClient", endpoint: Endpoint, known: Followed) -> datetime:
    """From where a first refresh follows changes: the oldest pull of what is stored, or now if nothing is.

    Where this machine's clock, or the store's, says that this is far later than anything stored was changed, the
    store's newest row is asked for (one request): a mark later than that would miss what happens next.
    """
    mark = known.oldest_pull or datetime.now(UTC)
    if known.newest_change is None or known.newest_change >= mark - OVERLAP:
        return mark
    newest_first = client.page(Pull(endpoint=endpoint), PageDecoder(endpoint), 1, sort="newest_first")
    instants = [instant for item in newest_first.items for instant in (item.cursor, item.updated_at) if instant]
    return min(mark, max(instants, default=mark))


def _next_mark(pulled: Extraction, base: datetime) -> datetime:
    """The newest change that the answer holds; not the time of day, for no clock agrees with the store's own stamps."""
    newest = [page.newest_update for page in pulled.staged.pages if page.newest_update]
    # A row stamped in the future must not carry the mark there.
    return min(max([base, *newest]), max(base, pulled.staged.began_at_store))


def _load(
    pulled: Extraction,
    warehouse: Warehouse,
    log: DagsterLogManager,
    *,
    partitions: DailyPartitionsDefinition,
    not_before: datetime | None,
    mark: datetime | None,
) -> Refreshed:
    """Stores rows and mark in one transaction."""
    endpoint = pulled.staged.pull.endpoint
    try:
        with warehouse.database(log).write() as connection:
            result = load(connection, pulled.staged, not_before=not_before)
            if mark:
                set_mark(connection, endpoint, mark)
            numbers = load_metadata(connection, pulled, result)
            touched = [day for day, counts in result.days.items() if counts.touched]
            windows = loaded_windows(connection, endpoint)
            whole = [day for day in touched if _is_kept(day, windows, partitions)]
            by_key = partitions_metadata(connection, endpoint, result, {day.isoformat(): day for day in sorted(whole)})
    except StagedItemsUnreadableError:
        pulled.staged.discard()
        raise
    pulled.staged.discard()
    return Refreshed(result, numbers, by_key)


def _is_kept(day: date, windows: list[Window], partitions: DailyPartitionsDefinition) -> bool:
    """Whether a day is a partition that has been loaded whole.

    Rows of today are stored like all others, but today is no partition yet; and a day of which nothing but late
    changes has been seen must not look materialized.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return partitions.has_partition_key(day.isoformat()) and any(window.contains(midnight) for window in windows)
