"""The database file: what a write waits for, what it swaps in, and what it leaves untouched when it fails."""

import errno
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from unittest import mock

import duckdb
import pytest

from commerce_assets.warehouse.database import DatabaseLockedError, WarehouseError, request_rewrite, short_error
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.swap import wal_path
from commerce_assets_tests.support.items import ORDERS, days, order
from commerce_assets_tests.support.other_programs import Holder, held, leave_a_wal, opens_elsewhere, python
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.world import World

LOG = logging.getLogger("database")
WINDOW = days("2024-03-15")


@pytest.fixture
def storage(tmp_path: Path) -> World:
    """With one order stored."""
    storage = World(tmp_path)
    storage.load(ORDERS, [order(1)], window=WINDOW)
    return storage


def impatient(path: Path, *, seconds: float = 0.2) -> DatabaseFile:
    return DatabaseFile(path=path, lock_timeout=seconds, log=LOG)


class LetGoWhenLogged(logging.Handler):
    """Lets go as soon as somebody says that it waits."""

    def __init__(self, holder: Holder) -> None:
        super().__init__()
        self.holder = holder
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.holder.let_go()


@contextmanager
def letting_go(holder: Holder) -> Iterator[list[str]]:
    handler = LetGoWhenLogged(holder)
    LOG.addHandler(handler)
    try:
        yield handler.messages
    finally:
        LOG.removeHandler(handler)


# Another process has it open.


def test_a_write_gives_up_on_an_outside_writer_and_names_it(storage: World) -> None:
    """Fault 53."""
    with held(storage.path) as holder:
        began = monotonic()
        with pytest.raises(DatabaseLockedError) as raised, impatient(storage.path).write():
            pytest.fail("it was opened")
        assert 0.2 <= monotonic() - began < 5
    message = str(raised.value)
    assert str(storage.path) in message
    assert re.search(rf"held by python\S* \(pid {holder.process.pid}\)", message)
    assert "Fix: open it read-only there (ATTACH ... (READ_ONLY)), or close it" in message
    assert raised.value.holder.endswith(f"(pid {holder.process.pid})")
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]
    assert names_in(storage.folder) == ["shop.duckdb"]


def test_a_read_gives_up_on_an_outside_writer_and_names_it(storage: World) -> None:
    """Fault 53."""
    with (
        held(storage.path) as holder,
        pytest.raises(DatabaseLockedError, match=rf"held by .*\(pid {holder.process.pid}\)"),
        impatient(storage.path).read(),
    ):
        pytest.fail("it was opened")


def test_a_write_logs_the_outside_writer_and_continues_after_it(storage: World) -> None:
    """Fault 53."""
    with held(storage.path) as holder, letting_go(holder) as messages:
        with impatient(storage.path, seconds=20).write() as connection:
            connection.execute("DELETE FROM commerce.orders")
        assert len(messages) == 1
        assert f"{storage.path} is held by python" in messages[0]
        assert f"(pid {holder.process.pid}); waiting for it" in messages[0]
    assert storage.query("FROM commerce.orders") == []


