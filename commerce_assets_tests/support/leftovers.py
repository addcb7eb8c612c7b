"""Everything that a run leaves on disk, in pieces that can be searched: bytes, and what they are encodings of.

A search of the raw bytes alone would miss a value that SQLite has split over two pages, that Dagster has compressed, or
that DuckDB keeps as the entry of a dictionary: databases are read cell by cell as well.
"""

import base64
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import duckdb


class Find(NamedTuple):
    """What was found, and where: `file`, `file:table.column`."""

    what: str
    where: str


def forms_of(*texts: str) -> set[bytes]:
    """Each text as logs, URLs, JSON and dumps write it."""
    forms = set()
    for text in texts:
        forms |= {text, quote(text, safe=""), quote(text), json.dumps(text)[1:-1], text.encode().hex()}
    return {form.encode() for form in forms}


def authorization(key: str, secret: str) -> str:
    """The value of the header, without the word Basic."""
    return base64.b64encode(f"{key}:{secret}".encode()).decode()


def search(folder: Path, needles: Mapping[str, set[bytes]]) -> set[Find]:
    """Which needles lie where below a folder; in the names of files too."""
    return {
        Find(what, where)
        for where, piece in pieces(folder)
        for what, forms in needles.items()
        if any(form in piece for form in forms)
    }


def pieces(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        yield "(names)", name.encode()
        if not path.is_file():
            continue
        content = path.read_bytes()
        yield name, content
        if content.startswith(b"SQLite format 3\0"):
            yield from _cells_of_sqlite(path, name)
        elif content[8:12] == b"DUCK":
            yield from _cells_of_duckdb(path, name)


def _cells_of_sqlite(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = [table for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f'SELECT * FROM "{table}"')
            columns = [column for column, *_ in cursor.description]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    cell = value if isinstance(value, bytes) else str(value).encode()
                    yield f"{name}:{table}.{column}", cell
                    # Dagster's snapshots of jobs and plans.
                    if cell.startswith(b"x\x9c"):
                        yield f"{name}:{table}.{column}", zlib.decompress(cell)


def _cells_of_duckdb(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS found (READ_ONLY)")
        columns = connection.execute(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns() WHERE database_name = 'found'"
        ).fetchall()
        for schema, table, column in columns:
            cells = connection.execute(f'SELECT CAST("{column}" AS VARCHAR) FROM found."{schema}"."{table}"').fetchall()
            yield f"{name}:{table}.{column}", "\n".join(str(cell) for (cell,) in cells).encode()
