"""The health checks of the endpoints, which the job `health_checks` evaluates."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg

from commerce_assets.defs.checks import build_health_check_specs, health_results
from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.defs.materialization_events import report_unevaluated
from commerce_assets.defs.resources import WAREHOUSE, open_warehouse
from commerce_assets.defs.shop import Shop
from commerce_assets.endpoint import Endpoint


def build_health_checks(*, endpoint: Endpoint, start: date, shop: Shop) -> dg.AssetChecksDefinition:
    """Build the checks of freshness and completeness, which query the warehouse and make no request.

    Args:
        endpoint: The asset.
        start: The first day that must be loaded, if the asset is partitioned.
        shop: Names the asset.
    """

    @dg.multi_asset_check(
        name=shop.named(f"{endpoint.name}_health"),
        specs=build_health_check_specs(endpoint=endpoint, shop=shop),
        required_resource_keys={shop.named(WAREHOUSE)},
        can_subset=True,
    )
    def health_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with known_errors_as_failures(shop):
            database, now = open_warehouse(context, shop).database, datetime.now(UTC)
            selected = {key.name for key in context.selected_asset_check_keys}
            with database.read_or_empty() as connection:
                for result in health_results(connection, endpoint, shop=shop, start=start, now=now):
                    if result.check_name in selected:
                        yield result
            report_unevaluated(context.op_execution_context, endpoint, database, shop=shop, start=start)

    return health_checks
