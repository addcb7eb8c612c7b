"""Mask a value: SQL expressions over a typed value, or over its raw JSON."""

from hashlib import sha256

import duckdb

from commerce_assets.endpoint import Column, ColumnType, Sensitivity
from commerce_assets.warehouse.privacy.policy import Masking
from commerce_assets.warehouse.sql import text

_INNER_PAD, _OUTER_PAD = "personal_data_inner_pad", "personal_data_outer_pad"
_HASH_BLOCK_BYTES = 64

# A JSON text with "://" in it, however that is escaped. Between texts there is no slash, so that a match which begins
# at the end of one text, rather than at the beginning of another, comes to nothing.
_ANY = r'(?:[^"\\]|\\.)*'
_URL = rf'"{_ANY}(?::|\\u003[aA])(?:/|\\/|\\u002[fF]){{2}}{_ANY}"'
_URL_AS_NAME = rf"{_URL}(\s*:)"
_HASHED = '"?[0-9a-f]{64}"?'


def bind_key(connection: duckdb.DuckDBPyConnection, key: str) -> None:
    """Bind the key to the session, as HMAC's two pads (RFC 2104), so that no statement, log or error contains it."""
    secret = key.encode()
    if len(secret) > _HASH_BLOCK_BYTES:
        secret = sha256(secret).digest()
    padded = secret.ljust(_HASH_BLOCK_BYTES, b"\0")
    for name, pad in ((_INNER_PAD, 0x36), (_OUTER_PAD, 0x5C)):
        connection.execute(f"SET VARIABLE {name} = $1", [bytes(byte ^ pad for byte in padded)])


def hashed(value: str) -> str:
    """HMAC-SHA-256 of a text, trimmed, in Unicode's composed form (NFC) and lower case; 64 hexadecimal digits.

    So "Zoë@X.com ", with one code point for the ë or with two, and "zoë@x.com" are one buyer. Nothing but blanks is no
    buyer, and stays empty: its hash would look like one who buys a lot.
    """
    bare = _bare(value)
    inner = f"unhex(sha256(getvariable({text(_INNER_PAD)}) || encode(lower(nfc_normalize({bare})))))"
    return f"CASE WHEN {bare} = '' THEN '' ELSE sha256(getvariable({text(_OUTER_PAD)}) || {inner}) END"


def masked(value: str, column: Column, masking: Masking, *, kind: ColumnType | None = None) -> str:
    """Mask a value of a column; NULL stays NULL.

    Args:
        value: An expression.
        column: What it is a value of.
        masking: The column's.
        kind: The expression's type, where it is not the column's: that of a value in `_invalid` is JSON.
    """
    kind = kind or column.type
    if masking is Masking.KEEP:
        return value
    if masking is Masking.HASH:
        digest = hashed(f"CAST({value} AS VARCHAR)")
        return f"""CAST('"' || {digest} || '"' AS JSON)""" if kind is ColumnType.JSON else digest
    if column.sensitivity is Sensitivity.UNDECLARED:
        return _names_and_flags(value)
    if column.sensitivity is Sensitivity.CAPABILITY and column.type is ColumnType.JSON:
        return _without_urls(value)
    return f"CAST(NULL AS {kind})"


def masked_once(value: str, column: Column, masking: Masking, *, kind: ColumnType | None = None) -> str:
    """Like `masked`, but of a stored value, which may have been hashed before: then it stays as it is."""
    again = masked(value, column, masking, kind=kind)
    if masking is not Masking.HASH:
        return again
    return f"CASE WHEN regexp_full_match(CAST({value} AS VARCHAR), {text(_HASHED)}) THEN {value} ELSE {again} END"


def each_entry(json_object: str, value: str) -> str:
    """A JSON object with each member's value replaced by an expression over `e.key` and `e.value`, which is JSON."""
    entries = f"map_entries(CAST({json_object} AS MAP(VARCHAR, JSON)))"
    return f"to_json(map_from_entries(list_transform({entries}, lambda e: {{'k': e.key, 'v': {value}}})))"


def _bare(value: str) -> str:
    """A text without the spaces, tabs and line breaks around it."""
    return f"trim({value}, chr(32) || chr(9) || chr(13) || chr(10))"


def _names_and_flags(json_object: str) -> str:
    # Another number may be a phone number, or a date of birth.
    written = _bare("e.value ->> '$'")
    flag = f"CASE WHEN lower({written}) IN ('true', 'false', 'yes', 'no', '1', '0') THEN e.value END"
    return f"CASE WHEN {json_object} IS NOT NULL THEN {each_entry(json_object, flag)} END"


def _without_urls(json: str) -> str:
    raw = f"CAST({json} AS VARCHAR)"
    # Names that are URLs are rare, and a replacement that refers to a group takes three times as long.
    unnamed = f"regexp_replace({raw}, {text(_URL_AS_NAME)}, '\"url\"\\1', 'g')"
    source = f"CASE WHEN regexp_matches({raw}, {text(_URL_AS_NAME)}) THEN {unnamed} ELSE {raw} END"
    return f"CAST(regexp_replace({source}, {text(_URL)}, 'null', 'g') AS JSON)"
