"""Pages on disk: what a pull that was cut short leaves there, and who goes on with it."""

import dataclasses
import errno
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from unittest import mock

import msgspec
import pytest
import time_machine

from commerce_assets.api.errors import PullError
from commerce_assets.api.request import ListRequest
from commerce_assets.endpoint import Column, ColumnType
from commerce_assets.ingest import staging
from commerce_assets.ingest.stage import stage
from commerce_assets.ingest.staging import StagedPages, Staging, StagingError
from commerce_assets.window import Window
from commerce_assets_tests.support.clock import Clock
from commerce_assets_tests.support.faulty_store import OnPage, Status
from commerce_assets_tests.support.items import (
    BY_NAME,
    DAY,
    ORDERS_OF_DAY,
    PRODUCT_LIST,
    order,
    orders,
    product,
    store_of,
)
from commerce_assets_tests.support.world import LOG, World, serving, staged_rows
from sample_store.transport import Answer

ROOT = Path(__file__).resolve().parents[2]
ALL = [*range(1, 221)]
HALF_A_DAY_AND_MORE = 13 * 3600

HOLD = """
import logging, sys, time
from pathlib import Path
from sample_store.transport import Answer
from commerce_assets.ingest.staging import Staging
from commerce_assets_tests.support.items import PRODUCT_LIST

with Staging(Path(sys.argv[1]), log=logging.getLogger()).hold(PRODUCT_LIST, store=sys.argv[2], wait_seconds=0):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def puller(tmp_path: Path) -> Iterator[World]:
    """A store with 220 products: five pages."""
    with serving(store_of(products=220), tmp_path) as puller:
        yield puller


def cut_short(puller: World, *, after: int = 3, pull: ListRequest = PRODUCT_LIST) -> Path:
    """Leave a pull behind that failed after `after` pages; returns its folder."""
    puller.server.script(otherwise=OnPage(after + 1, Status(410)))
    with pytest.raises(PullError):
        puller.pull(pull)
    puller.server.script()
    puller.server.forget()
    return puller.staging / pull.endpoint.name / pull.key


def pull_id(folder: Path) -> str:
    found: str = json.loads((folder / "manifest.json").read_text())["pull_id"]
    return found


# Going on


@pytest.mark.parametrize(("pages", "rows"), [(1, 50), (2, 99), (3, 147), (4, 194)])
def test_an_interrupted_pull_resumes_at_its_last_staged_page(puller: World, pages: int, rows: int) -> None:
    cut_short(puller, after=pages)
    pulled = puller.pull()
    assert puller.server.pages == [*range(pages, 7)]
    assert pulled.ids == ALL
    assert (pulled.cost.requests, pulled.cost.rows_resumed) == (7 - pages, rows)


def test_a_resumed_pull_keeps_its_id_and_a_restarted_one_not(puller: World) -> None:
    folder = cut_short(puller)
    before = pull_id(folder)
    with puller.hold(PRODUCT_LIST) as staged, puller.client() as client:
        stage(client, staged, log=LOG)
        assert pull_id(folder) == staged.manifest.pull_id == before
        staged.clear()
        assert pull_id(folder) == staged.manifest.pull_id != before
        assert (staged.count, staged.is_complete, list(staged.segments)) == (0, False, [])


def test_a_pull_that_was_staged_whole_is_not_asked_for_again(puller: World) -> None:
    with puller.hold(PRODUCT_LIST) as staged, puller.client() as client:
        stage(client, staged, log=LOG)
    puller.server.forget()
    pulled = puller.pull()
    assert pulled.ids == ALL
    assert puller.server.requests == []
    assert (pulled.cost.requests, pulled.cost.rows_resumed) == (0, len(pulled.rows))


def test_a_pull_that_is_done_and_discarded_leaves_no_row_behind(puller: World) -> None:
    puller.pull()
    assert [path.name for path in puller.staging.rglob("*") if path.is_file()] == ["all.lock"]


def test_where_the_list_ends_is_known_after_going_on_as_well(puller: World) -> None:
    """A clamped page size, the ids of earlier pages and the order of the list are learnt from the staged pages."""
    puller.server.store.dialect.max_per_page = 10
    cut_short(puller, after=3)
    assert puller.pull().ids == ALL
    assert puller.server.pages == [*range(3, 25)]


def test_a_page_that_repeats_one_from_before_the_cut_is_noticed(puller: World) -> None:
    """Fault 31."""
    cut_short(puller)
    puller.server.script(None, otherwise=lambda exchange: exchange.send_answer(answer_to_page(puller, 1)))
    with pytest.raises(PullError, match="page 4 holds only rows of the pages before it"):
        puller.pull()


def answer_to_page(puller: World, page: int) -> Answer:
    request = puller.server.requests[-1]
    return puller.server.store.respond(request.path, {**request.query, "page": str(page)}, request.headers)


def test_a_resumed_oldest_first_window_stops_at_its_end(tmp_path: Path) -> None:
    midnight = datetime(2024, 3, 15, tzinfo=UTC)
    items = orders(1000, start=midnight, every=timedelta(minutes=10))
    with serving(store_of(orders=items), tmp_path) as puller:
        puller.server.store.dialect.ignores_dates = True
        cut_short(puller, after=2, pull=ORDERS_OF_DAY)
        puller.pull(ORDERS_OF_DAY)
        # 144 orders a day; the store evidently ignores `to` three days beyond the window.
        assert puller.server.pages == [*range(2, 13)]


# A list that has moved


def test_a_pull_restarts_when_a_row_was_deleted_meanwhile(puller: World, caplog: pytest.LogCaptureFixture) -> None:
    """Fault 33, for a deletion between two runs."""
    caplog.set_level(logging.INFO)
    folder = cut_short(puller)
    before = pull_id(folder)
    puller.server.store.delete("products", 7)
    with puller.hold(PRODUCT_LIST) as staged, puller.client() as client:
        stage(client, staged, log=LOG)
        assert {row["id"] for row in staged_rows(staged)} == {*ALL} - {7}
        assert staged.manifest.pull_id != before
    assert puller.server.pages == [3, 1, 2, 3, 4, 5, 6]
    assert "the list has moved since an earlier run; starting again" in caplog.text


def test_a_pull_restarts_when_the_list_is_shorter_than_staged(puller: World) -> None:
    cut_short(puller)
    for number in range(61, 221):
        puller.server.store.delete("products", number)
    assert puller.pull().ids == [*range(1, 61)]
    assert puller.server.pages == [3, 1, 2, 3]


def test_another_page_size_goes_on_as_well(puller: World) -> None:
    cut_short(puller)
    assert puller.pull(per_page=40).ids == ALL
    assert {request.query["per_page"] for request in puller.server.requests[1:]} <= {str(size) for size in range(41)}


def test_rows_added_or_edited_meanwhile_restart_no_pull(puller: World) -> None:
    cut_short(puller)
    puller.server.store.add("products", product(221))
    puller.server.store.shop.products[120]["name"] = "Renamed"
    puller.server.store.touch()
    assert puller.pull().ids == [*ALL, 221]
    assert puller.server.pages == [3, 4, 5, 6]


# What a crash leaves


@pytest.mark.parametrize("missing", [1, 2, 40, 150])
def test_a_torn_last_line_of_the_index_costs_one_page(puller: World, missing: int) -> None:
    folder = cut_short(puller)
    index = (folder / "pages.jsonl").read_bytes()
    (folder / "pages.jsonl").write_bytes(index[:-missing])
    assert puller.pull().ids == ALL
    # Without its line break alone the line is whole.
    assert puller.server.pages == ([3, 4, 5, 6] if missing == 1 else [2, 3, 4, 5, 6])


def test_a_pull_interrupted_twice_resumes_where_it_ended(puller: World) -> None:
    folder = cut_short(puller, after=2)
    index = (folder / "pages.jsonl").read_bytes()
    (folder / "pages.jsonl").write_bytes(index[:-40])
    cut_short(puller, after=4)
    assert puller.pull().ids == ALL
    assert puller.server.pages == [4, 5, 6]


@pytest.mark.parametrize("garbage", [b'{"facts": {"number": 4', b"\0" * 100, b"[]\n", b"\n", b"{}\n", b"\xff\n"])
def test_garbage_at_the_end_of_the_index_is_cut_off(puller: World, garbage: bytes) -> None:
    folder = cut_short(puller)
    with (folder / "pages.jsonl").open("ab") as index:
        index.write(garbage)
    assert puller.pull().ids == ALL
    assert puller.server.pages == [3, 4, 5, 6]


def test_a_torn_line_in_the_index_costs_what_follows_it(puller: World) -> None:
    folder = cut_short(puller)
    first, second, third = (folder / "pages.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "pages.jsonl").write_bytes(first + second[:20] + b"\n" + third)
    assert puller.pull().ids == ALL
    assert puller.server.pages == [1, 2, 3, 4, 5, 6]


def test_items_beyond_the_last_whole_page_are_cut_off(puller: World) -> None:
    folder = cut_short(puller)
    with (folder / "items-00001.jsonl").open("ab") as items:
        items.write(b'{"id": 151, "name": "of a page that was never finish')
    assert puller.pull().ids == ALL


@pytest.mark.parametrize(("name", "sent"), [("items-00001.jsonl", b'"id":60'), ("pages.jsonl", b'"count":50')])
def test_a_byte_that_flips_on_the_disk_costs_its_page(puller: World, name: str, sent: bytes) -> None:
    """Fault 98. The value stays valid JSON."""
    folder = cut_short(puller)
    written = (folder / name).read_bytes()
    at = written.rindex(sent) + len(sent) - 1
    (folder / name).write_bytes(written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :])
    assert puller.pull().ids == ALL
    assert puller.server.pages[0] == 1


def test_pages_whose_items_are_missing_are_pulled_again(puller: World) -> None:
    folder = cut_short(puller)
    os.truncate(
        folder / "items-00001.jsonl", json.loads((folder / "pages.jsonl").read_text().split("\n")[1])["items_end"]
    )
    assert puller.pull().ids == ALL
    assert puller.server.pages == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["manifest.json", "pages.jsonl", "items-00001.jsonl"])
def test_without_one_of_its_files_a_pull_starts_again(puller: World, name: str) -> None:
    folder = cut_short(puller)
    (folder / name).unlink()
    assert puller.pull().ids == ALL
    assert puller.server.pages == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("content", ["", "{}", '{"pull_id": 1}', "\0\0\0", "[" * 10_000])
def test_an_unreadable_manifest_starts_again(puller: World, content: str) -> None:
    folder = cut_short(puller)
    (folder / "manifest.json").write_text(content)
    assert puller.pull().ids == ALL
    assert puller.server.pages == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_is_named_and_the_next_run_goes_on(puller: World) -> None:
    """Fault 54."""
    # One page fits, and a part of the second one.
    with file_size_limited(6_000), pytest.raises(StagingError) as caught:
        puller.pull()
    assert "cannot be used: File too large" in str(caught.value)
    assert "COMMERCE_STAGING_DIR" in str(caught.value)
    puller.server.forget()
    assert puller.pull().ids == ALL
    assert puller.server.pages == [1, 2, 3, 4, 5, 6]


@contextmanager
def file_size_limited(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# What must not be mixed


def test_pages_of_another_store_are_never_gone_on_with(puller: World) -> None:
    cut_short(puller)
    with puller.hold(PRODUCT_LIST, store="https://other.example/api/v1/products") as staged:
        assert staged.count == 0


def test_pages_with_other_columns_are_not_resumed(puller: World) -> None:
    cut_short(puller)
    column = Column(name="new", type=ColumnType.TEXT, description="Declared since.")
    endpoint = dataclasses.replace(PRODUCT_LIST.endpoint, columns=(*PRODUCT_LIST.endpoint.columns, column))
    with puller.hold(ListRequest(endpoint=endpoint)) as staged:
        assert staged.count == 0


def test_pages_of_other_parameters_lie_in_a_folder_of_their_own(puller: World) -> None:
    other = ListRequest(endpoint=BY_NAME["orders"], window=Window.of_days(DAY, DAY + timedelta(days=1)))
    changed = ListRequest(endpoint=BY_NAME["orders"], updated_after=datetime(2024, 3, 15, 1, 2, 3, tzinfo=UTC))
    whole = ListRequest(endpoint=BY_NAME["orders"])
    keys = [pull.key for pull in (ORDERS_OF_DAY, other, changed, whole)]
    assert keys == ["2024-03-15_2024-03-15", "2024-03-15_2024-03-16", "updated_after_2024-03-15T010203Z", "all"]
    puller.server.store.shop.orders[:] = orders(60)
    puller.server.store.touch()
    cut_short(puller, after=1, pull=ORDERS_OF_DAY)
    with puller.hold(other) as staged:
        assert staged.count == 0
    with puller.hold(ORDERS_OF_DAY) as staged:
        assert staged.count == 50


@pytest.mark.parametrize(("hours", "kept"), [(-1, 0), (11.9, 147), (12.1, 0), (500, 0)])
def test_pages_that_are_too_old_or_from_the_future_are_dropped(puller: World, hours: float, kept: int) -> None:
    """Fault 111: the age of a page is its own time of staging, not that of a file, which `make clocks` cannot move."""
    folder = cut_short(puller)
    manifest = json.loads((folder / "manifest.json").read_text())
    # Counted from the last page: a pull of five million orders takes over a day.
    began_at = datetime.now(UTC) - timedelta(days=30)
    (folder / "manifest.json").write_text(json.dumps({**manifest, "began_at": began_at.isoformat()}))
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours)), puller.hold(PRODUCT_LIST) as staged:
        assert staged.count == kept
        assert (pull_id(folder) == manifest["pull_id"]) is (kept > 0)


# Who holds the folder


@contextmanager
def holder(puller: World, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(puller.staging), puller.server.base_url, str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_waits_for_the_first_on_the_same_pull(puller: World, caplog: pytest.LogCaptureFixture) -> None:
    """Fault 56."""
    caplog.set_level(logging.INFO)
    with holder(puller, seconds=0.5):
        assert puller.pull().ids == ALL
    assert "products: another process is extracting the same; waiting for it" in caplog.text


def test_who_waits_for_too_long_gives_up_and_says_so(puller: World) -> None:
    """Fault 56."""
    with (
        holder(puller, seconds=30),
        pytest.raises(StagingError, match=r"products: another process has been extracting the same .* wait for it, or"),
        puller.hold(PRODUCT_LIST, wait_seconds=0.1),
    ):
        pass
    assert puller.server.requests == []


def test_a_process_that_is_killed_gives_the_folder_back_at_once(puller: World) -> None:
    """Fault 52."""
    with holder(puller, seconds=30) as process:
        process.kill()
        process.wait()
        began = time.monotonic()
        assert puller.pull().ids == ALL
        assert time.monotonic() - began < 1


def test_another_pull_need_not_wait(puller: World) -> None:
    with holder(puller, seconds=30), puller.hold(ORDERS_OF_DAY, wait_seconds=0) as staged:
        assert staged.count == 0


# Who may read it, and for how long


def test_files_are_the_users_own_whatever_the_umask(puller: World) -> None:
    """Fault 68."""
    umask = os.umask(0)
    try:
        with puller.hold(PRODUCT_LIST) as staged, puller.client() as client:
            stage(client, staged, log=LOG)
    finally:
        os.umask(umask)
    paths = [puller.staging, *puller.staging.rglob("*")]
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in paths}
    private = dict.fromkeys(["all.lock", "manifest.json", "pages.jsonl", "items-00001.jsonl"], "0o600")
    assert modes == dict.fromkeys(["staging", "products", "all"], "0o700") | private


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_abandoned_pages_are_removed_by_the_next_pull(puller: World) -> None:
    """Fault 66: buyers' data does not lie about for ever."""
    puller.server.store.shop.orders[:] = [order(n, buyer_email="ann@example.com") for n in range(60)]
    puller.server.store.touch()
    abandoned = cut_short(puller, after=1, pull=ORDERS_OF_DAY)
    assert b"ann@example.com" in (abandoned / "items-00001.jsonl").read_bytes()
    age(abandoned.with_name(f"{abandoned.name}.lock"), HALF_A_DAY_AND_MORE)
    fresh = ListRequest(endpoint=BY_NAME["orders"], window=Window.of_days(date(2024, 3, 1), date(2024, 3, 1)))
    with puller.hold(fresh):
        assert sorted(path.name for path in abandoned.parent.iterdir()) == [fresh.key, f"{fresh.key}.lock"]


