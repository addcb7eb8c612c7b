"""An asset for each model, downstream of the endpoints' assets, and what keeps it in step with them."""

from collections.abc import Iterator, Sequence
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetsDefinition,
    AssetSelection,
    AssetSpec,
    AutomationCondition,
    AutomationConditionSensorDefinition,
    BackfillPolicy,
    DailyPartitionsDefinition,
    MaterializeResult,
    define_asset_job,
    multi_asset,
)
from dagster._core.definitions.metadata import RawMetadataValue
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from commerce_assets.analytics.build import BuildResult, build, check
from commerce_assets.analytics.checks import build_check_specs, check_results
from commerce_assets.analytics.metadata import definition_metadata, recent_revenue, rows_by_day
from commerce_assets.analytics.tables import MODELS, Model
from commerce_assets.defs.assets import window_of
from commerce_assets.defs.pools import WAREHOUSE_POOL
from commerce_assets.defs.resources import WarehouseResource
from commerce_assets.endpoint import Endpoint

GROUP = "analytics"


def build_analytics_assets(
    *, endpoints: Sequence[Endpoint], partitions: DailyPartitionsDefinition
) -> list[AssetsDefinition]:
    """The assets of those models whose endpoints there are."""
    names = {endpoint.name for endpoint in endpoints}
    return [
        build_model_asset(
            model=model,
            endpoints=[endpoint for endpoint in endpoints if endpoint.name in model.deps],
            partitions=partitions if model.is_partitioned else None,
        )
        for model in MODELS
        if names.issuperset(model.deps)
    ]


def build_analytics_job() -> UnresolvedAssetJobDefinition:
    """The job `analytics`: every model, and of the partitioned ones the days that are chosen."""
    return define_asset_job(
        GROUP,
        selection=AssetSelection.groups(GROUP),
        description="Rebuilds the tables of the analytics layer; order_items of some days, the others whole.",
    )


def build_automation_condition(*, model: Model) -> AutomationCondition[Any]:
    """Whenever a dependency has been materialized, by whatever run; of a partitioned model only the days it was.

    `AutomationCondition.eager()` waits until no partition of a dependency is missing, and looks at the newest only:
    here a table of the days that there are is worth having, and a late change of last March counts.
    """
    updated = AutomationCondition.any_deps_updated()
    if model.ignored_deps:
        updated = updated.ignore(AssetSelection.assets(*model.ignored_deps))
    return (
        updated.since_last_handled() & ~AutomationCondition.any_deps_in_progress() & ~AutomationCondition.in_progress()
    ).with_label("follows_its_dependencies")


def build_automation_sensor() -> AutomationConditionSensorDefinition:
    """The sensor that heeds the conditions: the one that Dagster makes, under its name, but with a description."""
    return AutomationConditionSensorDefinition(
        "default_automation_condition_sensor",
        target=AssetSelection.all(),
        description="Rebuilds the tables of analytics when what they are built from has been pulled or has changed "
        "late; of order_items, just the days that were touched.",
    )


def build_model_asset(
    *, model: Model, endpoints: Sequence[Endpoint], partitions: DailyPartitionsDefinition | None
) -> AssetsDefinition:
    """The asset that builds a model's table and checks it, in one transaction.

    A range of partitions is one run and one build.
    """
    spec = AssetSpec(
        model.name,
        deps=model.deps,
        group_name=GROUP,
        description=_described(model),
        kinds={"duckdb", "sql"},
        metadata=definition_metadata(model),
        partitions_def=partitions,
        automation_condition=build_automation_condition(model=model),
    )

    @multi_asset(
        name=f"build_{model.name}",
        # Nothing is handed to the IO manager; it loads the table for whoever takes the asset as a parameter.
        specs=[spec.with_io_manager_key("warehouse_io_manager")],
        check_specs=build_check_specs(model=model),
        backfill_policy=BackfillPolicy.single_run(),
        pool=WAREHOUSE_POOL,
    )
    def model_asset(
        context: AssetExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        window = window_of(context, partitions) if partitions else None
        with warehouse.open(context.log).file.write() as connection:
            result = build(connection, model, endpoints, window)
            findings = check(connection, model)
            recent = recent_revenue(connection) if model.name == "daily_revenue" else {}
            by_day = rows_by_day(connection, model) if partitions else {}
        context.log.info("%s: %s", model.name, result)
        if partitions:
            for key in context.partition_keys:
                context.add_asset_metadata({"dagster/partition_row_count": by_day.get(key, 0)}, partition_key=key)
        yield MaterializeResult(metadata={**_numbers(result, is_whole=not partitions), **recent})
        yield from check_results(model, findings)

    return model_asset


def _described(model: Model) -> str:
    *others, last = (f"`{name}`" for name in model.deps)
    built_from = f"{', '.join(others)} and {last}" if others else last
    return (
        f"{model.description}\n\nBuilt from {built_from} by `commerce_assets/analytics/sql/{model.name}.sql`, again "
        "when they have changed, once `default_automation_condition_sensor` is switched on. Right? See the checks."
    )


def _numbers(result: BuildResult, *, is_whole: bool) -> dict[str, RawMetadataValue]:
    return {
        **({"dagster/row_count": result.rows} if is_whole else {}),
        "rows_written": result.written,
        "rows_removed": result.removed,
        "seconds_to_build": round(result.seconds, 3),
    }
