"""Opening the file: whoever holds it is named and waited for; what cannot be opened is said, and left as it is."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from unittest import mock

import duckdb
import pytest

from commerce_assets.warehouse.file import DatabaseFile, WarehouseError
from commerce_assets_tests.support.staged import ORDERS, Holder, Storage, days, held, opens_elsewhere, order, python

LOG = logging.getLogger("database")
WINDOW = days("2024-03-15")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """With one order stored."""
    storage = Storage(tmp_path)
    storage.load(ORDERS, [order(1)], window=WINDOW)
    return storage


def impatient(path: Path, *, seconds: float = 0.2) -> DatabaseFile:
    return DatabaseFile(path=path, lock_timeout=seconds, log=LOG)


class LetGoWhenTold(logging.Handler):
    """Lets go as soon as somebody says that it waits."""

    def __init__(self, holder: Holder) -> None:
        super().__init__()
        self.holder = holder
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())
        self.holder.let_go()


@contextmanager
def letting_go(holder: Holder) -> Iterator[list[str]]:
    handler = LetGoWhenTold(holder)
    LOG.addHandler(handler)
    try:
        yield handler.told
    finally:
        LOG.removeHandler(handler)


# Somebody else has it.


@pytest.mark.parametrize("read_only", [False, True], ids=["by a writer", "by a reader"])
def test_a_writer_gives_up_at_the_deadline_and_names_who_holds_the_file(storage: Storage, *, read_only: bool) -> None:
    """Fault 53."""
    with held(storage.path, read_only=read_only) as holder:
        began = monotonic()
        with pytest.raises(WarehouseError) as raised, impatient(storage.path).write():
            pytest.fail("it was opened")
        assert 0.2 <= monotonic() - began < 5
    message = str(raised.value)
    assert str(storage.path) in message
    assert f"(pid {holder.process.pid})" in message
    assert "python" in message
    assert "What to do: close it there, or raise COMMERCE_DUCKDB_LOCK_TIMEOUT" in message
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


def test_a_reader_gives_up_at_the_deadline_too(storage: Storage) -> None:
    """Fault 53."""
    with (
        held(storage.path) as holder,
        pytest.raises(WarehouseError, match=rf"held by .*\(pid {holder.process.pid}\)"),
        impatient(storage.path).read(),
    ):
        pytest.fail("it was opened")


@pytest.mark.parametrize("read_only", [False, True], ids=["by a writer", "by a reader"])
def test_the_holder_is_named_in_the_log_and_the_load_goes_on_once_it_lets_go(
    storage: Storage, *, read_only: bool
) -> None:
    """Fault 53."""
    with held(storage.path, read_only=read_only) as holder, letting_go(holder) as told:
        with impatient(storage.path, seconds=20).write() as connection:
            connection.execute("DELETE FROM commerce.orders")
        assert len(told) == 1
        assert f"{storage.path} is held by python" in told[0]
        assert f"(pid {holder.process.pid}); waiting for it" in told[0]
    assert storage.query("FROM commerce.orders") == []


def test_a_wait_is_told_again_from_time_to_time(
    storage: Storage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 53."""
    monkeypatch.setattr("commerce_assets.warehouse.file._TELL_AFTER_SECONDS", 0.05)
    monkeypatch.setattr("commerce_assets.warehouse.file._TELL_EVERY_SECONDS", 0.1)
    with held(storage.path), pytest.raises(WarehouseError), impatient(storage.path, seconds=0.5).write():
        pytest.fail("it was opened")
    assert 2 <= len([record for record in caplog.records if "waiting for it" in record.getMessage()]) <= 6


def test_a_file_that_somebody_has_made_in_a_newer_format_is_written_to_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    duckdb.connect(path).close()
    for _ in range(2):
        with DatabaseFile(path=path).write() as connection:
            connection.execute(
                "CREATE OR REPLACE TABLE made AS SELECT tags FROM duckdb_databases() WHERE tags <> MAP {}"
            )
    with DatabaseFile(path=path).read() as connection:
        assert connection.execute("FROM made").fetchall() == [({"storage_version": "v2.0.0+"},)]


def test_readers_do_not_wait_for_each_other(storage: Storage) -> None:
    with held(storage.path, read_only=True), impatient(storage.path, seconds=0).read() as connection:
        assert connection.execute("SELECT id FROM commerce.orders").fetchall() == [(1,)]


# It cannot be opened.


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """Fault 54."""
    path = tmp_path / "nowhere" / "shop.duckdb"
    with pytest.raises(WarehouseError, match=rf"{path.parent}, does not exist.*create it.*COMMERCE_DUCKDB_PATH"):
        Storage(path.parent).execute()
    assert not path.parent.exists()


