"""Assets of the analytics tables, downstream of the endpoints' assets, and their automation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import dagster as dg
import duckdb
from dagster._core.definitions.metadata import RawMetadataValue
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from commerce_assets.analytics.build import BuildResult, CheckOutcome, build, check, inspect
from commerce_assets.analytics.checks import build_check_specs, check_results
from commerce_assets.analytics.metadata import definition_metadata, recent_revenue, rows_by_day
from commerce_assets.analytics.tables import MODELS, Model
from commerce_assets.analytics.tables import SCHEMA as ANALYTICS
from commerce_assets.defs.assets import window_of
from commerce_assets.defs.failures import known_errors_as_failures
from commerce_assets.defs.pools import WAREHOUSE_POOL
from commerce_assets.defs.resources import IO_MANAGER, WAREHOUSE, open_warehouse, warehouse_of
from commerce_assets.defs.shop import Shop
from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.ddl import exists
from commerce_assets.window import Window

GROUP = "analytics"


def build_analytics_assets(
    *, endpoints: Sequence[Endpoint], partitions: dg.DailyPartitionsDefinition, shop: Shop
) -> list[dg.AssetsDefinition]:
    """Build the assets of the models whose endpoints are defined, with row history if a model needs it.

    A write copies the database file, so one op builds all unpartitioned tables. Each partitioned model has its own op.
    """
    names = {endpoint.name for endpoint in endpoints}
    versioned = {endpoint.name for endpoint in endpoints if endpoint.keeps_versions}
    models = [
        model
        for model in MODELS
        if names.issuperset(model.deps) and (versioned.intersection(model.deps) or not model.needs_history)
    ]
    unpartitioned = [model for model in models if not model.is_partitioned]
    build = partial(build_models_asset, endpoints=endpoints, shop=shop)
    return [
        *(
            build(name=f"build_{model.name}", models=[model], partitions=partitions)
            for model in models
            if model.is_partitioned
        ),
        *([build(name="build_tables", models=unpartitioned, partitions=None)] if unpartitioned else []),
    ]


def build_analytics_job(*, executor: dg.ExecutorDefinition, shop: Shop) -> UnresolvedAssetJobDefinition:
    """Build the job `analytics`: every model, and the chosen days of the partitioned ones."""
    return dg.define_asset_job(
        shop.named(GROUP),
        selection=dg.AssetSelection.groups(shop.named(GROUP)),
        description="Builds the analytics tables: order_items for the selected days, the others in full.",
        executor_def=executor,
    )


def build_automation_condition(*, model: Model, shop: Shop) -> dg.AutomationCondition[Any]:
    """Build after any run has materialized a dependency; a partitioned model only on the materialized days.

    `AutomationCondition.eager()` waits until no partition of a dependency is missing, and considers only the newest
    partition. Here a table of the loaded days is useful, and a late change to an old day counts.
    """
    updated = dg.AutomationCondition.any_deps_updated()
    if model.ignored_deps:
        updated = updated.ignore(dg.AssetSelection.assets(*map(shop.key, model.ignored_deps)))
    return (
        updated.since_last_handled()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("follows_its_dependencies")


def build_automation_sensor(*, shop: Shop) -> dg.AutomationConditionSensorDefinition:
    """Build Dagster's default automation sensor, with a description; for a named shop, one for its assets only."""
    return dg.AutomationConditionSensorDefinition(
        automation_sensor_name(shop),
        target=dg.AssetSelection.key_prefixes(shop.name) if shop.name else dg.AssetSelection.all(),
        description="Builds the analytics tables after their dependencies were materialized; order_items only for "
        "the materialized days.",
    )


def automation_sensor_name(shop: Shop) -> str:
    return shop.named("automation") if shop.name else "default_automation_condition_sensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """The outcome of one model's build and checks; `result` is None if only its checks ran."""

    result: BuildResult | None
    is_there: bool = True
    outcomes: list[CheckOutcome] | None
    metadata: Mapping[str, RawMetadataValue] = field(default_factory=dict)
    rows_by_day: Mapping[str, int] = field(default_factory=dict)


