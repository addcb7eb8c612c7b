"""Look up what a list lacks: request single items, stage the answers, and add them to the stored rows.

The list of orders may not carry the transactions of refunds. The refresh then requests each refunded order once per
version, within a budget. A lookup that fails leaves its row as it is, for the next refresh.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from commerce_assets.api.decoding import Page, PageDecoder
from commerce_assets.api.errors import PullError
from commerce_assets.api.request import ItemRequest
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import WATCHER, Ingested
from commerce_assets.ingest.stage import PullStats
from commerce_assets.ingest.staging import StagedPages, Staging
from commerce_assets.ingest.verify import Verified
from commerce_assets.warehouse.item_lookups import load_items, rows_to_look_up
from commerce_assets.warehouse.parse import StagedItemsUnreadableError
from commerce_assets.warehouse.warehouse import Warehouse

if TYPE_CHECKING:
    from commerce_assets.api.client import CommerceClient

# More in a row are the store's fault, not those of single rows.
_MOST_FAILURES_IN_A_ROW = 3
_NAMED_ROWS = 10
_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp(Ingested):
    """The result of `look_up_items`.

    Attributes:
        left: The rows that are still to be looked up.
        error: The store refused the key; to be raised once the result is reported.
    """

    left: int
    error: PullError | None = None


def look_up_items(
    endpoint: Endpoint, *, client: "CommerceClient", warehouse: Warehouse, log: logging.Logger
) -> LookedUp | None:
    """Request the items of the rows that lack the column of the endpoint's lookup, and store the column.

    Makes at most `client.item_requests` requests. Answers are staged like pages: after a crash, the next run continues
    with them. A request that fails leaves its row as it is, with a warning.

    Returns:
        The result; None if there was nothing to request.

    Raises:
        StagingError: The staging directory cannot be used.
        LoadError: The answers cannot be parsed.
        WarehouseError: The database cannot be used.
    """
    lookup = endpoint.item_lookup
    if lookup is None or not client.item_requests:
        return None
    with warehouse.database.read_or_empty() as connection:
        keys = rows_to_look_up(connection, endpoint)
    if not keys:
        return None
    request = ItemRequest(endpoint=endpoint)
    url = client.url_of(endpoint.name, endpoint.path)
    staging = Staging(warehouse.staging_dir, log=log)
    began, before = time.monotonic(), replace(client.tally)
    with staging.hold(request, store=client.store, url=url, wait_seconds=warehouse.database.lock_timeout) as staged:
        rows_resumed = staged.count
        asked = _stage(client, staged, keys, log)
        seconds = time.monotonic() - began
        verified = Verified(stored=0, extracted=staged.count, has_replaced_text=staged.has_replaced_text)
        try:
            with warehouse.database.write() as connection:
                loaded = load_items(connection, staged, asked.keys, policy=warehouse.policy)
                left = rows_to_look_up(connection, endpoint)
        except StagedItemsUnreadableError:
            staged.discard()
            raise
        staged.discard()
    log.info("%s: %s", request, loaded)
    if left:
        shown = ", ".join(map(str, left[:_NAMED_ROWS])) + (", ..." if len(left) > _NAMED_ROWS else "")
        log.warning(
            "%s: still unknown for %s rows (%d requests failed, at most %d per run): %s. The next refresh continues.",
            request,
            f"{len(left):,}",
            asked.failed,
            client.item_requests,
            shown,
        )
    return LookedUp(
        request=request,
        began_at=staged.manifest.began_at,
        stats=PullStats(
            requests=client.tally.requests - before.requests,
            retries=client.tally.retries - before.retries,
            bytes=client.tally.bytes - before.bytes,
            seconds=seconds,
            seconds_waited=client.tally.seconds_waited - before.seconds_waited,
            rows_resumed=rows_resumed,
        ),
        verified=verified,
        load=loaded,
        left=len(left),
        error=asked.error,
    )


@dataclass(slots=True)
class _Asked:
    """The keys that were requested, how many of the requests failed, and the refusal that ended them."""

    keys: list[int]
    failed: int = 0
    error: PullError | None = None


def _stage(client: "CommerceClient", staged: StagedPages, keys: Sequence[int], log: logging.Logger) -> _Asked:
    """Request the items one after the other, but for those that an interrupted run has staged."""
    request, decoder, asked = staged.pull, PageDecoder(staged.pull.endpoint), _Asked([])
    assert isinstance(request, ItemRequest)  # noqa: S101 - the caller's
    answered = set(staged.item_ids())
    log.info("%s: requesting %s rows, at most %d", request, f"{len(keys):,}", client.item_requests)
    if watcher := WATCHER.get():
        watcher.begin(request, staged.pages)
    last_request, failures_in_a_row = client.tally.requests + client.item_requests, 0
    with staged.writer() as writer:
        for key in keys:
            if client.tally.requests >= last_request or failures_in_a_row == _MOST_FAILURES_IN_A_ROW:
                break
            if key in answered:
                continue
            asked.keys.append(key)
            try:
                page = client.item(request, decoder, key, number=len(staged.pages) + 1)
            except PullError as error:
                asked.failed += 1
                failures_in_a_row += 1
                log.warning("%s, %s %d: %s", request, request.endpoint.item_name, key, error.error.reason)
                if error.error.status in _REFUSED:
                    asked.error = error
                    break
            else:
                failures_in_a_row = 0
                page = _needed(page, request.endpoint)
                facts = page.facts(per_page=1)
                writer.write(page, facts, end=None, store_clock=client.store_clock)
                if watcher:
                    watcher.page(facts)
    return asked


def _needed(page: Page, endpoint: Endpoint) -> Page:
    """Return the page with the fields that are stored: the others are the buyer's, and stay off the disk."""
    (item,) = page.items
    lookup = endpoint.item_lookup
    names = {endpoint.primary_key, endpoint.updated_at, lookup.column if lookup else ""}
    fields = msgspec.json.decode(item.raw, type=dict[str, msgspec.Raw])
    raw = msgspec.json.encode({name: value for name, value in fields.items() if name in names})
    return replace(page, items=(msgspec.structs.replace(item, raw=msgspec.Raw(raw), has_undeclared=False),))
