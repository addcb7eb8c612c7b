"""A write that is killed at any step: the old file or the new one, and the next write leaves nothing else behind.

`make test` kills at each step, `make slow` hundreds of times at random moments: pytest -m slow -k file_kills
"""

import signal
from collections.abc import Callable

import pytest

from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support import killed_writes as kills
from commerce_assets_tests.support.killed_writes import kill_at_random_moments, killed_write, version_in, write_version
from commerce_assets_tests.support.other_programs import leave_a_wal

OLD, NEW, NEXT = 1, 2, 3
KEEPS_OLD = [
    kills.before_the_copy,
    kills.during_the_copy,
    kills.during_the_load,
    kills.during_the_checkpoint,
    kills.after_the_checkpoint,
    kills.before_the_swap,
    kills.at_the_first_sync,
    kills.at_the_replace,
]
HAS_NEW = [kills.after_the_replace, kills.at_the_sync_of_the_folder, kills.at_the_cleaning]
NEW_FILE_HAS_NO_COPY = {kills.before_the_copy, kills.during_the_copy}


def assert_next_write_works(database: DatabaseFile) -> None:
    write_version(database, NEXT)
    assert version_in(database) == NEXT
    assert [path.name for path in database.path.parent.iterdir()] == [database.path.name]


@pytest.mark.parametrize("step", [*KEEPS_OLD, *HAS_NEW], ids=lambda step: step.__name__)
def test_a_kill_at_a_step_leaves_the_old_file_or_the_new_one(database: DatabaseFile, step: Callable[[], None]) -> None:
    """Fault 52."""
    write_version(database, OLD)
    content = database.path.read_bytes()

    exit_code, _ = killed_write(database.path, NEW, step)

    assert exit_code in {-signal.SIGKILL, -signal.SIGXFSZ}
    assert version_in(database) == (NEW if step in HAS_NEW else OLD)
    if step in KEEPS_OLD:
        assert database.path.read_bytes() == content
    assert_next_write_works(database)


@pytest.mark.parametrize(
    "step",
    [step for step in (*KEEPS_OLD, *HAS_NEW) if step not in NEW_FILE_HAS_NO_COPY],
    ids=lambda step: step.__name__,
)
def test_a_kill_at_a_step_of_a_first_load_leaves_no_half_file(database: DatabaseFile, step: Callable[[], None]) -> None:
    """Fault 52."""
    exit_code, _ = killed_write(database.path, NEW, step)

    assert exit_code in {-signal.SIGKILL, -signal.SIGXFSZ}
    assert version_in(database) == (NEW if step in HAS_NEW else None)
    assert_next_write_works(database)


@pytest.mark.parametrize("step", [kills.at_the_replace, kills.after_the_replace], ids=lambda step: step.__name__)
def test_a_kill_around_the_swap_keeps_the_rows_of_an_outside_wal(
    database: DatabaseFile, step: Callable[[], None]
) -> None:
    """Fault 52."""
    write_version(database, OLD)
    leave_a_wal(database.path)

    killed_write(database.path, NEW, step)

    assert version_in(database) == (NEW if step in HAS_NEW else OLD)
    with database.read() as connection:
        assert connection.execute("FROM theirs").fetchall() == [(7,)]
    assert_next_write_works(database)
    with database.read() as connection:
        assert connection.execute("FROM theirs").fetchall() == [(7,)]


def test_a_kill_during_a_rewrite_leaves_the_old_file(database: DatabaseFile) -> None:
    """Fault 52."""
    write_version(database, OLD)
    assert killed_write(database.path, NEW, kills.before_the_swap, rewrite=True)[0] == -signal.SIGKILL
    assert version_in(database) == OLD
    assert_next_write_works(database)


def test_a_few_random_kills_leave_the_old_file_or_the_new_one(database: DatabaseFile) -> None:
    """Fault 52."""
    assert kill_at_random_moments(database, times=10, seed=1)
