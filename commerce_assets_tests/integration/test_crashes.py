"""A run that is killed or ended at any moment: old rows or new rows, and the next ordinary run goes on and is right.

`make test` disturbs a dozen runs, `make slow` hundreds of them: pytest -m slow -k crashes
"""

from itertools import pairwise

from commerce_assets_tests.support.crashing import (
    PAGES,
    Scene,
    assert_prompt,
    end_at_random_moments,
    kill_at,
    kill_in_phases,
)
from commerce_assets_tests.support.disturbances import AtOperation


def test_a_kill_in_each_phase_leaves_old_rows_or_new_ones(scene: Scene) -> None:
    """Fault 52."""
    assert kill_in_phases(scene, times=1, seed=1, empty=False)


def test_the_next_run_resumes_after_a_kill_at_a_staging_step(scene: Scene) -> None:
    """Fault 52."""
    operations = scene.survive("a run that is not killed", AtOperation()).operations
    for operation in (
        "os.rename manifest.part",
        "write items-00001.jsonl",
        "write pages.jsonl",
        "os.remove manifest.json",
    ):
        last = len(operations) - operations[::-1].index(operation)
        kill_at(scene, operations, last, empty=last % 2 == 0)


def test_what_counts_is_on_the_disk_before_it_counts(scene: Scene) -> None:
    """Fault 52: a power cut leaves no line of a page without its items, and no empty file in place of a whole one."""
    operations = scene.survive("a run that is not killed", AtOperation()).operations
    counting = {"write pages.jsonl": "fsync items-00001.jsonl", "os.rename manifest.part": "fsync manifest.part"}
    before = [(counting[now], done) for done, now in pairwise(operations) if now in counting]

    assert len(before) == PAGES + 1
    assert all(wanted == done for wanted, done in before)


def test_a_run_ends_within_two_seconds_of_sigterm(scene: Scene) -> None:
    """Faults 28 and 52."""
    assert_prompt(end_at_random_moments(scene, runs=6, seed=5))
