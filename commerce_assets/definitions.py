"""The composition root: what Dagster loads. It only puts together what the other modules build."""

import os
from collections.abc import Mapping, Sequence

from dagster import Definitions, EnvVar, in_process_executor

from commerce_assets.analytics.assets import build_analytics_assets, build_analytics_job, build_automation_sensor
from commerce_assets.defs.alerts.sensor import AlertWebhook, build_alerts_sensor
from commerce_assets.defs.assets import build_endpoint_asset, build_partitions
from commerce_assets.defs.checks import build_health_checks
from commerce_assets.defs.io_manager import CommerceDuckDBIOManager
from commerce_assets.defs.jobs import build_jobs_and_schedules
from commerce_assets.defs.resources import CommerceApiResource, Warehouse
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import Settings, configured
from commerce_assets.warehouse.sql import SCHEMA


def build_definitions(
    *, environment: Mapping[str, str] | None = None, endpoints: Sequence[Endpoint] = ENDPOINTS
) -> Definitions:
    """Assets, checks, jobs, schedules and resources for some endpoints, with the settings of an environment.

    Raises:
        SettingError: A setting cannot be used. Credentials are looked at when a run needs them, not here.
    """
    settings = Settings.from_environment(os.environ if environment is None else environment, endpoints)
    endpoints = configured(settings, endpoints)
    partitions = build_partitions(start=settings.orders_start)
    health_checks = [build_health_checks(endpoint=endpoint) for endpoint in endpoints]
    jobs, schedules = build_jobs_and_schedules(
        endpoints=endpoints,
        partitions=partitions,
        health_checks=health_checks,
        lookback_days=settings.lookback_days,
        request_budget=settings.request_budget,
    )
    warehouse = Warehouse(
        database_path=str(settings.database),
        staging_dir=str(settings.staging),
        lock_timeout=settings.lock_timeout,
        memory_limit=settings.memory_limit,
        personal_data=str(settings.personal_data),
        capability_urls=settings.personal_data.capability_urls.value,
        personal_data_key=EnvVar("COMMERCE_PERSONAL_DATA_KEY") if settings.personal_data.hashes else "",
    )
    return Definitions(
        assets=[
            build_endpoint_asset(
                endpoint=endpoint,
                partitions=partitions if endpoint.is_partitioned else None,
                policy=settings.personal_data,
            )
            for endpoint in endpoints
        ]
        + build_analytics_assets(endpoints=endpoints, partitions=partitions),
        asset_checks=health_checks,
        jobs=[*jobs, build_analytics_job()],
        schedules=schedules,
        sensors=[build_alerts_sensor(), build_automation_sensor()],
        # One process a run: a step costs a second of start-up in a process of its own, and the steps take turns anyway.
        executor=in_process_executor,
        resources={
            "commerce_api": CommerceApiResource(
                base_url=EnvVar("COMMERCE_API_BASE_URL"),
                api_key=EnvVar("COMMERCE_API_KEY"),
                api_secret=EnvVar("COMMERCE_API_SECRET"),
                paths=dict(settings.paths),
                requests_per_second=settings.requests_per_second,
                concurrency=settings.concurrency,
                overlap_windows=settings.overlap_windows,
            ),
            "alert_webhook": AlertWebhook(
                url=EnvVar("COMMERCE_ALERT_WEBHOOK_URL") if settings.has_alert_webhook else None
            ),
            "warehouse": warehouse,
            "warehouse_io_manager": CommerceDuckDBIOManager(
                database=str(settings.database),
                schema=SCHEMA,
                lock_timeout=settings.lock_timeout,
                memory_limit=settings.memory_limit,
            ),
        },
    )


defs = build_definitions()
