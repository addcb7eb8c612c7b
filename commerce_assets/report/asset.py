"""The asset of the report: written again after the marts were built."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from commerce_assets.analytics.assets import GROUP
from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.defs.resources import WarehouseResource
from commerce_assets.endpoint import Endpoint
from commerce_assets.report.figures import HISTORY_MARTS, MARTS
from commerce_assets.report.write import default_path, is_installed, write_report


def build_report_assets(
    *, marts: Collection[str], endpoints: Sequence[Endpoint], start: date
) -> list[dg.AssetsDefinition]:
    """Build the asset of the report; there is none without its marts or the extra `report`.

    Args:
        marts: The names of the marts that have assets.
        endpoints: The endpoints that are loaded.
        start: The first day that must be loaded.
    """
    if not is_installed() or not {*MARTS} <= {*marts}:
        return []

    @dg.asset(
        deps=[name for name in (*MARTS, *HISTORY_MARTS) if name in marts],
        group_name=GROUP,
        kinds={"html"},
        description="One HTML page about the shop, without personal data, to read or to send. Its place is the "
        "metadata `path` of the materialization.\n\nWhile the sensor `default_automation_condition_sensor` is on, it "
        "is written again after the marts were built.",
        # It needs all of its marts.
        automation_condition=dg.AutomationCondition.eager(),
    )
    def shop_report(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[Any]:
        path = default_path(Path(warehouse.database_path)).resolve()
        with known_errors_as_failures():
            size = write_report(
                warehouse.open(context.log).file,
                path,
                endpoints=endpoints,
                start=start,
                timezone=warehouse.timezone,
                now=datetime.now(UTC),
            )
        return dg.MaterializeResult(metadata={"path": dg.MetadataValue.path(path), "bytes": size})

    return [shop_report]
