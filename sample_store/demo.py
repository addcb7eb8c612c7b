"""`make demo`: extract everything and 30 days of orders from the sample store, build the marts, run the checks."""

import os
import sys
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import duckdb
from dagster import BetaWarning, DagsterInstance, Definitions, ExecuteInProcessResult, PreviewWarning

from commerce_assets.analytics.tables import MODELS
from commerce_assets.composition import build_definitions
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import CommerceSettings
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.server import serve
from sample_store.shop import build_shop
from sample_store.store import SampleStore

_DATABASE = Path("data/demo.duckdb")
_DAYS = 30
_QUIET = {"python_logs": {"python_log_level": "WARNING"}}
_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def main() -> int:
    """Run the demo; return 0 if every run and every check passes."""
    warnings.simplefilter("ignore", BetaWarning)
    warnings.simplefilter("ignore", PreviewWarning)
    _DATABASE.parent.mkdir(exist_ok=True)
    _DATABASE.unlink(missing_ok=True)
    now = datetime.now(UTC)
    first, last = ((now - timedelta(days=days)).date().isoformat() for days in (_DAYS, 1))
    days = dict(zip(_RANGE_TAGS, (first, last), strict=True))
    with serve(SampleStore(build_shop(now=now))) as server, DagsterInstance.ephemeral(settings=_QUIET) as instance:
        connection = {
            "COMMERCE_API_BASE_URL": server.base_url,
            "COMMERCE_API_KEY": SAMPLE_API_KEY,
            "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
        }
        # Dagster reads secrets from the environment of the run.
        os.environ |= connection
        settings = CommerceSettings.read(
            {
                **connection,
                "COMMERCE_API_ORDERS_PATH": ORDERS_PATH,
                "COMMERCE_API_REQUESTS_PER_SECOND": "0",
                "COMMERCE_ORDERS_START_DATE": first,
                "COMMERCE_DUCKDB_PATH": str(_DATABASE),
            }
        )
        definitions = build_definitions(settings)
        jobs = [
            ("catalog", {}),
            *((endpoint.name, days) for endpoint in ENDPOINTS if endpoint.is_partitioned),
            *((f"{endpoint.name}_refresh", {}) for endpoint in ENDPOINTS if endpoint.update_filter),
            ("reconcile", {}),
            ("analytics", days),
            ("health_checks", {}),
        ]
        runs = [_run(definitions, instance, job, tags) for job, tags in jobs]
    # The last result counts: before the refresh and the reconciliation, orders are neither fresh nor complete.
    latest = {(check.asset_key, check.check_name): check for run in runs for check in run.get_asset_check_evaluations()}
    failed = [check for check in latest.values() if not check.passed]
    _show_tables()
    for check in failed:
        click.echo(f"check failed: {check.asset_key.to_user_string()}.{check.check_name}: {check.description}")
    click.echo(f"{len(latest) - len(failed)} of {len(latest)} checks passed. The tables are in {_DATABASE}.")
    return 1 if failed else 0


def _run(
    definitions: Definitions, instance: DagsterInstance, job: str, tags: Mapping[str, str]
) -> ExecuteInProcessResult:
    click.echo(f"job {job:<16}", nl=False)
    began = time.monotonic()
    result = definitions.resolve_job_def(job).execute_in_process(instance=instance, tags=tags)
    click.echo(f"{time.monotonic() - began:5.1f} s")
    return result


def _show_tables() -> None:
    """Print row counts and the last week's revenue."""
    tables = [
        *(f"commerce.{endpoint.name}" for endpoint in ENDPOINTS),
        *(f"analytics.{model.name}" for model in MODELS if not model.needs_history),
    ]
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{_DATABASE}' AS demo (READ_ONLY)")
        connection.execute("USE demo")
        click.echo("\nRows per table")
        connection.sql(
            " UNION ALL ".join(f"SELECT '{name}' AS name, count(*) AS rows FROM {name}" for name in tables)
        ).show()
        click.echo("Revenue of the last seven days, from analytics.daily_revenue")
        connection.sql("""
            SELECT currency, sum(orders)::BIGINT AS orders, sum(gross)::DECIMAL(18, 2) AS gross,
                sum(refunds)::DECIMAL(18, 2) AS refunds, sum(net)::DECIMAL(18, 2) AS net
            FROM analytics.daily_revenue WHERE day >= current_date - 7 GROUP BY currency ORDER BY currency
        """).show()


if __name__ == "__main__":
    sys.exit(main())
