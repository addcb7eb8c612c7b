"""Where a list ends, what proves it, and how many requests it takes: over real HTTP."""

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.errors import ApiError, PullError
from commerce_assets.api.pagination import ListEnd, PageNumberPaginator, PageRequest, overlapping
from commerce_assets.api.request import ListRequest
from commerce_assets.ingest.stage import FilterIgnoredError, stage
from commerce_assets.window import Window
from commerce_assets_tests.support.faulty_store import Body, Edit, Exchange, OnPage, Received, Serve, Status, Then
from commerce_assets_tests.support.items import (
    BY_NAME,
    NOON,
    ORDERS_OF_DAY,
    PRODUCT_LIST,
    body_of,
    order,
    orders,
    product,
    store_of,
)
from commerce_assets_tests.support.world import LOG, World, serving
from sample_store.dialect import Dialect
from sample_store.store import SampleStore
from sample_store.values import Item

PADDED = {"from": "2024-03-14", "to": "2024-03-17"}
MIDNIGHT = datetime(2024, 3, 15, tzinfo=UTC)


@pytest.fixture
def puller(tmp_path: Path) -> Iterator[World]:
    with serving(store_of(), tmp_path) as puller:
        yield puller


def fill(puller: World, *, products: int = 0, orders: list[Item] | None = None) -> SampleStore:
    store = puller.server.store
    store.shop.products[:] = [product(number) for number in range(1, products + 1)]
    store.shop.orders[:] = orders or []
    store.touch()
    return store


def page_request_of(request: Received) -> PageRequest:
    return PageRequest(request.page, int(request.query["per_page"]))


# How many requests a list takes


@pytest.mark.parametrize(
    ("count", "pages"),
    [
        (0, 1),
        (1, 2),  # perhaps the whole list, perhaps a page of a store that clamps its size
        (10, 2),
        (49, 2),
        (50, 3),  # a full page, an empty one, and a proof that the empty one does not lie in the middle
        (51, 3),
        (99, 3),
        (100, 4),
        (101, 4),
        (500, 12),
    ],
)
def test_a_window_costs_one_request_more_than_its_pages(puller: World, count: int, pages: int) -> None:
    """Fault 29."""
    fill(puller, orders=orders(count, start=MIDNIGHT))
    pulled = puller.pull(ORDERS_OF_DAY)
    assert pulled.ids == [*range(1, count + 1)]
    assert puller.server.pages == [*range(1, pages + 1)]
    assert {request.query["per_page"] for request in puller.server.requests} == {"50"}
    assert pulled.cost.requests == pages


@pytest.mark.parametrize(
    ("count", "pages"),
    [(0, 1), (1, 2), (49, 2), (50, 2), (51, 3), (97, 3), (98, 3), (100, 4), (143, 4), (144, 4), (500, 13)],
)
def test_a_list_costs_one_request_more_than_overlapping_pages(puller: World, count: int, pages: int) -> None:
    """Faults 29 and 33."""
    fill(puller, products=count)
    pulled = puller.pull()
    assert {*pulled.ids} == {*range(1, count + 1)}
    assert len(puller.server.requests) == pages
    asked = [page_request_of(request) for request in puller.server.requests]
    if count >= 50:
        assert all(after.start < before.end < after.end for before, after in pairwise(asked))


