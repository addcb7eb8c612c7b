"""`backup`: copy the DuckDB file and Dagster's history while runs go on."""

from pathlib import Path

import click

from commerce_assets.cli.command import Command, format_option
from commerce_assets.cli.console import say
from commerce_assets.cli.session import Session, database_option, pass_session, say_json
from commerce_assets.ops.backup import back_up


@click.command(
    cls=Command,
    arguments={"FOLDER": "where the backups are kept; created if missing"},
    examples=[("backup backups", "backups/2026-01-31T042500Z, and the 13 backups before it")],
)
@click.argument("folder", metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--keep", type=click.IntRange(min=1), default=14, show_default=True, help="Backups to keep; older ones are removed."
)
@click.option(
    "--history/--no-history", default=True, show_default=True, help="Back up Dagster's history too, not only the file."
)
@format_option
@database_option
@pass_session
def command(session: Session, folder: Path, *, keep: int, history: bool, form: str) -> None:
    """Back up the DuckDB file and Dagster's history while runs go on.

    Each backup is a folder in FOLDER, named after its time (UTC), complete or absent. Dagster's history is in
    data/dagster or, with COMMERCE_POSTGRES_URL, in that database, which pg_dump copies.
    """
    settings = session.settings
    target = back_up(
        settings.database(session.log),
        folder,
        keep=keep,
        postgres_url=settings.postgres_url.get_secret_value() if settings.postgres_url else "",
        history=history,
    )
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    if form == "json":
        say_json({"folder": str(target), "bytes": size})
    else:
        say(f"{target}: {size / 1e6:.1f} MB")
