"""Writes that are killed at random moments: the old file or the new one."""

import pytest

from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.killed_writes import kill_at_random_moments


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True])
def test_hundreds_of_kills_leave_the_old_file_or_the_new_one(database: DatabaseFile, *, empty: bool) -> None:
    """Fault 52."""
    found = kill_at_random_moments(database, times=100, seed=2, empty=empty)

    assert {"old", "new"} <= found
