"""The DuckDB IO manager: what assets return is stored in one transaction; what they take is read and let go of.

It extends dagster-duckdb's. Three things differ: the connection is a transaction that is rolled back if anything
fails, and closed whatever happens; whoever holds the file is waited for, named, and not for ever; and the time
bounds of a partition carry their offset, so that a machine's time zone decides nothing.
"""

import logging
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import duckdb
from dagster import InputContext, OutputContext
from dagster._core.definitions.metadata import RawMetadataValue
from dagster._core.definitions.partitions.utils import TimeWindow
from dagster._core.storage.db_io_manager import (
    DbIOManager,
    DbTypeHandler,
    TablePartitionDimension,
    TableSlice,
    static_where_clause,
)
from dagster_duckdb import DuckDBIOManager
from dagster_duckdb.io_manager import DuckDbClient

from commerce_assets.settings import resource_field
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.sql import identifier, table, within

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_Frame = TypeVar("_Frame")


class CommerceDuckDBIOManager(DuckDBIOManager):
    """Stores assets as tables of one DuckDB file, `schema.asset`, and loads them for downstream code.

    A parameter's annotation decides what an asset is loaded as: `duckdb.DuckDBPyRelation` (also without an
    annotation), `pyarrow.Table`, `polars.DataFrame` or `pandas.DataFrame`; the last two if they are installed.
    """

    lock_timeout: float = resource_field("duckdb_lock_timeout")
    memory_limit: str = resource_field("duckdb_memory_limit")

    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[Any]]:
        # Code that asks for a type has imported its library; nobody else should pay for the import.
        by_library: dict[str, type[DbTypeHandler[Any]]] = {
            "pyarrow": ArrowHandler,
            "polars": PolarsHandler,
            "pandas": PandasHandler,
        }
        frames = [handler() for library, handler in by_library.items() if library in sys.modules]
        return [RelationHandler(), *frames]

    @staticmethod
    def default_load_type() -> type | None:
        return duckdb.DuckDBPyRelation

    def create_io_manager(self, context: Any) -> DbIOManager:  # noqa: ARG002 - dagster-duckdb's signature
        return DbIOManager(
            db_client=TransactionalDuckDbClient(),
            database=self.database,
            schema=self.schema_,
            type_handlers=self.type_handlers(),
            default_load_type=self.default_load_type(),
            io_manager_name=type(self).__name__,
        )


class TransactionalDuckDbClient(DuckDbClient):
    """dagster-duckdb's client, with the transaction in `connect`, so that `DbIOManager` needs no change."""

    @staticmethod
    @contextmanager
    def connect(context: OutputContext | InputContext, _: TableSlice) -> Iterator[duckdb.DuckDBPyConnection]:
        config: Mapping[str, Any] = context.resource_config or {}
        database = DatabaseFile(
            path=Path(config["database"]),
            lock_timeout=config["lock_timeout"],
            memory_limit=config["memory_limit"],
            config=config["connection_config"],
            log=context.log or logging.getLogger(__name__),
        )
        with database.write() if isinstance(context, OutputContext) else database.read() as connection:
            yield connection

    @staticmethod
    def ensure_schema_exists(context: OutputContext, table_slice: TableSlice, connection: Any) -> None:  # noqa: ARG004
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(table_slice.schema)}")

    @staticmethod
    def delete_table_slice(context: OutputContext, table_slice: TableSlice, connection: Any) -> None:
        """Nothing: each handler replaces what it stores, and a load rewrites only the rows that differ."""

    @staticmethod
    def get_table_name(table_slice: TableSlice) -> str:
        # dagster-duckdb puts the file's path before it: that is this machine's business, and no name in SQL.
        return f"{table_slice.schema}.{table_slice.table}"

    @staticmethod
    def get_select_statement(table_slice: TableSlice) -> str:
        names = ", ".join(identifier(name) for name in table_slice.columns) if table_slice.columns else "*"
        return f"SELECT {names} FROM {table(table_slice.schema, table_slice.table)}{_where(table_slice)}"


