"""Convert between the frames that assets return or take, and the Arrow tables that DuckDB reads and writes.

pandas and polars are optional: a class is recognised by its name, and its library is imported where it is installed.
"""

from collections.abc import Callable
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from commerce_assets.warehouse.database import WarehouseError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


class FrameError(WarehouseError):
    """An object cannot be stored as a table, or a table cannot be loaded as the type that is asked for."""


def to_arrow(frame: object) -> "pa.Table":
    """The frame as an Arrow table.

    Raises:
        FrameError: It is of another type, or has a column that DuckDB cannot hold exactly.
    """
    import pyarrow as pa  # noqa: PLC0415 - a run that stores nothing need not import it

    table = _conversions(type(frame))[0](frame)
    for position, field in enumerate(table.schema):
        try:
            type_ = _storable(field.type)
            if type_ != field.type:
                table = table.set_column(position, field.with_type(type_), table.column(position).cast(type_))
        except pa.ArrowException as error:
            raise FrameError(
                f"column {field.name} holds values that do not fit a type of DuckDB: they are {field.type}. "
                "Fix: convert it, for example to text."
            ) from error
    return table


def _storable(type_: "pa.DataType") -> "pa.DataType":
    """The type of the same values that DuckDB reads exactly.

    It would cut durations to microseconds, dates in milliseconds to days, and instants too: DuckDB 1.5 as it reads
    them, and 2.0 makes a file of which 1.5, and so BI tools, cannot read the table.
    """
    import pyarrow as pa  # noqa: PLC0415 - as above

    fitting: dict[pa.DataType, pa.DataType] = {
        pa.duration("ns"): pa.duration("us"),
        pa.date64(): pa.date32(),
        pa.float16(): pa.float32(),
    }
    if type_ in fitting:
        return fitting[type_]
    if pa.types.is_timestamp(type_) and type_.unit == "ns" and type_.tz:
        return pa.timestamp("us", type_.tz)
    if pa.types.is_decimal256(type_):
        return pa.decimal128(min(type_.precision, 38), type_.scale)
    return _storable_inside(type_)


def _storable_inside(type_: "pa.DataType") -> "pa.DataType":
    """The nested type with a storable type for each of its parts; any other type as it is."""
    import pyarrow as pa  # noqa: PLC0415 - as above

    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return pa.list_(_storable(type_.value_type))
    if pa.types.is_fixed_size_list(type_):
        array: pa.DataType = pa.list_(_storable(type_.value_type), type_.list_size)
        return array
    if pa.types.is_map(type_):
        return pa.map_(_storable(type_.key_type), _storable(type_.item_type))
    if pa.types.is_struct(type_):
        if not type_.num_fields:
            raise pa.ArrowInvalid("a struct without fields")
        return pa.struct(
            [type_.field(number).with_type(_storable(type_.field(number).type)) for number in range(type_.num_fields)]
        )
    return type_


def from_arrow(table: "pa.Table", wanted: type) -> object:
    """The table as the wanted type; a relation if that is `Any` or `object`.

    Raises:
        FrameError: It is not the type of a frame.
    """
    return _conversions(wanted)[1](table)


def check_supported(wanted: type) -> None:
    """Raise a FrameError if frames of the type cannot be stored and loaded."""
    _conversions(wanted)


def _conversions(frame_type: Any) -> tuple[Callable[[Any], "pa.Table"], Callable[["pa.Table"], object]]:
    if frame_type in (Any, object):
        return _BY_NAME["DuckDBPyRelation"]
    for base in getattr(frame_type, "__mro__", ()):
        library = base.__module__.partition(".")[0].lstrip("_")
        name = base.__name__ if library == "duckdb" else f"{library}.{base.__name__}"
        if name in _BY_NAME:
            return _BY_NAME[name]
    raise FrameError(
        f"{getattr(frame_type, '__name__', frame_type)} is not the type of a frame. "
        "Fix: use pandas.DataFrame, polars.DataFrame, pyarrow.Table or duckdb.DuckDBPyRelation."
    )


