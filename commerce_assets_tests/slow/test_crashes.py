"""Hundreds of runs that are killed or ended: old rows or new rows, and the next ordinary run continues and is right.

With those of test_file_kills, which kill writes of a larger file, `make slow` kills over 500 times.
"""

import pytest

from commerce_assets_tests.support.crashing import (
    Scene,
    assert_prompt,
    end_at_random_moments,
    kill_at,
    kill_in_phases,
)
from commerce_assets_tests.support.disturbances import AtOperation


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "empty", "times"), [(2, False, 50), (3, True, 50)])
def test_hundreds_of_kills_leave_old_rows_or_new_ones(scene: Scene, *, seed: int, empty: bool, times: int) -> None:
    """Fault 52."""
    killed = kill_in_phases(scene, times=times, seed=seed, empty=empty)

    # A run may end before its moment comes.
    assert len(killed) > (2 if empty else 3) * times
    assert {outcome.table for outcome in killed} == {"no" if empty else "old", "new"}


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True])
def test_the_next_run_resumes_after_a_kill_at_each_staging_step(scene: Scene, *, empty: bool) -> None:
    """Fault 52."""
    # The first run creates the staging directory.
    scene.survive("the run before all others")
    operations = scene.survive("a run that is not killed", AtOperation(), empty=empty).operations
    for number in range(1, len(operations) + 1):
        kill_at(scene, operations, number, empty=empty)


@pytest.mark.slow
def test_dozens_of_runs_end_within_two_seconds_of_sigterm(scene: Scene) -> None:
    """Faults 28 and 52."""
    assert_prompt(end_at_random_moments(scene, runs=40, seed=6))
