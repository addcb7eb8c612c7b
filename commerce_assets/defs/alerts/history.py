"""What Dagster's history says of runs and checks since it was last read.

It is read in streams, each from where it was read to: the runs that failed, those that succeeded, and the checks that
were reported without a run. Each is a query by the ids of indexed rows, however long the history is.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import takewhile
from math import inf
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckEvaluation,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    EventLogRecord,
    RepositoryDefinition,
    RunsFilter,
)
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.event_api import EventLogCursor, EventRecordsResult
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster_shared.error import SerializableErrorInfo

from commerce_assets.defs.alerts.news import WARNING, Sighting

if TYPE_CHECKING:
    from dagster._core.storage.event_log.base import EventLogConnection

OffsetSearch = Mapping[str, str]
"""Stream to the cursor of the last record that was read."""

_STREAMS = {
    "failed": DagsterEventType.RUN_FAILURE,
    "succeeded": DagsterEventType.RUN_SUCCESS,
    "reported": DagsterEventType.ASSET_CHECK_EVALUATION,
}
_AT_A_TIME = 25
_OWN = f"{__name__.partition('.')[0]}."
_WRAPPERS = "dagster._core.errors."
# What a failed check that blocks raises: the check says more.
_CHECK_FAILED = "DagsterAssetCheckFailedError"
_OF_ANY_ASSETS = "__ASSET_JOB"
_PARTITION_TAG = "dagster/partition"
_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def latest_positions(instance: DagsterInstance) -> OffsetSearch:
    """Where the history ends now."""
    return {
        stream: _fetch(instance, event_type, None, limit=1, ascending=False).cursor
        for stream, event_type in _STREAMS.items()
    }


def read(
    instance: DagsterInstance, positions: OffsetSearch, *, repository: RepositoryDefinition, location: str | None
) -> tuple[list[Sighting], OffsetSearch]:
    """What was seen since, oldest first and not more than a few dozen runs of it, and the positions after it.

    What belongs to other code locations than `location` is passed by.
    """
    batches = {
        stream: _fetch(instance, event_type, positions[stream], limit=_AT_A_TIME, ascending=True)
        for stream, event_type in _STREAMS.items()
    }
    # Where a stream has more, the others wait for it: what came first is told first.
    until = min(
        (max(record.timestamp for record in batch.records) for batch in batches.values() if batch.has_more),
        default=inf,
    )
    records: list[EventLogRecord] = []
    reached = dict(positions)
    for stream, batch in batches.items():
        taken = list(takewhile(lambda record: record.timestamp <= until, batch.records))
        records += taken
        if taken:
            reached[stream] = EventLogCursor.from_storage_id(taken[-1].storage_id).to_string()
    records.sort(key=lambda record: record.timestamp)
    runs = _runs(instance, records, repository, location)
    graph = repository.asset_graph
    sightings: list[Sighting] = []
    for record in records:
        if record.run_id == RUNLESS_RUN_ID:
            sightings += _checks([record], graph)
        elif run := runs.get(record.run_id):
            sightings += _of_run(instance, run, record, graph)
    return sightings, reached


def _fetch(
    instance: DagsterInstance, event_type: DagsterEventType, cursor: str | None, **options: Any
) -> "EventRecordsResult | EventLogConnection":
    if event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
        return instance.get_records_for_run(RUNLESS_RUN_ID, cursor=cursor, of_type=event_type, **options)
    return instance.fetch_run_status_changes(event_type, cursor=cursor, **options)


def _runs(
    instance: DagsterInstance, records: list[EventLogRecord], repository: RepositoryDefinition, location: str | None
) -> dict[str, DagsterRun]:
    """The runs of this project by id; those that were started on the command line have no location."""
    ids = [record.run_id for record in records if record.run_id != RUNLESS_RUN_ID]
    found = instance.get_runs(filters=RunsFilter(run_ids=ids)) if ids else []
    return {
        run.run_id: run
        for run in found
        if repository.has_job(run.job_name)
        and (
            run.remote_job_origin is None
            or run.remote_job_origin.repository_origin.code_location_origin.location_name == location
        )
    }


def _of_run(instance: DagsterInstance, run: DagsterRun, end: EventLogRecord, graph: AssetGraph) -> Iterator[Sighting]:
    """The run's job, and its checks. One that failed in a failed run is told with it, and not once more."""
    of_type = {DagsterEventType.ASSET_CHECK_EVALUATION, DagsterEventType.STEP_FAILURE}
    events = instance.get_records_for_run(run.run_id, of_type=of_type).records
    checks = _checks(
        [event for event in events if event.event_type != DagsterEventType.STEP_FAILURE], graph, _partitions_of(run)
    )
    at, subject = datetime.fromtimestamp(end.timestamp, UTC), _subject_of(run)
    if end.event_type == DagsterEventType.RUN_SUCCESS:
        yield Sighting(subject=subject, at=at, run_id=run.run_id)
        yield from checks
        return
    failed = [check for check in checks if check.fault]
    errors = [error for event in events if (error := _error_of(event)) and not (failed and error[0] == _CHECK_FAILED)]
    details = [*(said for _, said in errors), *(f"{check.subject}: {check.detail}" for check in failed)]
    yield Sighting(
        subject=subject,
        at=at,
        fault=" ".join([*(name for name, _ in errors), *(check.subject for check in failed)]) or "ended",
        detail=f"failed: {'; '.join(details) or 'no step says why'}",
        run_id=run.run_id,
    )
    yield from (check for check in checks if not check.fault)


