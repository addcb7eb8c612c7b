"""`pull`, `refresh`, `reconcile` and `build`: the project's jobs, in process, on the project's Dagster instance.

The UI lists these runs and their materializations, and automation follows them, as if they had been launched there.
"""

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from commerce_assets.cli.bar import ExtractionBar
from commerce_assets.cli.command import Command, format_option, with_commands
from commerce_assets.cli.console import say
from commerce_assets.cli.exits import NOT_SO, OK, exit_status
from commerce_assets.cli.session import ENDPOINT_ARGUMENT, Session, endpoint_argument, pass_session, say_json
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.ingest.ingest import WATCHER
from commerce_assets.settings import load_dotenv
from commerce_assets.wording import counted

if TYPE_CHECKING:
    import dagster as dg

_KEPT = "interrupted; extracted pages are kept for 12 hours, and the same command resumes after them"
# Dagster would redirect stderr, and with it the progress bar, to a file.
_NO_CAPTURE = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}
# Errors name what the launchpad of the UI offers.
_RUN_CONFIG = re.compile(r"the run config (\w+): true")
_ROWS = ("dagster/row_count", "dagster/partition_row_count")
_CHANGES = ("rows_inserted", "rows_updated", "rows_unchanged", "rows_removed")
_RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
Days = tuple[date, date]


def _day(ctx: click.Context, param: click.Parameter, value: str | None) -> date | None:
    try:
        return date.fromisoformat(value) if value else None
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a date: write it as YYYY-MM-DD", ctx, param) from None


_from_option = click.option(
    "--from",
    "first",
    callback=_day,
    metavar="DAY",
    help="First day (UTC), YYYY-MM-DD. Default: COMMERCE_ORDERS_START_DATE.",
)
_to_option = click.option("--to", "last", callback=_day, metavar="DAY", help="Last day (UTC). Default: yesterday.")


@click.command(
    cls=Command,
    arguments=ENDPOINT_ARGUMENT,
    examples=[
        ("pull products", "the whole list"),
        ("pull orders --from 2024-01-01 --to 2024-01-31", "the orders of a month"),
        ("pull orders", "from COMMERCE_ORDERS_START_DATE up to yesterday: the first load"),
    ],
)
@endpoint_argument
@_from_option
@_to_option
@click.option("--allow-shrinkage", is_flag=True, help="Load although stored rows are missing from the store's answer.")
@click.option("--store-moved", is_flag=True, help="Load although the stored rows came from another address or key.")
@format_option
@pass_session
def pull(
    session: Session,
    endpoint: Endpoint,
    *,
    first: date | None,
    last: date | None,
    allow_shrinkage: bool,
    store_moved: bool,
    form: str,
) -> int:
    """Extract ENDPOINT from the store and load it, as a run of its asset.

    The same run as from the UI: same staging, load, checks and history. Ctrl-C ends it at any time; extracted pages
    are kept for 12 hours, and the same command resumes after them.

    Exit status 1 if the run fails, 2 if a setting or the key is wrong.
    """
    if not endpoint.is_partitioned and (first or last):
        raise click.UsageError(f"{endpoint.name} has no partitions: leave out --from and --to")
    from commerce_assets.defs.assets import op_name  # noqa: PLC0415 - imports Dagster

    days = _days(session, first, last) if endpoint.is_partitioned else None
    config = {"allow_shrinkage": allow_shrinkage, "store_moved": store_moved}
    _check_settings(session)
    with _project(session) as project:
        return project.run(
            [endpoint.name if endpoint.is_partitioned else "catalog"],
            form=form,
            days=days,
            config={op_name(endpoint, project.shop): config},
            assets=[endpoint.name],
        )


@click.command(
    cls=Command,
    examples=[("refresh", "orders that were refunded, renewed or edited since the last refresh, and today's")],
)
@format_option
@pass_session
def refresh(session: Session, *, form: str) -> int:
    """Upsert the rows changed since the last refresh, across all partitions.

    Exit status 1 if a run fails, 2 if a setting or the key is wrong.
    """
    _check_settings(session)
    with _project(session) as project:
        return project.run([f"{endpoint.name}_refresh" for endpoint in ENDPOINTS if endpoint.update_filter], form=form)


