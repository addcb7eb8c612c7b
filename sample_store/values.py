"""How the API writes amounts and instants."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeAlias

Item: TypeAlias = dict[str, Any]
"""One product, package, subscription or order, without its selector."""


def amount(cents: int) -> str:
    """Cents as the API's decimal string: 6490 is "64.90"."""
    return f"{cents // 100}.{cents % 100:02d}"


def cents(price: str | float) -> int:
    """An amount of the API, string or JSON number, in cents."""
    return int(Decimal(str(price)) * 100)


def timestamp(moment: datetime) -> str:
    """An aware moment as the API writes it: whole seconds, UTC, `YYYY-MM-DDTHH:MM:SSZ`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def epoch(written: object) -> float:
    """Seconds since 1970 of a written timestamp; minus infinity for null and for what is not a timestamp."""
    try:
        return datetime.fromisoformat(str(written)).timestamp()
    except ValueError:
        return float("-inf")
