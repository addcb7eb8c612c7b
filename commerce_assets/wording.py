"""Numbers in texts for people."""


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 row`, `1,200 rows`; `many` is the plural unless an s makes it."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
