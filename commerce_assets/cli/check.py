"""`check`: are the settings right? One request an endpoint, and a row for whatever can be wrong."""

import logging
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.errors import PullError
from commerce_assets.api.request import ListRequest
from commerce_assets.cli.command import Command
from commerce_assets.cli.console import build_table, printable, show
from commerce_assets.cli.diagnosis import (
    Row,
    StoreCheck,
    Verdict,
    database_row,
    settings_rows,
    staging_row,
    with_conclusions,
)
from commerce_assets.cli.exits import NOT_SO, OK
from commerce_assets.cli.session import Session, database_option, pass_session
from commerce_assets.endpoints import ENDPOINTS

_LOCK_WAIT_SECONDS = 0.5
_SILENT = logging.getLogger(__name__)
_SILENT.disabled = True
_STYLES = {Verdict.OK: "green", Verdict.LOOK: "yellow", Verdict.WRONG: "bold red", Verdict.NOT_ASKED: "dim"}


@click.command(
    cls=Command,
    examples=[("check", "a row for each setting and endpoint"), ("check | grep -v ^ok", "only what is not right")],
)
@database_option
@pass_session
def command(session: Session) -> int:
    """Ask each endpoint once, and say what is wrong with the settings.

    Each row has a verdict: "ok"; "look" where it works, but not as it should; "wrong", with what to do; "not asked"
    where an earlier answer has said it all. At the pace that is set, it takes about six seconds. Where the store
    refuses the credentials, it is asked once more with key and secret exchanged, to tell whether they are.

    Exit status 1 if anything is wrong.
    """
    rows = [*settings_rows(session.environment, has_dotenv=Path(".env").exists())]
    may_ask = all(row.verdict != Verdict.WRONG for row in rows)
    # The row tells who holds it; that it is waited for half a second is not worth a line.
    rows.append(database_row(session.database(_SILENT, lock_timeout=_LOCK_WAIT_SECONDS)))
    rows.append(staging_row(session.settings.staging_dir))
    rows += _ask(session) if may_ask else [Row("store", Verdict.NOT_ASKED, "the settings above are needed for it")]
    show(session.out, _table(session.out, rows))
    return NOT_SO if any(row.verdict == Verdict.WRONG for row in rows) else OK


def _table(console: Console, rows: Sequence[Row]) -> Table:
    """A row each; on a terminal, what to do stands below the finding, where there is room for it."""
    cells: list[list[str | Text]] = []
    for row in rows:
        verdict, finding = Text(row.verdict, style=_STYLES[row.verdict]), Text(printable(row.finding))
        if not console.is_terminal:
            cells.append([verdict, row.subject, finding, row.hint])
            continue
        if row.hint:
            finding.append(f"\n-> {printable(row.hint)}", style="bold")
        cells.append([verdict, row.subject, finding])
    headings = ["verdict", "what", "finding", "what to do"]
    return build_table(console, headings if not console.is_terminal else headings[:3], cells)


def _ask(session: Session) -> list[Row]:
    with session.client() as client, session.aside.status("") as status:
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
                first.verdict,
                f"{first.finding}: key and secret are in each other's place",
                "Exchange COMMERCE_API_KEY and COMMERCE_API_SECRET.",
            )
        return with_conclusions(rows, check.statuses)


def _are_swapped(session: Session) -> bool:
    with session.client(swapped=True) as client:
        try:
            client.page(ListRequest(endpoint=ENDPOINTS[0]), PageDecoder(ENDPOINTS[0]), 1, once=True)
        except PullError:
            return False
        return True
