"""`preview`: one page of an endpoint as the API returns it; nothing is stored."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import click
import msgspec
from rich.cells import cell_len

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.request import ListRequest
from commerce_assets.cli.command import Command, format_option
from commerce_assets.cli.console import build_table, show_wide
from commerce_assets.cli.session import ENDPOINT_ARGUMENT, Session, endpoint_argument, pass_session, say_json
from commerce_assets.endpoint import Column, ColumnType, Endpoint

_MASK = "***"
_LONGEST_CELL = 40
_GAP = 2


@click.command(
    cls=Command,
    arguments=ENDPOINT_ARGUMENT,
    examples=[
        ("preview products", "the first ten of the list"),
        ("preview orders --rows 50", "the newest fifty, as far as the store sorts them"),
        ("preview orders --columns id,state,cart", "some columns, nested ones too"),
    ],
)
@endpoint_argument
@click.option("--rows", type=click.IntRange(min=1), default=10, show_default=True, help="Rows to request.")
@click.option("--columns", metavar="NAME,...", help="The columns to show; unless given, those that hold something.")
@click.option(
    "--show-personal-data", is_flag=True, help="Show buyers' data and secret links, which are masked otherwise."
)
@format_option
@pass_session
def command(
    session: Session, endpoint: Endpoint, *, rows: int, columns: str | None, show_personal_data: bool, form: str
) -> None:
    """Show one page of ENDPOINT as the API returns it; nothing is stored.

    Values are shown before they are cast to the types of the table. One request is made, without retries.
    """
    # A list with a cursor is oldest first by default.
    request = ListRequest(endpoint=endpoint, newest_first=endpoint.is_partitioned)
    per_page = min(rows, endpoint.paginator.limit)
    with (
        session.settings.build_client(session.log, per_page=per_page) as client,
        session.aside.status("requesting a page"),
    ):
        page = client.page(request, PageDecoder(endpoint), 1, once=True)
    items = [msgspec.json.decode(item.raw, type=dict[str, Any]) for item in page.items[:rows]]
    shown = _named(endpoint, columns) if columns else _filled(endpoint, items)
    if form == "json":
        chosen = shown if columns else endpoint.columns
        say_json([{c.name: _masked(c, item, show_all=show_personal_data) for c in chosen} for item in items])
        return
    if not items:
        click.echo(f"the list of {endpoint.name} is empty")
        return
    filled = len(shown)
    cells = [[_cell(column, item, show_all=show_personal_data) for column in shown] for item in items]
    if not columns:
        shown = shown[: _fitting([[column.name for column in shown], *cells], session.out.width)]
    show_wide(
        session.out, build_table(session.out, [column.name for column in shown], [row[: len(shown)] for row in cells])
    )
    if filled > len(shown):
        click.echo(f"{filled - len(shown)} more columns hold something: --columns NAME,... shows them", err=True)
    declared = {column.name for column in endpoint.columns}
    if undeclared := sorted({name for item in items for name in item} - declared):
        click.echo(f"not declared, kept in _extra: {', '.join(map(repr, undeclared))}", err=True)


def _named(endpoint: Endpoint, names: str) -> list[Column]:
    by_name = {column.name: column for column in endpoint.columns}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in by_name]:
        raise click.UsageError(f"{endpoint.name} has no column {unknown[0]}; it has {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def _filled(endpoint: Endpoint, items: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns with a value in some row, without nested ones: key and cursor first, masked ones last."""
    filled = [
        column
        for column in endpoint.columns
        if column.type != ColumnType.JSON and any(item.get(column.name) not in (None, "", []) for item in items)
    ]
    first = (endpoint.primary_key, endpoint.cursor)
    return sorted(filled, key=lambda column: (column.name not in first, column.sensitivity is not None))


def _fitting(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns, from the left, fit beside each other."""
    widths = [max(map(cell_len, column)) + _GAP for column in zip(*rows, strict=True)]
    return max(bisect_right(list(accumulate(widths)), width), 1)


def _masked(column: Column, item: Mapping[str, Any], *, show_all: bool) -> Any:
    value = item.get(column.name)
    return value if value is None or show_all or not column.sensitivity else _MASK


def _cell(column: Column, item: Mapping[str, Any], *, show_all: bool) -> str:
    value = _masked(column, item, show_all=show_all)
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 3]}..."
