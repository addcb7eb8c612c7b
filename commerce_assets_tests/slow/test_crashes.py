"""Hundreds of runs that are killed or ended: old rows or new rows, and the next ordinary run continues and is right."""

import signal

import pytest

from commerce_assets_tests.support.crashing import (
    Scene,
    assert_prompt,
    end_at_random_moments,
    kill_at,
    killed,
)
from commerce_assets_tests.support.disturbances import AtOperation, handle_sigterm


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_hundreds_of_random_kills_leave_old_rows_or_new_ones(scene: Scene, seed: int) -> None:
    """Fault 52."""
    found = killed(end_at_random_moments(scene, signal.SIGKILL, runs=60, seed=seed))

    # How many come after the commit is a matter of how busy the machine is.
    assert {"no", "old"} <= {outcome.table for outcome in found} <= {"no", "old", "new"}


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True])
def test_the_next_run_resumes_after_a_kill_at_each_staging_step(scene: Scene, *, empty: bool) -> None:
    """Fault 52."""
    operations = scene.survive("a run that is not killed", AtOperation()).operations
    for number in range(1, len(operations) + 1):
        kill_at(scene, operations, number, empty=empty)


@pytest.mark.slow
def test_dozens_of_runs_end_within_two_seconds_of_sigterm(scene: Scene) -> None:
    """Faults 28 and 52."""
    assert_prompt(end_at_random_moments(scene, signal.SIGTERM, runs=40, seed=6, disturb=handle_sigterm))
