"""Read what happened to runs, checks, backfills and ticks from Dagster's instance."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from commerce_assets.defs.alerts.message import WARNING, Sighting
from commerce_assets.defs.shop import UNNAMED, Shop

Cursors = dict[str, str]
"""Where each stream has been read to, and since when backfills and ticks count."""

_RUN_STREAMS = {"failed": dg.DagsterEventType.RUN_FAILURE, "succeeded": dg.DagsterEventType.RUN_SUCCESS}
_CHECK, _STEP_FAILED = dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.STEP_FAILURE
_ASSET_JOB = "__ASSET_JOB"
_NO_RUN = ""  # the run id of events that are reported without a run
_BATCH = 500
_OWN = f"{__name__.partition('.')[0]}."
_WRAPPERS = "dagster._core.errors."
_DAY_TAGS = ("dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def latest_cursors(instance: dg.DagsterInstance, now: datetime) -> Cursors:
    """Return the cursors after all that has happened."""
    return {
        **{name: instance.fetch_run_status_changes(kind, limit=1).cursor for name, kind in _RUN_STREAMS.items()},
        "reported": instance.get_records_for_run(_NO_RUN, of_type=_CHECK, limit=1, ascending=False).cursor,
        "since": now.isoformat(),
    }


def read_events(
    instance: dg.DagsterInstance,
    cursors: Cursors,
    repository: dg.RepositoryDefinition,
    location: str | None,
    shop: Shop = UNNAMED,
) -> tuple[list[Sighting], Cursors]:
    """Return what happened to the shop in this code location since, oldest first, and the cursors after it."""
    after = dict(cursors)
    sightings: list[Sighting] = []
    ends: list[dg.EventLogRecord] = []
    for name, kind in _RUN_STREAMS.items():
        changes = instance.fetch_run_status_changes(kind, cursor=cursors[name], limit=_BATCH, ascending=True)
        ends += changes.records
        after[name] = changes.cursor
    runs = instance.get_runs(dg.RunsFilter(run_ids=[end.run_id for end in ends])) if ends else []
    ours = {
        run.run_id: run
        for run in runs
        if repository.has_job(run.job_name) and _is_at(location, run) and _is_of(shop, run)
    }
    for end in ends:
        if run := ours.get(end.run_id):
            sightings += _run(instance, run, end, repository, shop)
    reported = instance.get_records_for_run(_NO_RUN, cursor=cursors["reported"], of_type=_CHECK, limit=_BATCH)
    after["reported"] = reported.cursor
    sightings += _checks(reported.records, repository, shop)
    since = max(datetime.fromisoformat(cursors["since"]), datetime.now(UTC) - timedelta(days=1))
    others = (*_backfills(instance, repository, shop), *_ticks(instance, location, shop))
    sightings += (seen for seen in others if seen.at > since)
    return sorted(sightings, key=lambda seen: seen.at), after


def _is_at(location: str | None, run: dg.DagsterRun) -> bool:
    """Whether the run belongs to a code location; runs started on the command line have none."""
    origin = run.remote_job_origin
    return origin is None or origin.repository_origin.code_location_origin.location_name == location


def _is_of(shop: Shop, run: dg.DagsterRun) -> bool:
    """Whether the run is one of a job, of assets or of checks of the shop."""
    if run.job_name != _ASSET_JOB:
        return shop.has_name(run.job_name)
    keys = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
    return not keys or any(map(shop.has_key, keys))


def _run(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    end: dg.EventLogRecord,
    repository: dg.RepositoryDefinition,
    shop: Shop,
) -> Iterator[Sighting]:
    """Yield the run and its checks. A check that failed in a failed run is part of the run's line."""
    events = instance.get_records_for_run(run.run_id, of_type={_CHECK, _STEP_FAILED}).records
    checks = _checks(events, repository, shop, days := _days(run))
    assets = ", ".join(sorted(key.to_user_string() for key in run.asset_selection or ()))
    subject = (f"run of {assets}" if run.job_name == _ASSET_JOB else f"job {run.job_name}") + days
    at = datetime.fromtimestamp(end.timestamp, UTC)
    if end.event_type == dg.DagsterEventType.RUN_SUCCESS:
        yield Sighting(subject=subject, at=at, run_id=run.run_id)
        yield from checks
        return
    failed = [check for check in checks if check.fault not in {None, WARNING}]
    steps = [step for event in events if (step := event.event_log_entry.dagster_event) and step.is_step_failure]
    errors = [_step_error(step) for step in steps if not _ended_by_check(step, failed)]
    if failed or errors:
        said = [*(text for _, text in errors), *(f"{check.subject} {check.detail}" for check in failed)]
        detail = ("failed " if errors else "failed: ") + "; ".join(said)
    else:
        detail = "failed: no step has an error, so its process was killed or never started. Fix: launch it again"
    yield Sighting(
        subject=subject,
        at=at,
        fault=" ".join([*(name for name, _ in errors), *(check.subject for check in failed)]) or "ended",
        detail=detail,
        run_id=run.run_id,
    )
    yield from (check for check in checks if check not in failed)


