"""`query` and `export`: stored rows on the terminal, in a pipe or in files, all written by DuckDB's `COPY`."""

import codecs
import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click
import duckdb
from rich.progress import BarColumn, Progress, TextColumn

from commerce_assets.analytics.tables import MODELS
from commerce_assets.analytics.tables import SCHEMA as ANALYTICS
from commerce_assets.cli.command import Command, format_option
from commerce_assets.cli.console import build_table, build_waiting_bar, can_redraw, printable, say, show_wide
from commerce_assets.cli.session import NOTHING_YET, Session, database_option, pass_session, say_json
from commerce_assets.endpoint import EXTRA, INVALID
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import variable_of
from commerce_assets.warehouse.database import short_error
from commerce_assets.warehouse.ddl import describe
from commerce_assets.warehouse.row_history import history_of
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA, identifier, table, text
from commerce_assets.wording import counted

_COPY_OPTIONS = {
    "csv": "FORMAT csv, HEADER",
    "tsv": "FORMAT csv, HEADER, DELIMITER '\t'",
    "json": "FORMAT json, ARRAY true",
    "jsonl": "FORMAT json",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}
# A terminal's table is laid out as a whole.
_TERMINAL_ROWS = 1_000
_POLL_SECONDS = 0.25
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)
_READING = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.MULTI})
_MISSING_TABLE = re.compile(r'Table with name "?(?:\w+"?\."?)*(?P<name>\w+)"? does not exist')
# Beside what the columns' own sensitivity says: free texts, and what identifies a payment.
_NOT_SHARED = frozenset({EXTRA.name, INVALID.name, "tag", "refund_transactions", "gateway_transaction_ids"})


@click.command(
    cls=Command,
    arguments={"SQL": 'one statement in DuckDB\'s dialect; "-" reads it from stdin'},
    examples=[
        ('query "FROM orders ORDER BY created_at DESC LIMIT 10"', "a table on a terminal, CSV in a pipe"),
        ('query "FROM analytics.daily_revenue" -o revenue.parquet', "the ending selects the format"),
        ("query -f report.sql -o report.csv", "the statement from a file"),
        ('query "SHOW ALL TABLES"', "which tables there are"),
    ],
    # A statement may begin with a comment: --.
    context_settings={"ignore_unknown_options": True},
)
@click.argument("sql", required=False)
@click.option(
    "-f",
    "--file",
    "script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Read the statement from FILE.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write to FILE, readable by its owner only (mode 0600); on an error, FILE is unchanged.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", *_COPY_OPTIONS]),
    help="Default: by the ending of --output; else table on a terminal, and csv in a pipe.",
)
@database_option
@pass_session
def query(session: Session, *, sql: str | None, script: Path | None, output: Path | None, form: str | None) -> None:
    """Query the database with SQL; it is opened read-only.

    Tables have the names that they have in the file, with or without the schema: commerce.orders, orders,
    analytics.daily_revenue. Times are in UTC. Files and pipes receive every row; a terminal's table shows the first
    1,000.
    """
    if (sql is None) == (script is None):
        raise click.UsageError("give one statement: as SQL, or as --file FILE")
    statement = _checked(script.read_text() if script else sys.stdin.read() if sql == "-" else sql or "")
    form = form or _format_of(output, is_terminal=session.out.is_terminal)
    if output and form == "table":
        raise click.UsageError("a table is for the terminal. Fix: choose another --format for the file")
    if form == "parquet" and not output:
        raise click.UsageError("Parquet needs --output FILE")
    with session.settings.database(session.log).read() as connection:
        _set_search_path(connection)
        try:
            if _EXPLAIN.match(statement):
                say("\n".join(str(value) for _, value in connection.execute(statement).fetchall()))
            elif form == "table":
                _show_table(session, connection, statement)
            else:
                _copy(session, connection, statement, form, output)
        except duckdb.OutOfMemoryException as error:
            raise click.ClickException(
                f"the query needs more memory than {session.settings.duckdb_memory_limit}. "
                "Fix: raise COMMERCE_DUCKDB_MEMORY_LIMIT, such as to 2GB, or query fewer rows."
            ) from error
        except duckdb.Error as error:
            raise click.ClickException(_explained(connection, error)) from error