class FrameHandler(DbTypeHandler[_Frame], Generic[_Frame]):
    """Stores what DuckDB can scan by name, and loads through Arrow."""

    def handle_output(
        self, context: OutputContext, table_slice: TableSlice, obj: _Frame, connection: Any
    ) -> Mapping[str, RawMetadataValue]:
        """Replaces the slice, by name; a new column is added to the table."""
        target = table(table_slice.schema, table_slice.table)
        connection.register("returned", self.to_arrow(obj))
        connection.execute(f"CREATE TABLE IF NOT EXISTS {target} AS FROM returned LIMIT 0")
        stored = {name.lower() for name, *_ in connection.execute(f"DESCRIBE {target}").fetchall()}
        for name, kind, *_ in connection.execute("DESCRIBE returned").fetchall():
            if name.lower() not in stored:
                connection.execute(f"ALTER TABLE {target} ADD COLUMN {identifier(name)} {kind}")
        connection.execute(f"DELETE FROM {target}{_where(table_slice)}")
        ((rows,),) = connection.execute(f"INSERT INTO {target} BY NAME FROM returned").fetchall()
        connection.unregister("returned")
        counted = "dagster/partition_row_count" if context.has_asset_partitions else "dagster/row_count"
        return {counted: rows}

    def load_input(self, context: InputContext, table_slice: TableSlice, connection: Any) -> _Frame:  # noqa: ARG002
        query = TransactionalDuckDbClient.get_select_statement(table_slice)
        return self.from_arrow(connection.sql(query).to_arrow_table())

    @abstractmethod
    def to_arrow(self, obj: _Frame) -> Any: ...

    @abstractmethod
    def from_arrow(self, arrow: "pa.Table") -> _Frame: ...


class RelationHandler(FrameHandler[duckdb.DuckDBPyRelation]):
    """A relation that is loaded lives in memory, and outlives the connection to the file."""

    def to_arrow(self, obj: duckdb.DuckDBPyRelation) -> Any:
        return obj.to_arrow_table()

    def from_arrow(self, arrow: "pa.Table") -> duckdb.DuckDBPyRelation:
        memory = duckdb.connect(config={"custom_user_agent": "dagster"})
        # The day of an instant is its day in UTC here too, wherever the machine is.
        memory.execute("SET TimeZone = 'UTC'")
        return memory.from_arrow(arrow)

    @property
    def supported_types(self) -> Sequence[type[object]]:
        return [duckdb.DuckDBPyRelation]


class ArrowHandler(FrameHandler["pa.Table"]):
    def to_arrow(self, obj: "pa.Table") -> Any:
        return obj

    def from_arrow(self, arrow: "pa.Table") -> "pa.Table":
        return arrow

    @property
    def supported_types(self) -> Sequence[type[object]]:
        return [sys.modules["pyarrow"].Table]


class PolarsHandler(FrameHandler["pl.DataFrame"]):
    def to_arrow(self, obj: "pl.DataFrame") -> Any:
        return obj.to_arrow()

    def from_arrow(self, arrow: "pa.Table") -> "pl.DataFrame":
        frame: pl.DataFrame = sys.modules["polars"].from_arrow(arrow)
        return frame

    @property
    def supported_types(self) -> Sequence[type[object]]:
        return [sys.modules["polars"].DataFrame]


class PandasHandler(FrameHandler["pd.DataFrame"]):
    def to_arrow(self, obj: "pd.DataFrame") -> Any:
        import pyarrow as pa  # noqa: PLC0415 - only who returns a DataFrame pays for it

        return pa.Table.from_pandas(obj, preserve_index=False)

    def from_arrow(self, arrow: "pa.Table") -> "pd.DataFrame":
        return arrow.to_pandas()

    @property
    def supported_types(self) -> Sequence[type[object]]:
        return [sys.modules["pandas"].DataFrame]


def _where(table_slice: TableSlice) -> str:
    """The slice's partitions as a WHERE clause; empty if it is the whole table."""
    conditions = [_condition(dimension) for dimension in table_slice.partition_dimensions or []]
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _condition(dimension: TablePartitionDimension) -> str:
    if isinstance(dimension.partitions, TimeWindow):
        start, end = dimension.partitions
        return within(dimension.partition_expr, start, end)
    return static_where_clause(dimension) if dimension.partitions else "FALSE"
