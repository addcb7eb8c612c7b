"""Runs in processes of their own that are disturbed, and what must hold after each of them."""

import logging
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

from commerce_assets.api.request import ListRequest
from commerce_assets.ingest import staging
from commerce_assets.ingest.ingest import ingest
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.window import Window
from commerce_assets_tests.support.disturbances import AtOperation, InPhase, handle_sigterm, undisturbed
from commerce_assets_tests.support.forkserver import PROCESSES
from commerce_assets_tests.support.items import DAY, ORDERS
from commerce_assets_tests.support.world import LOG, World, build_client
from sample_store.server import serve
from sample_store.shop import Shop, build_orders
from sample_store.store import SampleStore

ROWS = 120
PER_PAGE = 20
# The last page is full: the empty page after it is staged too, and one more request, which is not, proves the end.
PAGES = ROWS // PER_PAGE + 1
REQUESTS = PAGES + 1
# Half the work for DuckDB; all other fields are in `_extra`, and looked at as well.
COLUMNS = ("id", "created_at", "updated_at", "tag", "settled_gross", "buyer_email")
FEW = replace(ORDERS, columns=tuple(column for column in ORDERS.columns if column.name in COLUMNS), item_lookup=None)
WINDOW = Window.of_days(DAY, DAY)
PULL = ListRequest(endpoint=FEW, window=WINDOW)


Disturbance = Callable[[Path], None]
"""As in disturbances.py; can be pickled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        error: Type and message of what it raised; None if it raised nothing, or was killed.
        operations: The file operations that its disturbance has seen, if it was one that counts them.
        exit_code: 0, 1, or a signal's number with a minus.
        table: "old", "new", or "no": what was found afterwards.
        seconds: Since it was started, or was sent its signal.
    """

    error: str | None
    operations: list[str]
    exit_code: int
    table: str
    seconds: float


def rows_of(database: DatabaseFile) -> list[tuple[object, ...]]:
    """The orders to the row, but for the time of the pull: id and tag first; none if there is no table."""
    if not database.path.exists():
        return []
    with database.read() as connection:
        tables = connection.execute("FROM duckdb_tables() WHERE table_name = 'orders'").fetchall()
        query = "SELECT id, tag, * EXCLUDE (_extracted_at) FROM commerce.orders ORDER BY id"
        return connection.execute(query).fetchall() if tables else []


class Scene:
    """A store whose every order changes before each run, and a folder with the table that must keep up."""

    def __init__(self, folder: Path, store: SampleStore, base_url: str) -> None:
        self.folder = folder
        self.database = DatabaseFile(path=folder / "shop.duckdb")
        self.store = store
        self._base_url = base_url
        self._versions = count(1)
        # How long a run takes that nobody disturbs.
        self.seconds = 0.0

    def staged_pages(self) -> int:
        """How many pages an interrupted run has left whole."""
        folder = self.folder / "staging" / FEW.name / PULL.key
        if not (folder / "manifest.json").exists() or not (folder / "pages.jsonl").exists():
            return 0
        return (folder / "pages.jsonl").read_bytes().count(b"\n")

    def survive(
        self, case: str, *disturbances: Disturbance, sigterm_after: float | None = None, empty: bool = False
    ) -> Outcome:
        """Disturb a run; assert that the table is then the old one or the new one and the next run is right.

        Args:
            case: Names it where it fails, so that it can be repeated.
            disturbances: One run after the other is disturbed so; what holds is looked at after the last of them.
            sigterm_after: Seconds after which the last of them is sent SIGTERM.
            empty: There is no table before.
        """
        if empty:
            self.database.path.unlink(missing_ok=True)
        elif not self.database.path.exists():
            self._ordinary_run(case)
        old = rows_of(self.database)
        version = self._change_every_order()
        for earlier in disturbances[:-1]:
            self._run(earlier)
        error, operations, exit_code, seconds = self._run(
            disturbances[-1] if disturbances else undisturbed, sigterm_after
        )
        found, staged_pages = rows_of(self.database), self.staged_pages()
        requests = self._ordinary_run(case)
        new = rows_of(self.database)

        expected = [(order["id"], version) for order in self.store.shop.orders]
        assert [row[:2] for row in new] == expected, f"{case}: the run after it did not bring every row"
        assert found in (old, new), f"{case}: the table is neither the old one nor the new one"
        assert not [*self.folder.glob("staging/**/*.jsonl")], f"{case}: the run after it has left pages behind"
        beside = sorted(path.name for path in self.folder.iterdir())
        assert beside == ["shop.duckdb", "staging"], f"{case}: the run after it has left something beside the file"
        if found != new:
            asked_again = min(staged_pages, 1)
            assert requests <= REQUESTS - staged_pages + asked_again, f"{case}: the run after it did not go on"
        table = "new" if found == new else "old" if found else "no"
        return Outcome(error=error, operations=operations, exit_code=exit_code, table=table, seconds=seconds)

    def _change_every_order(self) -> str:
        version = f"version {next(self._versions)}"
        for order in self.store.shop.orders:
            order["tag"] = version
        self.store.touch()
        return version

    def _ordinary_run(self, case: str) -> int:
        """A run that nobody disturbs; returns how many requests it took."""
        before = len(self.store.requests)
        error, _, exit_code, self.seconds = self._run(undisturbed)
        assert (error, exit_code) == (None, 0), f"{case}: the run after it has failed"
        return len(self.store.requests) - before

    def _run(
        self, disturb: Disturbance, sigterm_after: float | None = None
    ) -> tuple[str | None, list[str], int, float]:
        ours, theirs = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=_report_its_end, args=(self._base_url, self.folder, disturb, theirs))
        began = time.monotonic()
        process.start()
        theirs.close()
        if sigterm_after is not None:
            process.join(sigterm_after)
            began = time.monotonic()
            process.terminate()
        try:
            error, operations = ours.recv()
        except EOFError:
            error, operations = None, []
        process.join()
        assert process.exitcode is not None
        return error, operations, process.exitcode, time.monotonic() - began


