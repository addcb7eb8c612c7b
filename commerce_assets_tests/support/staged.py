"""The storage side without a store: items are staged by the real decoder and writer, and loaded into a real file."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.pagination import ListEnd
from commerce_assets.api.request import ListRequest
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.ingest.staging import StagedPages, Staging
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.load import LoadResult, load
from commerce_assets.warehouse.swap import wal_path
from commerce_assets.window import Window

ROOT = Path(__file__).resolve().parents[2]
BY_NAME: Mapping[str, Endpoint] = {endpoint.name: endpoint for endpoint in ENDPOINTS}
ENDED = ListEnd(proven=True, consistent=True, gapless=True, page_size=50, reason="page 2 is empty")
ORDERS, PRODUCTS = BY_NAME["orders"], BY_NAME["products"]
LOG = logging.getLogger("staged")
FIRST_PULL = datetime(2025, 1, 1, tzinfo=UTC)

Item = Mapping[str, Any] | bytes
"""An item out of its wrapper: a dict, or the JSON as the store would send it."""


def order(number: int, created_at: str = "2024-03-15T12:00:00Z", **fields: Any) -> dict[str, Any]:
    return {"id": number, "state": "complete", "created_at": created_at, "updated_at": created_at} | fields


def product(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": number, "name": f"Product {number}", "updated_at": "2024-01-01T00:00:00Z"} | fields


def days(first: str, last: str | None = None) -> Window:
    return Window.of_days(date.fromisoformat(first), date.fromisoformat(last or first))


def body_of(endpoint: Endpoint, items: Sequence[Item]) -> bytes:
    raws = [item if isinstance(item, bytes) else json.dumps(item, ensure_ascii=False).encode() for item in items]
    return b"[" + b",".join(b'{"%s":%s}' % (f"{endpoint.data_selector}".encode(), raw) for raw in raws) + b"]"


@dataclass
class Storage:
    """A folder with a DuckDB file and staged pulls; each pull begins an hour after the one before."""

    folder: Path
    name: str = "shop.duckdb"
    _pulls: "count[int]" = field(default_factory=count)

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def database(self) -> DatabaseFile:
        return DatabaseFile(path=self.path, lock_timeout=5, log=LOG)

    def stage(
        self,
        endpoint: Endpoint,
        items: Sequence[Item],
        *,
        window: Window | None = None,
        updated_after: datetime | None = None,
        per_page: int = 50,
    ) -> StagedPages:
        """A complete pull of the items, with at least one page."""
        number = next(self._pulls)
        pull = ListRequest(endpoint=endpoint, window=window, updated_after=updated_after)
        decoder = PageDecoder(endpoint)
        staging = Staging(self.folder / f"staging-{number}", log=LOG)
        with staging.hold(pull, store="https://store.example/", wait_seconds=0) as staged:
            staged.manifest = msgspec.structs.replace(staged.manifest, began_at=FIRST_PULL + timedelta(hours=number))
            with staged.writer() as writer:
                for first in range(0, max(len(items), 1), per_page):
                    body = body_of(endpoint, items[first : first + per_page])
                    page = decoder.decode(body, number=first // per_page + 1)
                    writer.write(
                        page,
                        page.facts(per_page=per_page),
                        end=ENDED if first + per_page >= len(items) else None,
                        store_clock=0.0,
                    )
        return staged

    def put(self, staged: StagedPages, **options: Any) -> LoadResult:
        with self.database.write() as connection:
            return load(connection, staged, **options)

    def load(
        self,
        endpoint: Endpoint,
        items: Sequence[Item],
        *,
        window: Window | None = None,
        updated_after: datetime | None = None,
        per_page: int = 50,
        **options: Any,
    ) -> LoadResult:
        """Stages the items and loads them; `options` are those of `load`."""
        staged = self.stage(endpoint, items, window=window, updated_after=updated_after, per_page=per_page)
        return self.put(staged, **options)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.database.read() as connection:
            return connection.execute(sql).fetchall()

    def execute(self, *statements: str) -> None:
        """What somebody else does to the file."""
        with self.database.write() as connection:
            for statement in statements:
                connection.execute(statement)


def counts(result: LoadResult) -> tuple[int, int, int, int]:
    return result.inserted, result.updated, result.unchanged, result.removed


def python(code: str, *arguments: object, zone: str = "UTC") -> str:
    """What another process prints that runs the code in a time zone of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TZ": zone},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def opens_elsewhere(path: Path) -> bool:
    """Whether another process can write to the file right now."""
    code = (
        "import sys, duckdb\ntry:\n    duckdb.connect(sys.argv[1]).close()\nexcept duckdb.IOException:\n    print('no')"
    )
    return python(code, path) == ""


def type_of(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, column: str) -> str:
    row = connection.execute(
        "SELECT data_type FROM duckdb_columns() WHERE table_name = ? AND column_name = ?", [endpoint.name, column]
    ).fetchone()
    assert row is not None
    return str(row[0])


class Holder:
    """Another process that has the file open until it is told to let go."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        code = f"import sys, duckdb; c = duckdb.connect(sys.argv[1], read_only={read_only}); print(); sys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"\n"

    def let_go(self) -> None:
        self.process.communicate()


@contextmanager
def held(path: Path, *, read_only: bool = False) -> Iterator[Holder]:
    holder = Holder(path, read_only=read_only)
    try:
        yield holder
    finally:
        holder.let_go()


def leave_a_wal(path: Path, statement: str = "CREATE TABLE theirs AS SELECT 7 AS n") -> None:
    """Commit a statement in another program that is killed before its checkpoint."""
    code = "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute(sys.argv[2]); os._exit(0)"
    python(code, path, statement)
    assert wal_path(path).stat().st_size
