"""Apply a stricter policy for personal data to the stored rows, and record the masking of each column."""

import hmac

import duckdb

from commerce_assets.endpoint import INVALID, Column, ColumnType, Endpoint
from commerce_assets.warehouse.database import request_rewrite
from commerce_assets.warehouse.ddl import describe
from commerce_assets.warehouse.privacy.expressions import each_entry, masked_once
from commerce_assets.warehouse.privacy.policy import Masking, PersonalDataPolicy
from commerce_assets.warehouse.row_history import history_of
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA, identifier, table, text

_MASKINGS = table(INTERNAL_SCHEMA, "maskings")
_MASKED = "temp.main.masked"
_KEY_ID_DIGITS = 16


def apply_policy(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, policy: PersonalDataPolicy) -> list[str]:
    """Apply the policy to the stored rows, in the transaction of the load, and record it.

    Values that were kept are hashed or dropped, and hashed values are dropped. A milder policy cannot restore values.

    Returns:
        Sentences for the log.
    """
    wanted = {column: masking for column, masking in policy.maskings(endpoint).items() if column.is_governed}
    known = _read_maskings(connection, endpoint)
    key_id = _key_id(policy)
    stricter: dict[Column, Masking] = {}
    irrevocable: list[str] = []
    for column, masking in wanted.items():
        before, key_before = known.get(column.name, (Masking.KEEP, None))
        if masking.is_stricter_than(before):
            stricter[column] = masking
        elif before.is_stricter_than(masking):
            irrevocable.append(f"{column.name} ({before} to {masking})")
        elif masking is Masking.HASH and key_before != key_id:
            irrevocable.append(f"{column.name} (another key)")
    now = {column.name: (masking, key_id if masking is Masking.HASH else None) for column, masking in wanted.items()}
    if now != known:
        _write_maskings(connection, endpoint, now)
    notes = []
    # The history table stays when COMMERCE_ORDER_HISTORY is turned off again.
    tables = (endpoint.name, history_of(endpoint))
    if stricter and (rows := sum(_mask(connection, name, stricter) for name in tables)):
        # Free blocks of the file still hold the old values.
        request_rewrite(connection)
        named = ", ".join(f"{column.name} ({masking})" for column, masking in stricter.items())
        notes.append(f"applied the policy for personal data to {rows:,} stored rows: {named}")
    if irrevocable:
        notes.append(
            "the new policy for personal data cannot be applied to stored rows; they keep their values until they are "
            f"extracted again: {', '.join(irrevocable)}"
        )
    return notes


def _mask(connection: duckdb.DuckDBPyConnection, name: str, stricter: dict[Column, Masking]) -> int:
    """Rewrite the rows of a table that have a value in these columns; return their number.

    It uses a temporary table instead of UPDATE: what DuckDB spills to disk is then masked already, whereas the undo log
    of an UPDATE holds the old values.
    """
    target, invalid = table(SCHEMA, name), identifier(INVALID.name)
    existing = {column.name for column in describe(connection, name)}
    if not existing:
        return 0
    replaced = {
        column.name: masked_once(identifier(column.name), column, masking)
        for column, masking in stricter.items()
        if column.name in existing
    }
    misfits = " ".join(
        f"WHEN {text(column.name)} THEN {masked_once('e.value', column, masking, kind=ColumnType.JSON)}"
        for column, masking in stricter.items()
    )
    entries = each_entry(invalid, f"CASE e.key {misfits} ELSE e.value END")
    # All other rows stay untouched, because a JSON function converts numbers to doubles.
    names = ", ".join(text(column.name) for column in stricter)
    holds_some = f"list_has_any(json_keys({invalid}), [{names}])"
    replaced[INVALID.name] = f"CASE WHEN {holds_some} THEN {entries} ELSE {invalid} END"
    has_value = " OR ".join(f"{identifier(column)} IS NOT NULL" for column in replaced)
    values = ", ".join(f"{value} AS {identifier(column)}" for column, value in replaced.items())
    connection.execute(f"CREATE TEMP TABLE masked AS SELECT * REPLACE ({values}) FROM {target} WHERE {has_value}")
    connection.execute(f"DELETE FROM {target} WHERE {has_value}")
    row = connection.execute(f"INSERT INTO {target} BY NAME FROM {_MASKED}").fetchone()
    connection.execute(f"DROP TABLE {_MASKED}")
    return int(row[0]) if row else 0


def _read_maskings(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> dict[str, tuple[Masking, str | None]]:
    """Return the masking and the key id of each column; a column that is missing has been kept."""
    rows = connection.execute(
        f"SELECT column_name, masking, key_id FROM {_MASKINGS} WHERE endpoint = ?", [endpoint.name]
    ).fetchall()
    return {name: (Masking(masking), key_id) for name, masking, key_id in rows}


def _write_maskings(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, now: dict[str, tuple[Masking, str | None]]
) -> None:
    connection.execute(f"DELETE FROM {_MASKINGS} WHERE endpoint = ?", [endpoint.name])
    connection.executemany(
        f"INSERT INTO {_MASKINGS} VALUES (?, ?, ?, ?)",
        [[endpoint.name, name, masking.value, key_id] for name, (masking, key_id) in now.items()],
    )


def _key_id(policy: PersonalDataPolicy) -> str | None:
    """Identifies a key without revealing it."""
    if policy.key is None:
        return None
    return hmac.digest(policy.key.encode(), b"commerce_assets", "sha256").hex()[:_KEY_ID_DIGITS]