def _checked(sql: str) -> str:
    """Return the statement if it is one, and reads.

    `COPY (...)` and `FROM (...)` around it accept nothing that writes; this refuses with a sentence instead of a syntax
    error, and is the only guard for EXPLAIN ANALYZE, which runs what it explains.

    Raises:
        UsageError: It is none, several, or one that writes.
    """
    try:
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1:
            raise click.UsageError(f"query takes one statement, not {len(statements)}")
        kind, statement = statements[0].type, _bare(statements[0].query)
        explained = kind == duckdb.StatementType.EXPLAIN and _EXPLAIN.match(statement)
        inner = duckdb.extract_statements(statement[explained.end() :])[0].type if explained else kind
    except duckdb.Error as error:
        raise click.UsageError(_in_one_line(error)) from error
    if inner not in _READING or (explained and inner == duckdb.StatementType.MULTI):
        raise click.UsageError(f"{kind.name} is not a query. Fix: use SELECT, FROM, PIVOT, DESCRIBE, SUMMARIZE or SHOW")
    return statement


def _bare(statement: str) -> str:
    """Return the statement without comments before it, and without its semicolon and comments after it."""
    encoded = statement.encode()
    # Offsets count bytes.
    offsets = [
        offset
        for offset, kind in duckdb.tokenize(statement)
        if kind != duckdb.token_type.comment and encoded[offset : offset + 1] != b";"
    ]
    ends = [offset for offset, _ in duckdb.tokenize(statement) if offset > offsets[-1]] if offsets else []
    return encoded[offsets[0] if offsets else 0 : ends[0] if ends else None].decode().strip()


def _format_of(output: Path | None, *, is_terminal: bool) -> str:
    if output is None:
        return "table" if is_terminal else "csv"
    ending = output.suffix.lstrip(".").lower()
    ending = {"ndjson": "jsonl"}.get(ending, ending)
    if ending in _COPY_OPTIONS:
        return ending
    if _is_stream(output):
        return "csv"
    raise click.UsageError(f"{output} has no known ending. Fix: use .{', .'.join(_COPY_OPTIONS)}, or --format")


def _is_stream(path: Path) -> bool:
    """Whether a path is written to and not replaced: a named pipe, a device, /dev/stdout even if that is a file."""
    parts = path.absolute().parts
    # /dev/shm is a folder of files like any other.
    return path.exists() and (not path.is_file() or (parts[1] in {"dev", "proc"} and parts[2] != "shm"))


def _set_search_path(connection: duckdb.DuckDBPyConnection) -> None:
    """Resolve names without a schema. A schema exists from its first table on."""
    catalog = connection.execute("SELECT current_database()").fetchone()
    found = connection.execute(
        "SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database()"
    ).fetchall()
    paths = [f"{catalog[0]}.{name}" for name in (SCHEMA, ANALYTICS) if catalog and (name,) in found]
    if paths:
        connection.execute(f"SET search_path = {text(','.join(paths))}")


