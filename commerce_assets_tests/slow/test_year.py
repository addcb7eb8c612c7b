"""A shop and a machine that live through weeks: at the end of each, the warehouse equals the store.

All that runs are the project's own jobs, in this process, against a server on loopback; that of the days runs what its
schedule asks for. None of their functions is called past them. But they run far less often than they are scheduled,
as if the machine slept through most of its runs: a run takes a third of a second, and a year has ten thousand. So the
refresh runs every few days and not every hour, some days are loaded on the next one and most by catching up, and the
catalogue is read every few weeks. Every Sunday, all but the catalogue runs. Sleep and the clocks are patched: the
store's, the machine's, which is up to five minutes off, and Dagster's.

Run it with `-s` to see the bill.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from commerce_assets.endpoint import ColumnType, Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse import freshness
from commerce_assets_tests.support.clock import TwoClocks
from commerce_assets_tests.support.expected import as_stored
from commerce_assets_tests.support.items import BY_NAME
from commerce_assets_tests.support.machine import Machine, machine_of
from commerce_assets_tests.support.simulation import CATALOG, SimulatedShop
from sample_store.dialect import Dialect

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
ORDERS = BY_NAME["orders"]
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LOG = logging.getLogger("year")
FIVE_MINUTES = 5 * MINUTE
HEADER = "week  orders  changes  runs  requests  minimum  ratio  failed  lost  comparing  tables"


@dataclass
class Plan:
    """What the machine does when, drawn from a seed; days are counted from 0.

    Attributes:
        refresh_hours: The hours at whose 40th minute the refresh may run.
        awake: The share of runs that are not slept through.
        catalog_weeks: The catalogue is read, and its tables are inspected, at the end of each so manieth week.
        outages: The share of days on which the API goes down, for hours or for more than a day.
        refresh_off: Days on which no refresh runs.
        all_off: Days on which nothing runs.
        filter_ignored: Days on which the store ignores `updated_after`.
    """

    seed: int
    refresh_hours: tuple[int, ...]
    awake: float
    catalog_weeks: int
    outages: float
    refresh_off: range = range(0)
    all_off: range = range(0)
    filter_ignored: range = range(0)


@dataclass
class Life:
    """Lets shop and machine live through weeks, which end on Sunday at three in the morning with an inspection.

    `requests` and `minimum` are those of all runs that pulled and succeeded.
    """

    machine: Machine
    plan: Plan
    requests: int = 0
    minimum: int = 0

    def __post_init__(self) -> None:
        self._random = Random(self.plan.seed)
        self._inspection = Inspection(self.machine)
        self._down_until = NEW_YEAR
        self._failed: set[str] = set()

    def live(self, weeks: int) -> None:
        print(f"\n{HEADER}")  # noqa: T201
        # The first day is loaded as soon as it is over: a day before the first one that is loaded is not missed.
        self.machine.shop.live_until(NEW_YEAR + DAY + 10 * MINUTE)
        assert self.machine.run_scheduled_day()
        for day in range(1, weeks * 7):
            is_sunday = day % 7 == 6
            if day % 7 == 0:
                self._set_clock()
            self._live_day(day, since=1 if day == 1 else 0, until=3 if is_sunday else 24, must_be_there=is_sunday)
            if is_sunday:
                self._end_week(day)
                self._live_day(day, since=3)

    def _set_clock(self) -> None:
        """From week to week, the machine's clock is right, slow, or fast."""
        self.machine.clocks.skew = self._random.choice((-FIVE_MINUTES, timedelta(), FIVE_MINUTES))

    def _live_day(self, day: int, *, since: int = 0, until: int = 24, must_be_there: bool = False) -> None:
        machine, plan, midnight = self.machine, self.plan, NEW_YEAR + day * DAY
        if self._random.random() < plan.outages and not must_be_there:
            self._down_until = self._end_of_outage(day, midnight)
            machine.api.answers_left = self._random.randrange(4)
        machine.shop.store.dialect.ignores_updated_after = day in plan.filter_ignored
        for hour in range(since, until):
            for minute, job in ((10, "orders"), (20, "catalog"), (40, "orders_refresh")):
                if self._is_due(job, day, hour, must_be_there=must_be_there):
                    self._run(job, midnight + hour * HOUR + minute * MINUTE)
            # Somebody looks at what has failed when the API is back, and starts it again.
            at = midnight + hour * HOUR + 50 * MINUTE
            if at - FIVE_MINUTES > self._down_until:
                for job in sorted(self._failed):
                    self._run(job, at)

    def _run(self, job: str, at: datetime) -> None:
        """Runs a job at an instant of the machine's clock."""
        machine = self.machine
        machine.shop.live_until(max(at - machine.clocks.skew, machine.clocks.store))
        if machine.clocks.store >= self._down_until:
            machine.api.is_down, machine.api.answers_left = False, None
        succeeded = machine.run_scheduled_day() if job == "orders" else machine.run(job)
        (self._failed.discard if succeeded else self._failed.add)(job)

    def _end_of_outage(self, day: int, midnight: datetime) -> datetime:
        """It is over on Saturday evening, so that the week can be inspected."""
        end = midnight + self._random.randrange(2, 40) * HOUR
        return min(end, NEW_YEAR + (day // 7 * 7 + 5) * DAY + 22 * HOUR)

    def _is_due(self, job: str, day: int, hour: int, *, must_be_there: bool) -> bool:
        plan = self.plan
        hours = {"orders": (0,), "catalog": (1,), "orders_refresh": plan.refresh_hours}[job]
        is_off = day in plan.all_off or (job == "orders_refresh" and day in plan.refresh_off)
        if hour not in hours or is_off:
            return False
        share = plan.awake / 10 if job == "catalog" else plan.awake
        return self._random.random() < share or (must_be_there and job == "orders")

    def _end_week(self, day: int) -> None:
        """Nothing happens in the shop while the last runs of the week bring in what is left, and all is compared."""
        if day in self.plan.refresh_off or day in self.plan.all_off:
            self._print(day, "not inspected")
            return
        machine = self.machine
        machine.shop.live_until(NEW_YEAR + day * DAY + 3 * HOUR)
        machine.api.is_alive = False
        with_catalog = (day // 7 + 1) % self.plan.catalog_weeks == 0
        for job in ("orders_refresh", "reconcile", *(("catalog",) if with_catalog else ())):
            assert machine.run(job), job
        self._inspection.inspect(with_catalog=with_catalog)
        machine.api.is_alive = True
        self._print(day, "equal")

    def _print(self, day: int, outcome: str) -> None:
        """A line of the bill: of the runs that pulled, beside the minimum; of those that failed; of comparing."""
        bill, shop = self.machine.bill, self.machine.shop
        pulls = [cost for cost in bill if cost.succeeded and cost.job != "reconcile"]
        failed = [cost for cost in bill if not cost.succeeded]
        requests, minimum = (sum(getattr(cost, name) for cost in pulls) for name in ("requests", "minimum"))
        lost, compared = (
            sum(cost.requests for cost in costs)
            for costs in (failed, [cost for cost in bill if cost.job == "reconcile"])
        )
        self.requests += requests
        self.minimum += minimum
        ratio = f"{requests / minimum:5.2f}" if minimum else "    -"
        print(  # noqa: T201
            f"{day // 7 + 1:4}  {len(shop.orders):6,}  {shop.changes:7,}  {len(pulls):4}  {requests:8,}  {minimum:7,}  "
            f"{ratio}  {len(failed):6}  {lost:4}  {compared:9}  {outcome}"
        )
        bill.clear()


@dataclass
class Inspection:
    """Compares tables with the store; rows that were equal once are compared by their hash from then on."""

    machine: Machine
    equal: dict[int, int] = field(default_factory=dict)

    def inspect(self, *, with_catalog: bool) -> None:
        self._inspect_orders()
        if with_catalog:
            for kind in CATALOG:
                items = {item["id"]: item for item in getattr(self.machine.shop.store.shop, kind)}
                self._inspect_list(BY_NAME[kind], items)
        self._inspect_health(ENDPOINTS if with_catalog else [ORDERS])

    def _inspect_orders(self) -> None:
        shop, project = self.machine.shop, self.machine.project
        hashes = dict(project.query("SELECT id, hash(o) FROM (SELECT * EXCLUDE (_extracted_at) FROM orders) o"))
        assert len(hashes) == project.query("SELECT count(*) FROM orders")[0][0]
        assert hashes.keys() == shop.orders.keys()
        doubtful = {
            number for number, found in hashes.items() if number in shop.changed or self.equal.get(number) != found
        }
        rows = project.rows(ORDERS, where=f"id IN ({', '.join(map(str, doubtful))})") if doubtful else {}
        for number in doubtful:
            assert_equal(ORDERS, rows[number], shop.orders[number])
        self.equal = hashes
        shop.changed.clear()

    def _inspect_list(self, endpoint: Endpoint, items: Mapping[int, Any]) -> None:
        shop, rows = self.machine.shop, self.machine.project.rows(endpoint)
        deleted = {number: at for (kind, number), at in shop.deleted.items() if kind == endpoint.name}
        # What came and went between two pulls was never seen.
        assert rows.keys() - deleted.keys() == items.keys()
        for number, item in items.items():
            assert_equal(endpoint, rows[number], item)
            assert rows[number]["_deleted_at"] is None
        for number in deleted.keys() & rows.keys():
            noticed = rows[number]["_deleted_at"]
            assert noticed <= self.machine.clocks.machine + FIVE_MINUTES
            # An item that came back, and went again before the next extraction, keeps its first mark.
            assert deleted[number] - FIVE_MINUTES <= noticed or (endpoint.name, number) in shop.returned

    def _inspect_health(self, endpoints: Sequence[Endpoint]) -> None:
        machine = self.machine
        with machine.definitions.resources["warehouse"].open(LOG).database.read() as connection:  # type: ignore[index]
            for endpoint in endpoints:
                for question in (freshness.fresh, *((freshness.complete,) if endpoint.is_partitioned else ())):
                    finding = question(connection, endpoint, NEW_YEAR.date(), machine.clocks.machine)
                    assert finding.passed, (endpoint.name, finding.summary)


def assert_equal(endpoint: Endpoint, row: Mapping[str, Any], item: Mapping[str, Any]) -> None:
    expected = as_stored(endpoint, item)
    jsons = {column.name for column in endpoint.columns if column.type == ColumnType.JSON}
    assert {
        name: json.loads(row[name]) if name in jsons and row[name] is not None else row[name] for name in expected
    } == expected
    assert (row["_extra"], row["_invalid"]) == (None, None)


@pytest.mark.slow
def test_three_weeks_of_a_shop_each_end_equal_to_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = SimulatedShop(TwoClocks(NEW_YEAR), orders_a_day=20, seed=7)
    plan = Plan(seed=3, refresh_hours=(14, 22), awake=0.25, catalog_weeks=1, outages=0.3, filter_ignored=range(8, 11))
    with machine_of(shop, tmp_path, monkeypatch) as machine:
        life = Life(machine, plan)
        life.live(weeks=3)
    assert life.requests <= life.minimum * 1.3


def test_a_refresh_after_a_month_loads_all_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = SimulatedShop(TwoClocks(NEW_YEAR, skew=FIVE_MINUTES), orders_a_day=15, seed=11)
    with machine_of(shop, tmp_path, monkeypatch) as machine:
        shop.live_until(NEW_YEAR + DAY)
        assert machine.run_scheduled_day()
        assert machine.run("orders_refresh")

        shop.live_until(NEW_YEAR + 31 * DAY)
        machine.api.is_alive = False
        assert machine.run("orders_refresh")

        rows = machine.project.rows(ORDERS)
        # What the store has deleted is not among changes.
        assert rows.keys() >= shop.orders.keys()
        assert any(order["refunded"] for order in shop.orders.values())
        for number, order in shop.orders.items():
            assert_equal(ORDERS, rows[number], order)
        # Pages that overlap cost a fifth more than those that do not.
        assert machine.bill[-1].requests <= machine.bill[-1].minimum * 1.3 + 1


HOSTILE = Dialect(max_per_page=40, sorted_by_id=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("dialect", [Dialect(), HOSTILE], ids=["sorted", "by id, forty a page"])
def test_a_year_of_a_shop_equals_the_store_each_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: Dialect
) -> None:
    """Faults 70 and 75: the hostile store clamps its pages, and lists the orders that it imports by their ids."""
    shop = SimulatedShop(TwoClocks(NEW_YEAR), orders_a_day=60, seed=7, dialect=replace(dialect))
    plan = Plan(
        seed=1,
        refresh_hours=(14, 22),
        awake=0.12,
        catalog_weeks=4,
        outages=0.2,
        refresh_off=range(100, 130),
        all_off=range(200, 212),
        filter_ignored=range(155, 158),
    )
    with machine_of(shop, tmp_path, monkeypatch, COMMERCE_RECONCILE_REQUESTS="1000") as machine:
        life = Life(machine, plan)
        life.live(weeks=52)
    assert len(shop.orders) > 20_000
    assert life.requests <= life.minimum * 1.3
