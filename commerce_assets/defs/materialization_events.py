"""Storing what a job has pulled that is no materialization of its own: late changes, and days that had to be repaired.

The rows may belong to any days. Those that were touched are reported as materialized, each with what happened to it, so
that what is downstream of them is brought up to date.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetMaterialization,
    DagsterLogManager,
    DailyPartitionsDefinition,
    OpExecutionContext,
)
from dagster._core.definitions.metadata import RawMetadataValue

from commerce_assets.defs.checks import all_check_results
from commerce_assets.defs.metadata import load_metadata, partitions_metadata
from commerce_assets.defs.resources import Warehouse
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import StagedLoad, load_staged
from commerce_assets.warehouse.load import LoadResult
from commerce_assets.warehouse.load_log import loaded_windows, set_mark
from commerce_assets.warehouse.notes import Kind, write_note
from commerce_assets.window import Window


class FollowedTo(NamedTuple):
    """Up to where changes have been followed, and when they last were with the wide overlap."""

    mark: datetime
    wide_at: datetime | None


class Stored(NamedTuple):
    """What was done: the load, the numbers of the run and of each partition to report, by key; when the pull began."""

    result: LoadResult
    numbers: dict[str, RawMetadataValue]
    partitions: dict[str, dict[str, RawMetadataValue]]
    began_at: datetime


def store(
    pulled: StagedLoad,
    warehouse: Warehouse,
    log: DagsterLogManager,
    *,
    partitions: DailyPartitionsDefinition,
    not_before: datetime | None = None,
    followed_to: FollowedTo | None = None,
    report_whole_window: bool = False,
) -> Stored:
    """Stores rows, and up to where changes have been followed if they have, in one transaction.

    With `report_whole_window`, every day of the pull's window is reported, also one that was found as it was.
    """
    endpoint, window = pulled.staged.pull.endpoint, pulled.staged.pull.window
    with warehouse.database(log).write() as connection:
        result = load_staged(connection, pulled, not_before=not_before)
        if followed_to:
            set_mark(connection, endpoint, followed_to.mark)
            wide_at = followed_to.wide_at.isoformat() if followed_to.wide_at else None
            write_note(connection, endpoint, Kind.UPDATE_FILTER, {"is_supported": True, "wide_at": wide_at})
        numbers = load_metadata(connection, pulled, result)
        days = {day for day, counts in result.days.items() if counts.touched}
        if window and report_whole_window:
            days.update(window.days)
        windows = loaded_windows(connection, endpoint)
        reported = sorted(day for day in days if _is_kept(day, windows, partitions))
        by_key = partitions_metadata(connection, endpoint, result, {day.isoformat(): day for day in reported})
    pulled.staged.discard()
    return Stored(result, numbers, by_key, pulled.staged.manifest.began_at)


def report(context: OpExecutionContext, endpoint: Endpoint, stored: Stored, *, description: str) -> None:
    """Tells Dagster, and whoever reads the log, which partitions were touched."""
    with _together(context):
        for key, numbers in stored.partitions.items():
            context.log_event(
                AssetMaterialization(
                    asset_key=endpoint.name,
                    partition=key,
                    description=description,
                    metadata={**stored.numbers, **numbers},
                )
            )
    touched = ", ".join(stored.partitions) or "none"
    context.log.info("%s: %s; partitions touched: %s", context.job_name, stored.result, touched)


def report_checks(
    context: OpExecutionContext, endpoint: Endpoint, warehouse: Warehouse, *, began_at: datetime | None = None
) -> None:
    """Tells Dagster how the checks stand with what has just been stored and reported.

    With `began_at`, keys are compared only with those that the pull which began then has written.
    """
    with warehouse.database(context.log).read() as connection:
        results = all_check_results(connection, endpoint, began_at=began_at, now=datetime.now(UTC))
    with _together(context):
        for result in results:
            # The signature of log_event names fewer kinds of events than it takes.
            evaluation: Any = AssetCheckEvaluation(
                asset_key=AssetKey(endpoint.name),
                check_name=str(result.check_name),
                passed=result.passed,
                severity=result.severity,
                description=result.description,
                metadata=result.metadata,
            )
            context.log_event(evaluation)


def _together(context: OpExecutionContext) -> AbstractContextManager[None]:
    """Has what is told be stored at once, if the event log is the project's own."""
    together: Callable[[str], AbstractContextManager[None]] | None
    together = getattr(context.instance.event_log_storage, "together", None)
    return together(context.run_id) if together else nullcontext()


def _is_kept(day: date, windows: list[Window], partitions: DailyPartitionsDefinition) -> bool:
    """Whether a day is a partition that has been loaded whole.

    Rows of today are stored like all others, but today is no partition yet; and a day of which nothing but late
    changes has been seen must not look materialized.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return partitions.has_partition_key(day.isoformat()) and any(window.contains(midnight) for window in windows)
