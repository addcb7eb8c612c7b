"""What an asset says of itself in the UI: its columns beforehand, and its numbers with each materialization."""

import warnings
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
from dagster import (
    BetaWarning,
    CodeReferencesMetadataValue,
    LocalFileCodeReference,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableRecord,
    TableSchema,
)
from dagster._core.definitions.metadata import RawMetadataValue

from commerce_assets import endpoints
from commerce_assets.defs.charts import DAYS, daily_chart
from commerce_assets.endpoint import Column, ColumnType, Endpoint
from commerce_assets.ingest.ingest import StagedLoad
from commerce_assets.warehouse.load import DayCounts, LoadResult
from commerce_assets.warehouse.load_log import count_by_day
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY, PersonalDataPolicy
from commerce_assets.warehouse.schema import table_of
from commerce_assets.warehouse.sql import SCHEMA, identifier, within
from commerce_assets.window import Window

_PREVIEW_ROWS = 5
_PREVIEW_COLUMNS = 12
_LONGEST_PREVIEW = 60
_MASK = "***"


def definition_metadata(endpoint: Endpoint, policy: PersonalDataPolicy = DEFAULT_POLICY) -> dict[str, RawMetadataValue]:
    """What is known before anything has run: table, columns, where the code is."""
    columns = [
        TableColumn(
            name=column.name,
            type=str(column.type),
            description=column.description,
            constraints=TableColumnConstraints(
                nullable=column.name not in {endpoint.primary_key, endpoint.cursor, "_extracted_at"},
                unique=column.name == endpoint.primary_key,
            ),
            tags=_tags(endpoint, column, policy),
        )
        for column in endpoint.stored_columns
    ]
    partitioned: dict[str, RawMetadataValue] = {"partition_expr": endpoint.cursor} if endpoint.cursor else {}
    return {
        "schema": SCHEMA,
        **partitioned,
        "endpoint": endpoint.path,
        "selector": endpoint.selector,
        "primary_key": endpoint.primary_key,
        "dagster/column_schema": TableSchema(columns),
        "dagster/table_name": f"{SCHEMA}.{endpoint.name}",
        "dagster/code_references": _code_references(),
    }


def _tags(endpoint: Endpoint, column: Column, policy: PersonalDataPolicy) -> dict[str, str]:
    """Why a column is sensitive, and what is stored of it."""
    sensitivity = {"sensitivity": column.sensitivity.value} if column.sensitivity else {}
    masking = {"masking": policy.masking_of(endpoint, column).value} if column.is_governed else {}
    return sensitivity | masking


def _code_references() -> CodeReferencesMetadataValue:
    with warnings.catch_warnings():
        # A link in the UI: if Dagster changes it, a test says so.
        warnings.simplefilter("ignore", BetaWarning)
        reference = LocalFileCodeReference(file_path=str(Path(endpoints.__file__)), label="endpoint table")
        return CodeReferencesMetadataValue(code_references=[reference])


def load_metadata(
    connection: duckdb.DuckDBPyConnection, extraction: StagedLoad, result: LoadResult
) -> dict[str, RawMetadataValue]:
    """The numbers of a pull and its load; they plot by themselves in the UI."""
    endpoint, cost = extraction.staged.pull.endpoint, extraction.cost
    numbers: dict[str, RawMetadataValue] = {
        "dagster/row_count": result.total,
        "rows_loaded": result.loaded,
        "rows_inserted": result.inserted,
        "rows_updated": result.updated,
        "rows_unchanged": result.unchanged,
        "rows_removed": result.removed,
        "rows_outside_window": result.outside_window,
        "rows_repeated": result.repeated,
        "rows_with_invalid_values": result.invalid,
        "rows_with_undeclared_fields": result.undeclared,
        "requests": cost.requests,
        "retries": cost.retries,
        "bytes": cost.bytes,
        "seconds_waited": round(cost.seconds_waited, 3),
        "seconds_to_pull": round(cost.seconds, 3),
        "seconds_to_load": round(result.seconds, 3),
    }
    if result.fields_changed:
        numbers["fields_changed"] = MetadataValue.json(result.fields_changed)
    if result.added_columns:
        numbers["columns_added"] = ", ".join(result.added_columns)
    if not endpoint.is_partitioned:
        numbers["preview"] = preview(connection, endpoint)
    return numbers


def partitions_metadata(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, result: LoadResult, days: Mapping[str, date]
) -> dict[str, dict[str, RawMetadataValue]]:
    """The numbers of each day that a load was for, by partition key; the newest day that has rows shows some."""
    window = Window.of_days(min(days.values()), max(days.values())) if days else None
    stored = count_by_day(connection, endpoint, window) if window else {}
    shown = max((day for day in days.values() if stored.get(day)), default=None)
    return {
        key: {
            **day_metadata(result.days.get(day, DayCounts()), stored=stored.get(day, 0)),
            **(
                {"rows_a_day": _rows_chart(connection, endpoint, day), "preview": preview(connection, endpoint, day)}
                if day == shown
                else {}
            ),
        }
        for key, day in days.items()
    }


def _rows_chart(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, last: date) -> MetadataValue:
    first = last - timedelta(days=DAYS - 1)
    return daily_chart("Rows per day", count_by_day(connection, endpoint, Window.of_days(first, last)), newest=last)


def day_metadata(counts: DayCounts, *, stored: int) -> dict[str, RawMetadataValue]:
    """The numbers of one day, and how many of its rows changed in which fields."""
    changed: dict[str, RawMetadataValue] = (
        {"fields_changed": MetadataValue.json(counts.fields_changed)} if counts.fields_changed else {}
    )
    return {
        "dagster/partition_row_count": stored,
        "rows_loaded": counts.loaded,
        "rows_inserted": counts.inserted,
        "rows_updated": counts.updated,
        "rows_unchanged": counts.unchanged,
        "rows_removed": counts.removed,
        **changed,
    }


def preview(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, day: date | None = None) -> MetadataValue:
    """A table of the five newest rows, of a day if one is given, with what is sensitive masked."""
    columns = [column for column in endpoint.columns if column.type != ColumnType.JSON][:_PREVIEW_COLUMNS]
    window = Window.of_days(day, day) if day else None
    kept = within(identifier(endpoint.cursor), window.start, window.end) if window and endpoint.cursor else "TRUE"
    rows = connection.execute(
        f"SELECT {', '.join(identifier(column.name) for column in columns)} FROM {table_of(endpoint)} WHERE {kept} "
        f"ORDER BY {identifier(endpoint.primary_key)} DESC LIMIT {_PREVIEW_ROWS}"
    ).fetchall()
    return MetadataValue.table(
        records=[
            TableRecord({column.name: _shown(column, value) for column, value in zip(columns, row, strict=True)})
            for row in rows
        ],
        schema=TableSchema([TableColumn(column.name, "string") for column in columns]),
    )


def _shown(column: Column, value: object) -> str:
    if value is None:
        return ""
    if column.sensitivity:
        return _MASK
    if isinstance(value, datetime):
        return value.isoformat()
    shown = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return shown if len(shown) <= _LONGEST_PREVIEW else shown[: _LONGEST_PREVIEW - 1] + "…"
