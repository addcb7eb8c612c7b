"""Items as they go over the wire."""

from collections.abc import Callable, Sequence

from sample_store.transport import encode
from sample_store.values import Item


class EncodedRows:
    """A list of items, each encoded when it is first asked for and then kept, which is what makes paging quick."""

    def __init__(self, rows: Sequence[Item], as_sent: Callable[[Item], Item] | None = None) -> None:
        self._rows = rows
        self._as_sent = as_sent
        self._bodies: list[bytes | None] = [None] * len(rows)

    def __getitem__(self, position: int) -> bytes:
        body = self._bodies[position]
        if body is None:
            item = self._rows[position]
            body = self._bodies[position] = encode(self._as_sent(item) if self._as_sent else item)
        return body