def test_leftovers_that_cannot_be_removed_do_not_stop_a_pull(
    puller: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 66."""
    puller.server.store.shop.orders[:] = orders(60)
    puller.server.store.touch()
    abandoned = cut_short(puller, after=1, pull=ORDERS_OF_DAY)
    fresh = ListRequest(endpoint=BY_NAME["orders"], window=Window.of_days(date(2024, 3, 1), date(2024, 3, 1)))
    age(abandoned.with_name(f"{abandoned.name}.lock"), HALF_A_DAY_AND_MORE)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", mock.Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
        with puller.hold(fresh):
            pass
    assert f"old staged pages in {abandoned} cannot be removed: Permission denied" in caplog.text
    assert abandoned.exists()
    age(abandoned.with_name(f"{abandoned.name}.lock"), HALF_A_DAY_AND_MORE)
    with puller.hold(fresh):
        assert not abandoned.exists()


def test_what_is_fresh_or_held_is_not_removed(puller: World) -> None:
    with holder(puller, seconds=30):
        lock = puller.staging / "products" / "all.lock"
        age(lock, HALF_A_DAY_AND_MORE)
        endpoint = PRODUCT_LIST.endpoint
        Staging(puller.staging, log=LOG)._sweep(puller.staging / endpoint.name)
        assert (lock.with_suffix("") / "manifest.json").exists()
    cut_short(puller)
    Staging(puller.staging, log=LOG)._sweep(puller.staging / endpoint.name)
    assert puller.pull().cost.rows_resumed == 147


def test_a_leftover_removed_by_another_process_is_no_failure(puller: World) -> None:
    folder = puller.staging / "products"
    folder.mkdir(parents=True)
    (folder / "gone.lock").symlink_to("removed")
    assert puller.pull().ids == ALL


@pytest.mark.parametrize("path", ["staging", "staging/products"])
def test_an_unusable_staging_directory_names_the_setting(puller: World, path: str) -> None:
    """Fault 54."""
    in_the_way = puller.staging.parent / path
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.write_text("a file")
    with pytest.raises(StagingError, match=r"COMMERCE_STAGING_DIR") as caught, puller.hold(PRODUCT_LIST):
        pass
    assert str(puller.staging) in str(caught.value)


def test_a_callers_error_is_not_a_staging_error(puller: World) -> None:
    with pytest.raises(FileNotFoundError), puller.hold(PRODUCT_LIST):
        Path("/nowhere/at/all").read_bytes()


# Segments


def test_items_roll_over_into_new_files_and_no_page_is_split(puller: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_SEGMENT_BYTES", 5_000)
    with puller.hold(PRODUCT_LIST) as staged, puller.client() as client:
        stage(client, staged, log=LOG)
        assert [path.name for path in staged.segments] == [f"items-0000{number}.jsonl" for number in (1, 2, 3)]
        assert {row["id"] for row in staged_rows(staged)} == {*ALL}
        # Pages of 50 and 49, 48 and 47, and the last one.
        assert [path.read_bytes().count(b"\n") for path in staged.segments] == [99, 95, 36]


@pytest.mark.parametrize("pages", [1, 2, 3, 4])
def test_a_pull_goes_on_in_the_file_that_its_last_page_is_in(
    puller: World, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    monkeypatch.setattr(staging, "_SEGMENT_BYTES", 5_000)
    folder = cut_short(puller, after=4)
    index = (folder / "pages.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "pages.jsonl").write_bytes(b"".join(index[:pages]))
    assert puller.pull().ids == ALL
    assert puller.server.pages == [*range(pages, 7)]


@dataclasses.dataclass
class Listing:
    """A watcher that looks at how many pages are listed on the disk each time that one is staged."""

    folder: Path
    clock: Clock
    seconds_a_page: float
    listed: list[int] = dataclasses.field(default_factory=list)

    def begin(self, request: object, staged: object) -> None:
        """Nothing is to be seen yet."""

    def loading(self) -> None:
        raise AssertionError("nothing is loaded here")

    def page(self, _: object) -> None:
        self.listed.append((self.folder / "pages.jsonl").read_bytes().count(b"\n"))
        self.clock.now += self.seconds_a_page


@pytest.mark.parametrize(
    ("seconds_a_page", "listed"), [(1.0, [1, 2, 3, 4, 5, 6]), (0.3, [1, 1, 3, 3, 5, 6]), (0.0, [1, 1, 1, 1, 1, 6])]
)
def test_pages_are_synced_one_by_one_or_in_groups_if_fast(
    puller: World, monkeypatch: pytest.MonkeyPatch, seconds_a_page: float, listed: list[int]
) -> None:
    clock = Clock()
    monkeypatch.setattr(staging, "time", clock)
    with puller.hold(PRODUCT_LIST) as staged, puller.client() as client:
        watcher = Listing(staged.folder, clock, seconds_a_page)
        stage(client, staged, log=LOG, watcher=watcher)

    assert watcher.listed == listed


def test_a_missing_file_of_items_costs_the_pages_from_there_on(puller: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "_SEGMENT_BYTES", 1)
    folder = cut_short(puller, after=4)
    (folder / "items-00002.jsonl").unlink()
    assert puller.pull().ids == ALL


# The facts of a page


def test_the_pull_began_when_the_stores_clock_says_so(puller: World) -> None:
    with puller.hold(PRODUCT_LIST) as staged, puller.client() as client:
        client.store_clock = 3600
        began_at = staged.manifest.began_at
        assert staged.began_at_store == began_at
        stage(client, staged, log=LOG)
        assert abs(staged.began_at_store - began_at) < timedelta(seconds=5)
        an_hour_ahead = [msgspec.structs.replace(page, store_clock=3600.0) for page in staged._pages]
        later = StagedPages(staged.folder, PRODUCT_LIST, staged.manifest, an_hour_ahead)
        assert later.began_at_store - began_at == timedelta(hours=1)
