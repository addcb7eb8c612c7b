"""Reading the API's timestamps: ISO 8601 with seconds and a zone, `2024-01-31T12:00:00Z`; and those of HTTP."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Fractions, offsets and " UTC" have not been seen, and are read all the same. A time without a zone is no instant. Of a
# fraction, nanoseconds are read and microseconds kept. The same pattern decides in Python and in DuckDB (RE2).
INSTANT_PATTERN = (
    r"[1-9]\d{3}-\d{2}-\d{2}[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9}0*)?)?"
    r"(?:Z|z| UTC|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)"
)
_INSTANT = re.compile(INSTANT_PATTERN, re.ASCII)
# What nearly all of them look like; found in half the time.
_COMMON_INSTANT = re.compile(r"[1-9]\d{3}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\dZ", re.ASCII)


def parse_instant(value: object) -> datetime | None:
    """The instant in UTC; None for anything that is not certainly one."""
    if not isinstance(value, str) or not (_COMMON_INSTANT.fullmatch(value) or _INSTANT.fullmatch(value)):
        return None
    try:
        instant = datetime.fromisoformat(value.upper().replace(" UTC", "Z"))  # not all versions read a small z
        return instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def parse_http_date(value: str) -> datetime | None:
    """The instant of a header such as Date; without a zone it is UTC, as all of HTTP's are. None for garbage."""
    try:
        instant = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def format_instant(instant: datetime) -> str:
    """As the API writes it, and as its `updated_after` takes it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
