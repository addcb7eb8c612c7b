"""`query`: one statement that reads, and its rows as a table, CSV, JSON or Parquet."""

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path

import click
import duckdb

from commerce_assets.cli.command import Command
from commerce_assets.cli.console import build_waiting_bar
from commerce_assets.cli.output import chosen_format, format_option, output_option, whole_file, write_result
from commerce_assets.cli.session import NOTHING_YET, Session, database_option, pass_session
from commerce_assets.warehouse.file import short_error
from commerce_assets.warehouse.sql import SCHEMA, identifier, text

_READING = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})
_LOOKS_EVERY_SECONDS = 0.25


@click.command(
    cls=Command,
    arguments={"SQL": 'one statement in DuckDB\'s dialect; "-" reads it from stdin'},
    examples=[
        ('query "FROM orders ORDER BY created_at DESC LIMIT 10"', "as a table; on a terminal, in its pager if need be"),
        ('query "SELECT id, settled_gross FROM orders" --format csv', "for a program"),
        ('query "FROM analytics.daily_revenue" --output revenue.parquet', "the ending says the format"),
        ("query - < report.sql", "the statement from a file"),
        ('query "SHOW ALL TABLES"', "what there is"),
    ],
)
@click.argument("sql")
@format_option
@output_option
@database_option
@pass_session
def command(session: Session, sql: str, *, form: str | None, output: Path | None) -> None:
    """Ask the database with SQL; nothing is changed.

    Tables are found with and without their schema: orders, commerce.orders; those of the analytics layer with it, as
    analytics.daily_revenue. Times are in UTC.
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
            if form == "parquet" and output is not None:
                with whole_file(output) as part:
                    _run(session, connection, f"COPY ({statement}\n) TO {text(str(part))} (FORMAT parquet)")
                return
            _run(session, connection, statement)
            write_result(session, connection, form, output)
        except duckdb.OutOfMemoryException as error:
            raise click.ClickException(
                f"the query needs more memory than it may use, which is {session.settings.duckdb_memory_limit}. "
                "What to do: raise COMMERCE_DUCKDB_MEMORY_LIMIT, such as to 2GB, or ask for less."
            ) from error
        except duckdb.Error as error:
            raise click.ClickException(_explained(connection, error)) from error


def _run(session: Session, connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Runs a statement so that Ctrl-C ends it: in the main thread DuckDB may not notice it for minutes."""
    with ThreadPoolExecutor(max_workers=1) as worker, build_waiting_bar(session.aside) as bar:
        task = bar.add_task("asking the database", told="")
        running = worker.submit(connection.execute, statement)
        try:
            while not running.done():
                with contextlib.suppress(NotYet):
                    running.result(_LOOKS_EVERY_SECONDS)
                # As long as DuckDB does not know, it is less than nothing, or nothing.
                percent = connection.query_progress()
                bar.update(task, told=f"about {percent:.0f} %" if percent >= 1 else "")
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


def _explained(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> str:
    """What DuckDB says; of a table that is not there, which there are instead of which it looks like."""
    if isinstance(error, duckdb.IOException):
        return short_error(error)
    if not (isinstance(error, duckdb.CatalogException) and "Table with name" in str(error)):
        return _in_one_line(error)
    said = _in_one_line(error).partition("! Did you mean")[0].rstrip("!.")
    tables = connection.execute(
        "SELECT if(schema_name = ?, table_name, concat(schema_name, '.', table_name)) FROM duckdb_tables() "
        "WHERE database_name = current_database() ORDER BY schema_name, table_name",
        [SCHEMA],
    ).fetchall()
    if not tables:
        return f"{said}: {NOTHING_YET}"
    return f"{said}; there are {', '.join(name for (name,) in tables)}"


def _in_one_line(error: duckdb.Error) -> str:
    """What DuckDB says, without the picture of where in the statement."""
    message, _, _ = str(error).partition("\n\nLINE ")
    return " ".join(message.split())
