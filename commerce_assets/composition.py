"""The composition root: build a shop's definitions from its settings. It only composes what the other modules build."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from commerce_assets.analytics.assets import build_analytics_assets, build_analytics_job, build_automation_sensor
from commerce_assets.defs.alerts.sensor import build_alerts_sensor
from commerce_assets.defs.assets import build_endpoint_asset, build_partitions
from commerce_assets.defs.executor import build_executor
from commerce_assets.defs.health_checks import build_health_checks
from commerce_assets.defs.jobs import build_jobs_and_schedules
from commerce_assets.defs.resources import build_resources
from commerce_assets.defs.shop import Shop
from commerce_assets.report.asset import build_report_assets
from commerce_assets.settings import CommerceSettings


def build_definitions(
    settings: CommerceSettings, *, loggers: Mapping[str, dg.LoggerDefinition] | None = None
) -> dg.Definitions:
    """Build the assets, checks, jobs, schedules, sensors and resources of a shop.

    Its jobs have their executor. Runs that are not of a job use the executor of the code location, so that these
    definitions can be merged with others.
    """
    shop, endpoints = Shop.of(settings), settings.configured_endpoints()
    executor = build_executor(settings.coordination)
    partitions = build_partitions(start=settings.orders_start_date)
    health_checks = [
        build_health_checks(endpoint=endpoint, start=settings.orders_start_date, shop=shop) for endpoint in endpoints
    ]
    jobs, schedules = build_jobs_and_schedules(
        endpoints=endpoints,
        partitions=partitions,
        health_checks=health_checks,
        lookback_days=settings.orders_lookback_days,
        request_budget=settings.reconcile_requests,
        executor=executor,
        shop=shop,
    )
    assets: list[Any] = [
        build_endpoint_asset(
            endpoint=endpoint,
            partitions=partitions if endpoint.is_partitioned else None,
            policy=settings.policy,
            shop=shop,
        )
        for endpoint in endpoints
    ]
    marts = build_analytics_assets(endpoints=endpoints, partitions=partitions, shop=shop)
    reports = build_report_assets(
        marts={key.path[-1] for mart in marts for key in mart.keys},
        endpoints=endpoints,
        start=settings.orders_start_date,
        looks_up=settings.refund_requests > 0,
        shop=shop,
    )
    if settings.lake_data:
        # It imports the driver of PostgreSQL, which a warehouse that is a file does not need.
        from commerce_assets.defs.lake_job import build_lake_job  # noqa: PLC0415

        tidy, weekly = build_lake_job(executor=executor, shop=shop)
        jobs, schedules = [*jobs, tidy], [*schedules, weekly]
    owners = [settings.owner] if settings.owner else []
    return dg.Definitions(
        assets=dg.map_asset_specs(lambda spec: spec.replace_attributes(owners=owners), [*assets, *marts, *reports]),
        asset_checks=health_checks,
        jobs=[*jobs, build_analytics_job(executor=executor, shop=shop)],
        schedules=schedules,
        sensors=[build_alerts_sensor(shop=shop), build_automation_sensor(shop=shop)],
        loggers=loggers,
        resources=build_resources(settings),
    )
