"""The DuckDB IO manager: assets that return a frame are stored as tables, and loaded for downstream parameters."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dagster as dg
from dagster_duckdb import DuckDBIOManager

from commerce_assets.analytics.tables import MODELS
from commerce_assets.analytics.tables import SCHEMA as ANALYTICS_SCHEMA
from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.defs.shop import Shop
from commerce_assets.defs.table_partitions import partitions_of
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import build_database, resource_field
from commerce_assets.warehouse import frames, tables
from commerce_assets.warehouse.database import Database
from commerce_assets.warehouse.partitions import PartitionError, Partitions
from commerce_assets.warehouse.row_history import history_of
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA
from commerce_assets.warehouse.tables import TableError, TableName

if TYPE_CHECKING:
    import pyarrow as pa

_PROJECT_TABLES = frozenset(
    [(SCHEMA, endpoint.name) for endpoint in ENDPOINTS]
    + [(SCHEMA, history_of(endpoint)) for endpoint in ENDPOINTS]
    + [(ANALYTICS_SCHEMA, model.name) for model in MODELS]
)
_PROJECT_SCHEMAS = frozenset({INTERNAL_SCHEMA, "information_schema", "pg_catalog"})


class CommerceDuckDBIOManager(DuckDBIOManager):
    """Stores the frame that an asset returns as a table of the DuckDB file, and loads tables for parameters.

    Settings, asset metadata (`schema`, `partition_expr`, `columns`) and materialization metadata are those of
    dagster-duckdb. A frame is a `pandas.DataFrame`, a `polars.DataFrame`, a `pyarrow.Table` or a
    `duckdb.DuckDBPyRelation`; a parameter's annotation says which one to load, and without one it is a relation.

    Table: the last part of the asset key names the table; the metadata `schema`, else the part of the key before it,
    else the setting `schema` names the schema. The name of the shop, as the first part of the key, names no schema. A
    table belongs to the asset that has stored it first.

    Partitions: a run replaces the rows of its partitions by the metadata `partition_expr`, a column of DATE,
    TIMESTAMP, TIMESTAMPTZ or text; for several dimensions a dict with a column for each. A DATE or a TIMESTAMP is a
    local time of the partitions' time zone. A frame with rows of other partitions is refused.

    A parameter that loads a partitioned asset gets the partitions that its partition mapping selects. Without a
    mapping, an unpartitioned asset gets all partitions that exist: of `orders` the days up to yesterday, not the
    rows of today. Query the table to see those.
    """

    lock_timeout: float = resource_field("duckdb_lock_timeout")
    memory_limit: str = resource_field("duckdb_memory_limit")
    postgres_url: str | None = resource_field("postgres_url")
    shop: str = resource_field("shop")
    lake_data: str = resource_field("lake_data")

    @staticmethod
    def type_handlers() -> Sequence[Any]:
        return []

    def create_io_manager(self, context: Any) -> dg.IOManager:  # type: ignore[override] # noqa: ARG002 - dagster-duckdb's
        return TableIOManager(
            schema=self.schema_ or "public",
            shop=self.shop,
            open_database=partial(
                build_database,
                path=Path(self.database),
                lake_data=self.lake_data,
                shop=self.shop,
                postgres_url=self.postgres_url,
                lock_timeout=self.lock_timeout,
                memory_limit=self.memory_limit,
                config=self.connection_config,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class TableIOManager(dg.IOManager):
    """What a run works with; dagster-duckdb's own inserts by position, and outside a transaction."""

    schema: str
    shop: str
    open_database: Callable[..., Database]

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        with known_errors_as_failures(Shop(self.shop)):
            self._store(context, obj)

    def load_input(self, context: dg.InputContext) -> object:
        with known_errors_as_failures(Shop(self.shop)):
            return self._load_frame(context)

    def _store(self, context: dg.OutputContext, obj: object) -> None:
        if obj is None:
            raise TableError(
                f"cannot store {_owner(context)}: it returned None. Fix: return a frame, or annotate it with `-> None`."
            )
        table = self._table(context, context)
        _refuse_project_tables(table, _owner(context))
        keys = list(context.asset_partition_keys) if _is_partitioned(context) else []
        partitions = _partitions(context, context, keys)
        try:
            frame = frames.to_arrow(obj)
        except frames.FrameError as error:
            raise TableError(f"cannot store {table}: {error}") from error
        by_key = {key: cast("Partitions", _partitions(context, context, [key])) for key in keys if len(keys) > 1}
        with self._database(context).write() as connection:
            rows = tables.store(connection, table, frame, owner=_owner(context), partitions=partitions)
            columns = tables.columns_of(connection, table)
            counts = tables.count_rows(connection, table, by_key)
        for key, count in counts.items():
            context.step_context.add_asset_metadata(
                {"dagster/partition_row_count": count}, asset_key=context.asset_key, partition_key=key
            )
        if not counts:
            context.add_output_metadata({f"dagster/{'partition_' if partitions else ''}row_count": rows})
        context.add_output_metadata(
            {
                "dagster/table_name": str(table),
                "dagster/storage_kind": "duckdb",
                "dagster/column_schema": dg.TableSchema([dg.TableColumn(*column) for column in columns.items()]),
            }
        )

    def _load_frame(self, context: dg.InputContext) -> object:
        upstream = context.upstream_output
        if upstream is None:
            raise TableError(f"cannot load the input {context.name}: no asset or op has stored it.")
        table = self._table(context, upstream)
        wanted = context.dagster_type.typing_type
        try:
            frames.check_supported(wanted)
        except frames.FrameError as error:
            raise TableError(f"cannot load {table}: {error}") from error
        keys = list(context.asset_partition_keys) if _is_partitioned(context) else []
        frame = self._load(context, table, _partitions(context, upstream, keys))
        return frames.from_arrow(frame, wanted)

    def _load(self, context: dg.InputContext, table: TableName, partitions: Partitions | None) -> "pa.Table":
        """The rows; no rows and no columns of a table that does not exist yet and need not."""
        import pyarrow as pa  # noqa: PLC0415 - a run that loads nothing need not import it

        step = context.step_context
        may_be_missing = context.has_asset_key and (
            partitions == Partitions(()) or (step.assets_def is not None and context.asset_key in step.assets_def.keys)
        )
        if may_be_missing and not self._database(context).exists():
            return pa.table({})
        with self._database(context).read() as connection:
            frame = tables.load(
                connection, table, columns=(context.definition_metadata or {}).get("columns"), partitions=partitions
            )
            if frame is None and (may_be_missing or tables.has_owner(connection, table)):
                return pa.table({})
        if frame is None:
            raise TableError(
                f"cannot load {table}: the table does not exist. Fix: materialize the asset that stores it."
            )
        return frame

    def _table(self, context: dg.InputContext | dg.OutputContext, stored_by: dg.OutputContext) -> TableName:
        metadata = stored_by.definition_metadata or {}
        *prefix, name = context.asset_key.path if context.has_asset_key else [metadata.get("table", stored_by.name)]
        if self.shop and prefix[:1] == [self.shop]:
            prefix = prefix[1:]
        return TableName(metadata.get("schema") or (prefix[-1] if prefix else self.schema), name)

    def _database(self, context: dg.InputContext | dg.OutputContext) -> Database:
        return self.open_database(log=context.log or logging.getLogger(__name__))


def _owner(context: dg.OutputContext) -> str:
    """Who stores the table, as errors and the database name it."""
    if context.has_asset_key:
        return f"asset {context.asset_key.to_user_string()}"
    return f"output {context.name} of op {context.step_key}"


def _refuse_project_tables(table: TableName, owner: str) -> None:
    name = (table.schema.lower(), table.name.lower())
    if name in _PROJECT_TABLES or table.schema.lower() in _PROJECT_SCHEMAS:
        raise TableError(
            f"cannot store {owner}: {table} is a table of the project. "
            "Fix: give the asset another name, or a key prefix, which names the schema."
        )


def _is_partitioned(context: dg.InputContext | dg.OutputContext) -> bool:
    return context.has_asset_key and context.has_asset_partitions


def _partitions(
    context: dg.InputContext | dg.OutputContext, stored_by: dg.OutputContext, keys: list[str]
) -> Partitions | None:
    """The partitions of the keys; None for an asset without partitions."""
    if not _is_partitioned(context):
        return None
    expression = (stored_by.definition_metadata or {}).get("partition_expr")
    try:
        return partitions_of(context.asset_partitions_def, expression, keys)
    except PartitionError as error:
        raise PartitionError(f"asset {context.asset_key.to_user_string()}: {error}") from error
