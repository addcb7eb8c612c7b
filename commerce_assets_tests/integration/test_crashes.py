"""A run that is killed or ended at any moment: old rows or new rows, and the next ordinary run goes on and is right.

`make test` disturbs a dozen runs, `make slow` hundreds of them: pytest -m slow -k crashes
"""

import random
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from commerce_assets_tests.support.crashing import PAGES, Disturbance, Ending, Outcome, Scene, scene_in
from commerce_assets_tests.support.disturbances import AtOperation, heed_sigterm, undisturbed


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_in(tmp_path) as scene:
        yield scene


def end_at_random_moments(
    scene: Scene, number: signal.Signals, *, runs: int, seed: int, disturb: Disturbance = undisturbed
) -> list[Outcome]:
    """Sends each run a signal, anywhere from its first line to well after its end; every fifth has no table before."""
    moments = random.Random(seed)
    scene.survive("the run before all others")
    outcomes = []
    for run in range(runs):
        # One that is ended takes as long as the one before it, or a little longer.
        share = moments.uniform(0, 1.2)
        case = f"seed {seed}, run {run}: {number.name} after {share:.0%} of {scene.seconds:.3f} s"
        ending = Ending(number, after=share * scene.seconds)
        outcomes.append(scene.survive(case, disturb, ending=ending, empty=moments.random() < 0.2))
    return outcomes


def killed(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.exit_code == -signal.SIGKILL]


def test_a_few_random_kills_leave_old_rows_or_new_ones(scene: Scene) -> None:
    """Fault 52."""
    assert killed(end_at_random_moments(scene, signal.SIGKILL, runs=6, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_hundreds_of_random_kills_leave_old_rows_or_new_ones(scene: Scene, seed: int) -> None:
    """Fault 52."""
    found = killed(end_at_random_moments(scene, signal.SIGKILL, runs=60, seed=seed))

    # How many come after the commit is a matter of how busy the machine is.
    assert {"no", "old"} <= {outcome.table for outcome in found} <= {"no", "old", "new"}


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


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True])
def test_the_next_run_resumes_after_a_kill_at_each_staging_step(scene: Scene, *, empty: bool) -> None:
    """Fault 52."""
    operations = scene.survive("a run that is not killed", AtOperation()).operations
    for number in range(1, len(operations) + 1):
        kill_at(scene, operations, number, empty=empty)


def kill_at(scene: Scene, operations: list[str], number: int, *, empty: bool) -> None:
    case = f"killed at operation {number}, {operations[number - 1]}"
    outcome = scene.survive(case, AtOperation(number=number), empty=empty)
    assert outcome.exit_code == -signal.SIGKILL, case


def test_what_counts_is_on_the_disk_before_it_counts(scene: Scene) -> None:
    """Fault 52: a power cut leaves no line of a page without its items, and no empty file in place of a whole one."""
    operations = scene.survive("a run that is not killed", AtOperation()).operations
    counting = {"write pages.jsonl": "fsync items-00001.jsonl", "os.rename manifest.part": "fsync manifest.part"}
    before = [(counting[now], done) for done, now in pairwise(operations) if now in counting]

    assert len(before) == PAGES + 1
    assert all(wanted == done for wanted, done in before)


def test_a_run_ends_within_two_seconds_of_sigterm(scene: Scene) -> None:
    """Faults 28 and 52."""
    assert_prompt(end_at_random_moments(scene, signal.SIGTERM, runs=6, seed=5, disturb=heed_sigterm))


@pytest.mark.slow
def test_dozens_of_runs_end_within_two_seconds_of_sigterm(scene: Scene) -> None:
    """Faults 28 and 52."""
    assert_prompt(end_at_random_moments(scene, signal.SIGTERM, runs=40, seed=6, disturb=heed_sigterm))


def assert_prompt(outcomes: list[Outcome]) -> None:
    ended = [outcome for outcome in outcomes if outcome.exit_code]
    assert ended
    assert {outcome.error for outcome in ended} <= {None, "KeyboardInterrupt: "}
    assert max(outcome.seconds for outcome in ended) < 2
