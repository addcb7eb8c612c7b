"""Write the report of a database to a file."""

import contextlib
import os
from collections.abc import Sequence
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path

from commerce_assets.endpoint import Endpoint
from commerce_assets.report.figures import ReportError, read_figures
from commerce_assets.warehouse.database import Database, short_error

_NEEDED = ("jinja2", "matplotlib")


def is_installed() -> bool:
    """Return whether the libraries of the extra `report` are there; only a report imports them."""
    return all(find_spec(name) for name in _NEEDED)


def default_path(database: Path) -> Path:
    """Return where the report of a database is, beside it: `data/shop-report.html` of `data/shop.duckdb`."""
    return database.with_name(f"{database.stem}-report.html")


def write_report(
    database: Database,
    path: Path,
    *,
    endpoints: Sequence[Endpoint],
    start: date,
    timezone: str,
    now: datetime,
    looks_up: bool,
    makes_folder: bool = False,
) -> int:
    """Write the report; it replaces `path` when it is complete, readable by its owner only.

    Args:
        database: The database with the marts.
        path: The HTML file.
        endpoints: The endpoints that are loaded.
        start: The first day that must be loaded.
        timezone: The zone that the marts were built with, an IANA name.
        now: The time of the report.
        looks_up: The refresh looks up refunds that the list of orders does not show.
        makes_folder: Make the folder of `path`. The default one is that of the DuckDB file, which a lake does not have.

    Returns:
        The size in bytes.

    Raises:
        ReportError: A mart is not built, or the file cannot be written.
        WarehouseError: There is no database, or it cannot be read.
    """
    # matplotlib takes a second to import.
    from commerce_assets.report.page import render  # noqa: PLC0415

    with database.read() as connection:
        figures = read_figures(
            connection, endpoints=endpoints, start=start, timezone=timezone, now=now, looks_up=looks_up
        )
    page = render(figures).encode()
    target = path.resolve()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if makes_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
        part.touch(mode=0o600)
        part.write_bytes(page)
        part.replace(target)
    except OSError as error:
        raise ReportError(
            f"{path} cannot be written: {short_error(error)}. Fix: choose another folder, or make room there."
        ) from error
    finally:
        # Where nothing can be written, nothing can be removed either.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return len(page)
