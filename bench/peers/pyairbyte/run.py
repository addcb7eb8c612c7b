"""PyAirbyte: a declarative source (the manifest that Airbyte's connector builder writes) into its DuckDB cache.

BENCH_MODE is `full` or `changed`; a stream without a cursor is a full refresh, so both replace.
"""

import os
from pathlib import Path

os.environ |= {"DO_NOT_TRACK": "1", "AIRBYTE_OFFLINE_MODE": "1"}

import airbyte as ab
from airbyte.caches import DuckDBCache

_JSON = ("cart",)
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


def _schema(names: list[str]) -> dict[str, object]:
    def kind(name: str) -> dict[str, object]:
        if name in _JSON:
            return {"type": ["null", "object"], "additionalProperties": True}
        if name in _LISTS:
            return {"type": ["null", "array"]}
        return {"type": ["null", _OTHERS.get(name, "string")]}

    return {"type": "object", "additionalProperties": True, "properties": {name: kind(name) for name in names}}


def manifest() -> dict[str, object]:
    base_url, _, path = os.environ["BENCH_ORDERS_URL"].rpartition("/")
    parameters = {}
    if os.environ.get("BENCH_FROM"):
        parameters = {"from": os.environ["BENCH_FROM"], "to": os.environ["BENCH_TO"]}
    stream = {
        "type": "DeclarativeStream",
        "name": "orders",
        "primary_key": ["id"],
        "retriever": {
            "type": "SimpleRetriever",
            "requester": {
                "type": "HttpRequester",
                "url_base": base_url,
                "path": path,
                "http_method": "GET",
                "request_headers": {"Accept": "application/json"},
                "request_parameters": parameters,
                "authenticator": {
                    "type": "BasicHttpAuthenticator",
                    "username": "{{ config['key'] }}",
                    "password": "{{ config['secret'] }}",
                },
            },
            "record_selector": {
                "type": "RecordSelector",
                "extractor": {"type": "DpathExtractor", "field_path": ["order"]},
            },
            "paginator": {
                "type": "DefaultPaginator",
                "page_token_option": {
                    "type": "RequestOption",
                    "inject_into": "request_parameter",
                    "field_name": "page",
                },
                "page_size_option": {
                    "type": "RequestOption",
                    "inject_into": "request_parameter",
                    "field_name": "per_page",
                },
                "pagination_strategy": {
                    "type": "PageIncrement",
                    "start_from_page": 1,
                    "page_size": 50,
                    "inject_on_first_request": True,
                },
            },
        },
        "schema_loader": {
            "type": "InlineSchemaLoader",
            "schema": _schema(os.environ["BENCH_COLUMNS"].split(",")),
        },
    }
    return {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["orders"]},
        "streams": [stream],
        "spec": {
            "type": "Spec",
            "connection_specification": {
                "type": "object",
                "properties": {"key": {"type": "string"}, "secret": {"type": "string", "airbyte_secret": True}},
            },
        },
    }


if __name__ == "__main__":
    source = ab.get_source(
        "source-shop",
        config={"key": os.environ["BENCH_KEY"], "secret": os.environ["BENCH_SECRET"]},
        source_manifest=manifest(),
    )
    source.select_streams(["orders"])
    cache = DuckDBCache(db_path=Path("warehouse.duckdb"), schema_name="shop", cache_dir=Path("cache"))
    source.read(cache, write_strategy="replace", force_full_refresh=True)
