"""The floor: the minimum that loads typed orders into DuckDB. One session, pages to a file, one statement.

No retries, rate limit, checks of a page, resuming, transaction, invalid values, days or history: everything else that a
pipeline does costs extra.
"""

import json
import os

import duckdb
import requests

if __name__ == "__main__":
    types = json.loads(os.environ["BENCH_TYPES"])
    with requests.Session() as session, open("pages.json", "wb") as pages:
        session.auth = (os.environ["BENCH_KEY"], os.environ["BENCH_SECRET"])
        session.headers["Accept"] = "application/json"
        params: dict[str, object] = {"per_page": 50}
        if os.environ.get("BENCH_FROM"):
            params |= {"from": os.environ["BENCH_FROM"], "to": os.environ["BENCH_TO"]}
        page = 0
        while True:
            page += 1
            answer = session.get(os.environ["BENCH_ORDERS_URL"], params={**params, "page": page}, timeout=60)
            if len(answer.content) == len(b"[]"):
                break
            pages.write(answer.content + b"\n")
    shape = json.dumps([{"order": types}])
    with duckdb.connect("warehouse.duckdb") as warehouse:
        warehouse.execute(f"""
            CREATE OR REPLACE TABLE orders AS
            SELECT unnest(item."order") FROM (
                SELECT unnest(from_json(json, '{shape}')) AS item
                FROM read_json_objects('pages.json', format = 'newline_delimited'))""")