@contextmanager
def scene_in(folder: Path) -> Iterator[Scene]:
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    store = SampleStore(Shop(orders=build_orders(start=WINDOW.start, days=1, per_day=ROWS)))
    with serve(store) as server:
        yield Scene(folder, store, server.base_url)


def _report_its_end(base_url: str, folder: Path, disturb: Disturbance, answer: Connection) -> None:
    # Each page is on the disk before the next one is asked for, as at the pace of the API: there is most to disturb.
    mock.patch.object(staging, "_SYNC_EVERY_SECONDS", 0.0).start()
    disturb(folder)
    error = None
    try:
        _ingest(base_url, folder)
    except BaseException as raised:  # noqa: BLE001 - any error is reported
        error = f"{type(raised).__name__}: {raised}"
    answer.send((error, getattr(disturb, "seen", [])))
    raise SystemExit(error is not None)


def _ingest(base_url: str, folder: Path) -> None:
    """The product's own path, from the first request to the removal of the staged pages."""
    warehouse = World(folder).warehouse
    with build_client(base_url=base_url, per_page=PER_PAGE) as client:
        ingest(PULL, client=client, warehouse=warehouse, log=LOG)


def kill_in_phases(scene: Scene, *, times: int, seed: int, empty: bool) -> list[Outcome]:
    """Kill runs at random moments of each phase; return the outcomes of those that were killed before their end."""
    moments = random.Random(seed)
    outcomes = []
    timeline = scene.survive("a run that is not killed", InPhase(), empty=empty).operations
    for (phase, began), (_, ended) in pairwise(map(str.split, timeline)):
        for run in range(times):
            after = moments.uniform(0, float(ended) - float(began))
            case = f"seed {seed}, run {run}: killed {after:.4f} s after the beginning of {phase}"
            outcomes.append(scene.survive(case, InPhase(phase, after), empty=empty))
    return [outcome for outcome in outcomes if outcome.exit_code == -signal.SIGALRM]


def end_at_random_moments(scene: Scene, *, runs: int, seed: int) -> list[Outcome]:
    """Send each run SIGTERM, anywhere from its first line to after its end; every fifth has no table before."""
    moments = random.Random(seed)
    scene.survive("the run before all others")
    outcomes = []
    for run in range(runs):
        # One that is ended takes as long as the one before it, or a little longer.
        share = moments.uniform(0, 1.2)
        case = f"seed {seed}, run {run}: SIGTERM after {share:.0%} of {scene.seconds:.3f} s"
        outcomes.append(
            scene.survive(case, handle_sigterm, sigterm_after=share * scene.seconds, empty=moments.random() < 0.2)
        )
    return outcomes


def kill_at(scene: Scene, operations: list[str], number: int, *, empty: bool) -> None:
    case = f"killed at operation {number}, {operations[number - 1]}"
    outcome = scene.survive(case, AtOperation(number=number), empty=empty)
    assert outcome.exit_code == -signal.SIGKILL, case


def assert_prompt(outcomes: list[Outcome]) -> None:
    ended = [outcome for outcome in outcomes if outcome.exit_code]
    assert ended
    assert {outcome.error for outcome in ended} <= {None, "KeyboardInterrupt: "}
    assert max(outcome.seconds for outcome in ended) < 2
