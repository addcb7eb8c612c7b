"""Store frames in tables of their own: by column name, exactly, partition by partition, one asset per table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
from duckdb.sqltypes import DuckDBPyType

from commerce_assets.warehouse.database import WarehouseError
from commerce_assets.warehouse.partitions import Partitions, conditions, where
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, identifier

if TYPE_CHECKING:
    import pyarrow as pa

_FRAME = 'temp.main."frame to store"'
_INTEGERS = {"tinyint", "smallint", "integer", "bigint", "hugeint"}
_INTEGERS |= {"utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"}
# Types of one kind hold the same sort of value: a column may change within its kind if no value changes.
_KINDS = (
    # Not decimals and floats together: 0.1 is exact in one and not in the other.
    _INTEGERS | {"decimal"},
    _INTEGERS | {"float", "double"},
    {"date", "timestamp_s", "timestamp_ms", "timestamp", "timestamp_ns"},
    {"time", "time_ns"},
    {"varchar", "enum"},
)


# A lake holds durations in milliseconds and integers of 128 bits as doubles, and has no arrays of one length.
_NOT_IN_A_LAKE = re.compile(r"\bINTERVAL\b|\bU?HUGEINT\b|\[\d+\]")


class TableError(WarehouseError):
    """A frame cannot be stored in, or loaded from, its table."""


@dataclass(frozen=True, slots=True)
class TableName:
    """A table of the attached database; names are not case-sensitive."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def qualified(self, connection: duckdb.DuckDBPyConnection) -> str:
        """The name with its catalog, so that a schema called like another catalog (`temp`) is not taken for it."""
        return f"{_catalog(connection)}.{identifier(self.schema)}.{identifier(self.name)}"


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of the frame or of the stored table; `rows` is the text after FROM."""

    name: str
    type: DuckDBPyType

    def is_exact(self, connection: duckdb.DuckDBPyConnection, rows: str, wanted: str) -> bool:
        """Whether each value is the same after a conversion to the type and back."""
        if str(self.type) == wanted:
            return True
        column = identifier(self.name)
        back = f"TRY_CAST(TRY_CAST({column} AS {wanted}) AS {self.type})"
        try:
            changed = connection.sql(f"SELECT 1 FROM {rows} WHERE {back} IS DISTINCT FROM {column} LIMIT 1").fetchall()
        except (duckdb.BinderException, duckdb.TypeMismatchException):
            # There is no cast: the structs have no field in common.
            return False
        return not changed

    def has_values(self, connection: duckdb.DuckDBPyConnection, rows: str) -> bool:
        """Whether it holds anything but NULL, or empty lists, which are the same in every type."""
        column = identifier(self.name)
        holds = f"len({column}) > 0" if self.type.id == "list" else f"{column} IS NOT NULL"
        return bool(connection.sql(f"SELECT 1 FROM {rows} WHERE {holds} LIMIT 1").fetchall())


def store(
    connection: duckdb.DuckDBPyConnection,
    table: TableName,
    frame: "pa.Table",
    *,
    owner: str,
    partitions: Partitions | None = None,
) -> int:
    """Replace the rows of the partitions, or all rows, by the frame; returns how many rows it has.

    A new column is added. A column whose type cannot hold the new values is widened. The caller's transaction makes it
    all or nothing.

    Raises:
        TableError: Another owner has the table, a value would change, or a row belongs to another partition.
    """
    _claim(connection, table, owner)
    _refuse_repeated_names(table, frame.column_names)
    target = table.qualified(connection)
    exists = _exists(connection, table)
    replaced = where(connection, target, partitions) if exists else "TRUE"
    if not frame.column_names:
        if exists:
            connection.execute(f"DELETE FROM {target} WHERE {replaced}")
        return 0
    connection.register("frame to store", _with_typed_nulls(connection, frame, target) if exists else frame)
    kept = f"(SELECT * FROM {target} WHERE ({replaced}) IS NOT TRUE)"
    stored = _columns(connection, target) if exists else {}
    types = {
        column.name: _fit(connection, table, column, stored.get(key), kept)
        for key, column in _columns(connection, _FRAME).items()
    }
    if _is_lake(connection):
        _refuse_what_a_lake_changes(table, types)
    if exists:
        _alter(connection, target, stored, types, kept)
        connection.execute(f"DELETE FROM {target} WHERE {where(connection, target, partitions)}")
    else:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_catalog(connection)}.{identifier(table.schema)}")
        _create(connection, target, types)
    values = ", ".join(f"CAST({identifier(name)} AS {type_}) AS {identifier(name)}" for name, type_ in types.items())
    rows = f"(SELECT {values} FROM {_FRAME})"
    _refuse_rows_of_other_partitions(connection, table, rows, partitions)
    connection.execute(f"INSERT INTO {target} BY NAME FROM {rows}")
    connection.unregister("frame to store")
    return frame.num_rows


def load(
    connection: duckdb.DuckDBPyConnection,
    table: TableName,
    *,
    columns: Sequence[str] | None = None,
    partitions: Partitions | None = None,
) -> "pa.Table | None":
    """The rows of the partitions, or all rows; None if there is no such table."""
    if not _exists(connection, table):
        return None
    target = table.qualified(connection)
    names = ", ".join(map(identifier, columns)) if columns else "*"
    condition = where(connection, target, partitions)
    frame: pa.Table = connection.sql(f"SELECT {names} FROM {target} WHERE {condition}").to_arrow_table()
    return frame


def has_owner(connection: duckdb.DuckDBPyConnection, table: TableName) -> bool:
    """Whether an asset has stored the table; a frame without columns counts, although no table is created for it."""
    if not _exists(connection, TableName(INTERNAL_SCHEMA, "asset_tables")):
        return False
    return _owner(connection, table) is not None


def count_rows(
    connection: duckdb.DuckDBPyConnection, table: TableName, partitions: Mapping[str, Partitions]
) -> dict[str, int]:
    """The number of rows of each of the partitions, by any name."""
    if not partitions or not _exists(connection, table):
        return dict.fromkeys(partitions, 0)
    target = table.qualified(connection)
    selected = conditions(connection, target, list(partitions.values()))
    counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in selected)
    (row,) = connection.execute(f"SELECT {counts} FROM {target}").fetchall()
    return dict(zip(partitions, row, strict=True))


def columns_of(connection: duckdb.DuckDBPyConnection, table: TableName) -> dict[str, str]:
    """The types of the table's columns by name; empty if there is no such table."""
    if not _exists(connection, table):
        return {}
    return {column.name: str(column.type) for column in _columns(connection, table.qualified(connection)).values()}


