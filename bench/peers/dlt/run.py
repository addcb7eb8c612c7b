"""dlt's `rest_api` source into DuckDB, declared as in its documentation, and tuned as on its performance page:

- Parquet as the format of the load packages (`loader_file_format`), which DuckDB reads itself;
- no child tables (`max_table_nesting=0`): nested fields stay JSON, as in this project's tables;
- files are rotated (`file_max_items`), so that the normalizer's pool and the loader work in parallel;
- larger buffers; no progress output; telemetry off; orjson is installed, and dlt then uses it.

BENCH_MODE is `full` (replace), `day` (merge by id) or `changed` (the same, of the rows updated since dlt's cursor).
"""

import os

# Settings as dlt reads them; its own names.
os.environ |= {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "WARNING",
    "EXTRACT__DATA_WRITER__BUFFER_MAX_ITEMS": "10000",
    "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "25000",
    "NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS": "10000",
    "NORMALIZE__WORKERS": str(os.cpu_count() or 1),
    "NORMALIZE__START_METHOD": "fork",
    "DLT_DATA_DIR": os.path.join(os.getcwd(), "dlt"),
}

import dlt
from dlt.sources.rest_api import rest_api_source


def orders() -> object:
    base_url, _, path = os.environ["BENCH_ORDERS_URL"].rpartition("/")
    params: dict[str, object] = {"per_page": 50}
    if os.environ.get("BENCH_FROM"):
        params |= {"from": os.environ["BENCH_FROM"], "to": os.environ["BENCH_TO"]}
    endpoint: dict[str, object] = {"path": path, "params": params, "data_selector": "[*].order"}
    if os.environ["BENCH_MODE"] == "changed":
        params["updated_after"] = "{incremental.start_value}"
        endpoint["incremental"] = {"cursor_path": "updated_at", "initial_value": os.environ["BENCH_SINCE"]}
    return rest_api_source(
        {
            "client": {
                "base_url": base_url + "/",
                "auth": {
                    "type": "http_basic",
                    "username": os.environ["BENCH_KEY"],
                    "password": os.environ["BENCH_SECRET"],
                },
                "headers": {"Accept": "application/json"},
                "paginator": {"type": "page_number", "base_page": 1, "total_path": None, "stop_after_empty_page": True},
            },
            "resources": [
                {
                    "name": "orders",
                    "primary_key": "id",
                    "write_disposition": "replace" if os.environ["BENCH_MODE"] == "full" else "merge",
                    "endpoint": endpoint,
                }
            ],
        },
        name="shop",
        max_table_nesting=0,
    )


if __name__ == "__main__":
    pipeline = dlt.pipeline("orders", destination=dlt.destinations.duckdb("warehouse.duckdb"), dataset_name="shop")
    pipeline.run(orders(), loader_file_format="parquet").raise_on_failed_jobs()