def test_a_path_below_a_file_is_named(tmp_path: Path) -> None:
    """Fault 54."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WarehouseError, match=r"file, does not exist.*What to do"):
        Storage(tmp_path / "file").execute()
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.mark.parametrize("name", ["a link into nowhere", "x" * 300])
def test_a_file_that_cannot_be_made_is_named(tmp_path: Path, name: str) -> None:
    """Fault 54."""
    storage = Storage(tmp_path, name=name)
    if len(name) < 255:
        storage.path.symlink_to(tmp_path / "nowhere" / "shop.duckdb")
    with pytest.raises(
        WarehouseError, match=r"cannot be (opened|created).*What to do: see that the folder can be written"
    ) as raised:
        storage.execute()
    assert str(storage.path) in str(raised.value)


def test_a_file_that_becomes_full_while_it_is_made_is_not_left_half_made(tmp_path: Path) -> None:
    """Fault 54."""
    code = """
import resource, sys
from pathlib import Path
from commerce_assets_tests.support.staged import Storage
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
try:
    Storage(Path(sys.argv[1])).execute()
except Exception as error:
    print(type(error).__name__, error)
"""
    message = python(code, tmp_path)
    assert message.startswith(f"WarehouseError the database {Storage(tmp_path).path} cannot be created")
    assert "there is none yet. What to do: see that the folder can be written to, that its disk has room" in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    Storage(tmp_path).load(ORDERS, [order(1)], window=WINDOW)


def test_of_two_that_make_the_file_at_once_both_use_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(tmp_path)
    link = Path.hardlink_to

    def link_too_late(path: Path, target: Path) -> None:
        python(
            "import sys, pathlib\nfrom commerce_assets_tests.support.staged import Storage\n"
            "Storage(pathlib.Path(sys.argv[1])).execute('CREATE TABLE theirs (a INT)')",
            path.parent,
        )
        link(path, target)

    monkeypatch.setattr(Path, "hardlink_to", link_too_late)
    storage.execute("CREATE TABLE ours (a INT)")
    assert storage.query("SELECT count(*) FROM duckdb_tables()") == [(2,)]


def test_where_files_cannot_be_linked_the_file_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", mock.Mock(side_effect=PermissionError))
    Storage(tmp_path).execute("CREATE TABLE ours (a INT)")
    assert Storage(tmp_path).query("SELECT count(*) FROM ours") == [(0,)]


@pytest.mark.parametrize("read", [False, True], ids=["written", "read"])
@pytest.mark.parametrize(
    "content",
    [b"no database at all\n" * 1_000, b"PK\x03\x04" + bytes(20_000), b"x"],
    ids=["text", "zip", "a byte"],
)
def test_a_file_that_is_no_database_is_named_and_left_as_it_is(tmp_path: Path, content: bytes, *, read: bool) -> None:
    """Fault 54."""
    storage = Storage(tmp_path)
    storage.path.write_bytes(content)
    with pytest.raises(WarehouseError, match=r"cannot be opened.*restore it from a copy") as raised:
        storage.query("SELECT 1") if read else storage.execute()
    assert str(storage.path) in str(raised.value)
    assert storage.path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [storage.path.name]


def test_a_damaged_database_is_named_and_left_as_it_is(storage: Storage) -> None:
    """Fault 54."""
    content = bytearray(storage.path.read_bytes())
    content[4096:12288] = bytes(8192)  # both copies of the header that says where everything is
    storage.path.write_bytes(content)
    with pytest.raises(WarehouseError, match=r"cannot be opened.*restore it from a copy"):
        storage.load(ORDERS, [order(2)], window=WINDOW)
    assert storage.path.read_bytes() == content


def test_damage_that_shows_only_later_is_told_with_the_name_of_the_file(storage: Storage) -> None:
    """Fault 54."""
    many = [order(number, tag=f"{number**9:x}" * 9) for number in range(5_000)]
    storage.load(ORDERS, many, window=WINDOW)
    content = bytearray(storage.path.read_bytes())
    for block in range(12288 + (256 << 10), len(content), 256 << 10):
        content[block + 1000 : block + 1050] = b"z" * 50
    storage.path.write_bytes(content)
    with pytest.raises(WarehouseError, match=f"{storage.path} cannot be read .*restore it from a copy"):
        storage.query("FROM commerce.orders")
    with pytest.raises(WarehouseError, match=f"{storage.path} cannot be written .*restore it from a copy"):
        storage.load(ORDERS, [order(number, tag="changed") for number in range(5_000)], window=WINDOW)
    assert storage.path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    """Fault 54."""
    storage = Storage(tmp_path)
    storage.path.mkdir()
    for use in (storage.execute, lambda: storage.query("SELECT 1")):
        with pytest.raises(WarehouseError, match=f"{storage.path} cannot be opened"):
            use()
    assert list(storage.path.iterdir()) == []


def test_reading_what_has_never_been_written_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        WarehouseError, match=r"no database at .*materialize something first, or .*COMMERCE_DUCKDB_PATH"
    ):
        Storage(tmp_path).query("SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_fails_the_load_and_what_was_stored_is_intact(storage: Storage) -> None:
    """Fault 54."""
    code = """
