"""Amounts and timestamps as the API writes them."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias

Item: TypeAlias = dict[str, Any]
"""One row of a list, without its wrapper."""


def amount(cents: int) -> str:
    """Cents as the API's decimal string: 6490 is "64.90", -300 is "-3.00"."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def cents(price: str | float) -> int:
    """An amount of the API, string or JSON number, in cents."""
    return int(Decimal(str(price)) * 100)


def timestamp(moment: datetime) -> str:
    """An aware datetime as the API writes it: whole seconds, UTC, `YYYY-MM-DDTHH:MM:SSZ`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


@lru_cache(maxsize=1 << 18)
def epoch(written: str) -> float:
    """Seconds since 1970 of a written timestamp; minus infinity for what is not a timestamp."""
    try:
        return datetime.fromisoformat(written).timestamp()
    except ValueError:
        return float("-inf")
