"""What the tables must hold, computed without the project's code."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from commerce_assets.endpoint import ColumnType, Endpoint

Row = dict[str, Any]


def as_stored(endpoint: Endpoint, item: Mapping[str, Any]) -> Row:
    """The row of an item of the store, under the default policy for personal data."""
    row: Row = {}
    for column in endpoint.columns:
        value = item.get(column.name)
        if value is None or column.name in {"download_url", "subscription_management_url"}:
            row[column.name] = None
        elif column.name in {"download_items", "downloads"}:
            row[column.name] = without_urls(value)
        elif column.type == ColumnType.DECIMAL:
            row[column.name] = Decimal(str(value))
        elif column.type == ColumnType.TIMESTAMP:
            row[column.name] = datetime.fromisoformat(value).astimezone(UTC)
        else:
            row[column.name] = value
    return row


def without_urls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_urls(member) for name, member in value.items()}
    if isinstance(value, list):
        return [without_urls(element) for element in value]
    return None if isinstance(value, str) and "://" in value else value