@click.command(
    cls=Command,
    examples=[
        ("reconcile", "compare the row count of every loaded day with the store, and repair the days that differ"),
        ("reconcile --no-repair", "compare only"),
    ],
)
@click.option("--requests", type=click.IntRange(min=4), help="Maximum number of requests of the comparison.")
@click.option("--repair/--no-repair", default=True, show_default=True, help="Extract the days again that differ.")
@format_option
@pass_session
def reconcile(session: Session, *, requests: int | None, repair: bool, form: str) -> int:
    """Compare the row count of every day with the store, and repair.

    Exit status 1 if the run fails or days still differ, 2 if a setting or the key is wrong.
    """
    config = {"repair": repair, **({"requests": requests} if requests else {})}
    partitioned = [endpoint.name for endpoint in ENDPOINTS if endpoint.is_partitioned]
    _check_settings(session)
    with _project(session) as project:
        return project.run(
            ["reconcile"],
            form=form,
            config={project.shop.named(f"reconcile_{name}"): config for name in partitioned},
            needs_checks=frozenset({"complete"}),
        )


@click.command(
    cls=Command,
    examples=[("build", "every mart"), ("build --from 2024-01-01 --to 2024-01-31", "order_items of these days only")],
)
@_from_option
@_to_option
@format_option
@pass_session
def build(session: Session, *, first: date | None, last: date | None, form: str) -> int:
    """Build the marts from the stored tables, without a request.

    Exit status 1 if the run fails.
    """
    days = _days(session, first, last)
    with _project(session) as project:
        return project.run(["analytics"], form=form, days=days)


def _days(session: Session, first: date | None, last: date | None) -> Days:
    """Return the range of partitions.

    Raises:
        UsageError: A day is not a partition, or the first is later than the last.
    """
    start, yesterday = session.settings.orders_start_date, datetime.now(UTC).date() - timedelta(days=1)
    first, last = first or start, last or yesterday
    for option, day in (("--from", first), ("--to", last)):
        if not start <= day <= yesterday:
            raise click.UsageError(
                f"{option} {day} is not a partition: the first is {start} (COMMERCE_ORDERS_START_DATE), "
                f"the last is yesterday, {yesterday} (UTC)"
            )
    if first > last:
        raise click.UsageError(f"--from {first} is later than --to {last}")
    return first, last


def _check_settings(session: Session) -> None:
    """Report a missing credential or key at once, and not as a failed run.

    Raises:
        SettingError: The URL, a credential or the key of the hash is missing or cannot be used.
    """
    session.settings.keyed_policy()
    with session.settings.build_client(session.log):
        pass


class _Project:
    """The definitions, and the instance that records their runs."""

    def __init__(self, session: Session, definitions: "dg.Definitions", instance: "dg.DagsterInstance") -> None:
        from commerce_assets.defs.shop import Shop  # noqa: PLC0415 - imports Dagster

        self.shop = Shop.of(session.settings)
        self._session = session
        self._definitions = definitions
        self._instance = instance

    def run(
        self,
        jobs: Sequence[str],
        *,
        form: str,
        days: Days | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        assets: Sequence[str] = (),
        needs_checks: frozenset[str] = frozenset(),
    ) -> int:
        """Run jobs one after the other and report them.

        Args:
            jobs: Their names, without the shop's.
            form: `json` prints a list with an object per run instead of lines.
            days: The range of partitions.
            config: The configuration of each op by its name.
            assets: The assets to materialize; all of the job unless given.
            needs_checks: The checks whose failure counts as one of the run.

        Returns:
            The exit status.
        """
        reports, status = [], OK
        for job in map(self.shop.named, jobs):
            result = self._execute(job, days=days, config=config or {}, assets=assets)
            report, run_status = _report(job, result, needs_checks, self.shop.name)
            for check in report["checks"]:
                check["description"] = self._session.typed(check["description"])
            report["errors"] = [self._session.typed(error) for error in report["errors"]]
            reports.append(report)
            status = max(status, run_status)
            if form == "text":
                _say(report)
            for error in report["errors"]:
                click.echo(f"commerce-assets: {error}", err=True)
        if form == "json":
            say_json(reports)
        return status

    def _execute(
        self, job: str, *, days: Days | None, config: Mapping[str, Mapping[str, Any]], assets: Sequence[str]
    ) -> "dg.ExecuteInProcessResult":
        import dagster as dg  # noqa: PLC0415 - commands that only read do not wait for Dagster's import

        from commerce_assets.defs.executor import holder_tags  # noqa: PLC0415 - as above

        coordination = self._session.settings.coordination
        run_id = str(uuid4())
        tags = holder_tags(coordination) | (dict(zip(_RANGE_TAGS, map(str, days), strict=True)) if days else {})
        bar = ExtractionBar(self._session.aside, self._session.handler)
        watching = WATCHER.set(bar)
        try:
            try:
                bar.start()
                # `execute_in_process` replaces the definitions' executor, which would hold the run.
                with coordination.hold_run(run_id):
                    result = self._definitions.resolve_job_def(job).execute_in_process(
                        instance=self._instance,
                        run_id=run_id,
                        tags=tags,
                        run_config={
                            # Dagster uses only the loggers that a run configures.
                            "loggers": {"console": {"config": {}}},
                            "ops": {name: {"config": dict(values)} for name, values in config.items()},
                        },
                        asset_selection=[*map(self.shop.key, assets)] if assets else None,
                        raise_on_error=False,
                    )
            finally:
                # Not a `with`: an interrupt within `start` would leave the cursor hidden.
                bar.stop()
            if _was_interrupted(result):
                raise KeyboardInterrupt  # noqa: TRY301 - Dagster reports an interrupt as a failed step
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            if bar.rows:
                click.echo(_KEPT, err=True)
            raise KeyboardInterrupt from None
        finally:
            WATCHER.reset(watching)
        return result


