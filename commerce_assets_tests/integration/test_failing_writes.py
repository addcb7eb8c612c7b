"""A disk that is full or fails: a clear error, old rows or new rows, and the next ordinary run is right.

The disk becomes full by a limit that a process sets to the size of its files, which needs no privilege and stops
DuckDB's writes as well: at many sizes, so that it is the manifest, the items, the index, the database or its log that
does not fit. The operations of the staging directory are made to fail one by one besides.

`make test` disturbs some runs, `make slow` hundreds: pytest -m slow -k failing_writes
"""

import pytest

from commerce_assets_tests.support.crashing import Scene
from commerce_assets_tests.support.failing_writes import fail_at, load_with_quota, operations_of, pull_with_quota

# A full disk


@pytest.mark.parametrize("empty", [False, True])
def test_a_full_disk_leaves_old_rows_or_new_ones(scene: Scene, *, empty: bool) -> None:
    """Fault 54."""
    pulls = [pull_with_quota(scene, size, empty=empty) for size in (100, 100_000)]
    load = load_with_quota(scene, 100, empty=empty)

    assert all("staging directory" in (outcome.error or "") for outcome in pulls)
    assert "database" in (load.error or "")


# A disk that fails


def test_a_failed_file_operation_leaves_old_rows_or_new_ones(
    scene: Scene,
) -> None:
    """Fault 54."""
    operations = operations_of(scene)
    # The first of each kind.
    for operation in sorted({operation.split()[0] for operation in operations}):
        number = next(n for n, done in enumerate(operations, 1) if done.split()[0] == operation)
        fail_at(scene, operations, number)