import resource, sys
from pathlib import Path
from commerce_assets.warehouse.file import WarehouseError
from commerce_assets_tests.support.staged import ORDERS, Storage, days, order
own = Storage(Path(sys.argv[1], "own"))
own.folder.mkdir()
items = [order(number, tag=f"{number ** 9:x}" * 9) for number in range(5_000)]
staged = own.stage(ORDERS, items, window=days("2024-03-15"))
storage = Storage(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (storage.path.stat().st_size + 100_000, resource.RLIM_INFINITY))
try:
    storage.put(staged)
except WarehouseError as error:
    print(error)
"""
    message = python(code, storage.folder)
    assert f"{storage.path} cannot be written" in message
    assert "File too large" in message
    assert "it is as it was. What to do: see that the folder can be written to, that its disk has room" in message
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]
    storage.load(ORDERS, [order(2)], window=WINDOW)
    assert storage.query("SELECT id FROM commerce.orders") == [(2,)]


# It is let go of, whatever happens.


class UnforeseenError(Exception):
    pass


@pytest.mark.parametrize("error", [UnforeseenError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_a_transaction_it_is_rolled_back_and_the_file_is_free_at_once(
    storage: Storage, error: type[BaseException]
) -> None:
    """Fault 51."""

    def transaction() -> None:
        with storage.database.write() as connection:
            connection.execute("DELETE FROM commerce.orders")
            assert not opens_elsewhere(storage.path)
            raise error

    with pytest.raises(error):
        transaction()
    assert opens_elsewhere(storage.path)
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


def test_what_duckdb_says_when_a_signal_comes_amid_a_statement_ends_a_run_as_an_interrupt(storage: Storage) -> None:
    """Fault 28: that DuckDB does say this is seen by the tests that end runs at random moments."""

    def transaction() -> None:
        with storage.database.write() as connection:
            connection.execute("DELETE FROM commerce.orders")
            raise RuntimeError("Query interrupted")

    with pytest.raises(KeyboardInterrupt):
        transaction()
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


def test_a_statement_that_fails_rolls_back_and_frees_the_file(storage: Storage) -> None:
    """Fault 51."""
    with pytest.raises(duckdb.CatalogException):
        storage.execute("DELETE FROM commerce.orders", "FROM no_such_table")
    assert opens_elsewhere(storage.path)
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


def test_a_reader_that_fails_frees_the_file(storage: Storage) -> None:
    with pytest.raises(UnforeseenError), storage.database.read():
        raise UnforeseenError
    assert opens_elsewhere(storage.path)


def test_a_file_that_could_not_be_used_once_opened_is_free(storage: Storage) -> None:
    with pytest.raises(duckdb.Error), DatabaseFile(path=storage.path, config={"no_such_setting": 1}).write():
        pytest.fail("it was opened")
    assert opens_elsewhere(storage.path)


def test_a_reader_cannot_write(storage: Storage) -> None:
    with (
        storage.database.read() as connection,
        pytest.raises(duckdb.InvalidInputException, match="read-only"),
    ):
        connection.execute("DELETE FROM commerce.orders")


def test_instants_are_read_and_cut_into_days_in_utc_wherever_the_machine_is(storage: Storage) -> None:
    """Fault 59."""
    code = """
import sys
from pathlib import Path
from commerce_assets_tests.support.staged import Storage
day = "CAST(TIMESTAMPTZ '2024-01-01 00:00Z' AS DATE)"
print(Storage(Path(sys.argv[1])).query(f"SELECT current_setting('TimeZone'), {day}"))
"""
    assert python(code, storage.folder, zone="America/New_York") == python(code, storage.folder)


def test_the_file_has_the_format_that_the_readers_of_today_can_open(storage: Storage) -> None:
    versions = storage.query(
        "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = current_database()"
    )
    assert versions[0][0].startswith("v1.5")


def test_what_a_killed_process_has_spilled_is_removed_by_the_next_that_writes(tmp_path: Path) -> None:
    """Fault 68."""
    database = DatabaseFile(path=tmp_path / "commerce.duckdb")
    spilled = tmp_path / "commerce.duckdb.tmp" / "duckdb_temp_storage-0.tmp"
    spilled.parent.mkdir()
    spilled.write_text("a buyer")

    with database.write() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1")

    assert not spilled.parent.exists()


def test_the_mask_of_the_process_is_put_back_by_the_last_that_uses_a_file(storage: Storage) -> None:
    """Fault 68."""
    before = os.umask(0o022)
    try:
        first, second = storage.database.read(), storage.database.read()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert mask() == 0o077
        second.__exit__(None, None, None)
        assert mask() == 0o022
    finally:
        os.umask(before)


def mask() -> int:
    os.umask(now := os.umask(0))
    return now