def test_a_wait_is_logged_repeatedly(
    storage: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 53."""
    monkeypatch.setattr("commerce_assets.warehouse.database._LOG_AFTER_SECONDS", 0.05)
    monkeypatch.setattr("commerce_assets.warehouse.database._LOG_EVERY_SECONDS", 0.1)
    with held(storage.path), pytest.raises(WarehouseError), impatient(storage.path, seconds=0.5).write():
        pytest.fail("it was opened")
    assert 2 <= len([record for record in caplog.records if "waiting for it" in record.getMessage()]) <= 6


def test_a_reader_in_another_process_does_not_delay_a_write(storage: World) -> None:
    with held(storage.path, read_only=True), impatient(storage.path, seconds=0).write() as connection:
        connection.execute("DELETE FROM commerce.orders")
    assert storage.query("FROM commerce.orders") == []


def test_an_open_reader_keeps_its_rows_a_new_one_sees_new_rows(storage: World) -> None:
    code = """
import sys, duckdb
c = duckdb.connect()
c.execute(f"ATTACH '{sys.argv[1]}' AS shop (READ_ONLY)")
for _ in sys.stdin:
    print(c.execute("SELECT id FROM shop.commerce.orders ORDER BY id").fetchall(), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(storage.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        stdin, stdout = reader.stdin, reader.stdout
        assert stdin
        assert stdout

        def rows() -> str:
            stdin.write("\n")
            stdin.flush()
            return stdout.readline().strip()

        assert rows() == "[(1,)]"
        for number in range(2, 5):
            with impatient(storage.path, seconds=0).write() as connection:
                connection.execute(f"INSERT INTO commerce.orders BY NAME SELECT {number} AS id")
                # Neither before the commit nor after it.
                assert rows() == "[(1,)]"
            assert rows() == "[(1,)]"
            assert storage.query("SELECT count(*) FROM commerce.orders") == [(number,)]
        stdin.close()


def test_a_reader_may_open_the_file_at_any_moment_of_a_write(storage: World) -> None:
    with storage.file.write() as connection:
        connection.execute("DELETE FROM commerce.orders")
        with impatient(storage.path, seconds=0).read() as reader:
            assert reader.execute("SELECT id FROM commerce.orders").fetchall() == [(1,)]


def test_an_outside_writer_is_refused_during_a_write(storage: World) -> None:
    with storage.file.write() as connection:
        connection.execute("DELETE FROM commerce.orders")
        assert not opens_elsewhere(storage.path)
    assert opens_elsewhere(storage.path)
    assert storage.query("FROM commerce.orders") == []


def test_a_second_writer_waits_for_the_first_and_names_it(storage: World) -> None:
    """Fault 53."""
    code = """
import sys
from pathlib import Path
from commerce_assets.warehouse.file import DatabaseFile
try:
    with DatabaseFile(path=Path(sys.argv[1]), lock_timeout=0.2).write():
        pass
except Exception as error:
    print(type(error).__name__, error)
"""
    with storage.file.write():
        said = python(code, storage.path)
    assert said.startswith("DatabaseLockedError")
    assert f"(pid {os.getpid()})" in said
    assert "Fix: wait for it to finish" in said


def test_concurrent_writers_lose_no_update(storage: World) -> None:
    storage.execute("CREATE TABLE counter AS SELECT 0 AS n")
    code = """
import sys
from pathlib import Path
from commerce_assets.warehouse.file import DatabaseFile
for _ in range(5):
    with DatabaseFile(path=Path(sys.argv[1]), lock_timeout=60).write() as connection:
        connection.execute("UPDATE counter SET n = n + 1")
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(storage.path)], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert storage.query("FROM counter") == [(15,)]
    assert names_in(storage.folder) == ["shop.duckdb"]


def test_threads_of_one_process_write_one_after_the_other(storage: World) -> None:
    storage.execute("CREATE TABLE counter AS SELECT 0 AS n")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: storage.execute("UPDATE counter SET n = n + 1"), range(8)))
    assert storage.query("FROM counter") == [(8,)]


def test_a_file_replaced_during_a_write_is_not_overwritten(storage: World) -> None:
    other = World(storage.folder, name="other.duckdb")
    other.execute("CREATE TABLE restored AS SELECT 7 AS n")

    def replace_during_a_write() -> None:
        with storage.file.write() as connection:
            connection.execute("DELETE FROM commerce.orders")
            other.path.replace(storage.path)

    with pytest.raises(WarehouseError, match="another program changed it during the load"):
        replace_during_a_write()
    assert storage.query("FROM restored") == [(7,)]
    assert names_in(storage.folder) == ["shop.duckdb"]


# An outside program was killed and left its WAL.


def test_a_write_applies_the_wal_of_a_killed_program(storage: World) -> None:
    leave_a_wal(storage.path)
    with held(storage.path, read_only=True):
        storage.execute("CREATE TABLE ours AS FROM theirs")
    # Before the project reads it, which would remove a stale WAL: an outside program cannot.
    assert names_in(storage.folder) == ["shop.duckdb"]
    assert storage.query("FROM ours") == storage.query("FROM theirs") == [(7,)]


@pytest.mark.parametrize("writes", [False, True], ids=["a reader", "a writer"])
def test_a_kill_between_swap_and_wal_removal_is_repaired(
    storage: World, caplog: pytest.LogCaptureFixture, *, writes: bool
) -> None:
    """Fault 52."""
    leave_a_wal(storage.path)
    wal = wal_path(storage.path).read_bytes()
    storage.execute("CREATE TABLE ours AS FROM theirs")
    wal_path(storage.path).write_bytes(wal)

    if writes:
        storage.execute("INSERT INTO ours VALUES (2)")
    assert storage.query("FROM theirs") == [(7,)]
    assert storage.query("FROM ours") == [(7,), (2,)][: 1 + writes]
    assert names_in(storage.folder) == ["shop.duckdb"]
    assert "removed a WAL" in caplog.text


def test_a_foreign_wal_is_refused_and_kept(storage: World) -> None:
    other = World(storage.folder, name="other.duckdb")
    other.execute("CREATE TABLE t (n INT)")
    leave_a_wal(other.path)
    wal = wal_path(other.path).rename(wal_path(storage.path))
    content = storage.path.read_bytes()
    with pytest.raises(WarehouseError, match=rf"cannot be opened: .* Fix: if .* delete the WAL .*: {wal}\.$"):
        storage.execute("CREATE TABLE ours (n INT)")
    assert storage.path.read_bytes() == content
    wal.unlink()
    storage.execute("CREATE TABLE ours (n INT)")


# The file keeps what it is.


def test_a_write_follows_links_and_keeps_them(storage: World, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    link, chain = World(folder, name="link.duckdb"), World(folder, name="chain.duckdb")
    link.path.symlink_to(storage.path)
    chain.path.symlink_to("link.duckdb")
    chain.execute("DELETE FROM commerce.orders")
    assert link.path.is_symlink()
    assert chain.path.is_symlink()
    assert not storage.path.is_symlink()
    assert storage.query("FROM commerce.orders") == []
    assert names_in(folder) == ["chain.duckdb", "link.duckdb"]
    assert names_in(storage.folder) == ["links", "shop.duckdb"]


def test_a_link_to_a_missing_file_makes_the_file_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    storage = World(tmp_path)
    storage.path.symlink_to(tmp_path / "disk" / "real.duckdb")
    storage.execute("CREATE TABLE t (n INT)")
    assert storage.path.is_symlink()
    assert names_in(tmp_path / "disk") == ["real.duckdb"]


def test_a_new_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """Fault 68."""
    storage = World(tmp_path)
    with storage.file.write() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1")
        assert {oct(path.stat().st_mode & 0o077) for path in tmp_path.rglob("*")} == {"0o0"}
    assert storage.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o664, 0o600])
def test_a_write_keeps_mode_owner_and_attributes(storage: World, mode: int) -> None:
    storage.path.chmod(mode)
    os.setxattr(storage.path, "user.note", b"kept")
    if os.geteuid() == 0:
        os.chown(storage.path, 1234, 4321)
    before = storage.path.stat()
    storage.execute("CREATE TABLE t (n INT)")
    after = storage.path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert os.getxattr(storage.path, "user.note") == b"kept"
    assert after.st_mtime_ns > before.st_mtime_ns


def test_an_empty_file_becomes_the_database_and_keeps_its_mode(tmp_path: Path) -> None:
    storage = World(tmp_path)
    storage.path.touch()
    storage.path.chmod(0o644)
    storage.execute("CREATE TABLE t (n INT)")
    assert storage.query("FROM t") == []
    assert storage.path.stat().st_mode & 0o777 == 0o644


def test_a_mounted_file_is_refused_before_a_load(storage: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = storage.folder / "my shop.duckdb"
    storage.path.rename(path)
    mounts = storage.folder / "mountinfo"
    mounts.write_text(
        f"36 35 98:0 / {str(path).replace(' ', chr(92) + '040')} rw,noatime master:1 - ext3 /dev/root rw\n"
    )
    monkeypatch.setattr("commerce_assets.warehouse.swap._MOUNTS", mounts)
    database = DatabaseFile(path=path)
    for use in (database.prepare, database.check, lambda: database.write().__enter__()):
        with pytest.raises(WarehouseError, match=r"is a mount point itself.*Fix: mount the folder"):
            use()
    with database.read() as connection:
        assert connection.execute("SELECT id FROM commerce.orders").fetchall() == [(1,)]


@pytest.mark.parametrize("error", [errno.EBUSY, errno.EXDEV])
def test_a_mount_that_appears_during_a_write_is_named(
    storage: World, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    mounts = storage.folder / "mountinfo"
    monkeypatch.setattr("commerce_assets.warehouse.swap._MOUNTS", mounts)
    monkeypatch.setattr(Path, "replace", mock.Mock(side_effect=OSError(error, os.strerror(error))))

    def write() -> None:
        with storage.file.write() as connection:
            connection.execute("DELETE FROM commerce.orders")
            mounts.write_text(f"36 35 98:0 / {storage.path} rw - ext3 /dev/root rw\n")

    with pytest.raises(WarehouseError, match=r"is a mount point .*Fix: mount the folder"):
        write()
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_file_is_copied_where_the_kernel_cannot_do_it(
    storage: World, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    monkeypatch.setattr(os, "copy_file_range", mock.Mock(side_effect=OSError(error, os.strerror(error))))
    storage.execute("CREATE TABLE t (n INT)")
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


def test_a_rewrite_keeps_tables_and_views_and_no_old_byte(storage: World) -> None:
    storage.execute(
        "CREATE TABLE people AS SELECT 'person-' || range || '@example.com' AS email FROM range(5000)",
        "COMMENT ON TABLE people IS 'who buys'",
        "CREATE VIEW buyers AS FROM people",
    )
    storage.execute("UPDATE people SET email = 'masked'")
    assert b"person-42@example.com" in storage.path.read_bytes()
    with storage.file.write() as connection:
        request_rewrite(connection)
    assert b"@example.com" not in storage.path.read_bytes()
    assert storage.query("SELECT count(*), any_value(email) FROM buyers") == [(5000, "masked")]
    assert storage.query("SELECT comment FROM duckdb_tables() WHERE table_name = 'people'") == [("who buys",)]
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]
    assert names_in(storage.folder) == ["shop.duckdb"]
    assert storage_version(storage).startswith("v1.5")


def test_a_rewrite_keeps_the_format_of_the_file(tmp_path: Path) -> None:
    duckdb.connect(tmp_path / "shop.duckdb").close()
    storage = World(tmp_path)
    before = storage_version(storage)
    with storage.file.write() as connection:
        request_rewrite(connection)
    assert storage_version(storage) == before == "v2.0.0+"


def test_a_copy_during_a_write_holds_the_rows_before_it(storage: World, tmp_path: Path) -> None:
    with storage.file.write() as connection:
        connection.execute("DELETE FROM commerce.orders")
        storage.file.copy_to(tmp_path / "copy.duckdb")
    assert World(tmp_path, name="copy.duckdb").query("SELECT id FROM commerce.orders") == [(1,)]


def test_a_copy_contains_the_wal_of_a_killed_program(storage: World, tmp_path: Path) -> None:
    leave_a_wal(storage.path)
    storage.file.copy_to(tmp_path / "copy.duckdb")
    assert names_in(tmp_path) == ["copy.duckdb", "shop.duckdb", "shop.duckdb.wal"]
    assert World(tmp_path, name="copy.duckdb").query("FROM theirs") == [(7,)]


def storage_version(storage: World) -> str:
    ((version,),) = storage.query(
        "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = current_database()"
    )
    return str(version)


def test_a_file_in_a_newer_format_keeps_its_format(tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    duckdb.connect(path).close()
    for _ in range(2):
        with DatabaseFile(path=path).write() as connection:
            connection.execute(
                "CREATE OR REPLACE TABLE made AS SELECT tags FROM duckdb_databases() WHERE tags <> MAP {}"
            )
    with DatabaseFile(path=path).read() as connection:
        assert connection.execute("FROM made").fetchall() == [({"storage_version": "v2.0.0+"},)]


def test_readers_do_not_wait_for_each_other(storage: World) -> None:
    with held(storage.path, read_only=True), impatient(storage.path, seconds=0).read() as connection:
        assert connection.execute("SELECT id FROM commerce.orders").fetchall() == [(1,)]


# It cannot be opened.


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """Fault 54."""
    path = tmp_path / "nowhere" / "shop.duckdb"
    with pytest.raises(WarehouseError, match=rf"{path.parent}, does not exist.*create it.*COMMERCE_DUCKDB_PATH"):
        World(path.parent).execute()
    assert not path.parent.exists()


def test_a_path_below_a_file_is_named(tmp_path: Path) -> None:
    """Fault 54."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WarehouseError, match=r"file, does not exist.*Fix"):
        World(tmp_path / "file").execute()
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_link_into_a_missing_folder_is_named(tmp_path: Path) -> None:
    """Fault 54."""
    storage = World(tmp_path)
    storage.path.symlink_to(tmp_path / "nowhere" / "shop.duckdb")
    with pytest.raises(WarehouseError, match=r"nowhere, does not exist. Fix: create it"):
        storage.execute()


def test_a_loop_of_links_is_named(tmp_path: Path) -> None:
    """Fault 54."""
    storage = World(tmp_path)
    storage.path.symlink_to(storage.path)
    with pytest.raises(WarehouseError, match=r"cannot be written: Too many levels of symbolic links.*Fix: "):
        storage.execute()


def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    """Fault 54."""
    storage = World(tmp_path, name="x" * 300)
    with pytest.raises(WarehouseError, match=r"xxx cannot be written: File name too long.*Fix: "):
        storage.execute()


def test_a_write_protected_file_is_refused_and_kept(storage: World) -> None:
    """Fault 54."""
    code = """
import os, sys
from pathlib import Path
from commerce_assets.warehouse.file import DatabaseFile
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
    os.access = lambda path, mode, access=os.access: access(path, mode, effective_ids=True)
try:
    with DatabaseFile(path=Path(sys.argv[1])).write():
        pass
except Exception as error:
    print(type(error).__name__, error)
"""
    storage.path.chmod(0o444)
    for folder in [storage.folder, *storage.folder.parents][:4]:
        folder.chmod(0o777)
    content = storage.path.read_bytes()
    assert python(code, storage.path).startswith(
        f"WarehouseError the database {storage.path} cannot be written to: it is read-only. Fix: "
    )
    assert storage.path.read_bytes() == content


def test_a_disk_full_during_creation_leaves_no_half_file(tmp_path: Path) -> None:
    """Fault 54."""
    code = """
import resource, sys
from pathlib import Path
from commerce_assets_tests.support.world import World
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
try:
    World(Path(sys.argv[1])).execute()
except Exception as error:
    print(type(error).__name__, error)
"""
    message = python(code, tmp_path)
    assert message.startswith(f"WarehouseError the database {World(tmp_path).path} cannot be written: ")
    assert "Fix: check that the folder can be written to, that its disk has room" in message
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    World(tmp_path).load(ORDERS, [order(1)], window=WINDOW)


@pytest.mark.parametrize("read", [False, True], ids=["written", "read"])
@pytest.mark.parametrize(
    "content",
    [b"no database at all\n" * 1_000, b"PK\x03\x04" + bytes(20_000), b"x"],
    ids=["text", "zip", "a byte"],
)
def test_a_file_that_is_no_database_is_named_and_left_as_it_is(tmp_path: Path, content: bytes, *, read: bool) -> None:
    """Fault 54."""
    storage = World(tmp_path)
    storage.path.write_bytes(content)
    with pytest.raises(WarehouseError, match=r"cannot be opened.*restore a damaged file") as raised:
        storage.query("SELECT 1") if read else storage.execute()
    assert str(storage.path) in str(raised.value)
    assert storage.path.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [storage.path.name]


def test_a_damaged_database_is_named_and_left_as_it_is(storage: World) -> None:
    """Fault 54."""
    content = bytearray(storage.path.read_bytes())
    content[4096:12288] = bytes(8192)  # both copies of the header that says where everything is
    storage.path.write_bytes(content)
    with pytest.raises(WarehouseError, match=r"cannot be opened.*restore a damaged file"):
        storage.load(ORDERS, [order(2)], window=WINDOW)
    assert storage.path.read_bytes() == content


def test_damage_that_shows_later_is_an_error_with_the_file_name(storage: World) -> None:
    """Fault 54."""
    many = [order(number, tag=f"{number**9:x}" * 9) for number in range(5_000)]
    storage.load(ORDERS, many, window=WINDOW)
    content = bytearray(storage.path.read_bytes())
    for block in range(12288 + (256 << 10), len(content), 256 << 10):
        content[block + 1000 : block + 1050] = b"z" * 50
    storage.path.write_bytes(content)
    with pytest.raises(WarehouseError, match=f"{storage.path} cannot be read: .*restore a damaged file"):
        storage.query("FROM commerce.orders")
    with pytest.raises(WarehouseError, match=f"{storage.path} cannot be written: .*restore a damaged file"):
        storage.load(ORDERS, [order(number, tag="changed") for number in range(5_000)], window=WINDOW)
    assert storage.path.read_bytes() == content


def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    """Fault 54."""
    storage = World(tmp_path)
    storage.path.mkdir()
    for use in (storage.execute, lambda: storage.query("SELECT 1")):
        with pytest.raises(WarehouseError, match=f"{storage.path} cannot be opened"):
            use()
    assert list(storage.path.iterdir()) == []


def test_reading_a_missing_file_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(
        WarehouseError, match=r"no database at .*materialize an asset first .*, or .*COMMERCE_DUCKDB_PATH"
    ):
        World(tmp_path).query("SELECT 1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [-100_000, 0, 100_000], ids=["for half a copy", "for the copy", "for a few rows"])
def test_a_full_disk_fails_the_load_and_leaves_the_file(storage: World, room: int) -> None:
    """Fault 54."""
    code = """
import resource, sys
from pathlib import Path
from commerce_assets.warehouse.database import WarehouseError
from commerce_assets_tests.support.items import ORDERS, days, order
from commerce_assets_tests.support.world import World
own = World(Path(sys.argv[1], "own"))
own.folder.mkdir()
items = [order(number, tag=f"{number ** 9:x}" * 9) for number in range(5_000)]
staged = own.stage(ORDERS, items, window=days("2024-03-15"))
storage = World(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (storage.path.stat().st_size + int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    storage.put(staged)
except WarehouseError as error:
    print(error)
"""
    content = storage.path.read_bytes()
    message = python(code, storage.folder, room)
    assert storage.path.read_bytes() == content
    assert names_in(storage.folder) == ["own", "shop.duckdb"]
    assert f"{storage.path} cannot be written" in message
    assert "File too large" in message
    assert "the file is unchanged. Fix: check that the folder can be written to, that its disk has room" in message
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]
    storage.load(ORDERS, [order(2)], window=WINDOW)
    assert storage.query("SELECT id FROM commerce.orders") == [(2,)]


# It is let go of, whatever happens.


class UnforeseenError(Exception):
    pass


@pytest.mark.parametrize("error", [UnforeseenError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_transaction_frees_the_file(storage: World, error: type[BaseException]) -> None:
    """Fault 51."""

    def transaction() -> None:
        with storage.file.write() as connection:
            connection.execute("DELETE FROM commerce.orders")
            assert not opens_elsewhere(storage.path)
            raise error

    with pytest.raises(error):
        transaction()
    assert opens_elsewhere(storage.path)
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


def test_a_signal_during_a_statement_is_an_interrupt(storage: World) -> None:
    """Fault 28: that DuckDB does say this is seen by the tests that end runs at random moments."""

    def transaction() -> None:
        with storage.file.write() as connection:
            connection.execute("DELETE FROM commerce.orders")
            raise RuntimeError("Query interrupted")

    with pytest.raises(KeyboardInterrupt):
        transaction()
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


def test_a_statement_that_fails_rolls_back_and_frees_the_file(storage: World) -> None:
    """Fault 51."""
    with pytest.raises(duckdb.CatalogException):
        storage.execute("DELETE FROM commerce.orders", "FROM no_such_table")
    assert opens_elsewhere(storage.path)
    assert storage.query("SELECT id FROM commerce.orders") == [(1,)]


def test_a_reader_that_fails_frees_the_file(storage: World) -> None:
    with pytest.raises(UnforeseenError), storage.file.read():
        raise UnforeseenError
    assert opens_elsewhere(storage.path)


def test_a_file_that_could_not_be_used_once_opened_is_free(storage: World) -> None:
    with pytest.raises(duckdb.Error), DatabaseFile(path=storage.path, config={"no_such_setting": 1}).write():
        pytest.fail("it was opened")
    assert opens_elsewhere(storage.path)


def test_a_reader_cannot_write(storage: World) -> None:
    with (
        storage.file.read() as connection,
        pytest.raises(duckdb.InvalidInputException, match="read-only"),
    ):
        connection.execute("DELETE FROM commerce.orders")


def test_timestamps_and_days_are_utc_in_every_time_zone(storage: World) -> None:
    """Fault 59."""
    code = """
import sys
from pathlib import Path
from commerce_assets_tests.support.world import World
day = "CAST(TIMESTAMPTZ '2024-01-01 00:00Z' AS DATE)"
print(World(Path(sys.argv[1])).query(f"SELECT current_setting('TimeZone'), {day}"))
"""
    assert python(code, storage.folder, zone="America/New_York") == python(code, storage.folder)


def test_the_file_has_a_format_that_current_readers_open(storage: World) -> None:
    versions = storage.query(
        "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = current_database()"
    )
    assert versions[0][0].startswith("v1.5")


def test_the_next_write_removes_what_killed_processes_left(tmp_path: Path) -> None:
    """Fault 68."""
    storage = World(tmp_path)
    for name in (".shop.duckdb.part", ".shop.duckdb.read-abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "duckdb_temp_storage-0.tmp").write_text("a buyer")
    (tmp_path / ".shop.duckdb.lock").write_text("python\t1\thost\n")

    storage.execute("CREATE TABLE t AS SELECT 1")

    assert names_in(tmp_path) == ["shop.duckdb"]


def test_a_write_leaves_the_spill_folder_of_an_open_reader(storage: World) -> None:
    with storage.file.read() as connection:
        ((spill,),) = connection.execute("SELECT current_setting('temp_directory')").fetchall()
        storage.execute("CREATE TABLE t AS SELECT 1")
        assert Path(spill).is_dir()
    assert not Path(spill).exists()


def test_the_last_user_of_a_file_restores_the_umask(storage: World) -> None:
    """Fault 68."""
    before = os.umask(0o022)
    try:
        first, second = storage.file.read(), storage.file.read()
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


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("staging"))


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/somewhere"), "No space left on device"),
        (OSError("without a number"), "without a number"),
        (duckdb.IOException("IO Error: first line\nsecond line"), "IO Error: first line"),
        (
            duckdb.IOException('Failed: {"exception_type":"IO","exception_message":"Could not write \\"x\\""}'),
            'Could not write "x"',
        ),
    ],
)
def test_the_cause_of_an_error_is_one_line(error: Exception, cause: str) -> None:
    assert short_error(error) == cause
