"""Reading the API's timestamps: ISO 8601 with seconds and a zone, `2024-01-31T12:00:00Z`."""

import re
from datetime import UTC, datetime

# Fractions and offsets have not been seen, and are read all the same. A time without a zone is no instant. More than
# six digits of a fraction would be cut off. The same pattern decides in Python and in DuckDB (RE2).
INSTANT_PATTERN = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6}0*)?)?(?:Z|z|[+-]\d{2}(?::?\d{2})?)"
_INSTANT = re.compile(INSTANT_PATTERN, re.ASCII)


def parse_instant(value: object) -> datetime | None:
    """The instant in UTC; None for anything that is not certainly one."""
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        return None
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def format_instant(instant: datetime) -> str:
    """As the API writes it, and as its `updated_after` takes it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