def _show_table(session: Session, connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    """Show the first rows on the terminal; elsewhere all rows, as text in columns."""
    limit = f"LIMIT {_TERMINAL_ROWS + 1}" if session.out.is_terminal else ""
    running = f"SELECT COLUMNS(*)::VARCHAR FROM ({statement}\n) {limit}"
    with build_waiting_bar(session.aside) as bar:
        _wait(connection, bar, lambda: connection.execute(running))
    columns = [str(column[0]) for column in connection.description or []]
    rows = [[value or "" for value in row] for row in connection.fetchall()]
    if not session.out.is_terminal:
        show_wide(session.out, build_table(session.out, columns, rows))
        return
    show_wide(session.out, build_table(session.out, columns, rows[:_TERMINAL_ROWS]))
    if len(rows) > _TERMINAL_ROWS:
        click.echo(f"the first {_TERMINAL_ROWS:,} rows. Fix: use --output FILE for all", err=True)


def _copy(
    session: Session, connection: duckdb.DuckDBPyConnection, statement: str, form: str, output: Path | None
) -> None:
    def copy_to(path: str) -> object:
        # The line feed ends a comment at the end of the statement.
        return connection.execute(f"COPY ({statement}\n) TO {text(path)} ({_COPY_OPTIONS[form]})")

    if output is None:
        _pump(connection, copy_to, sys.stdout.buffer, is_terminal=session.out.is_terminal)
    elif _is_stream(output):
        with output.open("wb") as file:
            _pump(connection, copy_to, file, is_terminal=False)
    else:
        with _whole_file(output) as part, build_waiting_bar(session.aside) as bar:
            _wait(connection, bar, lambda: copy_to(str(part)))


def _pump(
    connection: duckdb.DuckDBPyConnection,
    copy_to: Callable[[str], object],
    target: IO[bytes],
    *,
    is_terminal: bool,
) -> None:
    """Copy through a pipe: DuckDB would open, and truncate, what stdout is redirected to."""
    reader, writer = os.pipe()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def shown(chunk: bytes) -> bytes:
        return printable(decoder.decode(chunk), keep="\n\t").encode()

    def copy() -> None:
        try:
            copy_to(f"/dev/fd/{writer}")
        finally:
            os.close(writer)

    with ThreadPoolExecutor(max_workers=1) as worker:
        running = worker.submit(copy)
        try:
            with os.fdopen(reader, "rb", buffering=0) as source:
                while chunk := source.read(1 << 16):
                    target.write(shown(chunk) if is_terminal else chunk)
                target.flush()
        except BaseException:
            # The pipe is closed: DuckDB ends at its next write, or here.
            connection.interrupt()
            raise
        running.result()


def _wait(connection: duckdb.DuckDBPyConnection, bar: Progress, run: Callable[[], object]) -> None:
    """Run a statement so that Ctrl-C ends it: in the main thread DuckDB may not notice it for minutes."""
    task = bar.add_task("querying", note="")
    with ThreadPoolExecutor(max_workers=1) as worker:
        running: Future[object] = worker.submit(run)
        try:
            while not running.done():
                with contextlib.suppress(NotYet):
                    running.result(_POLL_SECONDS)
                # DuckDB reports 0 or less while it has no estimate.
                percent = connection.query_progress()
                bar.update(task, note=f"about {percent:.0f} %" if percent >= 1 else "")
            running.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it replaces `path` when all is written. A symbolic link stays."""
    target = path.resolve()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    except (OSError, duckdb.IOException) as error:
        raise click.ClickException(
            f"{path} cannot be written: {short_error(error)}. Fix: choose another place with --output."
        ) from error
    finally:
        # Where nothing can be written, nothing can be removed either.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _explained(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> str:
    """DuckDB's message; for a missing table, how to load or build it, or which tables there are."""
    if isinstance(error, duckdb.IOException):
        return short_error(error)
    missing = _MISSING_TABLE.search(str(error)) if isinstance(error, duckdb.CatalogException) else None
    if not missing:
        return _in_one_line(error)
    name = missing["name"].lower()
    tables = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() ORDER BY ALL"
    ).fetchall()
    if namesakes := [f"{schema}.{found}" for schema, found in tables if found.lower() == name]:
        return f"the schema in the query has no table {name}. Fix: use {' or '.join(namesakes)}."
    if fix := _not_stored(name):
        return fix
    if not tables:
        return NOTHING_YET
    return f"there is no table {name}. Fix: use one of {', '.join(f'{schema}.{found}' for schema, found in tables)}."


