"""Rows that are stored and were not in a list that has been read whole: deleted, or only passed by."""

import duckdb

from commerce_assets.endpoint import DELETED_AT, EXTRACTED_AT
from commerce_assets.staging import StagedPull
from commerce_assets.warehouse import values
from commerce_assets.warehouse.sql import SCHEMA, identifier, instant, text
from commerce_assets.warehouse.tables import exists, table_of


def count_vanished(connection: duckdb.DuckDBPyConnection, staged: StagedPull) -> int:
    """How many rows would be marked as deleted if the staged list were loaded.

    Pages are counted by position. While they are read, a row that is deleted moves all that follow it one place up,
    and the first of the next page onto a page that has been read already: it looks deleted, and is not.
    """
    endpoint = staged.pull.endpoint
    if not exists(connection, SCHEMA, endpoint.name):
        return 0
    key = endpoint.column(endpoint.primary_key)
    files = ", ".join(text(str(segment)) for segment in staged.segments)
    staged_keys = (
        f"SELECT {values.typed(key)} FROM "
        f"read_json([{files}], format = 'newline_delimited', columns = {{{text(key.name)}: 'JSON'}})"
    )
    query = (
        f"SELECT count(*) FROM {table_of(endpoint)} WHERE {identifier(DELETED_AT.name)} IS NULL "
        f"AND {identifier(EXTRACTED_AT.name)} <= {instant(staged.manifest.began_at)} "
        f"AND {identifier(key.name)} NOT IN ({staged_keys})"
    )
    try:
        row = connection.execute(query).fetchone()
    except duckdb.InvalidInputException:
        # An item cannot be parsed. The load refuses it, without quoting it, and forgets what is staged.
        return 0
    return int(row[0]) if row else 0
