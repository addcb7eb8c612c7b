"""Request the pages and discard them: the cost of the transfer alone, and the maximum speed of the server."""

import os

import requests

if __name__ == "__main__":
    with requests.Session() as session:
        session.auth = (os.environ["BENCH_KEY"], os.environ["BENCH_SECRET"])
        session.headers["Accept"] = "application/json"
        params: dict[str, object] = {"per_page": 50}
        if os.environ.get("BENCH_FROM"):
            params |= {"from": os.environ["BENCH_FROM"], "to": os.environ["BENCH_TO"]}
        page = 0
        # [] is the only body of two bytes: nothing is parsed here.
        while True:
            page += 1
            answer = session.get(os.environ["BENCH_ORDERS_URL"], params={**params, "page": page}, timeout=60)
            if len(answer.content) == len(b"[]"):
                break
