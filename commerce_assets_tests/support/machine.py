"""The machine that pulls from a simulated shop: the project's real jobs in this process, and what each has cost."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dagster import DagsterInstance, Definitions, ScheduleEvaluationContext, build_schedule_context

from commerce_assets.api.client import CommerceClient
from commerce_assets.defs.resources import CommerceApiResource
from commerce_assets_tests.support.clock import TwoClocks
from commerce_assets_tests.support.faulty_store import FaultyStore, Received, faulty
from commerce_assets_tests.support.simulation import Api, SimulatedShop
from commerce_assets_tests.support.world import World


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run has cost, in requests, and with how few its lists can be read."""

    job: str
    requests: int
    minimum: int
    succeeded: bool


@dataclass
class Machine:
    """Runs jobs by the machine's clock, on the definitions that were loaded when it was started."""

    project: World
    shop: SimulatedShop
    api: Api
    server: FaultyStore
    definitions: Definitions
    bill: list[Cost] = field(default_factory=list)

    @property
    def clocks(self) -> TwoClocks:
        return self.shop.clocks

    def run(self, job: str, *, tags: Mapping[str, str] | None = None, partition: str | None = None) -> bool:
        """Runs a job; whether it succeeded."""
        self.server.forget()
        result = self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.project.instance, tags=dict(tags or {}), partition_key=partition, raise_on_error=False
        )
        self._date_files()
        requests = self.server.requests
        self.bill.append(Cost(job, len(requests), self._minimum(requests), result.success))
        return result.success

    def run_scheduled_day(self) -> bool:
        """What the schedule `orders_daily` asks for at this moment, days that were missed included."""
        context = build_schedule_context(
            scheduled_execution_time=self.clocks.machine,
            repository_def=self.definitions.get_repository_def(),
        )
        tick = self.definitions.resolve_schedule_def("orders_daily").evaluate_tick(context)
        return all(
            self.run("orders", tags=request.tags, partition=request.partition_key)
            for request in tick.run_requests or []
        )

    def _date_files(self) -> None:
        """Gives staged pages the date that they would have: whether a pull is gone on with depends on it."""
        now = self.clocks.machine.timestamp()
        for path in self.project.folder.glob("*staging/**/*"):
            os.utime(path, (now, now))

    def _minimum(self, requests: list[Received]) -> int:
        """Of each list that was read: its pages, and one more that proves the end; two where the last page is full."""
        lists: dict[tuple[str, tuple[tuple[str, str], ...]], Received] = {}
        for request in requests:
            query = tuple(item for item in request.query.items() if item[0] not in {"page", "per_page"})
            lists.setdefault((request.path, query), request)
        return sum(self._pages(request) for request in lists.values())

    def _pages(self, request: Received) -> int:
        store = self.shop.store
        if "updated_after" in request.query and store.dialect.ignores_updated_after:
            return 1
        rows = store.select(request.path, request.query)
        return len(rows) // store.dialect.max_per_page + 2 if rows else 1


@contextmanager
def machine_of(
    shop: SimulatedShop, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> Iterator[Machine]:
    """A machine with an empty warehouse, switched on at the moment at which the shop opens."""
    _do_not_sleep(monkeypatch)
    quiet = {"python_logs": {"python_log_level": "CRITICAL"}}
    with (
        shop.clocks.travel(),
        faulty(shop.store) as server,
        DagsterInstance.ephemeral(settings=quiet) as instance,
    ):
        api = Api(shop)
        server.script(otherwise=api)
        project = World(folder, running_server=server, running_instance=instance)
        project.settings |= settings
        project.settings["COMMERCE_ORDERS_START_DATE"] = shop.clocks.store.date().isoformat()
        for name, value in project.environment.items():
            monkeypatch.setenv(name, value)
        # A schedule is given none but an instance on disk otherwise, and runs take twice as long there.
        monkeypatch.setattr(ScheduleEvaluationContext, "instance", instance)
        yield Machine(project, shop, api, server, project.definitions)


def _do_not_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    build = CommerceApiResource.client

    def client(self: CommerceApiResource, log: logging.Logger) -> CommerceClient:
        built = build(self, log)
        built.sleep = lambda _: None
        return built

    monkeypatch.setattr(CommerceApiResource, "client", client)