def _ended_by_check(step: dg.DagsterEvent, failed: Sequence[Sighting]) -> bool:
    """Whether a failed check has ended the step, and says the same."""
    data = step.step_failure_data
    known = data.user_failure_data
    if known and known.description:
        return any(known.description in check.detail for check in failed)
    return data.error is not None and data.error.cls_name == "DagsterAssetCheckFailedError"


def _days(run: dg.DagsterRun) -> str:
    days = dict.fromkeys(run.tags[tag] for tag in _DAY_TAGS if tag in run.tags)
    return f" of {'...'.join(days)}" if days else ""


def _checks(
    records: Sequence[dg.EventLogRecord], repository: dg.RepositoryDefinition, shop: Shop, days: str = ""
) -> list[Sighting]:
    """Return the last result of each check of the shop's assets."""
    graph, seen = repository.asset_graph, dict[str, Sighting]()
    for record in records:
        event = record.event_log_entry.dagster_event
        evaluation = event.event_specific_data if event else None
        if (
            not isinstance(evaluation, dg.AssetCheckEvaluation)
            or evaluation.asset_check_key not in graph.asset_check_keys
            or not shop.has_key(evaluation.asset_key)
        ):
            continue
        # A check in the asset's own step looks at the partitions of the run, any other check at the whole table.
        in_step = evaluation.asset_key in graph.assets_def_for_key(evaluation.asset_check_key).keys
        subject = f"check {evaluation.check_name} on {evaluation.asset_key.to_user_string()}{days if in_step else ''}"
        verb = "warns" if evaluation.severity.value == WARNING else "failed"
        seen[subject] = Sighting(
            subject=subject,
            at=datetime.fromtimestamp(record.timestamp, UTC),
            fault=None if evaluation.passed else evaluation.severity.value,
            detail=f"{verb}: {evaluation.description or 'no description'}",
            run_id=record.run_id,
        )
    return list(seen.values())


def _backfills(instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, shop: Shop) -> Iterator[Sighting]:
    """Yield the last backfills that failed themselves; a failed run of a backfill has its own sighting."""
    known = {key for key in repository.asset_graph.get_all_asset_keys() if shop.has_key(key)}
    for backfill in instance.get_backfills(limit=25):
        selected = set(backfill.asset_selection or ())
        # A backfill of a job, which any code location may have started, selects no assets.
        if backfill.status.value == "FAILED" and selected and known >= selected:
            at = datetime.fromtimestamp(backfill.backfill_end_timestamp or backfill.backfill_timestamp, UTC)
            name, text = _error(backfill.error)
            assets = ", ".join(sorted(key.to_user_string() for key in selected))
            yield Sighting(
                subject=f"backfill {backfill.backfill_id} of {assets}",
                at=at,
                fault=name,
                detail=f"failed {text.rstrip('.')}. It starts no more runs. Fix: launch it again",
            )


def _ticks(instance: dg.DagsterInstance, location: str | None, shop: Shop) -> Iterator[Sighting]:
    """Yield the last tick of each schedule and sensor of the shop that runs."""
    for state in instance.all_instigator_state() if instance.schedule_storage else ():
        is_here = state.origin.repository_origin.code_location_origin.location_name == location
        if not state.is_running or not is_here or not shop.has_name(state.name):
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=2)
        for tick in [tick for tick in ticks if tick.is_completed][:1]:
            subject = f"{state.instigator_type.value.lower()} {state.name}"
            name, text = _error(tick.error) if tick.is_failure else (None, "")
            yield Sighting(
                subject=subject,
                at=datetime.fromtimestamp(tick.timestamp, UTC),
                fault=name,
                detail=f"failed {text.rstrip('.')}. It started no run. Fix: see Automation, {state.name}, in the UI",
            )


def _step_error(step: dg.DagsterEvent) -> tuple[str, str]:
    """Return the error of a step; a known error is a `Failure` whose metadata name it, see `defs.failures`."""
    data = step.step_failure_data
    known = data.user_failure_data
    if known and "error" in known.metadata:
        name = str(known.metadata["error"].value)
        return name, f"with {name}: {known.description}"
    return _error(data.error, f" in step {step.step_key}")


def _error(error: Any, where: str = "") -> tuple[str, str]:
    """Return the error's class, and what comes after "failed"; it quotes the message only of this project's errors.

    Messages of other libraries may hold personal data or secrets.
    """
    while error and error.message.startswith(_WRAPPERS) and error.cause:
        error = error.cause
    if error is None:
        return "unknown", f"without an error{where}"
    name = error.cls_name or "unknown"
    qualified, _, said = error.message.partition(": ")
    text = said.strip().splitlines()[0] if qualified.startswith(_OWN) and said.strip() else ""
    return name, f"with {name}: {text}" if text else f"with an unexpected {name}{where}"
