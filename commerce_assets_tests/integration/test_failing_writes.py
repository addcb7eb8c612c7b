"""A disk that is full or fails: a clear error, old rows or new rows, and the next ordinary run is right.

The disk becomes full by a limit that a process sets to the size of its own files, which needs no privilege and stops
DuckDB's writes as well: at many sizes, so that it is the manifest, the items, the index, the database or its log that
does not fit. The operations of the staging directory are made to fail one by one besides.

`make test` disturbs some runs, `make slow` hundreds: pytest -m slow -k failing_writes
"""

import errno
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from commerce_assets_tests.support.crashing import Disturbance, Outcome, Scene, scene_in
from commerce_assets_tests.support.disturbances import AtOperation, Quota, end_before_the_load

CLEAR = re.compile(r"StagingError: the staging directory .*What to do: .*|WarehouseError: the database .*Fix: .*")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EXDEV)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_in(tmp_path) as scene:
        yield scene


def survive_clearly(scene: Scene, case: str, *disturbances: Disturbance, empty: bool) -> Outcome:
    case = f"{case}, {'no' if empty else 'a'} table before"
    outcome = scene.survive(case, *disturbances, empty=empty)
    if outcome.error is None:
        assert (outcome.exit_code, outcome.table) == (0, "new"), case
    else:
        assert CLEAR.fullmatch(outcome.error), f"{case}: {outcome.error}"
    return outcome


# A full disk


def pull_with_quotas(scene: Scene, sizes: Sequence[int], *, empty: bool) -> list[Outcome]:
    return [survive_clearly(scene, f"a pull, files of {size} bytes", Quota(size), empty=empty) for size in sizes]


def load_with_quotas(scene: Scene, sizes: Sequence[int], *, empty: bool) -> list[Outcome]:
    return [
        survive_clearly(scene, f"a load, files of {size} bytes", end_before_the_load, Quota(size), empty=empty)
        for size in sizes
    ]


@pytest.mark.parametrize("empty", [False, True])
def test_a_full_disk_leaves_old_rows_or_new_ones(scene: Scene, *, empty: bool) -> None:
    """Fault 54."""
    pulls = pull_with_quotas(scene, [100, 100_000], empty=empty)
    loads = load_with_quotas(scene, [100], empty=empty)

    assert all("staging directory" in (outcome.error or "") for outcome in pulls)
    assert all("database" in (outcome.error or "") for outcome in loads)


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True])
def test_a_disk_full_at_any_moment_leaves_old_rows_or_new_ones(scene: Scene, *, empty: bool) -> None:
    """Fault 54."""
    pulls = pull_with_quotas(scene, [100 * 2**step for step in range(14)], empty=empty)
    loads = load_with_quotas(scene, [int(100 * 1.5**step) for step in range(23)], empty=empty)

    for outcomes in (pulls, loads):
        assert outcomes[0].error
        assert outcomes[-1].error is None


# A disk that fails


def operations_of(scene: Scene, *before: Disturbance) -> list[str]:
    """The file operations of a run that comes after such a one."""
    return scene.survive("a run that nothing fails in", *before, AtOperation()).operations


def leftovers(scene: Scene) -> dict[str, tuple[Disturbance, ...]]:
    """What the run before was stopped at, by what it has left behind."""
    operations = operations_of(scene)
    written = [number for number, operation in enumerate(operations, 1) if operation == "write pages.jsonl"]
    loaded = len(operations) - operations[::-1].index("os.remove manifest.json")
    renamed = operations.index("os.rename manifest.part") + 1
    return {
        "nothing": (),
        "no manifest": (AtOperation(number=renamed),),
        "half a line of the index": (AtOperation(number=written[2]),),
        "pages that are loaded": (AtOperation(number=loaded),),
    }


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


def test_a_failed_file_operation_leaves_old_rows_or_new_ones(
    scene: Scene,
) -> None:
    """Fault 54."""
    operations = operations_of(scene)
    # The first of each kind.
    for operation in sorted({operation.split()[0] for operation in operations}):
        number = next(n for n, done in enumerate(operations, 1) if done.split()[0] == operation)
        fail_at(scene, operations, number)


@pytest.mark.slow
@pytest.mark.parametrize("left", ["nothing", "no manifest", "half a line of the index", "pages that are loaded"])
def test_each_failed_file_operation_leaves_old_rows_or_new_ones(scene: Scene, left: str) -> None:
    """Fault 54."""
    before = leftovers(scene)[left]
    operations = operations_of(scene, *before)
    for number in range(1, len(operations) + 1):
        fail_at(scene, operations, number, *before, left=left, lasting=number % 3 == 0)


@pytest.mark.slow
def test_a_failed_rename_leaves_old_rows_or_new_ones(scene: Scene) -> None:
    """Fault 54."""
    failed = []
    for left, before in leftovers(scene).items():
        operations = operations_of(scene, *before)
        for number, operation in enumerate(operations, 1):
            if operation.startswith("os.rename"):
                assert fail_at(scene, operations, number, *before, left=left).error
                failed.append((left, operation.removeprefix("os.rename ")))
    assert failed == [
        ("nothing", "manifest.part"),
        ("no manifest", "manifest.part"),
        ("half a line of the index", "pages.part"),
        ("pages that are loaded", "pages.part"),
        ("pages that are loaded", "manifest.part"),
    ]
