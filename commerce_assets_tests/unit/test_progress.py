"""What a long pull says, and how often."""

import logging
from itertools import pairwise
from pathlib import Path

import pytest

from commerce_assets.api import progress
from commerce_assets.api.client import Tally
from commerce_assets.api.progress import Progress
from commerce_assets_tests.support.clock import Clock
from commerce_assets_tests.support.faulty_store import Status
from commerce_assets_tests.support.items import ORDERS_OF_DAY, PRODUCT_LIST, store_of
from commerce_assets_tests.support.world import LOG, serving


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, LOG.name)
    return caplog


def test_progress_is_logged_after_5_s_and_then_less_often(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    telling = Progress(ORDERS_OF_DAY, Tally(), LOG)
    logged_at = []
    for number in range(1, 3 * 3600 + 1):
        clock.now += 1
        telling.page(number, 50)
        if said.records:
            logged_at.append(number)
            said.clear()
    assert logged_at[:9] == [5, 15, 35, 75, 155, 315, 615, 915, 1215]
    assert {later - earlier for earlier, later in pairwise(logged_at[5:])} == {300}
    assert len(logged_at) < 45


def test_a_pull_of_a_moment_says_only_that_it_is_complete(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    telling = Progress(PRODUCT_LIST, Tally(), LOG)
    for number in (1, 2, 3):
        clock.now += 1
        telling.page(number, 50)
    assert said.messages == []
    telling.done(3)
    assert said.messages == [
        "products: page 3, 150 rows, 50 rows/s, 0 requests (0 retries), 0 s rate-limited, complete"
    ]


def test_pages_that_take_minutes_are_logged_one_by_one(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    telling = Progress(PRODUCT_LIST, Tally(), LOG)
    for number in range(1, 5):
        clock.now += 400
        telling.page(number, 50)
    assert len(said.messages) == 4


def test_a_progress_line_has_page_rows_rate_and_cost(clock: Clock, said: pytest.LogCaptureFixture) -> None:
    tally = Tally(requests=1234, retries=5, seconds_paced=1200.4, seconds_backing_off=30)
    telling = Progress(ORDERS_OF_DAY, tally, LOG, rows_before=10_000)
    clock.now += 100
    telling.page(1400, 5000)
    assert said.messages == [
        "orders of 2024-03-15: page 1,400, 15,000 rows, 50 rows/s, 1,234 requests (5 retries), 1230 s rate-limited"
    ]


def test_a_pull_logs_its_url_each_retry_and_its_cost(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    with serving(store_of(products=60), tmp_path) as puller:
        puller.server.script(None, Status(429, {"Retry-After": "7"}))
        puller.pull()
        address = f"{puller.server.base_url}products"
    begin, retry, end = said.messages
    assert begin == f"products: GET {address}"
    assert retry == "products, page 2, attempt 1: the store answered 429 Too Many Requests; retrying in 7 s"
    assert end.startswith("products: page 2, 61 rows, ")
    assert end.endswith(" rows/s, 4 requests (1 retry), 7 s rate-limited, complete")