def _was_interrupted(result: "dg.ExecuteInProcessResult") -> bool:
    errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return any(error and error.cls_name == "DagsterExecutionInterruptedError" for error in errors)


def _report(
    job: str, result: "dg.ExecuteInProcessResult", needs_checks: frozenset[str], shop: str
) -> tuple[dict[str, Any], int]:
    """Return what a run did, as JSON, and its exit status."""
    status = OK if result.success else NOT_SO
    # A run that repairs evaluates a check more than once; the last time counts.
    evaluations = {(each.asset_key, each.check_name): each for each in result.get_asset_check_evaluations()}
    checks = [
        {
            "asset": check.asset_key.to_user_string(),
            "check": check.check_name,
            "passed": check.passed,
            "severity": check.severity.value,
            "description": with_commands(check.description or "", check.asset_key.path[-1], shop=shop),
        }
        for check in evaluations.values()
    ]
    if any(not check["passed"] and check["check"] in needs_checks for check in checks):
        status = max(status, NOT_SO)
    errors = []
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        known = event.step_failure_data.user_failure_data
        if known:
            metadata = {name: value.value for name, value in known.metadata.items()}
            said = _RUN_CONFIG.sub(lambda name: f"--{name[1].replace('_', '-')}", str(known.description))
            errors.append(with_commands(said, shop=shop))
            status = max(status, exit_status(str(metadata.get("error")), metadata.get("http_status")))
        # A blocking check fails its step with an error of Dagster's own; the check's line says more.
        elif (error := event.step_failure_data.error) and error.cls_name != "DagsterAssetCheckFailedError":
            errors.append(
                f"{event.step_key} stopped with an unexpected {error.cls_name}. "
                f"Fix: look at run {result.run_id} in the UI."
            )
    if not result.success and not errors and all(check["passed"] for check in checks):
        errors.append(f"the job {job} failed. Fix: look at run {result.run_id} in the UI.")
    report = {
        "job": job,
        "run_id": result.run_id,
        "success": result.success,
        "materialized": _materialized(result),
        "on_other_days": _on_other_days(result),
        "checks": checks,
        "errors": errors,
    }
    return report, status


def _materialized(result: "dg.ExecuteInProcessResult") -> list[dict[str, Any]]:
    """Add up what each asset's materializations, one per partition, report about its rows; or name its file."""
    assets: dict[str, dict[str, Any]] = {}
    # A refresh may report a partition twice, with what the list and what the lookups have changed; its rows count once.
    rows: dict[str, dict[str | None, Any]] = {}
    for event in result.all_events:
        if not event.is_step_materialization:
            continue
        materialization = event.step_materialization_data.materialization
        name = materialization.asset_key.to_user_string()
        asset = assets.setdefault(name, {"asset": name, "partitions": 0, "rows": 0})
        counted = rows.setdefault(name, {})
        counted.setdefault(materialization.partition, 0)
        for key, value in materialization.metadata.items():
            if key == _ROWS[materialization.partition is not None]:
                counted[materialization.partition] = value.value
            elif key == "path":
                asset["file"] = value.value
            # A mart counts written rows, not inserted and updated ones.
            elif key in _CHANGES and _CHANGES[0] in materialization.metadata:
                asset[key] = asset.get(key, 0) + value.value
        asset["partitions"] = len(counted.keys() - {None})
        asset["rows"] = sum(counted.values())
    return [*assets.values()]


