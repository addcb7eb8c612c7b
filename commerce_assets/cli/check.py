"""`check`: test the settings with one request per endpoint, and say what is wrong."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from commerce_assets.api.client import CommerceClient
from commerce_assets.api.decoding import Page, PageDecoder
from commerce_assets.api.errors import PullError
from commerce_assets.api.request import ListRequest
from commerce_assets.cli.command import Command, format_option
from commerce_assets.cli.console import build_table, printable, show
from commerce_assets.cli.exits import NOT_SO, OK
from commerce_assets.cli.session import Session, database_option, pass_session, say_json
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.ingest.stage import FILTER_TOLERANCE, honours_updated_after
from commerce_assets.settings import DATA_FOLDER, SettingError, checked_base_url, checked_secret, path_setting
from commerce_assets.warehouse.database import Database, DatabaseLockedError, WarehouseError
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.window import Window

_SENDOWL = "for SendOwl it is https://www.sendowl.com/api/v1/"
# Beyond this, "yesterday" and a certificate's dates begin to mean different things here and there.
_CLOCK_TOLERANCE = timedelta(minutes=2)
_LOCK_WAIT_SECONDS = 0.5
_SILENT = logging.getLogger(__name__)
_SILENT.disabled = True


class Status(StrEnum):
    OK = "ok"
    LOOK = "look"
    """It works, but not as it should."""
    WRONG = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: the subject, its status, the finding and the fix."""

    subject: str
    status: Status
    finding: str
    hint: str = ""


_STYLES = {Status.OK: "green", Status.LOOK: "yellow", Status.WRONG: "bold red", Status.SKIPPED: "dim"}


@click.command(
    cls=Command,
    examples=[("check", "a row for each setting and endpoint"), ("check | grep -v ^ok", "only what is not right")],
)
@format_option
@database_option
@pass_session
def command(session: Session, *, form: str) -> int:
    """Test the settings with one request per endpoint.

    Each row has a status: "ok"; "look", where it works, but not as it should; "wrong", with its fix; "skipped", where
    an earlier answer decides. At the default rate it takes about six seconds. Where the store refuses the credentials,
    one more request with key and secret exchanged shows whether they are.

    Exit status 1 if anything is wrong.
    """
    rows = [*settings_rows(session.environment, has_dotenv=(session.env_file or Path(".env")).exists())]
    may_ask = all(row.status != Status.WRONG for row in rows)
    # The row names the holder, so the wait needs no log line.
    rows.append(database_row(replace(session.settings.database(_SILENT), lock_timeout=_LOCK_WAIT_SECONDS)))
    rows.append(staging_row(session.settings.staging_dir))
    rows += _ask(session) if may_ask else [Row("store", Status.SKIPPED, "needs the settings above")]
    if form == "json":
        say_json([asdict(row) for row in rows])
    else:
        show(session.out, _table(session.out, rows))
    return NOT_SO if any(row.status == Status.WRONG for row in rows) else OK


def _table(console: Console, rows: Sequence[Row]) -> Table:
    """One row each; on a terminal, the fix is below the finding, where there is room for it."""
    cells: list[list[str | Text]] = []
    for row in rows:
        status, finding = Text(row.status, style=_STYLES[row.status]), Text(printable(row.finding))
        if not console.is_terminal:
            cells.append([status, row.subject, finding, row.hint])
            continue
        if row.hint:
            finding.append(f"\n-> {printable(row.hint)}", style="bold")
        cells.append([status, row.subject, finding])
    headings = ["status", "what", "finding", "fix"]
    return build_table(console, headings if not console.is_terminal else headings[:3], cells)


def _ask(session: Session) -> list[Row]:
    with session.settings.build_client(session.log) as client, session.aside.status("") as status:
        check = StoreCheck(client, ENDPOINTS)
        rows = []
        status.update("asking the store")
        for row in check.rows():
            rows.append(row)
            status.update(f"asking the store: {row.subject} done")
        if check.was_refused_at_once and _are_swapped(session):
            first = rows[0]
            rows[0] = Row(
                first.subject,
                first.status,
                f"{first.finding}: key and secret are in each other's place",
                "Exchange COMMERCE_API_KEY and COMMERCE_API_SECRET.",
            )
        return with_conclusions(rows, check.statuses)


def _are_swapped(session: Session) -> bool:
    settings = session.settings
    swapped = settings.model_copy(update={"api_key": settings.api_secret, "api_secret": settings.api_key})
    with swapped.build_client(session.log) as client:
        try:
            client.page(ListRequest(endpoint=ENDPOINTS[0]), PageDecoder(ENDPOINTS[0]), 1, once=True)
        except PullError:
            return False
        return True


