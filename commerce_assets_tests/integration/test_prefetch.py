"""Several pages in flight: as fast as the latency and the pace allow, and as safe as one at a time."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from commerce_assets.api.errors import PullError
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.coordination.lock_files import LockFiles
from commerce_assets.ingest.stage import stage
from commerce_assets_tests.support.faulty_store import Delay, Exchange, Serve, Status, Then
from commerce_assets_tests.support.items import ORDERS_OF_DAY, PRODUCT_LIST, order, orders, store_of
from commerce_assets_tests.support.world import LOG, World, serving

MIDNIGHT = datetime(2024, 3, 15, tzinfo=UTC)
ROWS = 420
PAGES = 9
SLOW = Delay(0.12)


@pytest.fixture
def puller(tmp_path: Path) -> Iterator[World]:
    with serving(store_of(orders=orders(ROWS, start=MIDNIGHT)), tmp_path) as puller:
        puller.server.script(otherwise=SLOW)
        yield puller


def seconds_to_pull(puller: World, *, concurrency: int) -> float:
    began = time.monotonic()
    assert puller.pull(ORDERS_OF_DAY, concurrency=concurrency).ids == [*range(1, ROWS + 1)]
    return time.monotonic() - began


def test_four_pages_in_flight_read_a_slow_store_faster(puller: World) -> None:
    one_at_a_time = seconds_to_pull(puller, concurrency=1)
    assert puller.server.pages == [*range(1, PAGES + 2)]

    assert seconds_to_pull(puller, concurrency=4) < one_at_a_time / 1.3


@pytest.mark.parametrize("concurrency", [2, 4, 8])
def test_prefetch_wastes_at_most_one_page_less_than_its_width(puller: World, concurrency: int) -> None:
    assert puller.pull(ORDERS_OF_DAY, concurrency=concurrency).ids == [*range(1, ROWS + 1)]

    # The first answers show that the store is slow; the pages after them overlap.
    assert len(puller.server.pages) <= PAGES + 3 + concurrency - 1


def test_a_fast_store_gets_one_request_at_a_time(puller: World) -> None:
    puller.server.script()

    puller.pull(ORDERS_OF_DAY, concurrency=4)

    assert puller.server.pages == [*range(1, PAGES + 2)]


def test_the_pace_is_kept_however_many_pages_are_in_flight(puller: World, tmp_path: Path) -> None:
    pacer = RateLimiter(
        base_url=puller.server.base_url, requests_per_second=40, coordination=LockFiles(tmp_path / "slots")
    )

    puller.pull(ORDERS_OF_DAY, concurrency=4, pacer=pacer)

    gaps = [after.at - before.at for before, after in pairwise(sorted(puller.server.requests, key=lambda r: r.at))]
    # The way of a request to the server differs by some milliseconds.
    assert sorted(gaps)[len(gaps) // 2] >= 0.024
    assert sum(gaps) >= 0.024 * len(gaps)


def test_a_failed_page_keeps_the_pages_before_it_staged(puller: World) -> None:
    def fail_on_page_seven(exchange: Exchange) -> None:
        (Status(403) if exchange.request.page == 7 else SLOW)(exchange)

    puller.server.script(otherwise=fail_on_page_seven)
    with puller.hold(ORDERS_OF_DAY) as staged, puller.client(concurrency=4, sleep=lambda _: None) as client:
        with pytest.raises(PullError, match="orders of 2024-03-15, page 7, attempt 3: the store answered 403"):
            stage(client, staged, log=LOG)

        assert staged.pages[-1].number == 6
    puller.server.script()
    assert puller.pull(ORDERS_OF_DAY).ids == [*range(1, ROWS + 1)]


def test_when_one_request_backs_off_all_of_them_do(puller: World) -> None:
    refused: list[float] = []

    def refuse_once(exchange: Exchange) -> None:
        if exchange.request.page == 6 and not refused:
            refused.append(time.monotonic())
            Status(429, {"retry-after": "1"})(exchange)
        else:
            SLOW(exchange)

    puller.server.script(otherwise=refuse_once)

    pulled = puller.pull(ORDERS_OF_DAY, concurrency=4, sleep=lambda seconds: time.sleep(seconds / 2))

    assert pulled.ids == [*range(1, ROWS + 1)]
    # Those already on their way come within the time of an answer; the others after the pause, here half a second.
    meanwhile = [r.page for r in puller.server.requests if refused[0] + 0.15 < r.at < refused[0] + 0.45]
    assert meanwhile == []


@pytest.mark.parametrize(
    ("slow", "position"), [(6, 60), (6, 230), (6, 260), (6, 300), (8, 330), (8, 350), (8, 360), (8, 375), (8, 390)]
)
def test_a_back_dated_order_during_a_slow_page_hides_no_other(puller: World, slow: int, position: int) -> None:
    """Fault 77: before the slow page, on it and after it; the pages that follow are answered first."""
    assert {*pull_with_arrivals(puller, slow=slow, position=position, arriving=1)} >= {*range(1, ROWS + 1)}


@pytest.mark.parametrize("position", [350, 375])
def test_a_page_in_flight_that_does_not_join_is_not_accepted(puller: World, position: int) -> None:
    """Fault 77: more orders arrive than pages overlap, and no later page of the list repeats a row."""
    assert {*pull_with_arrivals(puller, slow=8, position=position, arriving=30)} >= {*range(1, ROWS + 1)}


def pull_with_arrivals(puller: World, *, slow: int, position: int, arriving: int) -> list[int]:
    """The ids of a pull during whose page `slow` back-dated orders arrive, at a row near `position`."""
    arrived: list[int] = []

    def arrive_on_the_slow_page(exchange: Exchange) -> None:
        if exchange.request.page == slow and not arrived:
            arrived.append(slow)
            exchange.wait(0.5)
            for number in range(arriving):
                exchange.store.add_order(order(999 - number, MIDNIGHT + timedelta(minutes=position, seconds=-30)))
            Serve()(exchange)
        else:
            SLOW(exchange)

    puller.server.script(otherwise=arrive_on_the_slow_page)
    ids = puller.pull(ORDERS_OF_DAY, concurrency=4).ids
    assert arrived
    return ids


def test_an_order_on_top_of_a_newest_first_window_hides_none(puller: World) -> None:
    """Faults 32 and 77."""
    store = puller.server.store
    store.dialect.oldest_first = False
    failed: list[int] = []

    def come_in_and_fail(exchange: Exchange) -> None:
        if exchange.request.page == 5 and not failed:
            failed.append(5)
            exchange.wait(0.4)
            store.add_order(order(999, MIDNIGHT + timedelta(hours=23)))
            Status(503)(exchange)
        else:
            SLOW(exchange)

    puller.server.script(otherwise=come_in_and_fail)

    assert {*puller.pull(ORDERS_OF_DAY, concurrency=4).ids} >= {*range(1, ROWS + 1)}


def test_a_list_that_moves_with_pages_in_flight_loses_no_row(tmp_path: Path) -> None:
    """Fault 33."""
    with serving(store_of(products=400), tmp_path) as puller:
        store = puller.server.store
        doomed = iter(range(1, 400, 40))
        puller.server.script(otherwise=Then(lambda store: store.delete("products", next(doomed, 0)), SLOW))

        pulled = puller.pull(PRODUCT_LIST, concurrency=4)

    assert {*pulled.ids} >= {item["id"] for item in store.shop.products}
    assert 2 in pulled.ids
    assert timedelta(seconds=pulled.cost.seconds) > timedelta(0)
