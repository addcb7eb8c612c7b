"""Which masking the stored rows have had. Where it has become stricter, they are brought in line with it."""

import hmac

import duckdb

from commerce_assets.endpoint import INVALID, Column, ColumnType, Endpoint
from commerce_assets.warehouse.file import request_rewrite
from commerce_assets.warehouse.privacy.expressions import each_entry, masked_once
from commerce_assets.warehouse.privacy.policy import Masking, PersonalDataPolicy
from commerce_assets.warehouse.row_history import history_of
from commerce_assets.warehouse.schema import describe
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA, identifier, table, text

_REMEMBERED = table(INTERNAL_SCHEMA, "maskings")
_TREATED = "temp.main.masked"
_KEY_ID_DIGITS = 16


def apply_policy(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, policy: PersonalDataPolicy) -> list[str]:
    """Treats what is stored as the policy says, in the transaction of the load that is to follow, and remembers it.

    Values that were kept are hashed or dropped, those that were hashed are dropped. The other way there is none.

    Returns:
        What a person should know of it, in sentences.
    """
    wanted = {column: masking for column, masking in policy.maskings(endpoint).items() if column.is_governed}
    known = _remembered(connection, endpoint)
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
        _remember(connection, endpoint, now)
    notes = []
    # The versions of rows are there for as long as nobody removes them, also where no more are kept.
    tables = (endpoint.name, history_of(endpoint))
    if stricter and (rows := sum(_treat(connection, name, stricter) for name in tables)):
        # The old values are still in free blocks of the file.
        request_rewrite(connection)
        named = ", ".join(f"{column.name} ({masking})" for column, masking in stricter.items())
        notes.append(f"{rows:,} stored rows were brought in line with the policy for personal data: {named}")
    if irrevocable:
        notes.append(
            "the policy for personal data has changed in a way that stored rows cannot follow; they keep what they "
            f"have until they are pulled again: {', '.join(irrevocable)}"
        )
    return notes


def _treat(connection: duckdb.DuckDBPyConnection, name: str, stricter: dict[Column, Masking]) -> int:
    """Rewrites the rows of a table that hold something of these columns; returns how many they are.

    By way of a temporary table rather than with UPDATE: what DuckDB may spill to disk is then masked already, where
    an update's undo log would hold what it replaces.
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
    # Any other row keeps its numbers as they were sent: a JSON function converts them to doubles.
    names = ", ".join(text(column.name) for column in stricter)
    holds_some = f"list_has_any(json_keys({invalid}), [{names}])"
    replaced[INVALID.name] = f"CASE WHEN {holds_some} THEN {entries} ELSE {invalid} END"
    concerned = " OR ".join(f"{identifier(column)} IS NOT NULL" for column in replaced)
    values = ", ".join(f"{value} AS {identifier(column)}" for column, value in replaced.items())
    connection.execute(f"CREATE TEMP TABLE masked AS SELECT * REPLACE ({values}) FROM {target} WHERE {concerned}")
    connection.execute(f"DELETE FROM {target} WHERE {concerned}")
    row = connection.execute(f"INSERT INTO {target} BY NAME FROM {_TREATED}").fetchone()
    connection.execute(f"DROP TABLE {_TREATED}")
    return int(row[0]) if row else 0


def _remembered(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint) -> dict[str, tuple[Masking, str | None]]:
    """The masking of each column, and of which key; a column that is not among them has been kept as it came."""
    rows = connection.execute(
        f"SELECT column_name, masking, key_id FROM {_REMEMBERED} WHERE endpoint = ?", [endpoint.name]
    ).fetchall()
    return {name: (Masking(masking), key_id) for name, masking, key_id in rows}


def _remember(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, now: dict[str, tuple[Masking, str | None]]
) -> None:
    connection.execute(f"DELETE FROM {_REMEMBERED} WHERE endpoint = ?", [endpoint.name])
    connection.executemany(
        f"INSERT INTO {_REMEMBERED} VALUES (?, ?, ?, ?)",
        [[endpoint.name, name, masking.value, key_id] for name, (masking, key_id) in now.items()],
    )


def _key_id(policy: PersonalDataPolicy) -> str | None:
    """Identifies a key without revealing it."""
    if policy.key is None:
        return None
    return hmac.digest(policy.key.encode(), b"commerce_assets", "sha256").hex()[:_KEY_ID_DIGITS]