def _fit(
    connection: duckdb.DuckDBPyConnection, table: TableName, incoming: _Column, stored: _Column | None, kept: str
) -> str:
    """The type that the column must have to hold the kept and the incoming values exactly.

    Raises:
        TableError: There is none.
    """
    wanted = str(incoming.type)
    if stored is None:
        if incoming.is_exact(connection, _FRAME, wanted):
            return wanted
        raise _not_exact(table, incoming, wanted)
    if not incoming.has_values(connection, _FRAME):
        return str(stored.type)
    if not _same_kind(stored.type, incoming.type):
        if stored.has_values(connection, kept) or not incoming.is_exact(connection, _FRAME, wanted):
            raise _not_exact(table, incoming, str(stored.type))
        return wanted
    if incoming.is_exact(connection, _FRAME, str(stored.type)):
        return str(stored.type)
    union = f"SELECT CAST(NULL AS {stored.type}) UNION ALL SELECT CAST(NULL AS {wanted})"
    # An integer of 128 bits is a double in a lake.
    wider = str(connection.sql(union).types[0]).replace("HUGEINT", "DECIMAL(38,0)")
    if incoming.is_exact(connection, _FRAME, wider) and stored.is_exact(connection, kept, wider):
        return wider
    raise _not_exact(table, incoming, str(stored.type))


