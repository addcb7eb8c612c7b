"""`query`: one statement that reads, and its rows as a table, CSV, JSON or Parquet."""

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import duckdb

from commerce_assets.cli.command import Command
from commerce_assets.cli.output import chosen_format, format_option, output_option, whole_file, write_result
from commerce_assets.cli.session import Session, database_option, pass_session
from commerce_assets.warehouse.sql import SCHEMA, identifier, text

_READING = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})


@click.command(
    cls=Command,
    examples=[
        ('query "FROM orders ORDER BY created_at DESC LIMIT 10"', "as a table; on a terminal, in its pager if need be"),
        ('query "SELECT id, settled_gross FROM orders" --format csv', "for a program"),
        ('query "FROM products" --output products.parquet', "the ending says the format"),
        ("query - < report.sql", "the statement from a file"),
    ],
)
@click.argument("sql")
@format_option
@output_option
@database_option
@pass_session
def command(session: Session, sql: str, *, form: str | None, output: Path | None) -> None:
    """Ask the database with SQL; nothing is changed.

    SQL is DuckDB's dialect, one statement; "-" reads it from stdin. Tables are found with and without their schema:
    orders, commerce.orders. Times are in UTC.
    """
    statement = _read_only(sys.stdin.read() if sql == "-" else sql)
    form = chosen_format(form, output)
    if form == "parquet" and output is None:
        raise click.UsageError("Parquet is nothing for a terminal or a pipe: say --output FILE")
    with session.database(session.log).read() as connection:
        # Before the first pull there is no schema.
        with contextlib.suppress(duckdb.CatalogException):
            connection.execute(f"USE {identifier(SCHEMA)}")
        try:
            with session.aside.status("asking the database"):
                if form == "parquet" and output is not None:
                    with whole_file(output) as part:
                        _run(connection, f"COPY ({statement}\n) TO {text(str(part))} (FORMAT parquet)")
                    return
                _run(connection, statement)
            write_result(session, connection, form, output)
        except duckdb.Error as error:
            raise click.ClickException(_in_one_line(error)) from error


def _run(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Runs a statement so that Ctrl-C ends it: in the main thread DuckDB may not notice it for minutes."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        running = worker.submit(connection.execute, statement)
        try:
            running.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


def _read_only(sql: str) -> str:
    """The one statement, if it reads.

    Raises:
        UsageError: It is none, several, or one that would change something.
    """
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise click.UsageError(_in_one_line(error)) from error
    if len(statements) != 1:
        raise click.UsageError(f"one statement is asked for, and there are {len(statements)}")
    if statements[0].type not in _READING:
        kind = statements[0].type.name
        raise click.UsageError(f"a {kind} statement is not for reading: query takes SELECT, FROM, DESCRIBE, SUMMARIZE")
    return statements[0].query.strip().rstrip(";")


def _in_one_line(error: duckdb.Error) -> str:
    """What DuckDB says, without the picture of where in the statement."""
    message, _, _ = str(error).partition("\n\nLINE ")
    return " ".join(message.split())
