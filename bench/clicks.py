"""`python -m bench.clicks <port of the UI> <day> <database>`: materialize a day of orders as a click in the UI does.

Waits until the run has ended, and until the automation has built the marts from it. Prints one line of JSON:
{what: seconds since the click}.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dagster import DagsterRunStatus
from dagster_graphql import DagsterGraphQLClient

from commerce_assets.warehouse.file import DatabaseFile

_LONGEST_SECONDS = 180


def main() -> None:
    port, day, database = sys.argv[1:]
    client = DagsterGraphQLClient("127.0.0.1", port_number=int(port))
    began = time.monotonic()
    run = client.submit_job_execution("orders", tags={"dagster/partition": day})

    def seconds_until(condition: Callable[[], bool]) -> float:
        while not condition():
            if time.monotonic() - began > _LONGEST_SECONDS:
                raise ValueError("the run or the marts take too long")
            time.sleep(0.05)
        return time.monotonic() - began

    file = DatabaseFile(path=Path(database))
    print(
        json.dumps(
            {
                "a click on *Materialize*: a day of orders": seconds_until(
                    lambda: client.get_run_status(run) == DagsterRunStatus.SUCCESS
                ),
                "and until it is in the marts": seconds_until(lambda: _has_mart(file, day)),
            }
        )
    )


def _has_mart(file: DatabaseFile, day: str) -> bool:
    with file.read_or_empty() as connection:
        if not connection.execute("FROM duckdb_tables() WHERE table_name = 'daily_revenue'").fetchall():
            return False
        return bool(connection.execute("FROM analytics.daily_revenue WHERE day = ?", [day]).fetchall())


if __name__ == "__main__":
    main()
