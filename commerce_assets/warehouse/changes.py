"""What differs between the staged rows and the stored ones that they replace, counted by day and field."""

from datetime import date

import duckdb

from commerce_assets.endpoint import EXTRACTED_AT, Endpoint
from commerce_assets.warehouse.schema import day_of, table_of
from commerce_assets.warehouse.sql import MERGE_PLAN, STAGED, identifier

FieldCounts = dict[str, int]


def count_changed_fields(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, segment: int
) -> dict[date | None, FieldCounts]:
    """Of the rows that a segment will update: how many differ in which fields, by the day of the stored version.

    Asked before the segment is written. The day is None for an endpoint without one.
    """
    key = identifier(endpoint.primary_key)
    names = [column.name for column in endpoint.stored_columns if column != EXTRACTED_AT]
    differing = ", ".join(f"count_if(s.{identifier(name)} IS DISTINCT FROM t.{identifier(name)})" for name in names)
    # A row that an earlier segment has brought too was counted with it: it is no longer what was stored.
    updated = (
        f"SELECT key FROM {MERGE_PLAN} WHERE segment = {segment} AND action = 'updated' "
        f"AND key NOT IN (SELECT key FROM {MERGE_PLAN} WHERE segment < {segment})"
    )
    if not connection.execute(f"{updated} LIMIT 1").fetchone():
        return {}
    rows = connection.execute(f"""
        SELECT {day_of(endpoint, "t")}, {differing}
        FROM {STAGED} s JOIN {table_of(endpoint)} t USING ({key}) WHERE {key} IN ({updated}) GROUP BY 1""").fetchall()
    return {day: {name: count for name, count in zip(names, counts, strict=True) if count} for day, *counts in rows}