def _checks(records: list[EventLogRecord], graph: AssetGraph, partitions: str = "") -> list[Sighting]:
    """The last result of each check of this project's assets."""
    seen: dict[str, Sighting] = {}
    for record in records:
        event = record.event_log_entry.dagster_event
        evaluation = event.event_specific_data if event else None
        if not isinstance(evaluation, AssetCheckEvaluation) or evaluation.asset_check_key not in graph.asset_check_keys:
            continue
        # A check that belongs to a load looks at what was loaded, any other one at the table as it stands.
        belongs_to_load = evaluation.asset_key in graph.assets_def_for_key(evaluation.asset_check_key).keys
        subject = f"check {evaluation.check_name} on {evaluation.asset_key.to_user_string()}"
        subject += partitions if belongs_to_load else ""
        verb = "warns" if evaluation.severity.value == WARNING else "failed"
        seen[subject] = Sighting(
            subject=subject,
            at=datetime.fromtimestamp(record.timestamp, UTC),
            fault=None if evaluation.passed else evaluation.severity.value,
            detail=f"{verb}: {evaluation.description or 'it does not say why'}",
            run_id=record.run_id,
        )
    return list(seen.values())


def _subject_of(run: DagsterRun) -> str:
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    job = f"run of {', '.join(assets)}" if run.job_name == _OF_ANY_ASSETS else f"job {run.job_name}"
    return f"{job}{_partitions_of(run)}"


def _partitions_of(run: DagsterRun) -> str:
    days = [run.tags[tag] for tag in (_PARTITION_TAG, *_RANGE_TAGS) if tag in run.tags]
    return f" of {'...'.join(dict.fromkeys(days))}" if days else ""


def _error_of(event: EventLogRecord) -> tuple[str, str] | None:
    """The class of a step's error, and the error in words: its own only if it is this project's.

    What other libraries' errors say may hold anything.
    """
    dagster_event = event.event_log_entry.dagster_event
    if dagster_event is None or event.event_type != DagsterEventType.STEP_FAILURE:
        return None
    error: SerializableErrorInfo | None = dagster_event.step_failure_data.error
    while error and error.message.startswith(_WRAPPERS) and error.cause:
        error = error.cause
    if error is None:
        return "unknown", f"step {dagster_event.step_key}"
    name = error.cls_name or "unknown"
    qualified, _, said = error.message.partition(": ")
    text = said.strip().splitlines()[0] if qualified.startswith(_OWN) and said.strip() else ""
    return name, f"step {dagster_event.step_key}, {name}{f': {text}' if text else ''}"
