"""Metadata in the UI: columns of the definition, and row counts, timings and charts of each materialization."""

import warnings
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import duckdb
from dagster._core.definitions.metadata import RawMetadataValue

from commerce_assets import endpoints
from commerce_assets.defs.charts import DAYS, daily_chart
from commerce_assets.endpoint import Column, ColumnType, Endpoint
from commerce_assets.ingest.ingest import Ingested
from commerce_assets.ingest.items import LookedUp
from commerce_assets.warehouse.ddl import table_of
from commerce_assets.warehouse.load import DayCounts
from commerce_assets.warehouse.load_log import count_by_day
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY, PersonalDataPolicy
from commerce_assets.warehouse.sql import SCHEMA, identifier, within
from commerce_assets.window import Window

_PREVIEW_ROWS = 5
_PREVIEW_COLUMNS = 12
_LONGEST_PREVIEW = 60
_MASK = "***"


def definition_metadata(endpoint: Endpoint, policy: PersonalDataPolicy = DEFAULT_POLICY) -> dict[str, RawMetadataValue]:
    """Build the metadata of the definition: table, columns, link to the code."""
    columns = [
        dg.TableColumn(
            name=column.name,
            type=str(column.type),
            description=column.description,
            constraints=dg.TableColumnConstraints(
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
        "data_selector": endpoint.data_selector or "",
        "write_disposition": endpoint.write_disposition.value,
        "primary_key": endpoint.primary_key,
        "dagster/column_schema": dg.TableSchema(columns),
        "dagster/table_name": f"{SCHEMA}.{endpoint.name}",
        "dagster/code_references": _code_references(),
    }


def _tags(endpoint: Endpoint, column: Column, policy: PersonalDataPolicy) -> dict[str, str]:
    """Build a column's tags: its sensitivity and its masking."""
    sensitivity = {"sensitivity": column.sensitivity.value} if column.sensitivity else {}
    masking = {"masking": policy.masking_of(endpoint, column).value} if column.is_governed else {}
    return sensitivity | masking


def _code_references() -> dg.CodeReferencesMetadataValue:
    with warnings.catch_warnings():
        # A beta feature of Dagster; a test covers it.
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=str(Path(endpoints.__file__)), label="endpoint table")
        return dg.CodeReferencesMetadataValue(code_references=[reference])


def load_metadata(connection: duckdb.DuckDBPyConnection, ingested: Ingested) -> dict[str, RawMetadataValue]:
    """Build the totals of a run: rows of the table, and counts of the extraction and the load.

    The names of a partitioned table's begin with `run/`: a materialization also has the counts of its partition.
    """
    endpoint, stats, load = ingested.request.endpoint, ingested.stats, ingested.load
    totals: dict[str, RawMetadataValue] = {
        "rows_loaded": load.loaded,
        "rows_inserted": load.inserted,
        "rows_updated": load.updated,
        "rows_unchanged": load.unchanged,
        "rows_removed": load.removed,
        "rows_outside_window": load.outside_window,
        "rows_repeated": load.repeated,
        "rows_with_invalid_values": load.invalid,
        "rows_with_undeclared_fields": load.undeclared,
        "requests": stats.requests,
        "retries": stats.retries,
        "bytes": stats.bytes,
        "seconds_rate_limited": round(stats.seconds_waited, 3),
        "seconds_to_extract": round(stats.seconds, 3),
        "seconds_to_load": round(load.seconds, 3),
    }
    if isinstance(ingested, LookedUp):
        totals["rows_not_looked_up"] = ingested.left
    if load.fields_changed:
        totals["fields_changed"] = dg.MetadataValue.json(load.fields_changed)
    if load.added_columns:
        totals["columns_added"] = ", ".join(load.added_columns)
    rows: dict[str, RawMetadataValue] = {"dagster/row_count": load.total}
    if endpoint.is_partitioned:
        return rows | {f"run/{name}": value for name, value in totals.items()}
    return rows | totals | {"preview": preview(connection, endpoint)}


def partitions_metadata(
    connection: duckdb.DuckDBPyConnection,
    ingested: Ingested,
    days: Collection[date],
    *,
    newest: Mapping[str, RawMetadataValue],
) -> dict[date, dict[str, RawMetadataValue]]:
    """Build the row counts of each day; the newest day also has the totals of the run.

    Args:
        connection: A connection to the warehouse.
        ingested: The result of `ingest`.
        days: The partitions to report.
        newest: The totals from `load_metadata`.
    """
    if not days:
        return {}
    endpoint, last = ingested.request.endpoint, max(days)
    stored = count_by_day(connection, endpoint, Window.of_days(min(days), last))
    reported = {
        day: _day_metadata(ingested.load.days.get(day, DayCounts()), stored=stored.get(day, 0)) for day in sorted(days)
    }
    shown = max((day for day in days if stored.get(day)), default=None)
    reported[last] = {
        **reported[last],
        **newest,
        **(
            {"rows_per_day": _rows_chart(connection, endpoint, last), "preview": preview(connection, endpoint, shown)}
            if shown
            else {}
        ),
    }
    return reported


def _rows_chart(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, last: date) -> dg.MetadataValue:
    first = last - timedelta(days=DAYS - 1)
    return daily_chart("Rows per day", count_by_day(connection, endpoint, Window.of_days(first, last)), newest=last)


def _day_metadata(counts: DayCounts, *, stored: int) -> dict[str, RawMetadataValue]:
    changed: dict[str, RawMetadataValue] = (
        {"fields_changed": dg.MetadataValue.json(counts.fields_changed)} if counts.fields_changed else {}
    )
    return {
        "dagster/partition_row_count": stored,
        **changes_metadata([counts]),
        **changed,
    }


def changes_metadata(days: Collection[DayCounts]) -> dict[str, RawMetadataValue]:
    """Build the counts of the rows that a load wrote, found unchanged and removed on these days."""
    names = ("inserted", "updated", "unchanged", "removed")
    return {f"rows_{name}": sum(getattr(counts, name) for counts in days) for name in names}


def preview(connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, day: date | None = None) -> dg.MetadataValue:
    """Build a table of the five newest rows, optionally of one day, with sensitive columns masked."""
    columns = [column for column in endpoint.columns if column.type != ColumnType.JSON][:_PREVIEW_COLUMNS]
    window = Window.of_days(day, day) if day else None
    kept = within(identifier(endpoint.cursor), window.start, window.end) if window and endpoint.cursor else "TRUE"
    rows = connection.execute(
        f"SELECT {', '.join(identifier(column.name) for column in columns)} FROM {table_of(endpoint)} WHERE {kept} "
        f"ORDER BY {identifier(endpoint.primary_key)} DESC LIMIT {_PREVIEW_ROWS}"
    ).fetchall()
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({column.name: _shown(column, value) for column, value in zip(columns, row, strict=True)})
            for row in rows
        ],
        schema=dg.TableSchema([dg.TableColumn(column.name, "string") for column in columns]),
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
