"""A Singer tap built with singer-sdk, piped into target-duckdb, as in Meltano.

    run.py tap | target-duckdb --config target.json

Without `tap`, it runs this pipe. BENCH_MODE is `full` or `changed`; the target upserts by key either way.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

_BATCH_ROWS = 50_000
_OBJECTS = ("cart",)
_LISTS = (
    "refund_transactions",
    "gateway_transaction_ids",
    "download_items",
    "downloads",
    "order_custom_checkout_fields",
)
_OTHERS = {
    "id": "integer", "subscription_id": "integer", "download_attempts": "integer", "refunded": "boolean",
    "can_market_to_buyer": "boolean", "access_allowed": "boolean",
}  # fmt: skip


def tap() -> None:
    from singer_sdk import RESTStream, Tap
    from singer_sdk import typing as th
    from singer_sdk.authenticators import BasicAuthenticator
    from singer_sdk.pagination import BasePageNumberPaginator

    class Pages(BasePageNumberPaginator):
        def has_more(self, response: Any) -> bool:
            return len(response.json()) == 50

    class Orders(RESTStream[int]):
        name = "orders"
        path = ""
        primary_keys = ("id",)
        records_jsonpath = "$[*].order"
        url_base = os.environ["BENCH_ORDERS_URL"]
        schema: ClassVar[dict[str, Any]] = {
            "type": "object",
            "properties": {
                name: {"type": ["null", "object"]} if name in _OBJECTS
                else {"type": ["null", "array"], "items": {}} if name in _LISTS
                else {"type": ["null", _OTHERS.get(name, "string")]}
                for name in os.environ["BENCH_COLUMNS"].split(",")
            },
        }  # fmt: skip

        @property
        def authenticator(self) -> BasicAuthenticator:
            return BasicAuthenticator(username=os.environ["BENCH_KEY"], password=os.environ["BENCH_SECRET"])

        @property
        def http_headers(self) -> dict[str, str]:
            return {"Accept": "application/json"}

        def get_new_paginator(self) -> Pages:
            return Pages(start_value=1)

        def get_url_params(self, context: Mapping[str, Any] | None, next_page_token: int | None) -> dict[str, Any]:  # noqa: ARG002
            params: dict[str, Any] = {"page": next_page_token or 1, "per_page": 50}
            if os.environ.get("BENCH_FROM"):
                params |= {"from": os.environ["BENCH_FROM"], "to": os.environ["BENCH_TO"]}
            if os.environ["BENCH_MODE"] == "changed":
                params["updated_after"] = os.environ["BENCH_SINCE"]
            return params

    class TapShop(Tap):
        name = "tap-shop"
        config_jsonschema = th.PropertiesList().to_dict()

        def discover_streams(self) -> list[Orders]:
            return [Orders(self)]

    sys.argv = [sys.argv[0]]
    TapShop.cli()


def pipe() -> int:
    Path("target.json").write_text(
        json.dumps(
            {
                "filepath": "warehouse.duckdb",
                "default_target_schema": "shop",
                "batch_size_rows": _BATCH_ROWS,
                "data_flattening_max_level": 0,
                "add_metadata_columns": False,
            }
        )
    )
    target = Path(sys.executable).with_name("target-duckdb")
    with (
        subprocess.Popen([sys.executable, __file__, "tap"], stdout=subprocess.PIPE) as source,
        subprocess.Popen([target, "--config", "target.json"], stdin=source.stdout, stdout=subprocess.DEVNULL) as sink,
    ):
        source.stdout.close()
        return sink.wait() or source.wait()


if __name__ == "__main__":
    sys.exit(tap() if sys.argv[1:] == ["tap"] else pipe())
