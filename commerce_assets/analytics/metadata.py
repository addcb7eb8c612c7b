"""Metadata of the models in the UI: columns and SQL of the definition, row counts and charts of each build."""

import json
import warnings
from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from itertools import groupby
from operator import itemgetter

import duckdb
from dagster import (
    BetaWarning,
    CodeReferencesMetadataValue,
    LocalFileCodeReference,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableColumnDep,
    TableColumnLineage,
    TableRecord,
    TableSchema,
)
from dagster._core.definitions.metadata import RawMetadataValue

from commerce_assets.analytics.build import SQL
from commerce_assets.analytics.tables import SCHEMA, Model
from commerce_assets.defs.charts import daily_chart
from commerce_assets.defs.shop import Shop

LINEAGE = files("commerce_assets.analytics") / "lineage.json"
"""The columns that each column of a mart is computed from; `make docs` writes it."""
_CURRENCIES_CHARTED = 3
_DAYS_LISTED = 14


def definition_metadata(model: Model, shop: Shop) -> dict[str, RawMetadataValue]:
    columns = [
        TableColumn(
            name=column.name,
            type=column.type,
            # The open-source UI shows a column's description, but not its lineage.
            description=f"{column.description}\n\n{_origin(model, column.name)}",
            constraints=TableColumnConstraints(unique=model.key == (column.name,)),
            tags={"sensitivity": column.sensitivity.value} if column.sensitivity else {},
        )
        for column in model.columns
    ]
    partitioned: dict[str, RawMetadataValue] = {"partition_expr": model.cursor} if model.cursor else {}
    return {
        "schema": SCHEMA,
        **partitioned,
        "dagster/column_schema": TableSchema(columns),
        "dagster/column_lineage": _column_lineage(model, shop),
        "dagster/table_name": f"{SCHEMA}.{model.name}",
        "dagster/code_references": _code_references(model),
    }


def _column_lineage(model: Model, shop: Shop) -> TableColumnLineage:
    return TableColumnLineage(
        {
            column: [TableColumnDep(shop.key(asset), name) for asset, name in (each.split(".") for each in deps)]
            for column, deps in _derived_lineage()[model.name].items()
        }
    )


def _origin(model: Model, column: str) -> str:
    """Say what a column is computed from: "From `orders`: `state`, `settled_gross`; `products`: `name`."."""
    deps = [each.split(".") for each in _derived_lineage()[model.name][column]]
    by_asset = [
        f"`{asset}`: {', '.join(f'`{name}`' for _, name in names)}" for asset, names in groupby(deps, itemgetter(0))
    ]
    return f"From {'; '.join(by_asset)}."


@cache
def _derived_lineage() -> dict[str, dict[str, list[str]]]:
    derived: dict[str, dict[str, list[str]]] = json.loads(LINEAGE.read_text())
    return derived


def _code_references(model: Model) -> CodeReferencesMetadataValue:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BetaWarning)
        reference = LocalFileCodeReference(file_path=str(SQL / f"{model.name}.sql"), label="SQL")
        return CodeReferencesMetadataValue(code_references=[reference])


def rows_by_day(connection: duckdb.DuckDBPyConnection, model: Model) -> dict[str, int]:
    """Count the rows of each day of the build of a partitioned model, by partition key."""
    rows = connection.execute(
        f"SELECT CAST(CAST({model.cursor} AS DATE) AS VARCHAR), count(*) FROM temp.main.{model.name} GROUP BY 1"
    ).fetchall()
    return dict(rows)


def recent_revenue(connection: duckdb.DuckDBPyConnection) -> dict[str, RawMetadataValue]:
    """Build the charts of `daily_revenue` (ninety days, busiest currencies) and its table of fourteen days.

    The table has the columns that fit on the page.
    """
    charted = connection.execute(f"""
        WITH busiest AS (
            SELECT currency, row_number() OVER (ORDER BY sum(orders) DESC, currency) AS place
            FROM daily_revenue GROUP BY currency ORDER BY place LIMIT {_CURRENCIES_CHARTED}
        )
        SELECT currency, day, CAST(net AS DOUBLE) FROM daily_revenue JOIN busiest USING (currency)
        ORDER BY place""").fetchall()
    series: dict[str, dict[date, float]] = {}
    for currency, day, net in charted:
        series.setdefault(currency, {})[day] = net
    newest = max((day for values in series.values() for day in values), default=date.min)
    listed = connection.execute(f"""
        SELECT day, currency, orders, gross, refunds, net, new_customers
        FROM daily_revenue
        WHERE day > (SELECT max(day) FROM daily_revenue) - {_DAYS_LISTED}
        ORDER BY day DESC, currency""")
    names = [name for name, *_ in listed.description or ()]
    return {
        **{
            f"last_90_days_{currency}": daily_chart(f"Net revenue per day, {currency}", values, newest=newest)
            for currency, values in series.items()
        },
        "last_14_days": MetadataValue.table(
            records=[TableRecord(dict(zip(names, map(_shown, row), strict=True))) for row in listed.fetchall()],
            schema=TableSchema([TableColumn(name, "string") for name in names]),
        ),
    }


def _shown(value: object) -> str | int:
    if value is None:
        return "unknown"
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    return value if isinstance(value, int) else str(value)
