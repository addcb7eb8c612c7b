"""Generate the data dictionary: every table and column, from the endpoint table and the models."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import duckdb
from dagster import AssetCheckSpec

from commerce_assets.analytics import checks as model_checks
from commerce_assets.analytics.tables import MODELS, Model, ModelColumn
from commerce_assets.analytics.tables import SCHEMA as ANALYTICS
from commerce_assets.defs import checks
from commerce_assets.endpoint import Column, Endpoint, Sensitivity, WriteDisposition
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse.ddl import create_internal_tables, describe
from commerce_assets.warehouse.row_history import VALID_FROM, VALID_TO, history_of
from commerce_assets.warehouse.sql import INTERNAL_SCHEMA, SCHEMA

_SQL = "../commerce_assets/analytics/sql"
_INTRODUCTION = """\
# Data dictionary

Written by `make docs` from [the endpoint table](../commerce_assets/endpoints.py) and
[the models](../commerce_assets/analytics/tables.py); a test keeps it current.

Days and months of the schema `analytics` are in `COMMERCE_TIMEZONE`, UTC unless set; partitions are UTC days. A sale is
an order that [sale.sql](../commerce_assets/analytics/sql/shared/sale.sql) counts as one. A column may be NULL unless
its description says otherwise. Sensitivity:

| sensitivity | meaning |
|---|---|
| personal | a buyer's name, address, email, IP address or answers; `COMMERCE_PERSONAL_DATA` decides what is stored |
| capability | a URL that grants access to a buyer's downloads; not stored unless `COMMERCE_CAPABILITY_URLS=keep` |
| undeclared | may contain anything; stored in part unless `COMMERCE_PERSONAL_DATA` is `keep` |
| private | the merchant's own data; stored unchanged, masked in the UI's previews |

See [Personal data](personal-data.md). A failed blocking check stops downstream assets; the others warn.
"""
_OWN_INTRODUCTION = f"""\
## Schema `{INTERNAL_SCHEMA}`

