"""Plain Dagster: an asset that returns a pandas DataFrame, stored by the IO manager of dagster-duckdb-pandas.

Daily partitions with a single-run backfill policy, as in this project, and the default executor of Dagster's CLI.
Nested fields become text, because pandas has no type for them. Run by `dagster asset materialize -f run.py`.
"""

import json
import os
from typing import Any

import pandas as pd
import requests
from dagster import AssetExecutionContext, BackfillPolicy, DailyPartitionsDefinition, Definitions, asset
from dagster_duckdb_pandas import DuckDBPandasIOManager

PER_PAGE = 50


@asset(
    partitions_def=DailyPartitionsDefinition(start_date=os.environ["BENCH_START"]),
    backfill_policy=BackfillPolicy.single_run(),
    metadata={"partition_expr": "created_at"},
)
def orders(context: AssetExecutionContext) -> pd.DataFrame:
    start, end = context.partition_time_window
    rows: list[dict[str, Any]] = []
    with requests.Session() as session:
        session.auth = (os.environ["BENCH_KEY"], os.environ["BENCH_SECRET"])
        session.headers["Accept"] = "application/json"
        page = 1
        while True:
            params = {"from": start.date(), "to": end.date(), "per_page": PER_PAGE, "page": page}
            answer = session.get(os.environ["BENCH_ORDERS_URL"], params=params, timeout=60)
            answer.raise_for_status()
            items = answer.json()
            rows += [item["order"] for item in items]
            if len(items) < PER_PAGE:
                break
            page += 1
    frame = pd.DataFrame(rows)
    for name in ("created_at", "updated_at"):
        # Without a time zone, like the partition bounds that the IO manager compares with.
        frame[name] = pd.to_datetime(frame[name]).dt.tz_localize(None)
    for name in (
        "refund_transactions",
        "gateway_transaction_ids",
        "cart",
        "download_items",
        "downloads",
        "order_custom_checkout_fields",
    ):
        frame[name] = [None if value is None else json.dumps(value) for value in frame[name]]
    frame["settled_gross"] = pd.to_numeric(frame["settled_gross"])
    return frame[(frame["created_at"] >= start.replace(tzinfo=None)) & (frame["created_at"] < end.replace(tzinfo=None))]


defs = Definitions(
    assets=[orders], resources={"io_manager": DuckDBPandasIOManager(database="warehouse.duckdb", schema="shop")}
)
