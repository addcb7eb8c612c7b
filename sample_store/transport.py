"""Responses of the API and their JSON."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

JSON_TYPE = "application/json; charset=utf-8"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


def list_body(bodies: Iterable[bytes], *, selector: str | None) -> bytes:
    """Join encoded items to `[{"order": {...}}, ...]`, or to `[{...}, ...]` without a selector."""
    if selector is not None:
        bodies = (b'{"%s":%s}' % (selector.encode(), body) for body in bodies)
    return b"[" + b",".join(bodies) + b"]"