def settings_rows(environment: Mapping[str, str], *, has_dotenv: bool) -> Iterator[Row]:
    """Check the URL and the credentials without a request."""
    values = {name: environment.get(f"COMMERCE_API_{name}", "") for name in ("BASE_URL", "KEY", "SECRET")}
    for name, value in values.items():
        variable = f"COMMERCE_API_{name}"
        try:
            if name == "BASE_URL":
                yield _base_url_row(variable, checked_base_url(value))
                continue
            checked = checked_secret(variable, value)
        except SettingError as error:
            finding, _, hint = str(error).partition(". Fix: ")
            where = "" if has_dotenv or value.strip() else " (there is no .env in this folder)"
            yield Row(
                variable, Status.WRONG, finding.removeprefix(f"{variable} "), f"{hint[:1].upper()}{hint[1:-1]}{where}"
            )
            continue
        if checked[0] == checked[-1] and checked[0] in "'\"":
            yield Row(variable, Status.WRONG, "is in quotes, which are part of the value", "Take the quotes out.")
        elif name == "SECRET" and checked == values["KEY"].strip():
            yield Row(variable, Status.WRONG, "is the same as COMMERCE_API_KEY", "Copy the secret, not the key again.")
        else:
            yield Row(variable, Status.OK, "is set")


def _base_url_row(variable: str, url: str) -> Row:
    parts = urlsplit(url)
    if (parts.hostname or "").endswith("sendowl.com") and parts.path != "/api/v1/":
        return Row(variable, Status.LOOK, f"has another path than SendOwl's: {parts.path}", f"Note: {_SENDOWL}")
    return Row(variable, Status.OK, f"is {parts.scheme}://{parts.netloc}{parts.path}")


def database_row(database: Database) -> Row:
    """Check that a load could start now; create nothing."""
    will_be_made = Row("database", Status.OK, f"{database} will be created by the first pull")
    if isinstance(database, DatabaseFile) and database.path.parent == DATA_FOLDER and not DATA_FOLDER.exists():
        return will_be_made
    try:
        database.prepare()
        if not database.exists():
            return will_be_made
        database.check()
    except DatabaseLockedError as error:
        return Row(
            "database",
            Status.LOOK,
            f"{database} is held by {error.holder}",
            "Open it read-only there: a load would wait for it, at most COMMERCE_DUCKDB_LOCK_TIMEOUT.",
        )
    except WarehouseError as error:
        finding, _, hint = str(error).partition(" Fix: ")
        return Row("database", Status.WRONG, finding.rstrip("."), f"{hint[:1].upper()}{hint[1:]}")
    return Row("database", Status.OK, f"{database} can be written to")


def staging_row(directory: Path) -> Row:
    """Check that pages can be staged in the folder, or in the one that it will be created in."""
    nearest = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return Row("staging", Status.OK, f"pages are staged in {directory}")
    return Row(
        "staging",
        Status.WRONG,
        f"{directory} cannot be written to",
        "Point COMMERCE_STAGING_DIR to a folder that can be written to.",
    )


