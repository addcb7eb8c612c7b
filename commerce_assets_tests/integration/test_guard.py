"""A process that is killed amid one of DuckDB's checkpoints leaves a database that the next one can open."""

import subprocess
import sys
from pathlib import Path

import pytest

from commerce_assets.warehouse.file import WarehouseError
from commerce_assets.warehouse.guard import guard_of, put_back
from commerce_assets_tests.support.staged import ROOT, Storage

FIRST_BLOCK, BLOCK, PAGE = 12288, 262144, 4096
# Commits, and is gone before the checkpoint.
KILLED = """
import os, sys
from pathlib import Path
from commerce_assets.warehouse.file import DatabaseFile

with DatabaseFile(path=Path(sys.argv[1])).write() as connection:
    connection.execute("INSERT INTO numbers VALUES (2)")
    connection.commit()
    os._exit(9)
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(tmp_path)
    storage.execute("CREATE TABLE numbers AS SELECT 1 AS n")
    return storage


def kill_after_the_commit(storage: Storage) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(storage.path)], cwd=ROOT, check=False)
    assert done.returncode == 9


def tear(path: Path) -> None:
    """Leaves of the first block what a write leaves that is cut short: its first pages are new, the others are not."""
    with path.open("r+b") as file:
        file.seek(FIRST_BLOCK)
        file.write(bytes(range(256)) * (3 * PAGE // 256))


def test_a_block_of_metadata_that_is_half_written_is_put_back_and_what_was_committed_is_there(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 52."""
    kill_after_the_commit(storage)
    tear(storage.path)

    assert storage.query("FROM numbers ORDER BY n") == [(1,), (2,)]
    assert "was undone" in caplog.text
    assert not guard_of(storage.path).exists()
    storage.execute("INSERT INTO numbers VALUES (3)")
    assert storage.query("FROM numbers ORDER BY n") == [(1,), (2,), (3,)]


def test_without_what_was_kept_aside_such_a_file_cannot_be_opened(storage: Storage) -> None:
    kill_after_the_commit(storage)
    tear(storage.path)
    guard_of(storage.path).unlink()

    with pytest.raises(WarehouseError, match="cannot be opened"):
        storage.query("FROM numbers")


def test_after_a_checkpoint_that_counts_nothing_is_put_back(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    kill_after_the_commit(storage)
    kept = guard_of(storage.path).read_bytes()
    storage.execute("INSERT INTO numbers VALUES (3)")
    guard_of(storage.path).write_bytes(kept)
    caplog.clear()

    assert storage.query("FROM numbers ORDER BY n") == [(1,), (2,), (3,)]
    assert "undone" not in caplog.text
    assert not guard_of(storage.path).exists()


def test_nothing_is_put_back_while_somebody_is_at_work(storage: Storage) -> None:
    with storage.database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (2)")
        assert guard_of(storage.path).exists()
        code = (
            "import sys; from pathlib import Path; from commerce_assets.warehouse.guard import put_back; "
            "sys.exit(put_back(Path(sys.argv[1])) + 2)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(storage.path)], cwd=ROOT, check=False)
        assert done.returncode == 2
        assert guard_of(storage.path).exists()
        # In this process, too, whose locks are all one.
        assert not put_back(storage.path)
        assert guard_of(storage.path).exists()
    assert storage.query("FROM numbers ORDER BY n") == [(1,), (2,)]
    assert [path.name for path in storage.folder.iterdir()] == ["shop.duckdb"]


@pytest.mark.parametrize("content", [b"", b"[1, [0]]\n", b"nonsense\n", b"[99, [0]]\nabc"])
def test_a_guard_without_sense_changes_nothing(storage: Storage, content: bytes) -> None:
    guard_of(storage.path).write_bytes(content)

    assert storage.query("FROM numbers") == [(1,)]
