"""Known errors as Dagster failures: one sentence that says what failed and how to fix it, instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

_PACKAGE = __name__.partition(".")[0]


@contextmanager
def known_errors_as_failures() -> Iterator[None]:
    """Turn the package's own errors, which are written for people, into `dagster.Failure`."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != _PACKAGE:
            raise
        status = getattr(getattr(error, "error", None), "status", None)
        raise dg.Failure(
            str(error),
            metadata={"error": type(error).__name__, **({"http_status": status} if status else {})},
        ) from None
