"""Why something failed, in words that a person can use."""

import errno
import os

import duckdb
import pytest

from commerce_assets.warehouse.reasons import reason_of

WRAPPED = (
    'IO Error: Async write failed for range [offset=0, size=27]: {"exception_type":"IO","exception_message":'
    '"Could not write file \\"out/.part\\": No space left on device","errno":"28"}'
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (duckdb.IOException(WRAPPED), 'Could not write file "out/.part": No space left on device'),
        (duckdb.IOException("IO Error: Cannot open it\n\nLINE 1: ..."), "IO Error: Cannot open it"),
    ],
)
def test_a_reason_is_one_line_without_what_it_came_wrapped_in(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