Internal tables, written in the same transactions as the rows.
"""


class _OwnTable(NamedTuple):
    row: str
    columns: dict[str, str]


_OWN = {
    "loads": _OwnTable(
        "One row per load.",
        {
            "pull_id": "Id of the extraction, which is loaded once.",
            "endpoint": "The endpoint.",
            "window_start": "Start of the window; NULL for a list of changes or a full list.",
            "window_end": "End of the window, exclusive.",
            "began_at": "When its first page was requested, by this machine's clock.",
            "began_at_store": "The same by the store's clock.",
            "loaded_at": "When its rows were stored.",
            "rows_loaded": "Loaded rows, one per key.",
            "store": "The API's origin, and a hash of its key that identifies the account.",
        },
    ),
    "high_water_marks": _OwnTable(
        "One row per endpoint with a refresh.",
        {
            "endpoint": "The endpoint.",
            "changed_up_to": "Every change before this instant, by the store's clock, is stored.",
        },
    ),
    "notes": _OwnTable(
        "One row per endpoint and kind: the latest note.",
        {
            "endpoint": "The endpoint.",
            "kind": "reconciliation: the last comparison; update_filter: whether the API honours updated_after.",
            "noted_at": "When it was written.",
            "value": "Counts, days and flags.",
        },
    ),
    "maskings": _OwnTable(
        "One row per column that the policy for personal data governs.",
        {
            "endpoint": "The endpoint.",
            "column_name": "The column.",
            "masking": "keep, hash or drop, as applied to the stored rows.",
            "key_id": "Hash that identifies the key without revealing it.",
        },
    ),
}


_WRITES = {
    WriteDisposition.REPLACE_WINDOW: "a load of a window replaces the rows of its days; a refresh upserts changed rows",
    WriteDisposition.FULL_REFRESH: "every load compares the full list; rows deleted upstream are soft-deleted "
    "(`_deleted_at`)",
}


def data_dictionary() -> str:
    """Return the page, in Markdown."""
    return "\n".join(
        [
            _INTRODUCTION,
            _contents(),
            f"## Schema `{SCHEMA}`\n",
            *(part for endpoint in ENDPOINTS for part in _of_endpoint(endpoint)),
            f"## Schema `{ANALYTICS}`\n",
            *(part for model in MODELS for part in _of_model(model)),
            _OWN_INTRODUCTION,
            *_of_own_tables(),
        ]
    )


def _contents() -> str:
    tables = {f"{SCHEMA}.{endpoint.name}": endpoint.description for endpoint in ENDPOINTS}
    tables |= {f"{ANALYTICS}.{model.name}": model.description for model in MODELS}
    return _rows(
        ("table", ""),
        ((f"[`{name}`](#{_anchor(name)})", _first_clause(description)) for name, description in tables.items()),
    )


def _of_endpoint(endpoint: Endpoint) -> Iterator[str]:
    wrapped = f", items under `{endpoint.data_selector}`" if endpoint.data_selector else ""
    facts = {
        "asset": f"`{endpoint.name}`, from the list `{endpoint.path}`{wrapped}",
        "primary key": f"`{endpoint.primary_key}`, never NULL",
        "partitions": f"the UTC day of `{endpoint.cursor}`, never NULL" if endpoint.cursor else "none",
        "write disposition": f"`{endpoint.write_disposition}`: {_WRITES[endpoint.write_disposition]}",
    }
    specs = [*checks.build_check_specs(endpoint=endpoint), *checks.build_health_check_specs(endpoint=endpoint)]
    yield from _table(f"{SCHEMA}.{endpoint.name}", endpoint.description, facts, endpoint.stored_columns, specs)
    if endpoint.update_filter:
        yield f"### `{SCHEMA}.{history_of(endpoint)}`\n"
        yield f"One row per version of a row of `{endpoint.name}`, if `COMMERCE_ORDER_HISTORY=true`: its columns, and\n"
        yield _columns((VALID_FROM, VALID_TO))


def _of_model(model: Model) -> Iterator[str]:
    facts = {
        "asset": f"`{model.name}`, from {_listed(model.deps)} by [{model.name}.sql]({_SQL}/{model.name}.sql)",
        "key": _listed(model.key),
        "partitions": f"the UTC day of `{model.cursor}`" if model.cursor else "none: every build replaces the table",
        **({"built": "only with `COMMERCE_ORDER_HISTORY=true`"} if model.needs_history else {}),
    }
    specs = model_checks.build_check_specs(model=model)
    yield from _table(f"{ANALYTICS}.{model.name}", model.description, facts, model.columns, specs)


def _of_own_tables() -> Iterator[str]:
    with duckdb.connect() as connection:
        create_internal_tables(connection)
        for name, own in _OWN.items():
            stored = describe(connection, name, schema=INTERNAL_SCHEMA)
            yield f"### `{INTERNAL_SCHEMA}.{name}`\n\n{own.row}\n"
            columns = [ModelColumn(name=c.name, type=c.type, description=own.columns[c.name]) for c in stored]
            yield _columns(columns)


def _table(
    name: str,
    description: str,
    facts: dict[str, str],
    columns: Sequence[Column | ModelColumn],
    specs: Iterable[AssetCheckSpec],
) -> Iterator[str]:
    yield f"### `{name}`\n\n{_escaped(description)}\n"
    yield _rows(("", ""), ((what, fact) for what, fact in facts.items()))
    yield _columns(columns)
    yield _rows(
        ("check", "", "passes if"),
        ((f"`{s.name}`", "blocks" if s.blocking else "", _sentence(s.description or "")) for s in specs),
    )


def _columns(columns: Sequence[Column | ModelColumn]) -> str:
    headings = ["column", "type", "description"]
    if any(column.sensitivity for column in columns):
        headings.append("sensitivity")
    rows = ((f"`{c.name}`", c.type, _escaped(c.description), _word(c.sensitivity)) for c in columns)
    return _rows(headings, (row[: len(headings)] for row in rows))


def _rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    return "\n".join([f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *lines, ""])


def _anchor(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    return "".join(character for character in heading if character.isalnum() or character in "-_")


def _first_clause(description: str) -> str:
    """Return what a row is: the description up to the first period or colon."""
    return _escaped(description.partition(". ")[0].partition(": ")[0].rstrip("."))


def _word(sensitivity: Sensitivity | None) -> str:
    return sensitivity.value if sensitivity else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _sentence(description: str) -> str:
    return _escaped(" ".join(description.split()))


def _escaped(text: str) -> str:
    """Escape a text for Markdown, also in a cell of a table."""
    for character in "|*<":
        text = text.replace(character, f"\\{character}")
    return text
