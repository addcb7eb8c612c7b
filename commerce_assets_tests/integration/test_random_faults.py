"""A run succeeds with a table that is the store's, or fails and leaves the table unchanged.

Hypothesis draws stores, windows, dialects, page sizes, faults, changes between two pages, and kills; the real client,
staging and load go through it over real HTTP, into a real DuckDB file. What is demanded of them:

- A run raises one of the project's own errors and leaves the table unchanged; the next run, after the store has
  recovered, succeeds.
- Or it succeeds, and the table holds what the store has held between the beginning and the end of the pull: every row
  that was there throughout, no row that was not there at all, each in a version of that time, nothing twice, and
  nothing else touched.

`make test` draws 150 examples and `make slow` 10,000, the same each time; `make slow SEED=1` draws others. What fails
is printed with a line `@reproduce_failure(...)`: put it above the test's `@given`, and run that again:

    .venv/bin/python -m pytest -m "slow or not slow" -k <the test's name>
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from commerce_assets.api import prefetch
from commerce_assets.api.client import CommerceClient
from commerce_assets.api.decoding import Page
from commerce_assets.api.errors import PullError
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.ingest.ingest import ingest
from commerce_assets.ingest.stage import FilterIgnoredError
from commerce_assets.ingest.staging import StagedPages, Staging, StagingError
from commerce_assets.ingest.verify import StoreChangedError, VerificationError
from commerce_assets.warehouse.database import ALIAS
from commerce_assets.warehouse.ddl import create_or_migrate, exists, table_of
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.load_log import has_loaded, note_day_before
from commerce_assets.warehouse.parse import LoadError
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY
from commerce_assets.warehouse.warehouse import Warehouse
from commerce_assets_tests.support.expected import as_stored
from commerce_assets_tests.support.faulty_store import Exchange, FaultyStore, Serve, Status, faulty
from commerce_assets_tests.support.random_plans import (
    SINCE,
    WINDOW,
    Change,
    Kind,
    Plan,
    created,
    item,
    plans,
    size_given,
)
from commerce_assets_tests.support.world import LOG
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.shop import Shop
from sample_store.store import SampleStore
from sample_store.transport import Answer
from sample_store.values import Item, timestamp

Row = dict[str, Any]
_OWN_ERRORS = (PullError, FilterIgnoredError, VerificationError, LoadError, StagingError)
_STORED_AT = datetime(2024, 7, 1, tzinfo=UTC)
_FIRST_NEW, _FIRST_VANISHED = 1_000, 5_000
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
_ALL = settings(deadline=None, database=None, suppress_health_check=_QUIET)
FEW = settings(_ALL, max_examples=50, derandomize=True)
THOUSANDS = settings(_ALL, max_examples=3_334, print_blob=True)


class Killed(BaseException):
    """The process ends here."""


class MortalClient(CommerceClient):
    """A client whose process is killed when it asks for page after page."""

    def __init__(self, *, kill_at: int | None, **fields: Any) -> None:
        super().__init__(**fields)
        self._pages_left = kill_at

    def page(self, *arguments: Any, once: bool = False, **options: Any) -> Page:
        # What is asked for ahead is asked for in other threads, which die with the process.
        if self._pages_left is not None and not once:
            self._pages_left -= 1
            if self._pages_left < 0:
                raise Killed
        return super().page(*arguments, once=once, **options)


_open_files: dict[Path, duckdb.DuckDBPyConnection] = {}


class OpenDatabase(DatabaseFile):
    """A database that stays open: to copy the file takes longer than all that an example does with it."""

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = _open_files[self.path]
        connection.begin()
        try:
            yield connection
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        yield _open_files[self.path]


@contextmanager
def kept_open(database: OpenDatabase) -> Iterator[None]:
    with duckdb.connect(config={"temp_directory": str(database.path.with_suffix(".tmp"))}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"ATTACH '{database.path}' AS {ALIAS}")
        connection.execute(f"USE {ALIAS}")
        _open_files[database.path] = connection
        yield
        del _open_files[database.path]


class Hiding(Exchange):
    """An exchange with a store that hides some rows, whatever fault answers it."""

    def __init__(self, exchange: Exchange, without_hidden: Callable[[bytes], bytes]) -> None:
        self.__dict__ = exchange.__dict__
        self._without_hidden = without_hidden

    def answer(self) -> Answer:
        status, headers, body = super().answer()
        return Answer(status, headers, self._without_hidden(body) if status == HTTPStatus.OK else body)


@dataclass
class World:
    """A store behind its server, and a warehouse; `history` is what the store has held, and since when."""

    plan: Plan
    server: FaultyStore
    warehouse: Warehouse
    history: list[tuple[datetime, list[Item]]] = field(default_factory=list)
    next_id: int = _FIRST_NEW

    def __post_init__(self) -> None:
        self._steps = iter(self.plan.steps)
        self._lock = threading.Lock()
        rows = self.plan.rows
        self.rows = [
            item(self.plan, number, created(self.plan, number, rows), version=number % 3 // 2)
            for number in range(1, rows + 1)
        ]
        # The ids grow as the rows are created.
        if self.plan.order != "by id":
            self.rows.sort(key=lambda row: -row["id"] if self.plan.order == "newest first" else row["id"] * 7 % 181)
        self.server.store = SampleStore(Shop(), dialect=replace(self.plan.dialect))
        self._publish()

    def _publish(self) -> None:
        store, kind = self.server.store, self.plan.pull.endpoint.name
        getattr(store.shop, kind)[:] = self.rows
        store.touch()
        self.history.append((datetime.now(UTC), [row for row in self.rows if row["id"] not in self.plan.hidden]))

    def weather(self, exchange: Exchange) -> None:
        """A `Fault`: what becomes of the next request."""
        with self._lock:
            step = next(self._steps, None)
            if step and step.change:
                self._change(step.change)
        if len(self.server.requests) > self.most_requests:
            Status(410)(exchange)
        else:
            query = exchange.request.query
            query["per_page"] = str(size_given(self.plan, int(query["per_page"])))
            ((step and step.fault) or Serve())(Hiding(exchange, self._without_hidden) if self.plan.hidden else exchange)

    def _without_hidden(self, body: bytes) -> bytes:
        """The page without the rows that the store hides after it has cut the page out of the list."""
        answer = json.loads(body)
        rows = answer if isinstance(answer, list) else next(iter(answer.values()))
        unwrapped = [row if "id" in row else next(iter(row.values())) for row in rows]
        shown = [row for row, item in zip(rows, unwrapped, strict=True) if item["id"] not in self.plan.hidden]
        rows[:] = shown
        return json.dumps(answer).encode()

    def calm_down(self) -> None:
        self._steps = iter(())

    @property
    def most_requests(self) -> int:
        """How many requests there may be in all: for a list that is read six times, and for what happens to it.

        A window may be read so without the day before it and with it.
        """
        at_once = size_given(self.plan, self.plan.per_page)
        longest = max(len(rows) for _, rows in self.history) + len(self.plan.hidden)
        once = 6 * (2 * longest // at_once + 4) + 12 * len(self.plan.steps)
        return 2 * once if self.plan.without_day_before else once

    def _change(self, change: Change) -> None:
        rows = self.rows
        at = change.at % (len(rows) + (change.kind == "insert")) if rows else 0
        if change.kind in {"append", "insert"}:
            at = len(rows) if change.kind == "append" else at
            beside = rows[min(at, len(rows) - 1)] if rows else None
            moment = datetime.fromisoformat(beside["created_at"]) if beside and "created_at" in beside else WINDOW.start
            if change.kind == "append":
                moment += timedelta(seconds=1)
            new = [item(self.plan, self.next_id + n, moment, version=2) for n in range(change.count)]
            self.next_id += change.count
            rows[at:at] = new
        elif change.kind == "delete":
            del rows[at : at + change.count]
        else:
            changed = [self._next_version(row) for row in rows[at : at + change.count]]
            rows[at : at + change.count] = changed if change.kind == "update" else []
            if change.kind == "move up":
                stamp = timestamp(SINCE + timedelta(days=len(self.history)))
                rows[at // 2 : at // 2] = [row | {"updated_at": stamp} for row in changed]
            if change.kind == "move":
                # A row that moves is known by its stamp.
                rows += [row | {"updated_at": timestamp(SINCE + timedelta(days=len(self.history)))} for row in changed]
        self._publish()

    def _next_version(self, row: Item) -> Item:
        text = row.get("tag") or row["custom_field"]
        moment = datetime.fromisoformat(row["created_at"]) if "created_at" in row else WINDOW.start
        return item(self.plan, row["id"], moment, version=int(text.partition(" v")[2]) + 1)

    # The warehouse

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self.warehouse.database.write() as connection:
            yield connection

    def store_beforehand(self) -> None:
        """What earlier runs have brought: the rows, those of before their last change, or half; and some more."""
        endpoint, plan = self.plan.pull.endpoint, self.plan
        with self.connection() as connection:
            connection.execute("DROP SCHEMA IF EXISTS commerce CASCADE")
            connection.execute("DROP SCHEMA IF EXISTS commerce_loads CASCADE")
            if plan.without_day_before:
                note_day_before(connection, endpoint, is_needed=False)
            if plan.stored == "nothing":
                return
            create_or_migrate(connection, endpoint)
            rows = [row for row in self.rows if row["id"] not in plan.hidden]
            if plan.stored == "older":
                rows = [item(plan, row["id"], created(plan, row["id"], plan.rows), version=0) for row in rows]
            elif plan.stored == "half":
                rows = rows[::2]
            rows += [
                item(plan, _FIRST_VANISHED + n, created(plan, n * plan.rows // 5, plan.rows), version=0)
                for n in range(plan.vanished)
            ]
            if rows:
                stored = pa.Table.from_pylist([{**self.expected(row), "_extracted_at": _STORED_AT} for row in rows])
                connection.register("beforehand", stored)
                connection.execute(f"INSERT INTO {table_of(endpoint)} BY NAME FROM beforehand")
                connection.unregister("beforehand")

    def expected(self, row: Item) -> Row:
        extra = f'{{"colour":"{row["colour"]}"}}' if "colour" in row else None
        return {**as_stored(self.plan.pull.endpoint, row), "_extra": extra}

    def table(self) -> list[Row]:
        endpoint = self.plan.pull.endpoint
        with self.connection() as connection:
            if not exists(connection, "commerce", endpoint.name):
                return []
            found = connection.execute(f"SELECT * FROM {table_of(endpoint)} ORDER BY ALL")
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    # Runs

    def run(
        self, *, kill_at: int | None = None, allow_shrinkage: bool = False, base_url: str | None = None
    ) -> datetime:
        """A run as the asset, or the refresh, does it; returns when the pull began that it has loaded."""
        base_url = base_url or self.server.base_url
        try:
            with (
                MortalClient(
                    kill_at=kill_at,
                    base_url=base_url,
                    key=SAMPLE_API_KEY,
                    secret=SAMPLE_API_SECRET,
                    paths={"orders": ORDERS_PATH},
                    pacer=RateLimiter(base_url=self.server.base_url, requests_per_second=0),
                    per_page=self.plan.per_page,
                    overlap_windows=self.plan.overlap,
                    concurrency=self.plan.concurrency,
                    log=LOG,
                    sleep=lambda _: None,
                ) as client,
                patch.object(StagedPages, "discard", self._discard(kill_at)),
            ):
                return ingest(
                    self.plan.pull,
                    client=client,
                    warehouse=self.warehouse,
                    log=LOG,
                    allow_shrinkage=allow_shrinkage,
                    not_before=self.plan.not_before,
                ).began_at
        finally:
            for thread in threading.enumerate():
                if thread.name.startswith("page "):
                    thread.join()

    def _discard(self, kill_at: int | None) -> Callable[[StagedPages], None]:
        """What removes the staged pages; a process that is killed after the commit does not get there."""
        discard = StagedPages.discard

        def survive(staged: StagedPages) -> None:
            with self.connection() as connection:
                is_stored = has_loaded(connection, staged.manifest.pull_id)
            if not is_stored:
                discard(staged)

        return survive if kill_at is None and self.plan.killed_after_commit else discard

    def tear(self) -> None:
        """Leaves what a process leaves that is killed as it writes."""
        for path in self.warehouse.staging_dir.glob("*/*/*.jsonl"):
            with path.open("ab") as file:
                file.write(b'{"facts":{"number":7,"per_')


# What must hold


def check(world: World, before: Sequence[Row], began_at: datetime) -> None:
    """The table against what the store has held since the pull began."""
    plan = world.plan
    after = world.table()
    ids = [row["id"] for row in after]
    assert len(ids) == len({*ids}), "an id twice"
    since = max(position for position, (at, _) in enumerate(world.history) if at <= began_at)
    held = [{row["id"]: row for row in rows if _may_be_sent(plan, row)} for _, rows in world.history[since:]]
    versions: dict[int, list[Row]] = {}
    for rows in held:
        for number, row in rows.items():
            if row not in versions.setdefault(number, []):
                versions[number].append(row)
    throughout = {
        number for number in versions if all(number in rows and _is_asked_for(plan, rows[number]) for rows in held)
    }
    old = {row["id"]: row for row in before}
    live = {row["id"]: row for row in after if row.get("_deleted_at") is None}
    if plan.not_before:
        too_old = {number for number in versions.keys() - old.keys() if _created_at(versions[number]) < plan.not_before}
        assert too_old.isdisjoint(live), "a row from before the start date was added"
        throughout -= too_old
    touched = {number: row for number, row in live.items() if _is_covered(plan, row)}
    if plan.kind == "changes":
        assert old.keys() <= live.keys(), "a row has gone, and only a whole list shows that"
        touched = {number: row for number, row in touched.items() if row != old.get(number) or number in throughout}
    assert throughout <= touched.keys(), f"missing: {sorted(throughout - touched.keys())}"
    for number, row in touched.items():
        assert number in versions, f"{number}: the store has not held it during the pull"
        expected = [world.expected(version) for version in versions[number]]
        stored = {name: row[name] for name in expected[0]}
        assert stored in expected, f"{number}: {stored} is no version of the pull's time, {expected}"
        assert row["_invalid"] is None
    for number, row in old.items():
        if number not in touched and (plan.kind == "changes" or not _is_covered(plan, row)):
            assert live.get(number) == row, f"{number} has been touched"
        elif number not in touched and plan.kind == "list":
            assert number in ids, f"{number} has gone, and was only to be marked"
    assert {*ids} <= old.keys() | versions.keys()


def _is_asked_for(plan: Plan, row: Item) -> bool:
    if plan.kind == "window":
        return WINDOW.contains(datetime.fromisoformat(row["created_at"]))
    if plan.kind == "changes":
        updated_at = row.get("updated_at")
        return updated_at is not None and datetime.fromisoformat(updated_at) >= SINCE
    return True


def _created_at(versions: Sequence[Item]) -> datetime:
    return datetime.fromisoformat(versions[0]["created_at"])


def _may_be_sent(plan: Plan, row: Item) -> bool:
    return (plan.kind == "changes" and plan.dialect.ignores_updated_after) or _is_asked_for(plan, row)


def _is_covered(plan: Plan, row: Mapping[str, Any]) -> bool:
    return plan.kind != "window" or WINDOW.contains(row["created_at"])


def recovered(world: World, before: Sequence[Row]) -> datetime:
    """The run after one that has failed, of a store that is well again."""
    try:
        return world.run()
    except (VerificationError, LoadError):
        # It is true that the list has shrunk so much, and a person says so.
        return world.run(allow_shrinkage=True)
    except PullError as error:
        # It has gone on with what is staged, of a list that had moved on by whole pages. It forgets that, and says so.
        if "the store ignores `page`" not in str(error):
            raise
        assert world.table() == before
        try:
            return world.run()
        except (VerificationError, LoadError):
            return world.run(allow_shrinkage=True)


def happens(world: World) -> None:
    """One example: perhaps a run that is killed, a run, and if that fails another one in better weather."""
    plan, server = world.plan, world.server
    world.store_beforehand()
    server.forget()
    server.script(otherwise=world.weather)
    before = world.table()
    if plan.kill_at is not None:
        try:
            check(world, before, world.run(kill_at=plan.kill_at))
            before = world.table()
        except (Killed, *_OWN_ERRORS):
            assert world.table() == before
            if plan.torn:
                world.tear()
    try:
        began_at = world.run()
    except _OWN_ERRORS:
        assert world.table() == before
        world.calm_down()
        server.store.dialect.ignores_updated_after = False
        began_at = recovered(world, before)
    check(world, before, began_at)
    assert len(server.requests) <= world.most_requests
    if plan.another_store:
        world.calm_down()
        table = world.table()
        with pytest.raises(StoreChangedError):
            world.run(base_url=server.base_url.replace("127.0.0.1", "localhost"))
        assert world.table() == table


@dataclass(frozen=True)
class Laboratory:
    """What all examples share, for it takes long to begin: a server, a DuckDB file, a staging directory."""

    server: FaultyStore
    warehouse: Warehouse

    def try_out(self, plan: Plan) -> None:
        staging = Staging(self.warehouse.staging_dir, log=LOG)
        with staging.hold(plan.pull, store="none", wait_seconds=0) as staged:
            staged.discard()
        happens(World(plan, self.server, self.warehouse))


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("laboratory")
    with pytest.MonkeyPatch.context() as monkeypatch, faulty(SampleStore(Shop())) as server:
        # The store is always slow enough for several pages in flight, if they are allowed.
        monkeypatch.setattr(prefetch, "_WORTH_IT_SECONDS", 0.0)
        file = OpenDatabase(path=folder / "shop.duckdb", lock_timeout=5, log=LOG)
        with kept_open(file):
            yield Laboratory(server, Warehouse(database=file, staging_dir=folder / "staging", policy=DEFAULT_POLICY))


@FEW
@given(plan=plans(kind="window"))
def test_a_window_is_loaded_right_or_not_at_all(laboratory: Laboratory, plan: Plan) -> None:
    laboratory.try_out(plan)


@FEW
@given(plan=plans(kind="list"))
def test_a_list_is_loaded_right_or_not_at_all(laboratory: Laboratory, plan: Plan) -> None:
    laboratory.try_out(plan)


@FEW
@given(plan=plans(kind="changes"))
def test_changes_are_loaded_right_or_not_at_all(laboratory: Laboratory, plan: Plan) -> None:
    laboratory.try_out(plan)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", get_args(Kind))
def test_thousands_of_draws_are_loaded_right_or_not_at_all(laboratory: Laboratory, kind: Kind) -> None:
    @THOUSANDS
    @given(plan=plans(kind=kind))
    def try_out(plan: Plan) -> None:
        laboratory.try_out(plan)

    try_out()
