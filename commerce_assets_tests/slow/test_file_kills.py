"""Hundreds of writes that are killed at random moments: the old file or the new one."""

import pytest

from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.killed_writes import kill_at_random_moments


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "empty"), [(2, False), (3, False), (4, True)])
def test_hundreds_of_kills_leave_the_old_file_or_the_new_one(database: DatabaseFile, seed: int, *, empty: bool) -> None:
    """Fault 52."""
    found = kill_at_random_moments(database, times=200, seed=seed, empty=empty)

    assert {"old", "new"} <= found
