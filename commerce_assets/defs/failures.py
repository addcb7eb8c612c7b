"""Known errors as Dagster failures: one sentence that says what failed and how to fix it, without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import dagster as dg

# Dagster shows an error of another process as that process has sent it; it has no public way to leave a traceback out.
from dagster._core.errors import DagsterUserCodeProcessError
from dagster_shared.error import SerializableErrorInfo

from commerce_assets.defs.shop import UNNAMED, Shop

_PACKAGE = __name__.partition(".")[0]


class KnownError(dg.Failure, DagsterUserCodeProcessError, click.ClickException):
    """A failure that logs and UI show as its sentence: a page of Dagster's own frames would push it off the screen.

    `dagster job execute` loads the definitions in its own process: click prints its exceptions without a traceback.

    Args:
        sentence: What failed, and how to fix it.
        kind: The class of the error; alerts and documentation name it.
        status: The HTTP status of the store's answer.
    """

    def __init__(self, sentence: str, *, kind: str, status: int | None = None) -> None:
        info = SerializableErrorInfo(message=sentence, stack=[], cls_name=kind)
        # Failure's own initializer would call that of the other class, without its argument.
        click.ClickException.__init__(self, sentence)
        self.user_code_process_error_infos = [info]
        shown = dg.Failure(sentence, {"error": kind, **({"http_status": status} if status else {})})
        self.description, self.metadata, self.allow_retries = shown.description, shown.metadata, shown.allow_retries


@contextmanager
def known_errors_as_failures(shop: Shop = UNNAMED) -> Iterator[None]:
    """Turn the package's own errors, which are written for people, into failures with hints for the shop."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != _PACKAGE or isinstance(error, KnownError):
            raise
        status = getattr(getattr(error, "error", None), "status", None)
        raise KnownError(shop.hint(str(error)), kind=type(error).__name__, status=status) from None
