"""Refunds that the list of orders does not show: each order is requested once per change, and known from then on."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from dagster import AssetObservation, ExecuteInProcessResult

from commerce_assets.api import retry
from commerce_assets_tests.support.canaries import EMAIL
from commerce_assets_tests.support.faulty_store import Body, Exchange, Fault, Serve, Status
from commerce_assets_tests.support.items import order
from commerce_assets_tests.support.shell import Shell
from commerce_assets_tests.support.world import World, running
from sample_store.dialect import Dialect
from sample_store.shop import Shop
from sample_store.store import SampleStore

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
NOON = datetime.combine(YESTERDAY, time(12), UTC)
DAYS = (YESTERDAY, YESTERDAY)
ITEM = re.compile(r"/orders/(\d+)$")


def refund(amount: Any) -> dict[str, Any]:
    transaction = {"amount": amount, "currency": "EUR", "occurred_at": "2024-03-16T08:00:00Z", "reason": None}
    return {"refund_transaction": transaction}


def refunded(number: int, *amounts: Any, **fields: Any) -> dict[str, Any]:
    created = NOON + timedelta(minutes=number)
    amount = {"settled_gross": "5.00", "settled_currency": "EUR"}
    transactions = [refund(each) for each in amounts]
    return order(number, created, refunded=True, refund_transactions=transactions, **amount, **fields)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Yesterday's orders, loaded: a refunded one, a charged-back one and an ordinary one."""
    orders = [refunded(1, "-3.00"), order(2, NOON, state=" Chargeback"), order(3, NOON, settled_gross="1.00")]
    store = SampleStore(Shop(orders=orders), dialect=Dialect(lists_refunds=False))
    monkeypatch.setattr(retry, "FIRST_BACKOFF_SECONDS", 0.0)
    with running(store, tmp_path, monkeypatch) as project:
        project.settings |= {"COMMERCE_REFUND_REQUESTS": "50", "COMMERCE_ORDERS_START_DATE": YESTERDAY.isoformat()}
        project.run("orders", days=DAYS)
        yield project


def add_refunded(shop: World, count: int) -> None:
    """Further refunded orders, with the ids from 11 on: the higher, the newer."""
    for number in range(11, 11 + count):
        shop.store.add_order(refunded(number, "-1.00"))
    shop.run("orders", days=DAYS)
    shop.server.forget()


def looked_up(shop: World) -> list[int]:
    """The orders that were requested since the last call."""
    found = [match for request in shop.server.requests if (match := ITEM.search(request.path))]
    shop.server.forget()
    return [int(match[1]) for match in found]


def amounts(shop: World, table: str = "orders") -> dict[int, list[str]]:
    """Return the stored refund amounts by order, as the store sent them."""
    rows = shop.query(f"SELECT id, refund_transactions FROM {table} ORDER BY ALL")
    return {
        number: re.findall(r'"amount":("[^"]*"|[^,]*)', transactions) if transactions else []
        for number, transactions in rows
    }


def changed(result: ExecuteInProcessResult) -> list[dict[str, Any]]:
    """The metadata of the partitions that a run has reported as changed."""
    events = [event.step_materialization_data for event in result.all_events if event.is_step_materialization]
    return [{name: value.value for name, value in event.materialization.metadata.items()} for event in events]


def observed(result: ExecuteInProcessResult) -> list[AssetObservation]:
    return [e.asset_observation_data.asset_observation for e in result.all_events if e.is_asset_observation]