def _with_typed_nulls(connection: duckdb.DuckDBPyConnection, frame: "pa.Table", target: str) -> "pa.Table":
    """Give nulls in lists and structs the types of the stored columns: DuckDB 1.5 takes them for integers."""
    schema: pa.Schema = connection.sql(f"FROM {target} LIMIT 0").to_arrow_table().schema
    stored = {field.name.lower(): field.type for field in schema}
    for position, field in enumerate(frame.schema):
        type_ = _typed_nulls(field.type, stored.get(field.name.lower(), field.type))
        if type_ != field.type:
            frame = frame.set_column(position, field.with_type(type_), frame.column(position).cast(type_))
    return frame


def _typed_nulls(type_: "pa.DataType", stored: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa  # noqa: PLC0415 - a run that stores nothing need not import it

    if pa.types.is_null(type_):
        return stored
    if pa.types.is_list(type_) and pa.types.is_list(stored):
        return pa.list_(_typed_nulls(type_.value_type, stored.value_type))
    if pa.types.is_struct(type_) and pa.types.is_struct(stored):
        types = {field.name: field.type for field in stored}
        return pa.struct(
            [field.with_type(_typed_nulls(field.type, types.get(field.name, field.type))) for field in type_]
        )
    return type_


def _alter(
    connection: duckdb.DuckDBPyConnection,
    target: str,
    stored: Mapping[str, _Column],
    types: Mapping[str, str],
    kept: str,
) -> None:
    """Add the columns that the table lacks, and change the types of others; their replaced rows are gone afterwards."""
    wanted = {name.lower(): type_ for name, type_ in types.items()}
    columns = {column.name: wanted.get(key, str(column.type)) for key, column in stored.items()}
    changed = {name: type_ for name, type_ in columns.items() if type_ != str(stored[name.lower()].type)}
    added = {name: type_ for name, type_ in types.items() if name.lower() not in stored}
    if changed:
        # DuckDB 1.5 commits no type that changes after rows have; and what is replaced need not fit the new type.
        connection.execute(f"CREATE TEMP TABLE kept_rows AS SELECT * FROM {kept}")
        if _is_lake(connection):
            # It only widens types.
            connection.execute(f"DROP TABLE {target}")
            _create(connection, target, columns)
        else:
            for name, type_ in changed.items():
                column = identifier(name)
                connection.execute(
                    f"ALTER TABLE {target} ALTER {column} TYPE {type_} USING TRY_CAST({column} AS {type_})"
                )
            connection.execute(f"DELETE FROM {target}")
        connection.execute(f"INSERT INTO {target} BY NAME FROM temp.main.kept_rows")
        connection.execute("DROP TABLE temp.main.kept_rows")
    for name, type_ in added.items():
        connection.execute(f"ALTER TABLE {target} ADD COLUMN {identifier(name)} {type_}")


def _is_lake(connection: duckdb.DuckDBPyConnection) -> bool:
    (row,) = connection.execute(
        "SELECT type FROM duckdb_databases() WHERE database_name = current_database()"
    ).fetchall()
    return row == ("ducklake",)


def _create(connection: duckdb.DuckDBPyConnection, target: str, types: Mapping[str, str]) -> None:
    definitions = ", ".join(f"{identifier(name)} {type_}" for name, type_ in types.items())
    connection.execute(f"CREATE TABLE {target} ({definitions})")


def _same_kind(one: DuckDBPyType, other: DuckDBPyType) -> bool:
    """Whether values of both types may share a column; nested types compare field by field."""
    if "null" in {one.id, other.id}:
        return True
    if {one.id, other.id} <= {"list", "array", "struct", "map"}:
        fields, others = _fields(one), _fields(other)
        return _is_list(one) == _is_list(other) and all(
            _same_kind(type_, others.get(name, type_)) for name, type_ in fields.items()
        )
    return one.id == other.id or any({one.id, other.id} <= kind for kind in _KINDS)


def _fields(type_: DuckDBPyType) -> dict[str, DuckDBPyType]:
    return {name.lower(): child for name, child in type_.children if isinstance(child, DuckDBPyType)}


def _is_list(type_: DuckDBPyType) -> bool:
    return type_.id in {"list", "array"}


def _not_exact(table: TableName, column: _Column, stored: str) -> TableError:
    return TableError(
        f"cannot store {table}: column {column.name} is {stored}, and values of the new {column.type} would change in "
        f"it. Fix: return {column.name} as {stored}, or drop the table and materialize the asset again."
    )


def _refuse_what_a_lake_changes(table: TableName, types: Mapping[str, str]) -> None:
    for name, type_ in types.items():
        if _NOT_IN_A_LAKE.search(type_):
            raise TableError(
                f"cannot store {table}: column {name} is {type_}, which a lake does not hold exactly. "
                "Fix: return a decimal, a number of seconds, a list, or text."
            )


def _refuse_repeated_names(table: TableName, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if sum(name.lower() == other.lower() for other in names) > 1})
    if repeated:
        raise TableError(
            f"cannot store {table}: columns have the same name, apart from upper and lower case: "
            f"{', '.join(repeated)}. Fix: rename them."
        )