def _not_stored(name: str) -> str | None:
    """How to load or build a table of the project that is not stored; None for any other name."""
    for endpoint in ENDPOINTS:
        if name == endpoint.name:
            return f"{SCHEMA}.{name} is not loaded yet. Fix: run `commerce-assets pull {name}`."
        if endpoint.update_filter and name == history_of(endpoint):
            return (
                f"{SCHEMA}.{name} is not stored yet. Fix: set {variable_of('order_history')}=true, then run "
                f"`commerce-assets pull {endpoint.name}`."
            )
    for model in MODELS:
        if name == model.name:
            first = f"set {variable_of('order_history')}=true, pull orders, and " if model.needs_history else ""
            return f"{ANALYTICS}.{name} is not built yet. Fix: {first}run `commerce-assets build`."
    return None


def _in_one_line(error: duckdb.Error) -> str:
    """DuckDB's message without its picture of the statement."""
    message, _, _ = str(error).partition("\n\nLINE ")
    return " ".join(message.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exported:
    """A stored table that can be exported.

    Attributes:
        schema: Its schema.
        name: Its name, unique in its schema.
        day: The column whose UTC day is the row's partition.
        hidden: The columns that `--without-personal-data` leaves out. None: all, because none is declared.
    """

    schema: str
    name: str
    day: str | None = None
    hidden: frozenset[str] | None = None

    @property
    def qualified(self) -> str:
        return table(self.schema, self.name)

    @property
    def asset(self) -> str:
        """How the command line names it: without the endpoints' schema."""
        return self.name if self.schema == SCHEMA else f"{self.schema}.{self.name}"

    @property
    def folder(self) -> str:
        return self.asset if self.hidden is None else self.name


def _stored(connection: duckdb.DuckDBPyConnection) -> list[_Exported]:
    """Return every stored table: of the endpoints, with their histories, of the marts, and of your own assets."""
    known = []
    for endpoint in ENDPOINTS:
        hidden = frozenset(column.name for column in endpoint.columns if column.sensitivity) | _NOT_SHARED
        known.append(_Exported(schema=SCHEMA, name=endpoint.name, day=endpoint.cursor, hidden=hidden))
        known.append(_Exported(schema=SCHEMA, name=history_of(endpoint), hidden=hidden))
    for model in MODELS:
        hidden = frozenset(column.name for column in model.columns if column.sensitivity) | _NOT_SHARED
        known.append(_Exported(schema=ANALYTICS, name=model.name, day=model.cursor, hidden=hidden))
    found = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database() "
        f"AND schema_name <> {text(INTERNAL_SCHEMA)} ORDER BY ALL"
    ).fetchall()
    own = set(found) - {(each.schema, each.name) for each in known}
    return [each for each in known if (each.schema, each.name) in found] + [
        _Exported(schema=schema, name=name) for schema, name in found if (schema, name) in own
    ]