class StoreCheck:
    """Requests one page per endpoint, and one per filter, as long as the answers allow it."""

    def __init__(self, client: CommerceClient, endpoints: Sequence[Endpoint]) -> None:
        self._client = client
        self._endpoints = endpoints
        self._stopped_by: PullError | None = None
        self.statuses: dict[str, int | None] = {}
        """The HTTP status of each endpoint's first answer; None without a usable one."""

    @property
    def was_refused_at_once(self) -> bool:
        """Whether the first answer refused the credentials."""
        return list(self.statuses.values()) == [HTTPStatus.UNAUTHORIZED]

    def rows(self) -> Iterator[Row]:
        """Yield a row for each endpoint and filter, and one for the clock."""
        for endpoint in self._endpoints:
            if self._stopped_by:
                yield Row(endpoint.name, Status.SKIPPED, "would get the same answer")
                continue
            pull = ListRequest(endpoint=endpoint)
            try:
                page = self._page(pull)
            except PullError as error:
                self.statuses[endpoint.name] = error.error.status
                yield self._failed(endpoint.name, error)
                continue
            self.statuses[endpoint.name] = HTTPStatus.OK
            yield self._answered(endpoint, page)
            if endpoint.is_partitioned:
                yield from self._filter_rows(endpoint, page)
        if HTTPStatus.OK in self.statuses.values():
            yield _clock_row(timedelta(seconds=self._client.store_clock))

    def _page(self, pull: ListRequest) -> Page:
        try:
            return self._client.page(pull, PageDecoder(pull.endpoint), 1, once=True)
        except PullError as error:
            if error.error.is_general:
                self._stopped_by = error
            raise

    def _failed(self, subject: str, error: PullError) -> Row:
        return Row(subject, Status.WRONG, error.error.reason, error.error.hint)

    def _answered(self, endpoint: Endpoint, page: Page) -> Row:
        count = len(page.items)
        finding = f"answers with {count} {endpoint.name if count != 1 else endpoint.item_name}"
        if endpoint.name != "orders":
            return Row(endpoint.name, Status.OK, finding)
        # Version 1 of the orders list has no `refunded`: a refund is a state there.
        url = urlsplit(self._client.url_of(endpoint.name, endpoint.path))
        fields = {name for item in page.items for name in msgspec.json.decode(item.raw, type=dict[str, msgspec.Raw])}
        is_old = "refunded" not in fields if page.items else url.path.endswith("/v1/orders")
        if is_old:
            return Row(
                endpoint.name,
                Status.WRONG,
                f"{url.path} is the old version of the list, in which a refund is a state and `refunded` is missing",
                f"Set {path_setting(endpoint)}=../v1_3/orders",
            )
        return Row(endpoint.name, Status.OK, finding)

    def _filter_rows(self, endpoint: Endpoint, page: Page) -> Iterator[Row]:
        """Test the filters: each requests rows that the first page cannot contain."""
        cursors = [item.cursor for item in page.items if item.cursor]
        updates = [item.updated_at for item in page.items if item.updated_at]
        by_day, by_change = f"{endpoint.name} by day", f"{endpoint.name} by change"
        if not cursors or not updates:
            yield Row(by_day, Status.SKIPPED, "needs an order in the account")
            return
        window = _window_after(min(cursors).date())
        yield self._filter_row(by_day, ListRequest(endpoint=endpoint, window=window))
        if endpoint.update_filter:
            # So late that rows of the first page are too old even for a store that reads the day alone.
            since = max(updates) + FILTER_TOLERANCE + timedelta(seconds=1)
            yield self._filter_row(by_change, ListRequest(endpoint=endpoint, updated_after=since))

    def _filter_row(self, subject: str, pull: ListRequest) -> Row:
        if self._stopped_by:
            return Row(subject, Status.SKIPPED, "would get the same answer")
        names = " and ".join(f"`{name}`" for name in pull.params)
        try:
            page = self._page(pull)
        except PullError as error:
            return self._failed(subject, error)
        if all(_was_asked_for(pull, item.cursor, item.updated_at) for item in page.items):
            return Row(subject, Status.OK, f"{names} supported")
        return Row(
            subject,
            Status.LOOK,
            f"{names} not supported: the answer holds other rows too",
            "What is stored is right, but each pull reads far more pages than it needs: check the path, "
            "and proxies between here and the store.",
        )


def _window_after(day: date) -> Window:
    """A day so much later that its padded window, in any zone, does not contain `day`."""
    later = day + timedelta(days=3)
    return Window.of_days(later, later)


def _was_asked_for(pull: ListRequest, created_at: datetime | None, updated_at: datetime | None) -> bool:
    if pull.updated_after:
        return honours_updated_after(pull, updated_at)
    if pull.window is None or created_at is None:
        return True
    # A day more than is asked for, for the zones in which the store's days may lie.
    days = pull.window.days_to_request(day_before=pull.day_before)
    first, last = (datetime.combine(day, time(0), pull.window.start.tzinfo) for day in days)
    return first - timedelta(days=1) <= created_at < last + timedelta(days=2)


def _clock_row(ahead: timedelta) -> Row:
    if abs(ahead) <= _CLOCK_TOLERANCE:
        return Row("clock", Status.OK, "agrees with the store's")
    minutes = abs(ahead) // timedelta(minutes=1)
    direction = "behind" if ahead > timedelta(0) else "ahead of"
    return Row(
        "clock",
        Status.LOOK,
        f"this machine's clock is {minutes:,} minutes {direction} the store's",
        "Set it by a time server: which day is over is decided by it.",
    )


def with_conclusions(rows: Sequence[Row], statuses: Mapping[str, int | None]) -> list[Row]:
    """Add to each 404 the setting that causes it, which only all answers together show."""
    found = HTTPStatus.OK in statuses.values()
    missing = {name for name, status in statuses.items() if status == HTTPStatus.NOT_FOUND}
    concluded = []
    for row in rows:
        hint = row.hint
        if row.subject in missing:
            path = f"COMMERCE_API_{row.subject.upper()}_PATH"
            if not found:
                hint = f"No list is there, so it is COMMERCE_API_BASE_URL: {_SENDOWL}"
            elif len(missing) == 1:
                hint = f"The other lists are there, so it is this path alone: look at {path}."
            else:
                hint = f"Not all lists are missing: look at the version in COMMERCE_API_BASE_URL, then at {path}."
        concluded.append(Row(row.subject, row.status, row.finding, hint))
    return concluded