def build_models_asset(
    *,
    name: str,
    models: Sequence[Model],
    endpoints: Sequence[Endpoint],
    partitions: dg.DailyPartitionsDefinition | None,
    shop: Shop,
) -> dg.AssetsDefinition:
    """Build the op that builds the selected tables and checks them, in one transaction.

    A range of partitions is one run and one build.
    """
    start = partitions.start.astimezone(UTC).date() if partitions else date.min
    specs = [
        dg.AssetSpec(
            shop.key(model.name),
            deps=[*map(shop.key, model.deps)],
            group_name=shop.named(GROUP),
            description=_description(model, shop),
            kinds={"duckdb", "sql"},
            metadata=definition_metadata(model, shop),
            partitions_def=partitions,
            automation_condition=build_automation_condition(model=model, shop=shop),
        )
        for model in models
    ]

    @dg.multi_asset(
        name=shop.named(name),
        # The op returns nothing to the IO manager; it loads the table for downstream parameters.
        specs=[spec.with_io_manager_key(shop.named(IO_MANAGER)) for spec in specs],
        check_specs=[spec for model in models for spec in build_check_specs(model=model, shop=shop)],
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys={shop.named(WAREHOUSE)},
        pool=shop.named(WAREHOUSE_POOL),
        can_subset=True,
    )
    def models_asset(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        # A run of checks alone has no partitions.
        window = window_of(context, partitions) if partitions and context.selected_asset_keys else None
        database, timezone = open_warehouse(context, shop).database, warehouse_of(context, shop).timezone
        keys = {model.name: shop.key(model.name) for model in models}
        checks = {
            name: {check.name for check in context.selected_asset_check_keys if check.asset_key == key}
            for name, key in keys.items()
        }
        built: dict[str, _Built] = {}
        # Dagster can run the checks without the build. That writes nothing, so it needs no copy of the file.
        opened = database.write() if context.selected_asset_keys else database.read_or_empty()
        with known_errors_as_failures(shop), opened as connection:
            for model in models:
                sources = [endpoint for endpoint in endpoints if endpoint.name in model.deps]
                if keys[model.name] in context.selected_asset_keys:
                    built[model.name] = _build(connection, model, sources, window, timezone)
                elif checks[model.name]:
                    outcomes = inspect(
                        connection, model, sources, start=start, now=datetime.now(UTC), timezone=timezone
                    )
                    is_there = exists(connection, ANALYTICS, model.name)
                    built[model.name] = _Built(result=None, outcomes=outcomes, is_there=is_there)
        for model in models:
            if model.name in built:
                yield from _results(context, model, keys[model.name], built[model.name], checks[model.name])

    return models_asset


def _build(
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    endpoints: Sequence[Endpoint],
    window: Window | None,
    timezone: str,
) -> _Built:
    result = build(connection, model, endpoints, window, timezone=timezone)
    return _Built(
        result=result,
        outcomes=check(connection, model),
        metadata={
            **_counts(result, is_full=window is None),
            **(recent_revenue(connection) if model.name == "daily_revenue" else {}),
        },
        rows_by_day=rows_by_day(connection, model) if window else {},
    )


def _results(
    context: dg.AssetExecutionContext, model: Model, asset: dg.AssetKey, built: _Built, checks: set[str]
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    if built.result:
        context.log.info("%s: %s", model.name, built.result)
        if model.is_partitioned:
            for key in context.partition_keys:
                rows = {"dagster/partition_row_count": built.rows_by_day.get(key, 0)}
                # The totals of the run once, at its newest day.
                totals = built.metadata if key == max(context.partition_keys) else {}
                context.add_asset_metadata({**rows, **totals}, partition_key=key)
        yield dg.MaterializeResult(asset_key=asset, metadata=None if model.is_partitioned else built.metadata)
    if built.outcomes is None:
        yield from (
            dg.AssetCheckResult(
                check_name=name,
                asset_key=asset,
                passed=not built.is_there,
                description="the table has other columns than the model: build it first"
                if built.is_there
                else "not yet built",
            )
            for name in sorted(checks)
        )
    else:
        yield from (result for result in check_results(model, asset, built.outcomes) if result.check_name in checks)


def _description(model: Model, shop: Shop) -> str:
    *others, last = (f"`{name}`" for name in model.deps)
    built_from = f"{', '.join(others)} and {last}" if others else last
    return (
        f"{model.description}\n\nBuilt from {built_from} by `commerce_assets/analytics/sql/{model.name}.sql`. While "
        f"the sensor `{automation_sensor_name(shop)}` is on, it is built again after they change."
    )


def _counts(result: BuildResult, *, is_full: bool) -> dict[str, RawMetadataValue]:
    totals: dict[str, RawMetadataValue] = {
        "rows_written": result.written,
        "rows_removed": result.removed,
        "seconds_to_build": round(result.seconds, 3),
    }
    if is_full:
        return {"dagster/row_count": result.rows, **totals}
    # Beside the row count of a partition, as those of an endpoint's run.
    return {f"run/{name}": value for name, value in totals.items()}