def typed(shop: World, *arguments: str) -> Result:
    """The result of a command of the command line, typed in the project's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop.folder)
        return Shell(shop.folder, shop.environment).run(*arguments)


def on_items(fault: Fault, *numbers: int) -> Fault:
    """A fault on the requests for some orders; the others, and lists, are served."""

    def answer(exchange: Exchange) -> None:
        match = ITEM.search(exchange.request.path)
        (fault if match and int(match[1]) in numbers else Serve())(exchange)

    return answer


def test_a_refund_is_looked_up_once_per_change_of_its_order(shop: World) -> None:
    """Fault 117."""
    assert amounts(shop) == {1: [], 2: [], 3: []}
    assert looked_up(shop) == []

    first = shop.run("orders_refresh")
    assert sorted(looked_up(shop)) == [1, 2]
    assert amounts(shop) == {1: ['"-3.00"'], 2: [], 3: []}
    (metadata,) = changed(first)
    assert (metadata["rows_updated"], metadata["fields_changed"]) == (1, {"refund_transactions": 1})
    assert (metadata["run/requests"], metadata["run/rows_not_looked_up"]) == (2, 0)

    # The list comes again, in a refresh, by day and in a reconciliation: nothing has changed.
    second = shop.run("orders_refresh")
    again = shop.run("orders", days=DAYS)
    shop.run("reconcile")
    assert looked_up(shop) == []
    assert changed(second) == []
    assert (changed(again)[0]["rows_unchanged"], changed(again)[0]["rows_updated"]) == (3, 0)
    assert amounts(shop)[1] == ['"-3.00"']

    shop.store.update_order(1, refund_transactions=[refund("-3.00"), refund(-1.10)], settled_gross="3.90")
    third = shop.run("orders_refresh")
    assert looked_up(shop) == [1]
    assert amounts(shop)[1] == ['"-3.00"', "-1.1"]
    assert [each["fields_changed"] for each in changed(third)] == [
        {"settled_gross": 1, "updated_at": 1},
        {"refund_transactions": 1},
    ]


def test_refunds_that_the_list_shows_are_not_looked_up(shop: World) -> None:
    shop.store.dialect.lists_refunds = True
    shop.run("orders", days=DAYS)
    shop.run("orders_refresh")
    assert looked_up(shop) == [2]


def test_zero_requests_turn_the_lookups_off(shop: World) -> None:
    shop.settings["COMMERCE_REFUND_REQUESTS"] = "0"
    shop.run("orders_refresh")
    assert looked_up(shop) == []
    assert amounts(shop)[1] == []


def test_an_amount_with_a_fraction_is_stored_as_sent(shop: World) -> None:
    item = json.dumps({"order": refunded(1, 0)}).replace('"amount": 0', '"amount": -1234567890123456.10')
    shop.server.script(otherwise=on_items(Body(item.encode()), 1))
    shop.run("orders_refresh")
    assert amounts(shop)[1] == ["-1234567890123456.10"]


def test_what_exceeds_the_budget_is_named_and_looked_up_next(shop: World) -> None:
    add_refunded(shop, 3)
    shop.settings["COMMERCE_REFUND_REQUESTS"] = "2"

    refreshed = typed(shop, "refresh")
    assert looked_up(shop) == [13, 12]
    assert "still unknown for 3 rows (0 requests failed, at most 2 per run): 11, 1, 2" in refreshed.stderr
    assert "orders: 6 rows in 1 partition (0 inserted, 2 updated, 0 unchanged" in refreshed.stdout
    finding = "orders: refund_transactions not looked up yet: 3 rows\n  Fix: commerce-assets refresh"
    assert finding in typed(shop, "status").stdout
    shop.settings["COMMERCE_REFUND_REQUESTS"] = "0"
    assert "not looked up" not in typed(shop, "status").stdout
    shop.settings["COMMERCE_REFUND_REQUESTS"] = "2"

    shop.run("orders_refresh")
    assert looked_up(shop) == [11, 1]
    shop.run("orders_refresh")
    assert looked_up(shop) == [2]
    shop.run("orders_refresh")
    assert looked_up(shop) == []


def test_a_failed_lookup_leaves_only_its_order_unknown(shop: World) -> None:
    add_refunded(shop, 3)

    def answer(exchange: Exchange) -> None:
        on_items(Status(404 if exchange.request.path.endswith("/13") else 503), 12, 13)(exchange)

    shop.server.script(otherwise=answer)
    refreshed = typed(shop, "refresh")
    assert refreshed.exit_code == 0
    assert looked_up(shop) == [13, 12, 12, 12, 12, 11, 1, 2]
    assert {number for number, found in amounts(shop).items() if found} == {1, 11}
    assert "orders, refund_transactions, order 13: the store answered 404 Not Found" in refreshed.stderr
    assert "orders, refund_transactions, order 12: the store answered 503" in refreshed.stderr
    assert "still unknown for 2 rows (2 requests failed" in refreshed.stderr

    # The next refresh begins with those that were not requested before.
    shop.store.add_order(refunded(10, "-1.00"))
    shop.run("orders", days=DAYS)
    shop.server.script()
    shop.server.forget()
    shop.run("orders_refresh")
    assert looked_up(shop) == [10, 13, 12]
    assert {number for number, found in amounts(shop).items() if not found} == {2, 3}


def test_three_failures_in_a_row_end_the_lookups_of_a_run(shop: World) -> None:
    add_refunded(shop, 5)
    shop.server.script(otherwise=on_items(Status(404), *range(100)))
    result = shop.run("orders_refresh")
    assert result.success
    assert looked_up(shop) == [15, 14, 13]
    assert [each.metadata["run/rows_not_looked_up"].value for each in observed(result) if "Looked" in str(each)] == [7]


@pytest.mark.parametrize(
    ("status", "says"), [(401, "after it had accepted the key"), (403, "set COMMERCE_REFUND_REQUESTS to 0")]
)
def test_a_refused_key_fails_the_run_and_keeps_the_answers(shop: World, status: int, says: str) -> None:
    add_refunded(shop, 1)
    if status == 403:
        shop.server.script(otherwise=on_items(Status(status), 11))
        expected = {}
    else:
        shop.server.script(otherwise=on_items(Status(status), 1))
        expected = {11: ['"-1.00"']}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "BLOCKED_PAUSE_SECONDS", 0.0)
        result = shop.run("orders_refresh", expect_success=False)
    assert not result.success
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.user_failure_data
    assert says in str(failure.user_failure_data.description)
    assert {number: found for number, found in amounts(shop).items() if found} == expected
    assert len(changed(result)) == len(expected)


def test_an_answer_of_another_version_is_not_mixed_with_the_row(shop: World) -> None:
    """The order is refunded again after the list was read: the next refresh brings both."""

    def refund_again(exchange: Exchange) -> None:
        later = "2099-01-01T00:00:00Z"
        exchange.store.update_order(1, refund_transactions=[refund("-5.00")], settled_gross="3.00", updated_at=later)
        Serve()(exchange)

    shop.server.script(otherwise=on_items(refund_again, 1))
    shop.run("orders_refresh")
    shop.server.script()
    assert looked_up(shop)[-2:] == [1, 2]
    assert amounts(shop)[1] == []
    shop.run("orders_refresh")
    assert looked_up(shop) == [1]
    assert (amounts(shop)[1], shop.query("SELECT settled_gross FROM orders WHERE id = 1")) == (['"-5.00"'], [(3,)])


ANOTHER = json.dumps({"order": order(2, NOON, refund_transactions=[refund("-9.00")])}).encode()


@pytest.mark.parametrize(
    "body",
    [
        ANOTHER,
        b'{"order": {"id": 2}}',
        b'{"order": []}',
        b"[]",
        b'{"error": "no"}',
        b"{}",
        b'{"order": {"id": null}}',
        b"null",
    ],
)
def test_an_answer_that_is_not_the_order_changes_nothing(shop: World, body: bytes) -> None:
    shop.server.script(otherwise=on_items(Body(body), 1))
    assert shop.run("orders_refresh").success
    assert amounts(shop) == {1: [], 2: [], 3: []}


def test_the_history_has_one_version_per_change(shop: World) -> None:
    shop.settings["COMMERCE_ORDER_HISTORY"] = "true"
    shop.run("orders", days=DAYS)
    shop.run("orders_refresh")
    later = "2099-01-01T00:00:00Z"
    shop.store.update_order(1, refund_transactions=[refund("-5.00")], settled_gross="3.00", updated_at=later)
    shop.run("orders_refresh")
    versions = "SELECT settled_gross, refund_transactions[2:-2] LIKE '%-%' FROM orders_history WHERE id = 1 ORDER BY 1"
    assert shop.query(versions) == [(3, True), (5, True)]

    # Off while an order is looked up, and on again: the open versions still equal the table.
    shop.settings["COMMERCE_ORDER_HISTORY"] = "false"
    shop.store.update_order(1, refund_transactions=[refund("-6.00")], settled_gross="2.00")
    shop.run("orders", days=DAYS)
    shop.run("orders_refresh")
    shop.settings["COMMERCE_ORDER_HISTORY"] = "true"
    shop.run("orders", days=DAYS)
    assert amounts(shop) == amounts(shop, "orders_history WHERE valid_to IS NULL")


@dataclass
class KillAt:
    """Kills a process while it waits for the answer to its n-th request for an order."""

    number: int
    seen: list[int] = field(default_factory=list)
    process: "subprocess.Popen[str] | None" = None

    def __call__(self, exchange: Exchange) -> None:
        if match := ITEM.search(exchange.request.path):
            self.seen.append(int(match[1]))
            if len(self.seen) == self.number and self.process:
                self.process.kill()
                exchange.hang_up()
                return
        Serve()(exchange)


def test_a_killed_refresh_resumes_after_its_last_answer(shop: World) -> None:
    for number in range(11, 14):
        shop.store.add_order(refunded(number, "-1.00", buyer_email=EMAIL))
    shop.settings["COMMERCE_PERSONAL_DATA"] = "drop"
    shop.run("orders", days=DAYS)
    killing = KillAt(4)
    shop.server.script(otherwise=killing)
    # One that makes a request takes longer than the half second after which answers are synced.
    shop.settings["COMMERCE_API_REQUESTS_PER_SECOND"] = "2"
    killing.process = Shell(shop.folder, shop.environment).start("refresh")
    assert killing.process.wait(timeout=120) == -9
    assert killing.seen == [13, 12, 11, 1]
    assert {number for number, found in amounts(shop).items() if found} == set()
    staged = b"".join(path.read_bytes() for path in shop.folder.rglob("items-*.jsonl"))
    assert staged.count(b'refund_transaction"') > 0
    assert EMAIL.encode() not in staged

    shop.server.script()
    shop.server.forget()
    printed = typed(shop, "refresh").stdout
    assert set(looked_up(shop)) <= {11, 1, 2}
    assert {number for number, found in amounts(shop).items() if found} == {1, 11, 12, 13}
    assert "orders: 6 rows in 1 partition (0 inserted, 4 updated" in printed
    assert not [*shop.folder.rglob("items-*.jsonl")]
