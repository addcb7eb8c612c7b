"""The refresh: orders that were refunded, renewed or edited after their day had been loaded.

`<endpoint>_refresh` requests the rows changed since the high-water mark, with an overlap, and upserts them by key into
whichever partitions they belong to. Then it looks up what the list lacks, row by row. It reports materializations of
the partitions that changed.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg
import duckdb

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.request import ListRequest
from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.defs.materialization_events import report_checks, report_load, report_unevaluated
from commerce_assets.defs.pools import API_POOL
from commerce_assets.defs.resources import API, WAREHOUSE, open_shop
from commerce_assets.defs.shop import Shop
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import Ingested, ingest
from commerce_assets.ingest.items import look_up_items
from commerce_assets.ingest.stage import FilterIgnoredError
from commerce_assets.ingest.staging import StagedPages
from commerce_assets.warehouse.load_log import Followed, Kind, followed, set_mark, write_note
from commerce_assets.warehouse.warehouse import Warehouse
from commerce_assets.window import Window

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient

# Against equal stamps, and rows that become visible only some time after they are stamped. An hour covers the lag of a
# transaction or a replica; once a day a whole day is requested again, against stranger causes.
OVERLAP = timedelta(hours=1)
WIDE_OVERLAP = timedelta(days=1)
_WIDE_EVERY = timedelta(hours=20)


def build_refresh_job(
    *,
    endpoint: Endpoint,
    partitions: dg.DailyPartitionsDefinition,
    lookback_days: int,
    executor: dg.ExecutorDefinition,
    shop: Shop,
) -> dg.JobDefinition:
    """Build the job `<endpoint>_refresh`."""
    name = shop.named(f"{endpoint.name}_refresh")
    description = f"Upserts {endpoint.name} changed since the last refresh, across all partitions."

    @dg.op(
        name=shop.named(f"upsert_changed_{endpoint.name}"),
        required_resource_keys={shop.named(API), shop.named(WAREHOUSE)},
        pool=shop.named(API_POOL),
        out=dg.Out(dg.Nothing),
        description=description,
    )
    def refresh(context: dg.OpExecutionContext) -> None:
        with known_errors_as_failures(shop):
            with open_shop(context, shop) as (client, opened):
                ingested = _ingest_changes(
                    client,
                    opened,
                    context.log,
                    endpoint=endpoint,
                    first_day=partitions.start.astimezone(UTC),
                    lookback_days=lookback_days,
                )
            changed = report_load(
                context, ingested, opened.database, shop=shop, partitions=partitions, description="Late changes"
            )
            if changed:
                report_checks(context, ingested, opened.database, shop=shop, partitions=partitions)
            else:
                start = partitions.start.astimezone(UTC).date()
                report_unevaluated(context, endpoint, opened.database, shop=shop, start=start)

    look_up = _build_look_up_op(endpoint=endpoint, partitions=partitions, shop=shop)

    @dg.job(name=name, description=description, executor_def=executor)
    def refresh_job() -> None:
        refreshed = refresh()
        if look_up:
            look_up(refreshed)

    return refresh_job


def _build_look_up_op(
    *, endpoint: Endpoint, partitions: dg.DailyPartitionsDefinition, shop: Shop
) -> dg.OpDefinition | None:
    """Build the op that looks up what the list lacks; None if the endpoint has no such column.

    An op for itself, because Dagster stores what an op reports when it ends: the lookups may take minutes, and a run
    that is killed meanwhile has reported the changes of the list.
    """
    if endpoint.item_lookup is None:
        return None

    @dg.op(
        name=shop.named(f"look_up_{endpoint.name}"),
        required_resource_keys={shop.named(API), shop.named(WAREHOUSE)},
        pool=shop.named(API_POOL),
        ins={"refreshed": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        description=f"Requests each of the {endpoint.name} whose list item lacks {endpoint.item_lookup.column}.",
    )
    def look_up(context: dg.OpExecutionContext) -> Iterator[dg.Output[None]]:
        with known_errors_as_failures(shop):
            with open_shop(context, shop) as (client, opened):
                looked_up = look_up_items(endpoint, client=client, warehouse=opened, log=context.log)
            if looked_up:
                changed = report_load(
                    context, looked_up, opened.database, shop=shop, partitions=partitions, description="Looked up"
                )
                if changed:
                    report_checks(context, looked_up, opened.database, shop=shop, partitions=partitions)
            # Dagster stores here what was reported; it would lose that with an error.
            yield dg.Output(None)
            if looked_up and looked_up.error:
                raise looked_up.error

    return look_up


def _ingest_changes(
    client: "CommerceClient",
    warehouse: Warehouse,
    log: dg.DagsterLogManager,
    *,
    endpoint: Endpoint,
    first_day: datetime,
    lookback_days: int,
) -> Ingested:
    """Ingest the rows changed since the high-water mark, or, where the store ignores the filter, the last days."""
    with warehouse.database.read_or_empty() as connection:
        known = followed(connection, endpoint)
    base = known.mark or _first_mark(client, endpoint, known)
    now = datetime.now(UTC)
    # Also if that is in the future: this machine's clock was wrong then.
    is_wide = known.wide_at is None or abs(now - known.wide_at) > _WIDE_EVERY
    since = (base - (WIDE_OVERLAP if is_wide else OVERLAP)).replace(microsecond=0)

    def move_mark(connection: duckdb.DuckDBPyConnection, staged: StagedPages) -> None:
        wide_at = now if is_wide else known.wide_at
        set_mark(connection, endpoint, _next_mark(staged, base))
        write_note(
            connection,
            endpoint,
            Kind.UPDATE_FILTER,
            {"is_supported": True, "wide_at": wide_at.isoformat() if wide_at else None},
        )

    run = partial(ingest, client=client, warehouse=warehouse, log=log)
    try:
        return run(ListRequest(endpoint=endpoint, updated_after=since), not_before=first_day, after_load=move_mark)
    except FilterIgnoredError:
        today = (now + timedelta(seconds=client.store_clock)).date()
        window = Window.of_days(max(today - timedelta(days=lookback_days - 1), first_day.date()), today)
        log.warning("the store ignores %s; extracting %s again instead", endpoint.update_filter, window)

    def note_ignored(connection: duckdb.DuckDBPyConnection, _: StagedPages) -> None:
        write_note(connection, endpoint, Kind.UPDATE_FILTER, {"is_supported": False})

    return run(ListRequest(endpoint=endpoint, window=window), after_load=note_ignored)


def _first_mark(client: "CommerceClient", endpoint: Endpoint, known: Followed) -> datetime:
    """The mark of a first refresh: when the oldest extraction of what is stored began, or now if nothing is stored.

    Where this machine's clock, or the store's, puts that far later than the newest stored change, the store's newest
    row is requested: a mark later than that would miss the next changes.
    """
    mark = known.oldest_pull or datetime.now(UTC)
    if known.newest_change is None or known.newest_change >= mark - WIDE_OVERLAP:
        return mark
    newest = client.page(ListRequest(endpoint=endpoint, newest_first=True), PageDecoder(endpoint), 1)
    instants = [instant for item in newest.items for instant in (item.cursor, item.updated_at) if instant]
    return min(mark, max(instants, default=mark))


def _next_mark(staged: StagedPages, base: datetime) -> datetime:
    """The newest change of the answer; not the current time, because no clock agrees with the store's own stamps."""
    newest = [page.newest_update for page in staged.pages if page.newest_update]
    # A row stamped in the future must not carry the mark there.
    return min(max([base, *newest]), max(base, staged.began_at_store))
