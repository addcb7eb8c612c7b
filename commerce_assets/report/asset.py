"""The asset of the report: written again after the marts were built."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from commerce_assets.analytics.assets import GROUP, automation_sensor_name
from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.defs.resources import WAREHOUSE, open_warehouse, warehouse_of
from commerce_assets.defs.shop import Shop
from commerce_assets.endpoint import Endpoint
from commerce_assets.report.figures import HISTORY_MARTS, MARTS
from commerce_assets.report.write import default_path, is_installed, write_report


def build_report_assets(
    *, marts: Collection[str], endpoints: Sequence[Endpoint], start: date, looks_up: bool, shop: Shop
) -> list[dg.AssetsDefinition]:
    """Build the asset of the report; there is none without its marts or the extra `report`.

    Args:
        marts: The names of the marts that have assets.
        endpoints: The endpoints that are loaded.
        start: The first day that must be loaded.
        looks_up: The refresh looks up refunds that the list of orders does not show.
        shop: Names the asset.
    """
    if not is_installed() or not {*MARTS} <= {*marts}:
        return []

    spec = dg.AssetSpec(
        shop.key("shop_report"),
        deps=[shop.key(name) for name in (*MARTS, *HISTORY_MARTS) if name in marts],
        group_name=shop.named(GROUP),
        kinds={"html"},
        description="One HTML page about the shop, without personal data, to read or to send. Its place is the "
        "metadata `path` of the materialization.\n\nWhile the sensor "
        f"`{automation_sensor_name(shop)}` is on, it is written again after the marts were built.",
        # It needs all of its marts.
        automation_condition=dg.AutomationCondition.eager(),
    )

    @dg.multi_asset(
        name=shop.named("shop_report"),
        specs=[spec],
        required_resource_keys={shop.named(WAREHOUSE)},
        # Dagster's command line takes a range of days only if all selected assets have this policy.
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def shop_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        warehouse = warehouse_of(context, shop)
        path = default_path(Path(warehouse.database_path)).resolve()
        with known_errors_as_failures(shop):
            size = write_report(
                open_warehouse(context, shop).database,
                path,
                endpoints=endpoints,
                start=start,
                timezone=warehouse.timezone,
                now=datetime.now(UTC),
                looks_up=looks_up,
                makes_folder=True,
            )
        return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(path), "bytes": size})

    return [shop_report]
