"""`export`: the tables as Parquet files, a folder a table, orders by day."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import duckdb
from rich.progress import BarColumn, Progress, TextColumn

from commerce_assets.cli.command import Command
from commerce_assets.cli.console import can_redraw, say
from commerce_assets.cli.session import NOTHING_YET, Session, database_option, pass_session
from commerce_assets.endpoint import EXTRA, INVALID, Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.file import short_error
from commerce_assets.warehouse.schema import describe, exists, table_of
from commerce_assets.warehouse.sql import SCHEMA, identifier, text


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of a table that are written by one statement: a month of days, or all."""

    condition: str
    rows: int


@click.command(
    cls=Command,
    examples=[
        ("export parquet", "parquet/orders/day=2024-01-31/..., parquet/products/..."),
        ("export shared --without-personal-data", "for people who must not see the buyers"),
    ],
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Replace the folders of tables that are in DIR already.")
@click.option(
    "--without-personal-data",
    is_flag=True,
    help="Leave out the columns with buyers' data or secret links, and those with undeclared fields.",
)
@database_option
@pass_session
def command(session: Session, folder: Path, *, replace: bool, without_personal_data: bool) -> None:
    """Write the tables to Parquet files, orders by day.

    In DIR, each table has a folder; days are the UTC days of created_at. All tables are of one moment. A
    folder is whole or not there; files are yours alone (mode 0600). Read them with
    read_parquet('DIR/orders/*/*.parquet', hive_partitioning = true).
    """
    with session.database(session.log).read() as connection:
        stored = [endpoint for endpoint in ENDPOINTS if exists(connection, SCHEMA, endpoint.name)]
        if taken := [endpoint.name for endpoint in stored if (folder / endpoint.name).exists() and not replace]:
            raise click.ClickException(
                f"{folder / taken[0]} is there already. What to do: choose another folder, or say --replace."
            )
        if not stored:
            raise click.ClickException(NOTHING_YET)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for endpoint in stored:
                # A bar of its own, which is gone when the line is printed.
                with _bar(session) as bar:
                    rows = _export(connection, endpoint, folder, bar, without_personal_data=without_personal_data)
                say(f"{endpoint.name}: {rows:,} rows in {folder / endpoint.name}")
        except (OSError, duckdb.IOException) as error:
            raise click.ClickException(
                f"{folder} cannot be written to ({short_error(error)}). "
                "What to do: choose another folder, or make room there."
            ) from error


def _bar(session: Session) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
        console=session.aside,
        transient=True,
        disable=not can_redraw(session.aside),
    )


def _export(
    connection: duckdb.DuckDBPyConnection,
    endpoint: Endpoint,
    folder: Path,
    progress: Progress,
    *,
    without_personal_data: bool,
) -> int:
    """Writes a table beside its place, and puts it there once it is whole; returns its rows."""
    target, part = folder / endpoint.name, folder / f".{endpoint.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    parts = list(_parts(connection, endpoint))
    task = progress.add_task(endpoint.name, total=sum(each.rows for each in parts))
    columns = list(_columns(connection, endpoint, without_personal_data=without_personal_data))
    options, file = "FORMAT parquet, COMPRESSION zstd", part / f"{endpoint.name}.parquet"
    if endpoint.cursor:
        columns.append(f"CAST({identifier(endpoint.cursor)} AS DATE) AS day")
        options, file = f"{options}, PARTITION_BY (day), OVERWRITE_OR_IGNORE", part
    try:
        for each in parts:
            query = f"SELECT {', '.join(columns)} FROM {table_of(endpoint)} WHERE {each.condition}"
            connection.execute(f"COPY ({query}) TO {text(str(file))} ({options})")
            progress.advance(task, each.rows)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sum(each.rows for each in parts)


def _parts(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> Iterator[_Part]:
    """A month at a time: DuckDB keeps a file open for each day that it is writing, with rows of its own in memory."""
    if not endpoint.cursor:
        row = connection.execute(f"SELECT count(*) FROM {table_of(endpoint)}").fetchone()
        yield _Part("TRUE", row[0] if row else 0)
        return
    month = f"date_trunc('month', {identifier(endpoint.cursor)})"
    months = connection.execute(f"SELECT {month}, count(*) FROM {table_of(endpoint)} GROUP BY 1 ORDER BY 1").fetchall()
    for start, rows in months:
        yield _Part(f"{month} = {text(start.isoformat())}::TIMESTAMPTZ" if start else f"{month} IS NULL", rows)


def _columns(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, *, without_personal_data: bool
) -> Iterator[str]:
    """The columns that the table has, less those that are not for everybody."""
    hidden = {column.name for column in endpoint.columns if column.sensitivity} | {EXTRA.name, INVALID.name}
    for column in describe(connection, endpoint.name):
        if not (without_personal_data and column.name in hidden):
            yield identifier(column.name)
