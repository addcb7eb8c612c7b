"""`pull`, `refresh`, `reconcile` and `build`: the project's jobs, in process, on the project's Dagster instance.

The UI lists these runs and what they materialized, and automation follows them, as if they had been launched there.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commerce_assets.cli.bar import ExtractionBar
from commerce_assets.cli.command import Command
from commerce_assets.cli.console import say
from commerce_assets.cli.exits import NOT_SO, OK, USAGE
from commerce_assets.cli.session import ENDPOINT_ARGUMENT, Session, endpoint_argument, pass_session
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.ingest.ingest import WATCHER

if TYPE_CHECKING:
    import dagster as dg

_KEPT = "interrupted; extracted pages are kept for 12 hours, and the same command resumes after them"


def _day(ctx: click.Context, param: click.Parameter, value: str | None) -> date | None:
    try:
        return date.fromisoformat(value) if value else None
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a date: write it as YYYY-MM-DD", ctx, param) from None


_from_option = click.option("--from", "first", callback=_day, metavar="DAY", help="First day (UTC): YYYY-MM-DD.")
_to_option = click.option(
    "--to", "last", callback=_day, metavar="DAY", help="Last day, included; yesterday (UTC) unless given."
)


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
@pass_session
def pull(
    session: Session,
    endpoint: Endpoint,
    *,
    first: date | None,
    last: date | None,
    allow_shrinkage: bool,
    store_moved: bool,
) -> int:
    """Materialize the asset ENDPOINT: extract it from the store and load it.

    The same run as from the UI: same staging, load, checks and history. Ctrl-C ends it at any time; extracted pages
    are kept for 12 hours, and the same command resumes after them.

    Exit status 1 if the run fails.
    """
    from commerce_assets.defs.assets import op_name  # noqa: PLC0415 - imports Dagster

    days = _days(session, first, last) if endpoint.is_partitioned else None
    if days is None and (first or last):
        raise click.UsageError(f"{endpoint.name} has no partitions: leave out --from and --to")
    config = {"allow_shrinkage": allow_shrinkage, "store_moved": store_moved}
    with _project(session) as project:
        job = endpoint.name if endpoint.is_partitioned else "catalog"
        return project.run(job, days=days, config={op_name(endpoint): config}, assets=[endpoint.name])


@click.command(
    cls=Command,
    examples=[("refresh", "orders that were refunded, renewed or edited since the last refresh, and today's")],
)
@pass_session
def refresh(session: Session) -> int:
    """Upsert the rows that have changed since the last refresh, across all partitions.

    Exit status 1 if a run fails.
    """
    with _project(session) as project:
        jobs = [f"{endpoint.name}_refresh" for endpoint in ENDPOINTS if endpoint.update_filter]
        return max(project.run(job) for job in jobs)


@click.command(
    cls=Command,
    examples=[
        ("reconcile", "compare the row count of every loaded day with the store, and repair the days that differ"),
        ("reconcile --no-repair", "compare only"),
    ],
)
@click.option("--requests", type=click.IntRange(min=4), help="Requests that the comparison may make.")
@click.option("--repair/--no-repair", default=True, show_default=True, help="Extract the days again that differ.")
@pass_session
def reconcile(session: Session, *, requests: int | None, repair: bool) -> int:
    """Compare the row count of every loaded day with the store, and repair the days that differ.

    Exit status 1 if the run fails, or if days still differ.
    """
    config = {"repair": repair, **({"requests": requests} if requests else {})}
    partitioned = [endpoint.name for endpoint in ENDPOINTS if endpoint.is_partitioned]
    with _project(session) as project:
        return project.run("reconcile", config={f"reconcile_{name}": config for name in partitioned}, strict=True)


@click.command(
    cls=Command,
    examples=[("build", "every mart"), ("build --from 2024-01-01 --to 2024-01-31", "order_items of these days only")],
)
@_from_option
@_to_option
@pass_session
def build(session: Session, *, first: date | None, last: date | None) -> int:
    """Build the marts from the stored tables; no request is made.

    Exit status 1 if the run fails.
    """
    with _project(session) as project:
        return project.run("analytics", days=_days(session, first, last))


def _days(session: Session, first: date | None, last: date | None) -> tuple[date, date]:
    """The range of partitions that is meant."""
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


class _Project:
    """The definitions, and the instance that its runs are recorded on."""

    def __init__(self, session: Session, definitions: "dg.Definitions", instance: "dg.DagsterInstance") -> None:
        self._session = session
        self._definitions = definitions
        self._instance = instance

    def run(
        self,
        job: str,
        *,
        days: tuple[date, date] | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        assets: list[str] | None = None,
        strict: bool = False,
    ) -> int:
        """Run a job and say what it did; returns the exit status. With `strict`, a warning of a check counts."""
        import dagster as dg  # noqa: PLC0415 - a command that only reads does not wait for Dagster's import

        first, last = days or (None, None)
        tags = (
            {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}
            if days
            else {}
        )
        bar = ExtractionBar(self._session.aside, self._session.handler)
        watching = WATCHER.set(bar)
        try:
            with bar:
                result = self._definitions.resolve_job_def(job).execute_in_process(
                    instance=self._instance,
                    tags=tags,
                    run_config={"ops": {name: {"config": dict(values)} for name, values in (config or {}).items()}},
                    asset_selection=[dg.AssetKey(name) for name in assets] if assets else None,
                    raise_on_error=False,
                )
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            if bar.rows:
                click.echo(_KEPT, err=True)
            raise KeyboardInterrupt from None
        finally:
            WATCHER.reset(watching)
        return self._report(result, strict=strict)

    def _report(self, result: "dg.ExecuteInProcessResult", *, strict: bool) -> int:
        status = OK
        checks = result.get_asset_check_evaluations()
        failed = [check for check in checks if not check.passed]
        if checks:
            say(f"{len(checks) - len(failed)} of {len(checks)} checks passed")
        for check in failed:
            say(f"check failed: {check.asset_key.to_user_string()}: {check.check_name}: {check.description}")
        for event in result.all_events:
            if not event.is_step_failure:
                continue
            known = event.step_failure_data.user_failure_data
            if known:
                click.echo(f"commerce-assets: {known.description}", err=True)
                status = max(status, USAGE if _is_setting_error(known.metadata) else NOT_SO)
            elif not failed:
                error = event.step_failure_data.error
                name = error.cls_name if error and error.cls_name else "error"
                click.echo(
                    f"commerce-assets: {event.step_key}: unexpected {name}. "
                    f"Fix: look at run {result.run_id} in the UI.",
                    err=True,
                )
        if strict and failed:
            status = max(status, NOT_SO)
        return status if result.success else max(status, NOT_SO)


def _is_setting_error(metadata: Mapping[str, Any]) -> bool:
    error = metadata.get("error")
    return error is not None and error.value == "SettingError"


@contextmanager
def _project(session: Session) -> Iterator[_Project]:
    """The project's definitions on its instance: that of DAGSTER_HOME, or of the dagster.yaml in this folder."""
    import dagster as dg  # noqa: PLC0415

    from commerce_assets.definitions import build_definitions  # noqa: PLC0415

    os.environ.update(session.environment)
    definitions = build_definitions(environment=session.environment, loggers={"console": _console_logger(session)})
    if not os.environ.get("DAGSTER_HOME") and Path("dagster.yaml").exists():
        os.environ["DAGSTER_HOME"] = str(Path.cwd())
    if os.environ.get("DAGSTER_HOME"):
        with dg.DagsterInstance.get() as instance:
            yield _Project(session, definitions, instance)
        return
    click.echo("no dagster.yaml in this folder and no DAGSTER_HOME: the run is not recorded in a UI", err=True)
    with dg.DagsterInstance.ephemeral() as instance:
        yield _Project(session, definitions, instance)


def _console_logger(session: Session) -> "dg.LoggerDefinition":
    """A run's log lines, without Dagster's events, in the form of the command line's."""
    import dagster as dg  # noqa: PLC0415

    class Lines(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            meta = getattr(record, "dagster_meta", None) or {}
            if meta.get("dagster_event") is not None or record.levelno < logging.INFO:
                return False
            record.msg, record.args = meta.get("orig_message", record.msg), ()
            return True

    @dg.logger
    def console(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.getLogger("commerce_assets.cli.run")
        logger.propagate = False
        logger.handlers = [session.handler]
        logger.filters = [Lines()]
        return logger

    return console
