"""Generate rows from an endpoint's columns."""

from datetime import datetime, timedelta

from commerce_assets.endpoint import Column, ColumnType, Endpoint
from commerce_assets.endpoints import ENDPOINTS
from sample_store.values import Item, amount, timestamp

_BLANKS = {endpoint.name: dict.fromkeys(column.name for column in endpoint.columns) for endpoint in ENDPOINTS}
_ROWS = 120
_EMPTY = 7
"""An optional column is null in one of this number of rows."""


def blank(endpoint_name: str) -> Item:
    """Build a row with every declared field null."""
    return dict(_BLANKS.get(endpoint_name, {}))


def build_rows(endpoint: Endpoint, *, now: datetime) -> list[Item]:
    """Build rows with a value of each column's type, six hours apart, the last one created at `now`."""
    return [_row(endpoint, number, now - timedelta(hours=6 * (_ROWS - number))) for number in range(1, _ROWS + 1)]


def _row(endpoint: Endpoint, number: int, created_at: datetime) -> Item:
    row = {column.name: _value(column, number, created_at) for column in endpoint.columns}
    optional = row.keys() - {endpoint.primary_key, endpoint.cursor, endpoint.updated_at, "created_at"}
    for position, name in enumerate(sorted(optional)):
        if (number + position) % _EMPTY == 0:
            row[name] = None
    return row | {endpoint.primary_key: number}


def _value(column: Column, number: int, created_at: datetime) -> object:  # noqa: PLR0911 - one line per type
    match column.type:
        case ColumnType.BIGINT:
            return number
        case ColumnType.DECIMAL:
            return amount(150 * number % 10_000)
        case ColumnType.BOOLEAN:
            return number % 2 == 0
        case ColumnType.TIMESTAMP:
            return timestamp(created_at)
        case ColumnType.TEXT_LIST:
            return [f"{column.name} {number}"]
        case ColumnType.JSON:
            return {"number": number}
        case ColumnType.TEXT:
            return _text(column.name, number)


def _text(name: str, number: int) -> str:
    if "email" in name:
        return f"person{number}@example.com"
    if "url" in name:
        return f"https://inkandoak.example/{name}/{number}"
    if "currency" in name:
        return "USD"
    if "country" in name:
        return "US"
    return f"{name.replace('_', ' ').capitalize()} {number}"