@pytest.mark.parametrize("count", [10, 11, 20, 25, 49, 50, 100, 120])
def test_a_store_with_ten_items_per_page_is_read_to_its_end(
    puller: World, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    """Fault 30."""
    fill(puller, products=count).dialect = Dialect(max_per_page=10)
    assert puller.pull().ids == [*range(1, count + 1)]
    assert len(puller.server.requests) == count // 10 + (2 if count % 10 or count > 10 else 1)
    assert ("the store gives 10 rows a page, whatever is asked for" in caplog.text) is (count > 10)


def test_a_requested_page_size_of_ten_is_no_warning(puller: World, caplog: pytest.LogCaptureFixture) -> None:
    """Fault 30."""
    fill(puller, products=25)
    assert puller.pull(per_page=10).ids == [*range(1, 26)]
    assert puller.server.pages == [1, 2, 3, 4]
    assert "whatever is asked for" not in caplog.text


@pytest.mark.parametrize("per_page", [1, 7, 49])
def test_any_page_size_gives_the_same_rows(puller: World, per_page: int) -> None:
    fill(puller, products=60)
    assert {*puller.pull(per_page=per_page).ids} == {*range(1, 61)}
    assert len(puller.server.requests) <= 60 // per_page + 2


# What proves nothing


@pytest.mark.parametrize("repeated", [1, 2])
def test_a_page_that_comes_again_is_noticed_by_its_ids(puller: World, repeated: int) -> None:
    """Fault 31."""

    def serve_again(exchange: Exchange) -> None:
        exchange.request.query["page"] = str(min(exchange.request.page, repeated))
        Serve()(exchange)

    fill(puller, products=200)
    puller.server.script(otherwise=serve_again)
    with pytest.raises(PullError) as caught:
        puller.pull()
    said = f"page {repeated + 1} holds only rows of the pages before it: the store ignores `page`"
    assert f"products, page {repeated + 1}, first attempt: {said}" in str(caught.value)
    assert len(puller.server.requests) == repeated + 1


def test_a_page_that_comes_again_much_later_is_noticed_too(puller: World) -> None:
    """Fault 31."""
    fill(puller, products=300)
    puller.server.script(otherwise=OnPage(5, Body(body_of(*(product(number) for number in range(51, 101))))))
    with pytest.raises(PullError, match="page 5 holds only rows of the pages before it"):
        puller.pull()


def test_a_repeated_page_of_a_window_is_noticed_by_its_ids(puller: World) -> None:
    """Fault 31."""
    items = orders(300, start=MIDNIGHT)
    fill(puller, orders=items)
    puller.server.script(otherwise=OnPage(5, Body(body_of(*items[50:100], selector="order"))))
    with pytest.raises(PullError, match="page 5 holds the same rows as page 2: the store ignores `page`"):
        puller.pull(ORDERS_OF_DAY)


@pytest.mark.parametrize("pull", [ORDERS_OF_DAY, PRODUCT_LIST], ids=str)
def test_a_page_that_comes_again_ends_no_list_of_snapped_pages(puller: World, pull: ListRequest) -> None:
    """Faults 31 and 70: the overlapping page is snapped, too, and ends with the last row read because it is full."""
    fill(puller, orders=orders(51, start=MIDNIGHT), products=51)

    def serve(exchange: Exchange) -> None:
        query = exchange.request.query
        query["per_page"] = str(max(size for size in (10, 25, 50) if size <= int(query["per_page"])))
        if exchange.request.page == 2 and query["per_page"] == "50":
            query["page"] = "1"
        Serve()(exchange)

    puller.server.script(otherwise=serve)
    with pytest.raises(PullError, match="page 2 holds the same rows as page 1: the store ignores `page`"):
        puller.pull(pull)


def test_the_next_run_restarts_a_list_moved_by_whole_pages(puller: World) -> None:
    """Fault 31: going on with what is staged, it would meet the same page again, run after run."""
    fill(puller, orders=orders(200))

    def come_in(store: SampleStore) -> None:
        for item in orders(100, start=MIDNIGHT):
            store.add_order(item | {"id": 1000 + item["id"]})

    puller.server.script(Then(come_in))
    with pytest.raises(PullError, match="page 3 holds the same rows as page 1"):
        puller.pull(ORDERS_OF_DAY)
    assert {*puller.pull(ORDERS_OF_DAY).ids} == {*range(1, 201), *range(1001, 1101)}


def test_orders_that_come_in_while_paging_lose_none(puller: World) -> None:
    """Fault 32: an oldest-first list grows at its end."""
    fill(puller, orders=orders(100, start=MIDNIGHT))

    def arrive(first: int) -> Callable[[SampleStore], None]:
        def add(store: SampleStore) -> None:
            for number in range(first, first + 30):
                store.add_order(order(number, MIDNIGHT + timedelta(hours=12, minutes=number % 1000 + first // 25)))

        return add

    puller.server.script(Then(arrive(1001)), Then(arrive(2001)))
    assert puller.pull(ORDERS_OF_DAY).ids == [*range(1, 101), *range(1001, 1031), *range(2001, 2031)]


def test_an_order_that_arrives_on_top_is_looked_for_at_the_end(puller: World) -> None:
    """Faults 32 and 76: a row is met twice, so that another one has come in before it; two more requests find it."""
    store = fill(puller, orders=orders(120, start=MIDNIGHT))
    store.dialect.oldest_first = False
    puller.server.script(Then(lambda store: store.add_order(order(999, NOON))))
    pulled = puller.pull(ORDERS_OF_DAY)
    assert {*pulled.ids} == {*range(1, 121), 999}
    assert puller.server.pages == [1, 2, 3, 4, 1, 3]


def test_a_row_that_changes_while_paging_comes_in_both_versions(puller: World) -> None:
    """Fault 34, as far as it is the pull's: both versions are staged, and the load keeps the newer one."""
    store = fill(puller, orders=orders(60, start=MIDNIGHT))
    store.dialect.oldest_first = False

    def refund_and_shift(store: SampleStore) -> None:
        store.update_order(11, refunded=True, updated_at="2024-03-16T00:00:00Z")
        store.add_order(order(999, NOON))

    puller.server.script(Then(refund_and_shift))
    versions = {(row["updated_at"], row.get("refunded")) for row in puller.pull(ORDERS_OF_DAY).rows if row["id"] == 11}
    assert versions == {("2024-03-15T00:10:00Z", None), ("2024-03-16T00:00:00Z", True)}


@pytest.mark.parametrize("vanishing", [1, 2, 30, 49, 51, 120])
@pytest.mark.parametrize("after", [1, 2, 5])
def test_rows_deleted_while_a_list_is_read_hide_no_other(puller: World, after: int, vanishing: int) -> None:
    """Fault 33: whatever slips onto a page that has been read already is found by stepping back."""
    store = fill(puller, products=400)

    def vanish(store: SampleStore) -> None:
        for number in range(2, 2 + vanishing):
            store.delete("products", number)

    puller.server.script(*[None] * (after - 1), Then(vanish))
    pulled = puller.pull()
    assert {*pulled.ids} >= {item["id"] for item in store.shop.products}
    assert len(puller.server.requests) <= 10 + 7


def test_a_row_moved_to_the_end_does_not_hide_the_shift(puller: World) -> None:
    """Fault 33: it is met again, but not where the list goes on."""
    store = fill(puller, products=100)

    def change(store: SampleStore) -> None:
        moved, *others = store.shop.products
        store.shop.products[:] = [*others[30:], moved | {"updated_at": "2024-02-01T00:00:00Z"}]
        store.touch()

    puller.server.script(Then(change))
    assert {*puller.pull().ids} >= {item["id"] for item in store.shop.products}


def test_a_page_of_moved_rows_is_not_a_repeated_page(puller: World) -> None:
    """Fault 31: nor does the next run, which goes on with what is staged, take it for one."""
    fill(puller, products=200)

    def change(store: SampleStore) -> None:
        rows = store.shop.products
        rows[:] = [*rows[50:], *(row | {"updated_at": "2024-02-01T00:00:00Z"} for row in rows[:50])]
        store.touch()

    puller.server.script(Then(change))
    assert {*puller.pull().ids} == {*range(1, 201)}


def test_a_list_that_loses_rows_before_each_page_is_read_whole(puller: World) -> None:
    """Fault 33."""
    store = fill(puller, products=300)
    doomed = iter(range(1, 300, 7))

    def vanish(store: SampleStore) -> None:
        store.delete("products", next(doomed, 0))

    puller.server.script(otherwise=Then(vanish))
    assert {*puller.pull().ids} >= {item["id"] for item in store.shop.products}


def test_a_list_that_shrinks_to_nothing_while_it_is_read_ends(puller: World) -> None:
    """Fault 33."""

    def vanish(store: SampleStore) -> None:
        store.shop.products.clear()
        store.touch()

    puller.server.script(Then(vanish))
    fill(puller, products=120)
    assert puller.pull().ids == [*range(1, 51)]


def test_a_list_that_never_goes_on_where_it_ended_is_given_up(puller: World) -> None:
    """Fault 33."""
    fill(puller, products=200)
    elsewhere = iter(range(1_000, 1_000_000, 50))

    def other_items(body: bytes) -> bytes:
        first, count = next(elsewhere), body.count(b'"product"')
        return body_of(*(product(number) for number in range(first, first + count)))

    puller.server.script(otherwise=Edit(other_items))
    with pytest.raises(PullError, match="the list moves faster than it can be read, or the store ignores `page`"):
        puller.pull()
    assert len(puller.server.requests) <= 12


def test_the_pages_of_a_window_overlap_where_that_is_asked_for(puller: World) -> None:
    """Fault 33: no way to delete an order is documented, so that a backfill pays for it only if a person says so."""
    store = fill(puller, orders=orders(400, start=MIDNIGHT))
    puller.server.script(None, None, Then(lambda store: store.delete("orders", 7)))
    pulled = puller.pull(ORDERS_OF_DAY, overlap_windows=True)
    assert {*pulled.ids} >= {item["id"] for item in store.shop.orders}


def test_paging_with_overlap_stops_after_the_windows_end(puller: World) -> None:
    store = fill(puller, orders=orders(1000, start=MIDNIGHT, every=timedelta(minutes=15)))
    store.dialect.ignores_dates = True
    puller.pull(ORDERS_OF_DAY, overlap_windows=True)
    assert len(puller.server.pages) == 9


def test_a_resumed_pull_notices_that_the_list_has_moved(puller: World) -> None:
    """Fault 33."""
    store = fill(puller, products=300)
    puller.server.script(None, None, None, Status(415))
    with pytest.raises(PullError):
        puller.pull()

    def vanish(store: SampleStore) -> None:
        for number in (3, 4, 5):
            store.delete("products", number)

    # The last staged page is requested again and is unchanged; then rows are deleted.
    puller.server.script(Then(vanish))
    assert {*puller.pull().ids} >= {item["id"] for item in store.shop.products}


def test_reading_goes_on_after_several_steps_back(puller: World) -> None:
    """Fault 33: pages overlap the more, the more often the list moved, and still reach further one by one."""
    store = fill(puller, products=59)
    rows = store.shop.products

    def vanish(first: int, count: int) -> Callable[[SampleStore], None]:
        def change(store: SampleStore) -> None:
            del rows[first : first + count]
            store.touch()

        return change

    puller.server.script(None, None, Then(vanish(8, 30)), None, None, Then(vanish(16, 2)))
    assert {*puller.pull(per_page=20).ids} >= {row["id"] for row in rows}
    assert len(puller.server.requests) <= 15


def test_a_row_hidden_from_a_page_stepped_back_to_is_not_the_end(puller: World) -> None:
    """Faults 33 and 69: all rows of that page are known, and there is one less than was asked for."""
    fill(puller, products=89).dialect.max_per_page = 20

    def change(store: SampleStore) -> None:
        for row in store.shop.products[60:]:
            row["updated_at"] = "2024-02-01T00:00:00Z"
        store.touch()

    puller.server.script(*[hiding(49)] * 4, Then(change, hiding(49)), otherwise=hiding(49))
    ids, end = kept_in(puller, PRODUCT_LIST)
    assert ids == {*range(1, 90)} - {49}
    assert end.proven


@pytest.mark.parametrize("end", [50, 98, 144, 12_345, 10_000_000])
def test_the_next_page_overlaps_the_last_one(end: int) -> None:
    request = overlapping(end, per_page=50)
    assert request.start < end
    assert request.end >= end + 25


def test_a_pull_whose_last_page_fails_is_not_complete(puller: World) -> None:
    """Fault 35: nothing but a complete pull is ever loaded."""
    fill(puller, products=120)
    puller.server.script(otherwise=OnPage(3, Status(500)))
    with pytest.raises(PullError, match="products, page 3, attempt 4: "):
        puller.pull()
    with puller.hold(PRODUCT_LIST) as staged:
        assert [page.number for page in staged.pages] == [1, 2]
        assert not staged.is_complete


def test_a_list_that_does_not_end_is_given_up(puller: World) -> None:
    """Fault 36."""
    fill(puller, products=500)
    decoder = PageDecoder(PRODUCT_LIST.endpoint)
    paginator = PageNumberPaginator(per_page=50, log=LOG, max_pages=4)
    with puller.client() as client, pytest.raises(ApiError, match=r"the list goes on after 4 pages\. Check the"):
        [*paginator.pages(lambda request: client.page(PRODUCT_LIST, decoder, request.number))]
    assert puller.server.pages == [1, 2, 3, 4]


# The end of a list


def kept_in(puller: World, pull: ListRequest, **client_fields: Any) -> tuple[set[int], ListEnd]:
    """What a pull stages, and how it says that the list ended, as the next process reads it."""
    with puller.hold(pull) as staged, puller.client(**client_fields) as client:
        stage(client, staged, log=LOG)
    with puller.hold(pull) as staged:
        assert staged.end
        assert staged.end_proven == staged.end.proven
        assert (staged.page_size, staged.reason) == (staged.end.page_size, staged.end.reason)
        return {*staged.item_ids()}, staged.end


def changed(change: Callable[[Exchange, list[Item]], list[Item]]) -> Callable[[Exchange], None]:
    """A fault: what `change` makes of the rows of each page."""

    def answer(exchange: Exchange) -> None:
        body = json.loads(exchange.answer().body)
        selector = "order" if "orders" in exchange.request.path else "product"
        rows = change(exchange, [item[selector] for item in body])
        Body(body_of(*rows, selector=selector))(exchange)

    return answer


def hiding(*ids: int) -> Callable[[Exchange], None]:
    return changed(lambda _, rows: [row for row in rows if row["id"] not in ids])


def sized(size: Callable[[int], int]) -> Callable[[Exchange], None]:
    """A fault: the store gives pages of another size than is asked for."""

    def answer(exchange: Exchange) -> None:
        exchange.request.query["per_page"] = str(size(int(exchange.request.query["per_page"])))
        Serve()(exchange)

    return answer


@pytest.mark.parametrize("hidden", [1, 50, 51, 60, 100, 170])
@pytest.mark.parametrize("pull", [ORDERS_OF_DAY, PRODUCT_LIST])
def test_a_row_hidden_after_limit_does_not_end_a_list(puller: World, pull: ListRequest, hidden: int) -> None:
    """Fault 69."""
    fill(puller, products=170, orders=orders(170, start=MIDNIGHT))
    puller.server.script(otherwise=hiding(hidden))
    ids, end = kept_in(puller, pull)
    assert ids == {*range(1, 171)} - {hidden}
    assert end.proven
    assert len(puller.server.requests) <= 4 + 1


@pytest.mark.parametrize("size", [15, 20, 25, 30, 40])
@pytest.mark.parametrize("pull", [ORDERS_OF_DAY, PRODUCT_LIST])
def test_the_size_of_a_clamped_page_is_learnt(puller: World, pull: ListRequest, size: int) -> None:
    """Fault 70."""
    fill(puller, products=170, orders=orders(170, start=MIDNIGHT)).dialect.max_per_page = size
    ids, end = kept_in(puller, pull)
    assert ids == {*range(1, 171)}
    assert (end.proven, end.page_size) == (True, size)
    assert end.gapless is (pull is PRODUCT_LIST and size >= 20)


@pytest.mark.parametrize("pull", [ORDERS_OF_DAY, PRODUCT_LIST])
def test_sizes_snapped_down_do_not_cut_a_list_short(puller: World, pull: ListRequest) -> None:
    """Fault 70: 49 a page, as overlapping pages ask for, are 25."""
    fill(puller, products=180, orders=orders(180, start=MIDNIGHT))
    puller.server.script(otherwise=sized(lambda asked: max(size for size in (1, 10, 25, 50) if size <= asked)))
    ids, end = kept_in(puller, pull)
    assert ids == {*range(1, 181)}
    assert not end.gapless
    assert len(puller.server.requests) <= 6


def test_orders_on_top_of_a_list_of_snapped_pages_are_found(puller: World) -> None:
    """Faults 70 and 76: the reading that shows the snapped size has no end, and proves nothing about the next one."""
    store = fill(puller, orders=orders(60, start=MIDNIGHT))
    store.dialect.oldest_first = False

    def arrive(store: SampleStore) -> None:
        for item in orders(49, start=MIDNIGHT + timedelta(hours=12)):
            store.add_order(item | {"id": 1000 + item["id"]})

    snapped = sized(lambda asked: max(size for size in (1, 10, 25, 50) if size <= asked))
    puller.server.script(Then(arrive, snapped), otherwise=snapped)
    pulled = puller.pull(ORDERS_OF_DAY, overlap_windows=True)
    assert {*pulled.ids} >= {row["id"] for row in store.shop.orders}


def test_an_empty_page_in_the_middle_is_not_the_end(puller: World) -> None:
    """Fault 71."""
    fill(puller, orders=orders(300, start=MIDNIGHT))
    puller.server.script(None, None, Body(b"[]"))
    assert puller.pull(ORDERS_OF_DAY).ids == [*range(1, 301)]
    puller.server.script(otherwise=OnPage(3, Body(b"[]")))
    with pytest.raises(PullError, match="page 3 is empty, although page 4 holds rows"):
        puller.pull(ORDERS_OF_DAY)


def test_an_empty_page_among_overlapping_ones_is_not_the_end(puller: World) -> None:
    """Fault 71."""
    fill(puller, products=300)
    puller.server.script(None, None, Body(b"[]"))
    assert {*puller.pull().ids} == {*range(1, 301)}


@pytest.mark.parametrize("status", [404, 400, 416, 422, 204])
@pytest.mark.parametrize("count", [100, 120])
def test_a_refused_page_past_the_end_is_the_end(puller: World, status: int, count: int) -> None:
    """Fault 72."""
    fill(puller, orders=orders(count, start=MIDNIGHT))

    def refuse(exchange: Exchange) -> None:
        (Status(status) if exchange.answer().body == b"[]" else Serve())(exchange)

    puller.server.script(otherwise=refuse)
    assert puller.pull(ORDERS_OF_DAY).ids == [*range(1, count + 1)]


def test_a_refused_page_in_the_middle_fails_and_keeps_the_others(puller: World) -> None:
    """Fault 72."""
    fill(puller, orders=orders(300, start=MIDNIGHT))
    puller.server.script(otherwise=OnPage(3, Status(404)))
    with pytest.raises(PullError, match="page 3, first attempt: the store answered 404"):
        puller.pull(ORDERS_OF_DAY)
    puller.server.script()
    puller.server.forget()
    assert puller.pull(ORDERS_OF_DAY).ids == [*range(1, 301)]
    assert puller.server.pages[0] == 2


def test_a_page_refused_once_before_an_empty_one_is_not_the_end(puller: World) -> None:
    """Fault 72: the page after it is empty in truth."""
    fill(puller, orders=orders(120, start=MIDNIGHT))
    puller.server.script(None, None, Status(404))
    assert puller.pull(ORDERS_OF_DAY).ids == [*range(1, 121)]


@pytest.mark.parametrize("count", [100, 120])
def test_the_last_page_again_is_the_end(puller: World, count: int) -> None:
    """Fault 72."""
    fill(puller, orders=orders(count, start=MIDNIGHT))

    def clamp(exchange: Exchange) -> None:
        last = -(-count // int(exchange.request.query["per_page"]))
        exchange.request.query["page"] = str(min(exchange.request.page, last))
        Serve()(exchange)

    puller.server.script(otherwise=clamp)
    assert puller.pull(ORDERS_OF_DAY).ids == [*range(1, count + 1)]


@pytest.mark.parametrize("count", [30, 60])
def test_a_list_that_is_not_paged_is_read_once(puller: World, count: int) -> None:
    """Fault 73."""
    fill(puller)
    puller.server.script(otherwise=Body(body_of(*(product(number) for number in range(1, count + 1)))))
    pulled = puller.pull()
    assert [row["id"] for row in pulled.rows] == [*range(1, count + 1)]
    assert len(puller.server.requests) == 2


def test_a_window_that_is_not_paged_is_read_once(puller: World) -> None:
    """Fault 73: fewer rows than were asked for are a whole list if a page of fewer rows holds all of them."""
    rows = orders(30, start=MIDNIGHT)
    fill(puller)
    puller.server.script(otherwise=Body(body_of(*rows, selector="order")))
    assert puller.pull(ORDERS_OF_DAY).ids == [*range(1, 31)]
    assert len(puller.server.requests) == 3


@pytest.mark.parametrize("count", [10, 50])
def test_a_first_page_that_comes_again_full_is_not_a_whole_list(puller: World, count: int) -> None:
    """Fault 73: a cache that drops the query gives just that."""
    fill(puller)
    puller.server.script(otherwise=Body(body_of(*(product(number) for number in range(1, count + 1)))))
    with pytest.raises(PullError, match="page 2 holds the same rows as page 1: the store ignores `page`"):
        puller.pull()


# The consistency of a list


@pytest.mark.parametrize("seed", range(6))
def test_rows_in_changing_order_are_all_met_or_the_pull_fails(puller: World, seed: int) -> None:
    """Fault 74."""
    rows, draw = orders(180, every=timedelta(0)), random.Random(seed)
    fill(puller, orders=rows)

    def shuffle(exchange: Exchange) -> None:
        request, shuffled = page_request_of(exchange.request), draw.sample(rows, len(rows))
        Body(body_of(*shuffled[request.start : request.end], selector="order"))(exchange)

    puller.server.script(otherwise=shuffle)
    try:
        ids, end = kept_in(puller, ORDERS_OF_DAY)
    except PullError as error:
        assert "the list moved during each of 6 readings" in str(error)  # noqa: PT017 - either is right
    else:
        assert ids == {*range(1, 181)}
        assert end.consistent
        assert "because the list moved" in end.reason


def test_a_row_that_no_reading_meets_fails_the_pull(puller: World) -> None:
    """Fault 74: row 50 comes again in the place of row 51, and each reading has another order than the one before."""
    fill(puller, orders=orders(120, start=MIDNIGHT))
    readings: list[int] = []

    def repeat(exchange: Exchange, rows: list[Item]) -> list[Item]:
        readings.extend([1] if exchange.request.page == 1 else [])
        rows = [row | {"id": 50} if row["id"] == 51 else row for row in rows]
        return rows[::-1] if len(readings) % 2 else rows

    puller.server.script(otherwise=changed(repeat))
    with pytest.raises(PullError, match="the list moved during each of 6 readings, which missed 1 row"):
        puller.pull(ORDERS_OF_DAY)
    assert len(readings) == 6


def test_a_back_dated_order_at_the_end_of_a_list_by_id_is_found(puller: World) -> None:
    """Fault 75."""
    rows = [*orders(150, start=MIDNIGHT, every=timedelta(minutes=20)), order(90_001, MIDNIGHT + timedelta(hours=3))]
    fill(puller)

    def by_id(exchange: Exchange) -> None:
        request = page_request_of(exchange.request)
        Body(body_of(*rows[request.start : request.end], selector="order"))(exchange)

    puller.server.script(otherwise=by_id)
    assert 90_001 in puller.pull(ORDERS_OF_DAY).ids


@pytest.mark.parametrize("place", [0, 7, 45])
@pytest.mark.parametrize("row", [52, 121, 140])
@pytest.mark.parametrize("size", [50, 40, 15])
def test_a_row_that_moves_up_while_a_list_is_read_is_found(puller: World, row: int, place: int, size: int) -> None:
    """Fault 76: a list by name, or newest update first."""
    store = fill(puller, products=140)
    store.dialect.max_per_page = size

    def rename(store: SampleStore) -> None:
        rows = store.shop.products
        rows.insert(place % size, rows.pop(row - 1) | {"updated_at": "2024-02-01T00:00:00Z"})
        store.touch()

    puller.server.script(Then(rename))
    ids, end = kept_in(puller, PRODUCT_LIST)
    assert ids == {*range(1, 141)}
    assert end.reason.endswith("read 2 times, because the list moved")


def test_a_row_that_arrives_does_not_pay_for_one_that_moved(puller: World) -> None:
    """Fault 76: in a list by name, the second reading meets two new rows first, and the moved one on its next page."""
    store = fill(puller, products=140)
    rows = store.shop.products

    def rename(store: SampleStore) -> None:
        rows.insert(48, rows.pop(120))
        store.touch()

    def arrive(exchange: Exchange) -> None:
        if exchange.request.page == 1 and rows[0]["id"] == 1:
            rows[:0] = [product(998), product(999)]
            exchange.store.touch()
        Serve()(exchange)

    puller.server.script(Then(rename), otherwise=arrive)
    ids, _ = kept_in(puller, PRODUCT_LIST)
    assert ids == {*range(1, 141), 998, 999}


def test_an_order_that_arrives_does_not_pay_for_one_that_moved(puller: World) -> None:
    """Fault 76: orders by update; two arrive between the readings, and the moved one slips off the first page."""
    fill(puller)
    rows = orders(140, start=MIDNIGHT)
    readings: list[int] = []

    def by_update(exchange: Exchange) -> None:
        request = page_request_of(exchange.request)
        readings.extend([1] if request.number == 1 else [])
        if request.number == 1 and len(readings) == 2:
            rows[:0] = [order(998, MIDNIGHT), order(999, MIDNIGHT)]
        Body(body_of(*rows[request.start : request.end], selector="order"))(exchange)
        if request.number == len(readings) == 1:
            rows.insert(49, rows.pop(120))

    puller.server.script(otherwise=by_update)
    ids, _ = kept_in(puller, ORDERS_OF_DAY)
    assert ids == {*range(1, 141), 998, 999}


def test_a_row_that_a_store_lists_twice_is_no_movement(puller: World) -> None:
    """Fault 76: the second reading is as the first."""
    store = fill(puller, products=140)
    store.shop.products.insert(120, product(3))
    store.touch()
    ids, end = kept_in(puller, PRODUCT_LIST)
    assert ids == {*range(1, 141)}
    assert end.consistent


def test_a_pull_of_a_list_that_moved_is_not_gone_on_with(puller: World) -> None:
    """Fault 76."""
    fill(puller, orders=orders(300, start=MIDNIGHT)).dialect.oldest_first = False
    puller.server.script(Then(lambda store: store.add_order(order(999, NOON))), None, None, Status(415))
    with pytest.raises(PullError):
        puller.pull(ORDERS_OF_DAY)
    assert {*puller.pull(ORDERS_OF_DAY).ids} == {*range(1, 301), 999}
    assert puller.server.pages[4:] == [1, 2, 3, 4, 5, 6, 7, 8][: len(puller.server.pages) - 4]


def test_the_next_process_knows_how_the_list_ended(puller: World) -> None:
    """Fault 69: removals are built on it."""
    fill(puller, products=60)
    _, end = kept_in(puller, PRODUCT_LIST)
    assert end == ListEnd(proven=True, consistent=True, gapless=True, page_size=50, reason="page 3 is empty")


def test_an_end_that_was_not_reached_is_not_proven(puller: World) -> None:
    """Fault 71."""
    fill(puller, orders=orders(1000, start=MIDNIGHT, every=timedelta(minutes=15))).dialect.ignores_dates = True
    _, end = kept_in(puller, ORDERS_OF_DAY)
    assert not end.proven


@pytest.mark.parametrize("changed_rows", [0, 3])
def test_a_refresh_with_nothing_new_costs_at_most_two_requests(puller: World, changed_rows: int) -> None:
    items = orders(60, start=MIDNIGHT)
    for item in items[:changed_rows]:
        item["updated_at"] = "2024-06-01T00:00:00Z"
    fill(puller, orders=items)
    puller.pull(ListRequest(endpoint=BY_NAME["orders"], updated_after=datetime(2024, 6, 1, tzinfo=UTC)))
    assert len(puller.server.requests) <= 2


# Windows


@pytest.mark.parametrize("to_is_inclusive", [True, False])
@pytest.mark.parametrize("hours", [-12, -5, 0, 1, 5.75, 13, 14])
def test_the_whole_window_is_read_whatever_to_means(
    puller: World,
    hours: float,
    to_is_inclusive: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    window = Window.of_days(date(2024, 2, 28), date(2024, 3, 1))
    # An order each half hour, and on both sides of both bounds, over four days more on either side.
    start = window.start - timedelta(days=4)
    placed = [start + n * timedelta(minutes=30) for n in range(11 * 48)]
    placed += [bound + timedelta(seconds=n) for bound in (window.start, window.end) for n in (-1, 1)]
    store = fill(puller, orders=[order(number, at) for number, at in enumerate(sorted(placed), start=1)])
    store.dialect = Dialect(to_is_inclusive=to_is_inclusive, day_zone=timezone(timedelta(hours=hours)))
    pulled = puller.pull(ListRequest(endpoint=BY_NAME["orders"], window=window))
    inside = {row["id"] for row in pulled.rows if window.contains(datetime.fromisoformat(row["created_at"]))}
    expected = {item["id"] for item in store.shop.orders if window.contains(datetime.fromisoformat(item["created_at"]))}
    assert inside == expected
    assert len(expected) == 3 * 48 + 2
    assert len(pulled.ids) == len(pulled.rows)


def test_a_window_is_asked_for_with_a_day_more_on_either_side(puller: World) -> None:
    puller.pull(ORDERS_OF_DAY)
    (request,) = puller.server.requests
    assert request.path == "/api/v1_3/orders"
    assert request.query == {**PADDED, "page": "1", "per_page": "50"}
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("commerce_assets/")


def test_an_oldest_first_list_that_ignores_to_is_left_early(puller: World) -> None:
    store = fill(puller, orders=orders(1000, start=MIDNIGHT, every=timedelta(minutes=15)))
    store.dialect.ignores_dates = True
    pulled = puller.pull(ORDERS_OF_DAY)
    assert puller.server.pages == [*range(1, 9)]  # 96 orders a day, and three days beyond the window
    assert {*range(1, 97)} <= {*pulled.ids}


@pytest.mark.parametrize(("seconds", "pages"), [(0, [1]), (-1, [1, 2])])
def test_only_rows_far_beyond_the_window_end_a_pull_early(puller: World, seconds: int, pages: list[int]) -> None:
    """Faults 69 and 75: a store that honours `to` sends none, and its list is read to its end."""
    last_of_page = MIDNIGHT + timedelta(days=4, seconds=seconds)
    items = orders(200, start=last_of_page - timedelta(seconds=49), every=timedelta(seconds=1))
    fill(puller, orders=items).dialect.ignores_dates = True
    puller.pull(ORDERS_OF_DAY)
    assert puller.server.pages == pages


@pytest.mark.parametrize("per_page", [1, 50])
def test_orders_of_one_second_do_not_show_the_lists_order(puller: World, per_page: int) -> None:
    imported = [order(number, MIDNIGHT + timedelta(hours=26)) for number in range(1000, 1060)]
    fill(puller, orders=[*orders(5), *imported]).dialect.oldest_first = False
    assert {*puller.pull(ORDERS_OF_DAY, per_page=per_page).ids} >= {1, 2, 3, 4, 5}


def test_a_newest_first_list_is_read_to_its_end(puller: World) -> None:
    store = fill(puller, orders=orders(400, start=MIDNIGHT, every=timedelta(minutes=15)))
    store.dialect = Dialect(ignores_dates=True, oldest_first=False)
    assert {*puller.pull(ORDERS_OF_DAY).ids} == {*range(1, 401)}
    assert puller.server.pages == [*range(1, 11)]


def test_an_unordered_list_is_read_to_its_end(puller: World) -> None:
    items = orders(200, start=MIDNIGHT, every=timedelta(hours=1))
    items[10], items[11] = items[11], items[10]
    puller.server.script(*(Body(body_of(*items[n : n + 50], selector="order")) for n in range(0, 200, 50)))
    assert len(puller.pull(ORDERS_OF_DAY).rows) == 200
    assert puller.server.pages == [1, 2, 3, 4, 5, 6]


# Late changes


def test_the_orders_changed_since_an_instant_are_asked_for_by_it(puller: World) -> None:
    items = orders(60, start=MIDNIGHT)
    for item in items[:7]:
        item["updated_at"] = "2024-06-01T00:00:00Z"
    fill(puller, orders=items)
    changes = ListRequest(endpoint=BY_NAME["orders"], updated_after=datetime(2024, 5, 31, 23, 59, 59, tzinfo=UTC))
    assert puller.pull(changes).ids == [*range(1, 8)]
    request, _ = puller.server.requests
    assert request.query["updated_after"] == "2024-05-31T23:59:59Z"
    assert "from" not in request.query


@pytest.mark.parametrize("hours", [1, 24, 38, 48])
def test_a_superset_of_what_was_changed_is_no_ignored_filter(puller: World, hours: int) -> None:
    """Fault 90: the store reads the day of `updated_after` alone, perhaps in a zone ahead."""
    since = datetime(2024, 6, 3, 23, 59, tzinfo=UTC)
    rows = orders(60, start=since - timedelta(hours=hours))
    puller.server.script(Body(body_of(*rows[:50], selector="order")), Body(body_of(*rows[49:], selector="order")))
    fill(puller)
    changes = ListRequest(endpoint=BY_NAME["orders"], updated_after=since)
    assert puller.pull(changes).ids == [*range(1, 61)]


def test_an_ignored_updated_after_is_noticed_on_the_first_page(puller: World) -> None:
    fill(puller, orders=orders(120, start=MIDNIGHT)).dialect.ignores_updated_after = True
    changes = ListRequest(endpoint=BY_NAME["orders"], updated_after=datetime(2024, 6, 1, tzinfo=UTC))
    with pytest.raises(FilterIgnoredError, match="orders changed since 2024-06-01T00:00:00Z"):
        puller.pull(changes)
    assert puller.server.pages == [1]
