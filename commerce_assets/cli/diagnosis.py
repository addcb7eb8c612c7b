"""What `check` finds out, row by row: of the settings, of where the data goes, and of the store itself."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from commerce_assets.api.client import CommerceClient
from commerce_assets.api.decoding import Page, PageDecoder
from commerce_assets.api.errors import PullError
from commerce_assets.api.request import ListRequest
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.stage import FILTER_TOLERANCE, honours_updated_after
from commerce_assets.settings import DEFAULT_DATABASE, SettingError, checked_base_url, checked_secret, path_setting
from commerce_assets.warehouse.file import DatabaseFile, DatabaseLockedError, WarehouseError
from commerce_assets.window import Window

_SENDOWL = "for SendOwl it is https://www.sendowl.com/api/v1/"
# Beyond this, "yesterday" and a certificate's dates begin to mean different things here and there.
_CLOCK_TOLERANCE = timedelta(minutes=2)


class Verdict(StrEnum):
    OK = "ok"
    LOOK = "look"
    """It works, but is not as it should be."""
    WRONG = "wrong"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Row:
    """What was looked at, how it is, what was seen, and what to do about it."""

    subject: str
    verdict: Verdict
    finding: str
    hint: str = ""


def settings_rows(environment: Mapping[str, str], *, has_dotenv: bool) -> Iterator[Row]:
    """The address and the credentials, as far as they can be judged without asking the store."""
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
                variable, Verdict.WRONG, finding.removeprefix(f"{variable} "), f"{hint[:1].upper()}{hint[1:-1]}{where}"
            )
            continue
        if checked[0] == checked[-1] and checked[0] in "'\"":
            yield Row(variable, Verdict.WRONG, "is in quotes, which are taken for a part of it", "Take the quotes out.")
        elif name == "SECRET" and checked == values["KEY"].strip():
            yield Row(variable, Verdict.WRONG, "is the same as COMMERCE_API_KEY", "Copy the secret, not the key again.")
        else:
            yield Row(variable, Verdict.OK, "is set")


def _base_url_row(variable: str, url: str) -> Row:
    parts = urlsplit(url)
    if (parts.hostname or "").endswith("sendowl.com") and parts.path != "/api/v1/":
        return Row(variable, Verdict.LOOK, f"has another path than SendOwl's: {parts.path}", f"Note: {_SENDOWL}")
    return Row(variable, Verdict.OK, f"is {parts.scheme}://{parts.netloc}{parts.path}")


def database_row(database: DatabaseFile) -> Row:
    """Whether a load could begin now; a file that is not there yet is not made."""
    will_be_made = Row("database", Verdict.OK, f"{database.path} will be made by the first pull")
    if database.path.parent == DEFAULT_DATABASE.parent and not database.path.parent.exists():
        return will_be_made
    try:
        database.prepare()
        if not database.path.exists():
            return will_be_made
        database.check()
    except DatabaseLockedError as error:
        return Row(
            "database",
            Verdict.LOOK,
            f"{database.path} is held by {error.holder}",
            "Open it read-only there: a load would wait for it, at most COMMERCE_DUCKDB_LOCK_TIMEOUT.",
        )
    except WarehouseError as error:
        finding, _, hint = str(error).partition(" Fix: ")
        return Row("database", Verdict.WRONG, finding.rstrip("."), f"{hint[:1].upper()}{hint[1:]}")
    return Row("database", Verdict.OK, f"{database.path} can be written to")


def staging_row(directory: Path) -> Row:
    """Whether pages can be staged: in the folder, or in the one that it will be made in."""
    nearest = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return Row("staging", Verdict.OK, f"pages wait in {directory} until they are loaded")
    return Row(
        "staging",
        Verdict.WRONG,
        f"{directory} cannot be written to",
        "Point COMMERCE_STAGING_DIR to a folder that can be written to.",
    )


class StoreCheck:
    """Asks the store, as rarely as the answers allow: once an endpoint, and once for each filter."""

    def __init__(self, client: CommerceClient, endpoints: Sequence[Endpoint]) -> None:
        self._client = client
        self._endpoints = endpoints
        self._stopped_by: PullError | None = None
        self.statuses: dict[str, int | None] = {}
        """Endpoint to the HTTP status of its first answer; None where there was none, or one of no use."""

    @property
    def was_refused_at_once(self) -> bool:
        """The very first answer was that the credentials are wrong."""
        return list(self.statuses.values()) == [HTTPStatus.UNAUTHORIZED]

    def rows(self) -> Iterator[Row]:
        """A row for each endpoint and filter, and one for the clock."""
        for endpoint in self._endpoints:
            if self._stopped_by:
                yield Row(endpoint.name, Verdict.NOT_ASKED, "the answer would be the same")
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
        return Row(subject, Verdict.WRONG, error.error.reason, error.error.hint)

    def _answered(self, endpoint: Endpoint, page: Page) -> Row:
        count = len(page.items)
        finding = f"answers with {count} {endpoint.name if count != 1 else endpoint.item_name}"
        if endpoint.name != "orders":
            return Row(endpoint.name, Verdict.OK, finding)
        # Version 1 of the orders list has no `refunded`: a refund is a state there.
        url = urlsplit(self._client.url_of(endpoint.name, endpoint.path))
        fields = {name for item in page.items for name in msgspec.json.decode(item.raw, type=dict[str, msgspec.Raw])}
        is_old = "refunded" not in fields if page.items else url.path.endswith("/v1/orders")
        if is_old:
            return Row(
                endpoint.name,
                Verdict.WRONG,
                f"{url.path} is the old version of the list, in which a refund is a state and `refunded` is missing",
                f"Set {path_setting(endpoint)}=../v1_3/orders",
            )
        return Row(endpoint.name, Verdict.OK, finding)

    def _filter_rows(self, endpoint: Endpoint, page: Page) -> Iterator[Row]:
        """Whether the filters are heeded: each asks for what the first page certainly does not hold."""
        cursors = [item.cursor for item in page.items if item.cursor]
        updates = [item.updated_at for item in page.items if item.updated_at]
        by_day, by_change = f"{endpoint.name} by day", f"{endpoint.name} by change"
        if not cursors or not updates:
            yield Row(by_day, Verdict.NOT_ASKED, "there is nothing to tell it by")
            return
        window = _window_after(min(cursors).date())
        yield self._filter_row(by_day, ListRequest(endpoint=endpoint, window=window))
        if endpoint.update_filter:
            # So late that rows of the first page are too old even for a store that reads the day alone.
            since = max(updates) + FILTER_TOLERANCE + timedelta(seconds=1)
            yield self._filter_row(by_change, ListRequest(endpoint=endpoint, updated_after=since))

    def _filter_row(self, subject: str, pull: ListRequest) -> Row:
        if self._stopped_by:
            return Row(subject, Verdict.NOT_ASKED, "the answer would be the same")
        names = " and ".join(f"`{name}`" for name in pull.params)
        try:
            page = self._page(pull)
        except PullError as error:
            return self._failed(subject, error)
        if all(_was_asked_for(pull, item.cursor, item.updated_at) for item in page.items):
            return Row(subject, Verdict.OK, f"{names} heeded")
        return Row(
            subject,
            Verdict.LOOK,
            f"{names} not heeded: the answer holds rows that were not asked for",
            "Nothing is stored wrongly, but each pull reads far more pages than it needs; look at the path, "
            "and at what lies between here and the store.",
        )


def _window_after(day: date) -> Window:
    """A day so much later that its padded window, in whatever zone, does not hold `day`."""
    later = day + timedelta(days=3)
    return Window.of_days(later, later)


def _was_asked_for(pull: ListRequest, created_at: datetime | None, updated_at: datetime | None) -> bool:
    if pull.updated_after:
        return honours_updated_after(pull, updated_at)
    if pull.window is None or created_at is None:
        return True
    # A day more than is asked for, for the zones in which the store's days may lie.
    first, last = (datetime.combine(day, time(0), pull.window.start.tzinfo) for day in pull.window.padded_days)
    return first - timedelta(days=1) <= created_at < last + timedelta(days=2)


def _clock_row(ahead: timedelta) -> Row:
    if abs(ahead) <= _CLOCK_TOLERANCE:
        return Row("clock", Verdict.OK, "agrees with the store's")
    minutes = abs(ahead) // timedelta(minutes=1)
    direction = "behind" if ahead > timedelta(0) else "ahead of"
    return Row(
        "clock",
        Verdict.LOOK,
        f"this machine's clock is {minutes:,} minutes {direction} the store's",
        "Set it by a time server: which day is over is decided by it.",
    )


def with_conclusions(rows: Sequence[Row], statuses: Mapping[str, int | None]) -> list[Row]:
    """The rows with what only all endpoints together can tell: whose fault a 404 is."""
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
        concluded.append(Row(row.subject, row.verdict, row.finding, hint))
    return concluded