def _on_other_days(result: "dg.ExecuteInProcessResult") -> list[dict[str, Any]]:
    """Return the changes of days that are not complete partitions, and so are in no materialization."""
    observations = [
        event.asset_observation_data.asset_observation for event in result.all_events if event.is_asset_observation
    ]
    found = [
        {
            "asset": observation.asset_key.to_user_string(),
            **{name: observation.metadata[name].value for name in _CHANGES if name in observation.metadata},
        }
        for observation in observations
    ]
    return [each for each in found if any(each.get(name) for name in _CHANGES if name != "rows_unchanged")]


def _say(report: Mapping[str, Any]) -> None:
    for asset in report["materialized"]:
        if "file" in asset:
            say(f"{asset['asset']}: {asset['file']}")
            continue
        partitions = f" in {counted(asset['partitions'], 'partition')}" if asset["partitions"] else ""
        changes = _changes(asset)
        say(f"{asset['asset']}: {counted(asset['rows'], 'row')}{partitions}{f' ({changes})' if changes else ''}")
    for asset in report["on_other_days"]:
        say(f"{asset['asset']}: {_changes(asset)} on days that are not complete partitions, such as today")
    checks = report["checks"]
    if report["success"] and not report["materialized"] and not report["on_other_days"] and not checks:
        say(f"{report['job']}: nothing to change")
    if checks:
        say(f"{sum(check['passed'] for check in checks)} of {len(checks)} checks passed")
    for check in checks:
        if not check["passed"]:
            verb = "warns" if check["severity"] == "WARN" else "failed"
            say(f"check {verb}: {check['asset']}: {check['check']}: {check['description']}")


def _changes(asset: Mapping[str, Any]) -> str:
    return ", ".join(f"{asset[name]:,} {name.removeprefix('rows_')}" for name in _CHANGES if name in asset)


@contextmanager
def _project(session: Session) -> Iterator[_Project]:
    """Open the definitions on the instance of DAGSTER_HOME or, without it, of this folder's dagster.yaml."""
    with _dotenv_in_environment(session), warnings.catch_warnings():
        # Dagster's notices about its own beta interfaces are for the developers of this package.
        warnings.simplefilter("ignore")
        import dagster as dg  # noqa: PLC0415

        # The public `DagsterInstance.get` and `from_config` take no overrides.
        from dagster._core.instance.ref import InstanceRef  # noqa: PLC0415

        from commerce_assets.composition import build_definitions  # noqa: PLC0415

        definitions = build_definitions(session.settings, loggers={"console": _console_logger(session)})
        home = Path(os.environ.get("DAGSTER_HOME") or ".").absolute()
        if (home / "dagster.yaml").exists() or os.environ.get("DAGSTER_HOME"):
            instance = dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_NO_CAPTURE))
        else:
            click.echo("no dagster.yaml in this folder and no DAGSTER_HOME: no UI will list this run", err=True)
            instance = dg.DagsterInstance.ephemeral()
        with instance:
            yield _Project(session, definitions, instance)


@contextmanager
def _dotenv_in_environment(session: Session) -> Iterator[None]:
    """Set the variables of `.env`, or of the file in its place: Dagster resolves `EnvVar` only in the environment."""
    values = load_dotenv(session.env_file)
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _console_logger(session: Session) -> "dg.LoggerDefinition":
    """Build the logger of a run: the code's own lines in the command line's form, without Dagster's events."""
    import dagster as dg  # noqa: PLC0415

    def is_shown(record: logging.LogRecord) -> bool:
        meta = getattr(record, "dagster_meta", None) or {}
        # Dagster logs its events and, as errors, failed and skipped steps. The package logs no errors.
        if meta.get("dagster_event") is not None or not logging.INFO <= record.levelno < logging.ERROR:
            return False
        record.msg, record.args = meta.get("orig_message", record.msg), ()
        return True

    @dg.logger
    def console(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.getLogger("commerce_assets.cli.run")
        logger.propagate = False
        logger.handlers = [session.handler]
        logger.filters = [is_shown]
        return logger

    return console