def _refuse_rows_of_other_partitions(
    connection: duckdb.DuckDBPyConnection, table: TableName, rows: str, partitions: Partitions | None
) -> None:
    """Stored nevertheless, they would stay when this partition is replaced, and double with each run."""
    if partitions is None:
        return
    outside = f"SELECT count(*) FROM {rows} WHERE ({where(connection, rows, partitions)}) IS NOT TRUE"
    ((number,),) = connection.execute(outside).fetchall()
    if number:
        raise TableError(
            f"cannot store {table}: {number} rows do not belong to the partitions of the run by "
            f"{', '.join(partitions.expressions)}. Fix: return the rows of the run's partitions only, or correct the "
            "asset's metadata partition_expr."
        )


def _claim(connection: duckdb.DuckDBPyConnection, table: TableName, owner: str) -> None:
    """Record who stores the table.

    Raises:
        TableError: The table belongs to another asset, exists and no asset has stored it, or is a view.
    """
    owners = TableName(INTERNAL_SCHEMA, "asset_tables").qualified(connection)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_catalog(connection)}.{identifier(INTERNAL_SCHEMA)}")
    connection.execute(f"CREATE TABLE IF NOT EXISTS {owners} (table_name VARCHAR, owner VARCHAR)")
    now = _owner(connection, table)
    if _type_of(connection, table) == "VIEW":
        raise TableError(f"cannot store {owner}: {table} is a view. Fix: drop it, or give the asset another name.")
    if now == owner:
        return
    if _exists(connection, table):
        whose = f"belongs to {now}" if now else "was not created by an asset"
        raise TableError(
            f"cannot store {owner}: the table {table} exists and {whose}. Fix: give the asset another name or key "
            "prefix, or drop the table if nobody needs it."
        )
    connection.execute(f"DELETE FROM {owners} WHERE table_name = ?", [str(table).lower()])
    connection.execute(f"INSERT INTO {owners} VALUES (?, ?)", [str(table).lower(), owner])


def _owner(connection: duckdb.DuckDBPyConnection, table: TableName) -> str | None:
    owners = TableName(INTERNAL_SCHEMA, "asset_tables").qualified(connection)
    found = connection.execute(f"SELECT owner FROM {owners} WHERE table_name = ?", [str(table).lower()]).fetchone()
    return str(found[0]) if found else None


def _exists(connection: duckdb.DuckDBPyConnection, table: TableName) -> bool:
    """Whether there is a table, or a view, of that name."""
    return _type_of(connection, table) is not None


def _type_of(connection: duckdb.DuckDBPyConnection, table: TableName) -> str | None:
    """The type of what has the name, as the information schema has it; None if nothing has."""
    found = connection.execute(
        "SELECT table_type FROM information_schema.tables WHERE table_catalog = current_database() "
        "AND lower(table_schema) = lower(?) AND lower(table_name) = lower(?)",
        [table.schema, table.name],
    ).fetchall()
    return str(found[0][0]) if found else None


def _columns(connection: duckdb.DuckDBPyConnection, rows: str) -> dict[str, _Column]:
    """The columns, by their names in lower case."""
    relation = connection.sql(f"FROM {rows}")
    return {name.lower(): _Column(name, type_) for name, type_ in zip(relation.columns, relation.types, strict=True)}


def _catalog(connection: duckdb.DuckDBPyConnection) -> str:
    ((name,),) = connection.execute("SELECT current_database()").fetchall()
    return identifier(name)
