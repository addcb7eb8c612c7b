"""Late changes: orders that were refunded, renewed or edited after the day they belong to had been loaded.

`<endpoint>_refresh` asks for what has changed since the high-water mark, with an overlap, and upserts it by key into
whichever days the rows belong to. It reports materializations of just the partitions that it has touched.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dagster import (
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

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.request import ListRequest
from commerce_assets.defs.materialization_events import FollowedTo, Stored, report, report_checks, store
from commerce_assets.defs.pools import API_POOL
from commerce_assets.defs.resources import CommerceApiResource, Warehouse
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import StagedLoad, extraction
from commerce_assets.ingest.stage_pages import FilterIgnoredError
from commerce_assets.warehouse.load_log import Followed, followed
from commerce_assets.warehouse.notes import Kind, write_note
from commerce_assets.window import Window

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient

# Against equal stamps, and rows that can be seen only some time after they are stamped. An hour does for what lags by a
# transaction or a replica; once a day a whole day is asked for again, against what is stranger.
OVERLAP = timedelta(hours=1)
WIDE_OVERLAP = timedelta(days=1)
_WIDE_EVERY = timedelta(hours=20)


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
            stored = _refresh(
                client, warehouse, context.log, endpoint=endpoint, partitions=partitions, lookback_days=lookback_days
            )
        report(context, endpoint, stored, description="Late changes")
        if stored.partitions:
            report_checks(context, endpoint, warehouse, began_at=stored.began_at)
        warehouse.publish(context.log)

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
) -> Stored:
    known = _followed(endpoint, warehouse, log)
    base = known.mark or _first_mark(client, endpoint, known)
    now = datetime.now(UTC)
    # Also where that lies in the future: this machine's clock was wrong then.
    is_wide = known.wide_at is None or abs(now - known.wide_at) > _WIDE_EVERY
    overlap = WIDE_OVERLAP if is_wide else OVERLAP
    changes = ListRequest(endpoint=endpoint, updated_after=(base - overlap).replace(microsecond=0))
    first_day = partitions.start.astimezone(UTC)
    try:
        with extraction(changes, client, warehouse, log) as pulled:
            followed_to = FollowedTo(_next_mark(pulled, base), wide_at=now if is_wide else known.wide_at)
            return store(pulled, warehouse, log, partitions=partitions, not_before=first_day, followed_to=followed_to)
    except FilterIgnoredError:
        today = (now + timedelta(seconds=client.store_clock)).date()
        first = max(today - timedelta(days=lookback_days - 1), first_day.date())
        window = Window.of_days(first, today)
        log.warning("the store does not heed %s; pulling %s instead", endpoint.update_filter, window)
        with warehouse.database(log).write() as connection:
            write_note(connection, endpoint, Kind.UPDATE_FILTER, {"is_supported": False})
        with extraction(ListRequest(endpoint=endpoint, window=window), client, warehouse, log) as pulled:
            return store(pulled, warehouse, log, partitions=partitions)


def _followed(endpoint: Endpoint, warehouse: Warehouse, log: DagsterLogManager) -> Followed:
    database = warehouse.database(log)
    if not database.path.exists():
        return Followed(None, None, None, None)
    with database.read() as connection:
        return followed(connection, endpoint)


def _first_mark(client: "CommerceClient", endpoint: Endpoint, known: Followed) -> datetime:
    """From where a first refresh follows changes: the oldest pull of what is stored, or now if nothing is.

    Where this machine's clock, or the store's, says that this is far later than anything stored was changed, the
    store's newest row is asked for (one request): a mark later than that would miss what happens next.
    """
    mark = known.oldest_pull or datetime.now(UTC)
    if known.newest_change is None or known.newest_change >= mark - WIDE_OVERLAP:
        return mark
    newest = client.page(ListRequest(endpoint=endpoint, newest_first=True), PageDecoder(endpoint), 1)
    instants = [instant for item in newest.items for instant in (item.cursor, item.updated_at) if instant]
    return min(mark, max(instants, default=mark))


def _next_mark(pulled: StagedLoad, base: datetime) -> datetime:
    """The newest change that the answer holds; not the time of day, for no clock agrees with the store's own stamps."""
    newest = [page.newest_update for page in pulled.staged.pages if page.newest_update]
    # A row stamped in the future must not carry the mark there.
    return min(max([base, *newest]), max(base, pulled.staged.began_at_store))
