"""The orders of the benchmark, generated once by the sample store and stored as they are sent.

A data set is two files. `<name>.items` contains the wrapped items, `{"order":{...}},{"order":{...}},`, oldest first, so
a page of any window is one slice of it. `<name>.index` contains five columns of 64-bit integers, one entry
per order: its begin and end, `created_at` and `updated_at` in seconds since 1970, and `settled_gross` in
cents (0 for null), from which the server computes the sums of a complete load.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sample_store.shop import build_orders
from sample_store.transport import encode
from sample_store.values import cents, epoch

START = date(2024, 1, 1)
_CHUNK_ORDERS = 25_000
_COLUMNS = 5


@dataclass(frozen=True)
class DataSet:
    """Days from START on, each with the same number of orders."""

    days: int
    per_day: int

    @property
    def orders(self) -> int:
        return self.days * self.per_day

    @property
    def last_day(self) -> date:
        return START + timedelta(days=self.days - 1)

    def base(self, folder: Path) -> Path:
        return folder / f"orders-{self.days}x{self.per_day}"

    def make(self, folder: Path) -> None:
        """Write the files, unless they exist."""
        base = self.base(folder)
        if base.with_suffix(".index").exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        columns = [array("q") for _ in range(_COLUMNS)]
        with base.with_suffix(".items").open("wb") as items:
            position = 0
            for order in _orders(self.days, self.per_day):
                item = b'{"order":%s},' % encode(order)
                items.write(item)
                row = (position, position + len(item) - 1, *facts(order))
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
                position += len(item)
        part = base.with_suffix(".part")
        with part.open("wb") as index:
            for column in columns:
                column.tofile(index)
        part.replace(base.with_suffix(".index"))


def read_index(base: Path) -> "list[array[int]]":
    """begin, end, created_at, updated_at, cents."""
    path = base.with_suffix(".index")
    rows = path.stat().st_size // 8 // _COLUMNS
    columns = []
    with path.open("rb") as index:
        for _ in range(_COLUMNS):
            column = array("q")
            column.fromfile(index, rows)
            columns.append(column)
    return columns


def facts(order: dict[str, Any]) -> tuple[int, int, int]:
    """created_at, updated_at, cents."""
    gross = order["settled_gross"]
    return int(epoch(order["created_at"])), int(epoch(order["updated_at"])), 0 if gross is None else cents(gross)


def _orders(days: int, per_day: int) -> Iterator[dict[str, Any]]:
    """Generate some days at a time, so that a million orders need no gigabytes."""
    start = datetime.combine(START, datetime.min.time(), UTC)
    chunk = max(1, _CHUNK_ORDERS // per_day)
    for first in range(0, days, chunk):
        yield from build_orders(
            start=start + timedelta(days=first),
            days=min(chunk, days - first),
            per_day=per_day,
            seed=first,
            first_id=first * per_day + 1,
        )