@click.command(
    cls=Command,
    arguments={"TABLE": "orders, analytics.daily_revenue, ...; every stored table unless given"},
    examples=[
        ("export parquet", "parquet/orders/day=2024-01-31/..., parquet/products/..."),
        ("export csv orders analytics.daily_revenue --as csv", "two tables as CSV"),
        ("export shared --without-personal-data", "for people who must not see the buyers' data"),
    ],
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.argument("tables", metavar="[TABLE]...", nargs=-1)
@click.option(
    "--as", "kind", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True, help="Kind of file."
)
@click.option("--replace", is_flag=True, help="Replace the folders of tables that are in DIR already.")
@click.option(
    "--without-personal-data",
    is_flag=True,
    help="Leave out buyers' data, URLs that open downloads, free texts, transactions, undeclared fields and the tables "
    "of your own assets.",
)
@format_option
@database_option
@pass_session
def export(
    session: Session,
    folder: Path,
    tables: Sequence[str],
    *,
    kind: str,
    replace: bool,
    without_personal_data: bool,
    form: str,
) -> None:
    """Write the tables to Parquet or CSV files, partitioned ones by day.

    In DIR, each table has a folder; days are UTC days of created_at. All tables are as of one moment. A folder is
    complete or absent; files are readable by their owner only (mode 0600). Read them with
    read_parquet('DIR/orders/*/*.parquet', hive_partitioning = true).
    """
    with session.settings.database(session.log).read() as connection:
        stored = _stored(connection)
        if not stored:
            raise click.ClickException(NOTHING_YET)
        chosen = _chosen(stored, tables) if tables else stored
        if without_personal_data:
            if tables and (unknown := [each.asset for each in chosen if each.hidden is None]):
                raise click.ClickException(
                    f"{unknown[0]} is a table of your own asset: its personal data is not declared. "
                    "Fix: export it without --without-personal-data."
                )
            chosen = [each for each in chosen if each.hidden is not None]
        if taken := [each.folder for each in chosen if (folder / each.folder).exists() and not replace]:
            raise click.ClickException(f"{folder / taken[0]} exists. Fix: choose another folder, or use --replace.")
        exported: list[dict[str, object]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for each in chosen:
                # Each bar is gone when its table's line is printed.
                with _rows_bar(session) as bar:
                    rows = _export(connection, each, folder, bar, kind=kind, hides=without_personal_data)
                exported.append({"table": each.asset, "rows": rows, "folder": str(folder / each.folder)})
                if form == "text":
                    say(f"{each.asset}: {counted(rows, 'row')} in {folder / each.folder}")
        except (OSError, duckdb.IOException) as error:
            raise click.ClickException(
                f"{folder} cannot be written: {short_error(error)}. Fix: choose another folder, or make room there."
            ) from error
    if form == "json":
        say_json(exported)


def _chosen(stored: Sequence[_Exported], names: Sequence[str]) -> list[_Exported]:
    by_name = {f"{each.schema}.{each.name}": each for each in stored}
    by_name |= {each.name: each for each in stored if each.hidden is not None}
    for name in names:
        if name not in by_name:
            last = name.rpartition(".")[2]
            if namesakes := [each.asset for each in stored if each.name == last]:
                raise click.UsageError(f"there is no table {name}. Fix: use {' or '.join(namesakes)}.")
            if fix := _not_stored(last):
                raise click.ClickException(fix)
            raise click.UsageError(f"there is no table {name}; there are {', '.join(each.asset for each in stored)}")
    return list({by_name[name].asset: by_name[name] for name in names}.values())


def _rows_bar(session: Session) -> Progress:
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
    exported: _Exported,
    folder: Path,
    progress: Progress,
    *,
    kind: str,
    hides: bool,
) -> int:
    """Write a table beside its place, and move it there when it is complete; return its rows."""
    target, part = folder / exported.folder, folder / f".{exported.folder}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    hidden = exported.hidden if hides and exported.hidden else frozenset()
    columns = [
        identifier(column.name)
        for column in describe(connection, exported.name, schema=exported.schema)
        if column.name not in hidden
    ]
    options, file = _COPY_OPTIONS[kind], part / f"{exported.name}.{kind}"
    if exported.day:
        columns.append(f"CAST({identifier(exported.day)} AS DATE) AS day")
        options, file = f"{options}, PARTITION_BY (day), OVERWRITE_OR_IGNORE", part
    rows = 0
    try:
        months = _months(connection, exported)
        task = progress.add_task(exported.name, total=sum(count for _, count in months))
        for condition, count in months:
            source = f"SELECT {', '.join(columns)} FROM {exported.qualified} WHERE {condition}"
            connection.execute(f"COPY ({source}) TO {text(str(file))} ({options})")
            progress.advance(task, count)
            rows += count
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return rows


def _months(connection: duckdb.DuckDBPyConnection, exported: _Exported) -> list[tuple[str, int]]:
    """The condition and the row count of each part that one statement writes.

    A month at a time: DuckDB keeps a file open for each day that it writes, with buffered rows of each.
    """
    month = f"date_trunc('month', {identifier(exported.day)})" if exported.day else "NULL"
    found = connection.execute(
        f"SELECT {month} AS month, count(*) FROM {exported.qualified} GROUP BY ALL ORDER BY month"
    ).fetchall()
    if not exported.day:
        return [("TRUE", found[0][1] if found else 0)]
    return [
        (f"{month} = {text(start.isoformat())}::TIMESTAMPTZ" if start else f"{month} IS NULL", rows)
        for start, rows in found
    ]
