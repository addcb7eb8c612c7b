"""A disk that is full or fails at any moment: a clear error, old rows or new rows, and the next run is right."""

import pytest

from commerce_assets_tests.support.crashing import Disturbance, Outcome, Scene
from commerce_assets_tests.support.disturbances import AtOperation
from commerce_assets_tests.support.failing_writes import fail_at, load_with_quota, operations_of, pull_with_quota


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


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True])
def test_a_disk_full_at_any_moment_leaves_old_rows_or_new_ones(scene: Scene, *, empty: bool) -> None:
    """Fault 54."""
    for with_quota in (pull_with_quota, load_with_quota):
        size = 100
        found: list[Outcome] = []
        # Until all fits: the largest file is the database.
        while not found or found[-1].error:
            found.append(with_quota(scene, size, empty=empty))
            size *= 2
        assert len(found) > 10
        assert size < 10_000_000


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
