"""Rows as a table for people, or as CSV, JSON or Parquet for programs."""

import contextlib
import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from io import TextIOBase
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click
import duckdb

from commerce_assets.cli.console import build_table, build_waiting_bar, show_wide
from commerce_assets.cli.session import Session
from commerce_assets.warehouse.file import short_error

FORMATS = ("table", "csv", "json", "parquet")
# A table is laid out as a whole, so that it cannot be without end.
_TABLE_ROWS = 1_000
_BATCH = 5_000

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="table unless --output has an ending that says otherwise; CSV and JSON come row by row, however many.",
)
output_option = click.option(
    "--output",
    "output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write to instead of the terminal; the file is yours alone (mode 0600), and whole or not there.",
)


def chosen_format(form: str | None, output: Path | None) -> str:
    """The format that was asked for, in words or by the ending of the file's name."""
    if form:
        return form
    ending = output.suffix.lstrip(".").lower() if output else ""
    return ending if ending in FORMATS else "table"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to beside `path`, which takes its place once all is written; a device is written to as it is."""
    # /dev/stdout is a file where stdout is redirected to one, and still not to be replaced.
    if path.exists() and (not path.is_file() or path.absolute().parts[1] in {"dev", "proc"}):
        yield path
        return
    # A link stays, and what it leads to is replaced.
    target = path.resolve()
    part = target.with_name(f".{target.name}.part")
    try:
        yield part
        part.replace(target)
    except (OSError, duckdb.IOException) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise click.ClickException(
            f"{path} cannot be written ({short_error(error)}). What to do: choose another place with --output."
        ) from error
    finally:
        # Where nothing can be written, nothing can be removed either.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_result(session: Session, result: duckdb.DuckDBPyConnection, form: str, output: Path | None) -> None:
    """Writes the rows of the statement that the connection has just run."""
    if output is None:
        _write(session, result, form, sys.stdout)
        return
    # The mask of the open connection makes the file its owner's.
    with (
        whole_file(output) as part,
        part.open("w", encoding="utf-8", newline="") as file,
        build_waiting_bar(session.aside) as bar,
    ):
        task = bar.add_task("writing", told="", total=None)
        _write(session, result, form, file, lambda rows: bar.update(task, told=f"{rows:,} rows"))


def _write(
    session: Session,
    result: duckdb.DuckDBPyConnection,
    form: str,
    file: IO[str] | TextIOBase,
    tell: Callable[[int], object] = lambda rows: None,  # noqa: ARG005 - nobody is told
) -> None:
    rows = _rows(result, tell)
    columns = [str(column[0]) for column in result.description or []]
    if form == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([plain(value) for value in row] for row in rows)
    elif form == "json":
        is_json = [str(column[1]) == "JSON" for column in result.description or []]
        _write_json(file, columns, is_json, rows)
    else:
        _write_table(session, columns, rows, file)


def _rows(result: duckdb.DuckDBPyConnection, tell: Callable[[int], object]) -> Iterator[tuple[Any, ...]]:
    count = 0
    while batch := result.fetchmany(_BATCH):
        yield from batch
        count += len(batch)
        tell(count)


def _write_json(
    file: IO[str] | TextIOBase, columns: Sequence[str], is_json: Sequence[bool], rows: Iterator[tuple[Any, ...]]
) -> None:
    """An array of objects, one a line; what the database holds as JSON stays JSON."""
    start = "[\n"
    for row in rows:
        members = (
            f"{json.dumps(name)}: {value if nested and value is not None else _as_json(value)}"
            for name, nested, value in zip(columns, is_json, row, strict=True)
        )
        file.write(f"{start}{{{', '.join(members)}}}")
        start = ",\n"
    file.write("[]\n" if start == "[\n" else "\n]\n")


def _write_table(
    session: Session, columns: Sequence[str], found: Iterator[tuple[Any, ...]], file: IO[str] | TextIOBase
) -> None:
    rows = list(islice(found, _TABLE_ROWS + 1))
    cells = [[plain(value) for value in row] for row in rows[:_TABLE_ROWS]]
    table = build_table(session.out, columns, cells)
    if file is sys.stdout:
        show_wide(session.out, table)
    else:
        session.out.file = file  # type: ignore[assignment] # rich asks for IO[str], and takes any text file
        session.out.print(table)
    if len(rows) > _TABLE_ROWS:
        click.echo(f"... and more rows than {_TABLE_ROWS:,}: use LIMIT, or --format csv, json or parquet", err=True)


def plain(value: object) -> str:
    """A value as text, exact to the last digit, times in UTC; NULL is empty."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, ensure_ascii=False, default=plain)
    return str(value)


def _as_json(value: object) -> str:
    """Numbers and flags stay what they are; an amount becomes a text, which loses none of its digits."""
    if isinstance(value, float) and not math.isfinite(value):
        value = str(value)
    return json.dumps(value, ensure_ascii=False, default=plain)
