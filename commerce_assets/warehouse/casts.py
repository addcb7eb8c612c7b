"""Cast a field of a staged item to its declared type: SQL expressions over the field's raw JSON.

The raw JSON still shows whether a value was "17", 17 or absent. Only what matches a pattern is cast: `try_cast` alone
would round "17.5" to a BIGINT and "0.00001" to a DECIMAL, and read "yes" as true. A value that is neither absent, nor
null, nor a match is NULL in its column and kept in `_invalid`.
"""

import json
from collections.abc import Mapping

from commerce_assets.api.timestamps import INSTANT_PATTERN
from commerce_assets.endpoint import Column, ColumnType
from commerce_assets.warehouse.privacy.expressions import masked
from commerce_assets.warehouse.privacy.policy import Masking
from commerce_assets.warehouse.sql import identifier, text

_INTEGER = r'^"?([+-]?\d+)(?:\.0+)?"?$'
# Four digits after the point are stored; further ones must be zeros.
_DECIMAL = r'^"?([+-]?\d+(?:\.\d{1,4}0*)?)"?$'


def raw(column: Column, mark: str | None = None) -> str:
    """The SQL expression of the column's JSON exactly as the store sent it.

    Args:
        column: Read as a JSON column of the same name.
        mark: What precedes a number that the staging writer has quoted; None if it has quoted none.
    """
    name = identifier(column.name)
    if mark is None:
        return name
    quoted = f'"{mark}:([^"]*)"'
    return (
        f"CASE WHEN contains(CAST({name} AS VARCHAR), {text(mark)}) "
        f"THEN CAST(regexp_replace(CAST({name} AS VARCHAR), {text(quoted)}, '\\1', 'g') AS JSON) ELSE {name} END"
    )


def typed(column: Column, mark: str | None = None) -> str:  # noqa: PLR0911 - one a type
    """The SQL expression of the column's value, over a JSON column of the same name; NULL if it does not fit."""
    name, sent = identifier(column.name), f"CAST({raw(column, mark)} AS VARCHAR)"
    match column.type:
        case ColumnType.BIGINT:
            return f"TRY_CAST(regexp_extract({sent}, {text(_INTEGER)}, 1) AS BIGINT)"
        case ColumnType.DECIMAL:
            return f"TRY_CAST(regexp_extract({sent}, {text(_DECIMAL)}, 1) AS {column.type})"
        case ColumnType.BOOLEAN:
            return f"""CASE lower(trim({sent}, '"')) WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"""
        case ColumnType.TIMESTAMP:
            # In capitals: DuckDB does not read a small z.
            instant = f"""upper(regexp_extract({sent}, {text(f'^"({INSTANT_PATTERN})"$')}, 1))"""
            # DuckDB 1.5 reads no instant without seconds.
            with_seconds = f"regexp_replace({instant}, '([T ]..:..)( |Z|[+-]|$)', '\\1:00\\2')"
            return f"coalesce(TRY_CAST({instant} AS {column.type}), TRY_CAST({with_seconds} AS {column.type}))"
        case ColumnType.TEXT:
            # Only of a text: `->>` would convert a number to a double.
            value = f"CASE WHEN left({sent}, 1) = '\"' THEN {name} ->> '$' ELSE {sent} END"
            return f"CASE WHEN left({sent}, 1) NOT IN ('{{', '[') THEN {value} END"
        case ColumnType.TEXT_LIST:
            # Only where a bracket shows is each element looked at: it may stand in a text.
            scalars = (
                f"list_bool_and(list_transform(json_extract({name}, '$[*]'), "
                "lambda e: json_type(e) NOT IN ('OBJECT', 'ARRAY')))"
            )
            is_flat = f"(NOT regexp_matches({sent}[2:], '[\\[{{]') OR {scalars})"
            # From JSON: a cast of the text itself would read its escapes by other rules, and lose the backslashes.
            elements = f"TRY_CAST({name} AS {column.type})"
            if mark:
                elements = f"list_transform({elements}, lambda e: replace(e, {text(mark + ':')}, ''))"
            return f"CASE WHEN left({sent}, 1) = '[' AND {is_flat} THEN {elements} END"
        case ColumnType.JSON:
            return f"CASE WHEN left({sent}, 1) IN ('{{', '[') THEN {raw(column, mark)} END"


def raw_name(column: Column) -> str:
    """The name of the raw JSON beside the typed value; no field of an endpoint contains a space."""
    return identifier(f"raw {column.name}")


def invalid(columns: Mapping[Column, Masking]) -> str:
    """The SQL expression of `_invalid`, over the typed columns and, under their `raw_name`, the raw ones.

    A value that is hashed or dropped in its column is so here too.
    """
    misfits = {column: f"({raw_name(column)} IS NOT NULL AND {identifier(column.name)} IS NULL)" for column in columns}
    kept = {column: masked(raw_name(column), column, columns[column], kind=ColumnType.JSON) for column in columns}
    entries = ", ".join(
        f"CASE WHEN {misfit} THEN {text(json.dumps(column.name))} || ':' || "
        f"coalesce(CAST({kept[column]} AS VARCHAR), 'null') END"
        for column, misfit in misfits.items()
    )
    # As text: a JSON function would convert numbers to doubles. It is built for the few rows that need one.
    return f"CASE WHEN {' OR '.join(misfits.values())} THEN CAST('{{' || concat_ws(',', {entries}) || '}}' AS JSON) END"
