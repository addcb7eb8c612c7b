"""`report`: one HTML page about the shop, from the marts."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from commerce_assets.cli.command import Command, format_option
from commerce_assets.cli.console import say
from commerce_assets.cli.session import Session, database_option, pass_session, say_json
from commerce_assets.report.write import default_path, is_installed, write_report


@click.command(
    cls=Command,
    examples=[
        ("report", "data/shop-report.html, beside the database"),
        ("report -o report.html", "another file"),
    ],
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write to FILE instead of beside the database; readable by its owner only (mode 0600).",
)
@format_option
@database_option
@pass_session
def command(session: Session, *, output: Path | None, form: str) -> None:
    """Write an HTML page about the shop, to read or to send.

    It shows revenue, refunds, customers, products and subscriptions, what is unknown and what is late. It has no
    script, needs no network and contains no personal data, so it can be sent. Days are those of COMMERCE_TIMEZONE;
    amounts are per currency. The command needs the extra `report`.
    """
    if not is_installed():
        raise click.ClickException(
            "the report needs matplotlib and Jinja2. "
            f"Fix: run `{sys.executable} -m pip install 'commerce_assets[report]'`."
        )
    settings = session.settings
    path = output or default_path(settings.duckdb_path)
    with session.aside.status("reading the tables"):
        size = write_report(
            settings.database(session.log),
            path,
            endpoints=settings.configured_endpoints(),
            start=settings.orders_start_date,
            timezone=settings.timezone,
            now=datetime.now(UTC),
            looks_up=settings.refund_requests > 0,
            makes_folder=output is None,
        )
    if form == "json":
        say_json({"file": str(path), "bytes": size})
    else:
        say(f"{path}: {size / 1e3:,.0f} kB")
