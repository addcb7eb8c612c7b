"""The command behind `make demo`: everything from the sample store, thirty days of orders, the checks, the result."""

import os
import sys
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from dagster import AssetKey, BetaWarning, DagsterInstance, Definitions, ExecuteInProcessResult, PreviewWarning

from commerce_assets.definitions import build_definitions
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.server import serve
from sample_store.shop import build_shop
from sample_store.store import SampleStore

_DATABASE = Path("data/demo.duckdb")
_DAYS = 30
_QUIET = {"python_logs": {"python_log_level": "INFO"}}
_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def main() -> int:
    """Runs the demo; returns 0 if every run and every check has passed."""
    warnings.simplefilter("ignore", BetaWarning)
    warnings.simplefilter("ignore", PreviewWarning)
    _DATABASE.parent.mkdir(exist_ok=True)
    _DATABASE.unlink(missing_ok=True)
    now = datetime.now(UTC)
    first, last = ((now - timedelta(days=days)).date().isoformat() for days in (_DAYS, 1))
    with serve(SampleStore(build_shop(now=now))) as server, DagsterInstance.ephemeral(settings=_QUIET) as instance:
        os.environ |= {
            "COMMERCE_API_BASE_URL": server.base_url,
            "COMMERCE_API_KEY": SAMPLE_API_KEY,
            "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
        }
        definitions = build_definitions(
            environment={
                "COMMERCE_API_ORDERS_PATH": ORDERS_PATH,
                "COMMERCE_API_REQUESTS_PER_SECOND": "0",
                "COMMERCE_ORDERS_START_DATE": first,
                "COMMERCE_DUCKDB_PATH": str(_DATABASE),
            }
        )
        runs = [
            _run(definitions, instance, "catalog"),
            _run(definitions, instance, "orders", dict(zip(_RANGE_TAGS, (first, last), strict=True))),
            _run(definitions, instance, "orders_refresh"),
            _run(definitions, instance, "reconcile"),
            _run(definitions, instance, "health_checks"),
        ]
    # How things stand in the end counts; before the refresh and the comparison, the table was not fresh and complete.
    latest = {(check.asset_key, check.check_name): check for run in runs for check in run.get_asset_check_evaluations()}
    checks = list(latest.values())
    _show(runs)
    failed = [check for check in checks if not check.passed]
    for check in failed:
        print(f"check failed: {check.asset_key.to_user_string()}.{check.check_name}: {check.description}")
    print(
        f"{len(checks) - len(failed)} of {len(checks)} checks passed. The tables are in {_DATABASE}, schema commerce."
    )
    return 1 if failed else 0


def _run(
    definitions: Definitions, instance: DagsterInstance, job: str, tags: Mapping[str, str] | None = None
) -> ExecuteInProcessResult:
    return definitions.resolve_job_def(job).execute_in_process(instance=instance, tags=tags)


def _show(runs: list[ExecuteInProcessResult]) -> None:
    """What landed, as an analyst would ask for it."""
    materialized: set[AssetKey] = {
        event.asset_key for run in runs for event in run.get_asset_materialization_events() if event.asset_key
    }
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{_DATABASE}' AS demo (READ_ONLY)")
        connection.execute("USE demo.commerce")
        print("\nWhat landed")
        counts = (
            f"SELECT '{key.path[-1]}' AS table_name, count(*) AS rows, max(updated_at) AS newest_change, "
            f"count(_extra) AS with_undeclared_fields, count(_invalid) AS with_invalid_values FROM {key.path[-1]}"
            for key in sorted(materialized)
        )
        connection.sql(" UNION ALL ".join(counts)).show()
        print("The last week's revenue, by day and currency")
        connection.sql("""
            SELECT CAST(created_at AS DATE) AS day, settled_currency AS currency, count(*) AS orders,
                count_if(refunded) AS refunded, sum(settled_gross) AS gross
            FROM orders WHERE created_at >= now() - INTERVAL 7 DAY GROUP BY ALL ORDER BY day, currency
        """).show(max_rows=40)


if __name__ == "__main__":
    sys.exit(main())
