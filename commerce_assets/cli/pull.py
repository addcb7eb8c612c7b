"""`pull`: an endpoint into the database, through the functions that its asset goes through."""

from datetime import UTC, date, datetime, timedelta

import click

from commerce_assets.api.errors import PullError, TransientApiError
from commerce_assets.api.request import ListRequest
from commerce_assets.cli.bar import PullBar
from commerce_assets.cli.command import Command
from commerce_assets.cli.console import say
from commerce_assets.cli.exits import NOT_SO, OK
from commerce_assets.cli.session import ENDPOINT_ARGUMENT, Session, endpoint_argument, pass_session
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import StagedLoad, extraction, load_staged
from commerce_assets.settings import configured
from commerce_assets.warehouse.check_queries import Scope, blocking_queries, questions
from commerce_assets.warehouse.file import WarehouseError
from commerce_assets.window import Window


def _day(ctx: click.Context, param: click.Parameter, value: str | None) -> date | None:
    try:
        return date.fromisoformat(value) if value else None
    except ValueError:
        raise click.BadParameter(f"{value!r} is no day: write it as YYYY-MM-DD", ctx, param) from None


@click.command(
    cls=Command,
    arguments=ENDPOINT_ARGUMENT,
    examples=[
        ("pull products", "the whole list"),
        ("pull orders --from 2024-01-01 --to 2024-01-31", "the orders of a month"),
        ("pull orders --from 2024-01-01", "up to yesterday"),
    ],
)
@endpoint_argument
@click.option("--from", "first", callback=_day, metavar="DAY", help="The first day (UTC), for orders: YYYY-MM-DD.")
@click.option(
    "--to", "last", callback=_day, metavar="DAY", help="The last day, included; yesterday (UTC) unless given."
)
@click.option(
    "--allow-shrinkage",
    is_flag=True,
    help="Load although the store now gives less than half of the rows that are stored: it is true.",
)
@pass_session
def command(
    session: Session,
    endpoint: Endpoint,
    *,
    first: date | None,
    last: date | None,
    allow_shrinkage: bool,
) -> int:
    """Pull ENDPOINT into the database, as its asset does.

    It goes the same way as in Dagster: the same staging, load, checks and history, so that the two can take turns, and
    one goes on with what the other has left unfinished. Dagster's catalog lists only what Dagster itself has run.

    Ctrl-C ends it at any time: what has been pulled is kept for twelve hours, and the same command goes on from there.

    Exit status 1 if it fails, or if a check fails that stops what is downstream.
    """
    (endpoint,) = configured(session.settings, [endpoint])
    pull = ListRequest(endpoint=endpoint, window=_window(session, endpoint, first, last))
    bar = PullBar(session, pull)
    try:
        with (
            session.client() as client,
            bar,
            extraction(pull, client, session, session.log, watcher=bar) as pulled,
        ):
            pulled.allow_shrinkage = allow_shrinkage
            if pulled.is_allowed:
                bar.loading()
                with session.database(session.log).write() as connection:
                    load_staged(connection, pulled)
            pulled.staged.discard()
    except (KeyboardInterrupt, PullError, WarehouseError) as error:
        if bar.pages and _keeps_pages(error):
            click.echo(f"{pull}: what has been pulled is kept; the same command goes on from there", err=True)
        raise
    if not pulled.is_allowed:
        raise click.ClickException(
            f"{pull}: the store gives {pulled.comparison.pulled:,} rows where {pulled.comparison.stored:,} are stored; "
            "nothing was loaded. What to do: look at the store; if it is true, say --allow-shrinkage."
        )
    return _tell(session, pulled)


def _keeps_pages(error: BaseException) -> bool:
    """Whether the next run can go on with what is staged; not where the list itself has made no sense."""
    return not isinstance(error, PullError) or isinstance(error.error, TransientApiError) or bool(error.error.status)


def _window(session: Session, endpoint: Endpoint, first: date | None, last: date | None) -> Window | None:
    """The days that are meant, all of which are partitions in Dagster."""
    if not endpoint.is_partitioned:
        if first or last:
            raise click.UsageError(f"the list of {endpoint.name} is always read whole: leave out --from and --to")
        return None
    if first is None:
        raise click.UsageError(f"which days of {endpoint.name}? Say --from 2024-01-01, and --to if not up to yesterday")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    for day in filter(None, (first, last)):
        _refuse_unless(day <= yesterday, f"{day} is not over yet: the last day that is, in UTC, is {yesterday}")
    last = last or yesterday
    _refuse_unless(first <= last, f"--from {first} is later than --to {last}")
    start = session.settings.orders_start
    _refuse_unless(start <= first, f"{first} is before COMMERCE_ORDERS_START_DATE, which is {start}")
    return Window.of_days(first, last)


def _refuse_unless(holds: bool, message: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise click.UsageError(message)


def _tell(session: Session, pulled: StagedLoad) -> int:
    """What was loaded, what it took, and what the checks say of it."""
    pull, cost = pulled.staged.pull, pulled.cost
    say(f"{pull}: {pulled.result}")
    say(f"requests: {cost.requests:,}, retries: {cost.retries:,}, {cost.bytes:,} bytes, {cost.seconds:,.1f} s")
    scope = Scope(pull.endpoint, pull.window, pulled.staged.manifest.began_at)
    with session.database(session.log).read() as connection:
        findings = {question: question(connection, scope) for question in questions(pull.endpoint)}
    failed = {question: finding for question, finding in findings.items() if not finding.passed}
    say(f"{len(findings) - len(failed)} of {len(findings)} checks passed")
    for question, finding in failed.items():
        say(f"check failed: {question.__name__}: {finding.summary}")
    return NOT_SO if failed.keys() & {*blocking_queries(pull.endpoint)} else OK
