"""How a field of a staged item becomes a typed value: SQL expressions over the field's raw JSON.

The raw JSON says what DuckDB's own conversions no longer tell: whether a value was "17", 17 or absent. A cast is made
only of what a pattern has found to be certain: `try_cast` alone would round "17.5" to a BIGINT and "0.00001" to a
DECIMAL, and read "yes" as true. Whatever is neither absent, nor null, nor certain is NULL in its column and kept in
`_invalid`.
"""

from collections.abc import Mapping

from commerce_assets.api.timestamps import INSTANT_PATTERN
from commerce_assets.endpoint import Column, ColumnType
from commerce_assets.warehouse.privacy.expressions import masked
from commerce_assets.warehouse.privacy.policy import Masking
from commerce_assets.warehouse.sql import identifier, text

# A JSON number (no quotes) with a fraction has gone through a double in DuckDB's reader, so beyond 15 digits it is no
# longer certain.
_INTEGER = r'^"?([+-]?\d+)(?:\.0+)?"?$'
_BENT_INTEGER = r"-?\d{16,}\.\d+"
# Four digits after the point are stored; further ones must be zeros.
_DECIMAL_TEXT = r'^"([+-]?\d+(?:\.\d{1,4}0*)?)"$'
_DECIMAL_NUMBER = r"^[+-]?(\d+|\d+\.\d{1,4}0*)$"
_DOUBLE_DIGITS = 15


def typed(column: Column) -> str:  # noqa: PLR0911 - one a type
    """The SQL expression of the column's value, over a JSON column of the same name; NULL if it does not fit."""
    raw = f"CAST({identifier(column.name)} AS VARCHAR)"
    match column.type:
        case ColumnType.BIGINT:
            certain = f"CASE WHEN NOT regexp_full_match({raw}, {text(_BENT_INTEGER)}) THEN {raw} END"
            return f"TRY_CAST(regexp_extract({certain}, {text(_INTEGER)}, 1) AS BIGINT)"
        case ColumnType.DECIMAL:
            certain_number = (
                f"regexp_full_match({raw}, {text(_DECIMAL_NUMBER)}) "
                f"AND (NOT contains({raw}, '.') OR length(ltrim({raw}, '+-')) <= {_DOUBLE_DIGITS + 1})"
            )
            return (
                f"TRY_CAST(CASE WHEN {certain_number} THEN {raw} "
                f"ELSE regexp_extract({raw}, {text(_DECIMAL_TEXT)}, 1) END AS {column.type})"
            )
        case ColumnType.BOOLEAN:
            return f"""CASE lower(trim({raw}, '"')) WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"""
        case ColumnType.TIMESTAMP:
            # In capitals: DuckDB does not read a small z.
            return f"""TRY_CAST(upper(regexp_extract({raw}, {text(f'^"({INSTANT_PATTERN})"$')}, 1)) AS {column.type})"""
        case ColumnType.TEXT:
            return f"CASE WHEN left({raw}, 1) NOT IN ('{{', '[') THEN {identifier(column.name)} ->> '$' END"
        case ColumnType.TEXT_LIST:
            # Only where a bracket shows is each element looked at: it may stand in a text.
            scalars = (
                f"list_bool_and(list_transform(json_extract({identifier(column.name)}, '$[*]'), "
                "lambda e: json_type(e) NOT IN ('OBJECT', 'ARRAY')))"
            )
            is_flat = f"(NOT regexp_matches({raw}[2:], '[\\[{{]') OR {scalars})"
            # From JSON: a cast of the text itself would read its escapes by other rules, and lose the backslashes.
            elements = f"TRY_CAST({identifier(column.name)} AS {column.type})"
            return f"CASE WHEN left({raw}, 1) = '[' AND {is_flat} THEN {elements} END"
        case ColumnType.JSON:
            return f"CASE WHEN left({raw}, 1) IN ('{{', '[') THEN {identifier(column.name)} END"


def raw_name(column: Column) -> str:
    """Under which name the raw JSON stands beside the typed value; no field of an endpoint has a space in it."""
    return identifier(f"raw {column.name}")


def invalid(columns: Mapping[Column, Masking]) -> str:
    """The SQL expression of `_invalid`, where each column stands typed and, under its `raw_name`, raw.

    A value that is hashed or dropped in its column is so here too.
    """
    misfits = {column: f"({raw_name(column)} IS NOT NULL AND {identifier(column.name)} IS NULL)" for column in columns}
    kept = {column: masked(raw_name(column), column, columns[column], kind=ColumnType.JSON) for column in columns}
    entries = ", ".join(
        f"CASE WHEN {misfit} THEN {{'k': {text(column.name)}, 'v': {kept[column]}}} END"
        for column, misfit in misfits.items()
    )
    # The map is built for the few rows that need one.
    return (
        f"CASE WHEN {' OR '.join(misfits.values())} "
        f"THEN to_json(map_from_entries(list_filter([{entries}], lambda e: e IS NOT NULL))) END"
    )