def _from_pandas(frame: "pd.DataFrame") -> "pa.Table":
    import pyarrow as pa  # noqa: PLC0415 - only who returns a DataFrame pays for it

    names = [str(name) for name in frame.columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise FrameError(f"columns have the same name: {', '.join(repeated)}. Fix: rename them.")
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        failing = [name for position, name in enumerate(names) if not _converts(frame.iloc[:, position])]
        raise _mixed(failing) from error
    if bent := [name for position, name in enumerate(names) if _is_bent(frame.iloc[:, position])]:
        raise _mixed(bent)
    for field in table.schema:
        # DuckDB would store the number of a period or an interval, and pyarrow stores zero for an offset.
        extension = str(getattr(field.type, "extension_name", ""))
        if extension.startswith("pandas.") or pa.types.is_interval(field.type):
            dtype = extension.removeprefix("pandas.") or "offset"
            raise FrameError(
                f"column {field.name} holds values of the pandas type {dtype}, which a table has not. "
                "Fix: return timestamps (.dt.to_timestamp()) or text (.astype(str))."
            )
    return table


def _mixed(names: list[str]) -> FrameError:
    """The error that names the columns, and not, as pyarrow does, a value."""
    return FrameError(
        f"columns hold values of several types, or of a type that a table has not: {', '.join(names)}. "
        "Fix: convert each to one type, for example with .astype(str)."
    )


def _converts(column: "pd.Series[Any]") -> bool:
    import pyarrow as pa  # noqa: PLC0415

    try:
        pa.Array.from_pandas(column)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def _is_bent(column: "pd.Series[Any]") -> bool:
    """Whether pyarrow changes values to fit the others, as a datetime among dates, or cuts nanoseconds of objects."""
    if column.dtype != object:
        return False
    values = column.dropna()
    kinds = {_kind(value) for value in values} & {"naive", "aware", date, bytes, str}
    return len(kinds) > 1 or any(
        getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0) for value in values
    )


def _kind(value: object) -> object:
    if isinstance(value, datetime):
        return "naive" if value.tzinfo is None else "aware"
    return type(value)


def _to_pandas(table: "pa.Table") -> "pd.DataFrame":
    """Integers and flags with NULLs as `Int64` and `boolean`, which are exact; dates as `datetime64`."""
    import pandas as pd  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    nullable = {getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")() for name in _PANDAS_INTEGERS}
    nullable[pa.bool_()] = pd.BooleanDtype()
    frame = table.to_pandas(date_as_object=False)
    for field in table.schema:
        if field.type in nullable and table[field.name].null_count:
            frame[field.name] = table[field.name].to_pandas(types_mapper=nullable.get)
    return frame


def _from_polars(frame: "pl.DataFrame") -> "pa.Table":
    unsupported = ("Object", "Int128", "UInt128")
    if failing := [name for name, dtype in frame.schema.items() if str(dtype) in unsupported]:
        raise FrameError(
            f"columns hold Python objects or integers of 128 bits: {', '.join(failing)}. "
            "Fix: convert each to another type of polars, for example text."
        )
    return frame.to_arrow()


def _to_polars(table: "pa.Table") -> "pl.DataFrame":
    import polars as pl  # noqa: PLC0415

    return pl.DataFrame(table)


def _to_relation(table: "pa.Table") -> duckdb.DuckDBPyRelation:
    """A relation that lives in memory and outlives the connection to the file."""
    memory = duckdb.connect(config={"custom_user_agent": "dagster"})
    # The day of an instant is its day in UTC here too, wherever the machine is.
    memory.execute("SET TimeZone = 'UTC'")
    if not table.column_names:
        # A relation needs a column.
        return memory.sql("SELECT NULL AS no_columns WHERE FALSE")
    return memory.from_arrow(table)


_PANDAS_INTEGERS = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
_BY_NAME: dict[str, tuple[Callable[[Any], "pa.Table"], Callable[["pa.Table"], object]]] = {
    "pandas.DataFrame": (_from_pandas, _to_pandas),
    "polars.DataFrame": (_from_polars, _to_polars),
    "pyarrow.Table": (lambda table: table, lambda table: table),
    "DuckDBPyRelation": (lambda relation: relation.to_arrow_table(), _to_relation),
}
