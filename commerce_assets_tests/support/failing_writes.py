"""Runs whose disk is full or fails, and the clear error that they must end with."""

import errno
import re

from commerce_assets_tests.support.crashing import Disturbance, Outcome, Scene
from commerce_assets_tests.support.disturbances import AtOperation, Quota, end_before_the_load

CLEAR = re.compile(r"StagingError: the staging directory .*Fix: .*|WarehouseError: the database .*Fix: .*")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EXDEV)


def survive_clearly(scene: Scene, case: str, *disturbances: Disturbance, empty: bool) -> Outcome:
    case = f"{case}, {'no' if empty else 'a'} table before"
    outcome = scene.survive(case, *disturbances, empty=empty)
    if outcome.error is None:
        assert (outcome.exit_code, outcome.table) == (0, "new"), case
    else:
        assert CLEAR.fullmatch(outcome.error), f"{case}: {outcome.error}"
    return outcome


def pull_with_quota(scene: Scene, size: int, *, empty: bool) -> Outcome:
    return survive_clearly(scene, f"a pull, files of {size} bytes", Quota(size), empty=empty)


def load_with_quota(scene: Scene, size: int, *, empty: bool) -> Outcome:
    return survive_clearly(scene, f"a load, files of {size} bytes", end_before_the_load, Quota(size), empty=empty)


def operations_of(scene: Scene, *before: Disturbance) -> list[str]:
    """The file operations of a run that comes after such a one."""
    return scene.survive("a run that nothing fails in", *before, AtOperation()).operations


def fail_at(
    scene: Scene, operations: list[str], number: int, *before: Disturbance, left: str = "nothing", lasting: bool = False
) -> Outcome:
    error = ERRORS[number % len(ERRORS)]
    case = (
        f"operation {number}, {operations[number - 1]}, fails with {errno.errorcode[error]}"
        f"{' as all that follow' if lasting else ''}, left before: {left}"
    )
    disturb = AtOperation(number=number, error=error, lasting=lasting)
    return survive_clearly(scene, case, *before, disturb, empty=number % 2 == 0 and left == "nothing")
