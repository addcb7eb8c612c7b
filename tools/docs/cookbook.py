"""Fill in the results of the cookbook's queries on the sample shop; its prose and queries are written by hand."""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import duckdb

from tools.docs.sample import REFRESHED as TODAY

QUERY = re.compile(r"```sql\n(.+?)\n```\n(?:\n(?:\|[^\n]*\n)+)?", re.DOTALL)
"""A query of the page, with its result if there is one."""

_CENTS = Decimal("0.01")


def cookbook(page: str, connection: duckdb.DuckDBPyConnection) -> str:
    """Return the page with the result of each query, on the day of the sample shop."""
    return QUERY.sub(lambda query: f"```sql\n{query[1]}\n```\n\n{_result(connection, query[1])}", page)


def _result(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    answered = connection.execute(sql.replace("current_date", f"DATE '{TODAY:%Y-%m-%d}'"))
    names = [name for name, *_ in answered.description or ()]
    rows = answered.fetchall()
    rules = ["---:" if _are_numbers([row[place] for row in rows]) else "---" for place in range(len(names))]
    lines = [names, rules, *([_shown(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _are_numbers(values: Sequence[object]) -> bool:
    return any(isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in values)


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Decimal() if value == value.quantize(_CENTS):
            return f"{value:,.2f}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case _:
            return str(value)
