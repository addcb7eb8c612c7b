"""Select the rows of some partitions: SQL conditions that fit the type of the column that a table is partitioned by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from commerce_assets.warehouse.database import WarehouseError
from commerce_assets.warehouse.sql import text, within

_DATE_ONLY = r"\d{4}-\d\d-\d\d"
_DATE_AND_TIME = r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*"
_OFFSET = r".*:\d\d(\.\d+)?\s*(Z|[+-]\d\d(:?\d\d)?)"
_MICROSECOND = timedelta(microseconds=1)


class PartitionError(WarehouseError):
    """The partition column cannot tell the partitions apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDimension:
    """Partitions that are named by their keys.

    Attributes:
        expression: The column, or an expression, that holds the key.
        keys: The keys that are selected.
    """

    expression: str
    keys: tuple[str, ...]

    def condition(self, type_: str) -> str:
        literals = ", ".join(f"TRY_CAST({text(key)} AS {type_})" for key in self.keys)
        return f"({self.expression}) IN ({literals})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeDimension:
    """Partitions that are time windows.

    Attributes:
        expression: The column, or an expression, that holds the row's time.
        windows: Half-open ranges in the partitions' own time zone, adjacent ones merged.
        keys: The keys of the partitions, which a text column may hold instead of times.
        shorter_than_a_day: A date does not determine a row's partition.
    """

    expression: str
    windows: tuple[tuple[datetime, datetime], ...]
    keys: tuple[str, ...]
    shorter_than_a_day: bool

    def condition(self, type_: str) -> str:
        if type_ in {"TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS"}:
            return self._instants(self.expression)
        if type_.startswith("TIMESTAMP"):
            return self._wall_clock(self.expression, type_)
        if type_ == "DATE":
            if self.shorter_than_a_day:
                raise PartitionError(
                    f"cannot select partitions by {self.expression}: the partitions are shorter than a day and the "
                    "column is a DATE. Fix: store a TIMESTAMPTZ."
                )
            return self._dates(self.expression)
        if type_ == "VARCHAR":
            return self._texts()
        raise PartitionError(
            f"cannot select partitions by {self.expression}: its type is {type_}. "
            "Fix: store a DATE, TIMESTAMP, TIMESTAMPTZ or text."
        )

    def _instants(self, value: str) -> str:
        return _any(within(value, start, end) for start, end in self.windows)

    def _dates(self, value: str) -> str:
        return _any(
            f"{value} >= DATE '{start.date()}' AND {value} < DATE '{end.date()}'" for start, end in self.windows
        )

    def _wall_clock(self, value: str, type_: str) -> str:
        if (bound := self._repeated_hour()) is not None:
            raise PartitionError(
                f"cannot select partitions by {self.expression}: the hour of {bound:%Y-%m-%d %H:%M} occurs twice in "
                f"{bound.tzinfo}, and a {type_} does not say which one it means. Fix: store a TIMESTAMPTZ."
            )
        return _any(
            f"{value} >= TIMESTAMP '{start.replace(tzinfo=None)}' AND {value} < TIMESTAMP '{end.replace(tzinfo=None)}'"
            for start, end in self.windows
        )

    def _repeated_hour(self) -> datetime | None:
        bounds = (bound for window in self.windows for bound in window)
        return next((bound for bound in bounds if _is_inside_a_repeated_hour(bound)), None)

    def _texts(self) -> str:
        """A text is an instant if it has an offset, a time of the partitions' zone, a date, or else a key."""
        value = f"({self.expression})"
        local_times = "FALSE" if self._repeated_hour() else self._wall_clock(f"TRY_CAST({value} AS TIMESTAMP)", "text")
        dates = "FALSE" if self.shorter_than_a_day else self._dates(f"TRY_CAST({value} AS DATE)")
        instants = self._instants(f"TRY_CAST({value} AS TIMESTAMPTZ)")
        keys = ", ".join(map(text, self.keys))
        return f"""CASE
            WHEN regexp_full_match({value}, {text(_DATE_ONLY)}) THEN {dates}
            WHEN NOT regexp_full_match({value}, {text(_DATE_AND_TIME)}) THEN {value} IN ({keys})
            WHEN regexp_full_match({value}, {text(_OFFSET)}) THEN {instants}
            ELSE {local_times}
        END"""


Dimension = KeyDimension | TimeDimension


@dataclass(frozen=True, slots=True)
class Partitions:
    """Some partitions of a table: a row belongs to them if all dimensions of any alternative select it."""

    alternatives: tuple[tuple[Dimension, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.alternatives)

    @property
    def expressions(self) -> list[str]:
        return sorted({dimension.expression for dimensions in self.alternatives for dimension in dimensions})

    def condition(self, types: Mapping[str, str]) -> str:
        """The condition, given the type of each expression; an expression without values has the type "NULL"."""
        return _any(
            " AND ".join(
                "FALSE"
                if types[dimension.expression] == '"NULL"'
                else f"({dimension.condition(types[dimension.expression])})"
                for dimension in dimensions
            )
            for dimensions in self.alternatives
        )


def where(connection: duckdb.DuckDBPyConnection, rows: str, partitions: Partitions | None) -> str:
    """The condition of the partitions on `rows`, the text after FROM; TRUE for a table without partitions.

    Raises:
        PartitionError: There are rows, and the partition column is missing or of the wrong type.
    """
    if partitions is None:
        return "TRUE"
    return conditions(connection, rows, [partitions])[0]


def conditions(connection: duckdb.DuckDBPyConnection, rows: str, several: Sequence[Partitions]) -> list[str]:
    """The conditions of several sets of partitions on the same rows; see `where`."""
    if not connection.sql(f"SELECT 1 FROM {rows} LIMIT 1").fetchall():
        # A frame without rows may lack the column, or have it in any type.
        return ["FALSE"] * len(several)
    expressions = sorted({expression for partitions in several for expression in partitions.expressions})
    try:
        types = {
            expression: str(connection.sql(f"SELECT ({expression}) FROM {rows}").types[0]) for expression in expressions
        }
    except duckdb.BinderException as error:
        raise PartitionError(
            f"cannot select partitions by {', '.join(expressions)}: a column is missing. "
            "Fix: return the column, or correct the asset's metadata partition_expr."
        ) from error
    return [partitions.condition(types) for partitions in several]


def _any(conditions: Iterator[str]) -> str:
    return " OR ".join(f"({condition})" for condition in conditions) or "FALSE"


def _is_inside_a_repeated_hour(bound: datetime) -> bool:
    """Whether wall-clock times before and after `bound` overlap, as they do within an hour that occurs twice."""
    return _occurs_twice(bound) and not (bound.fold == 0 and not _occurs_twice(bound - _MICROSECOND))


def _occurs_twice(moment: datetime) -> bool:
    first, second = moment.replace(fold=0).utcoffset(), moment.replace(fold=1).utcoffset()
    return first is not None and second is not None and first > second
