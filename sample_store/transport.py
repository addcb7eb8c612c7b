"""The parts of HTTP that every endpoint of the API shares: credentials, the Accept header, JSON answers."""

import base64
import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

JSON_TYPE = "application/json; charset=utf-8"

# json.dumps would make a new encoder for every item.
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def encode(value: Any) -> bytes:
    return _encoder.encode(value).encode()


def answer(body: bytes) -> Answer:
    return Answer(HTTPStatus.OK, {"content-type": JSON_TYPE}, body)


def refusal(status: HTTPStatus, body: Any, **headers: str) -> Answer:
    """Refuse a request; `body` is encoded, an underscore in a header's name stands for a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"content-type": JSON_TYPE, **named}, encode(body))


def accepts_json(accept: str) -> bool:
    """Whether an Accept header names JSON; the API does not take `*/*` for it."""
    return any(option.partition(";")[0].strip().lower() == "application/json" for option in accept.split(","))


def has_credentials(authorization: str, key: str, secret: str) -> bool:
    """Whether an Authorization header is HTTP Basic with this key and secret."""
    scheme, _, token = authorization.partition(" ")
    return scheme.lower() == "basic" and token.strip() == base64.b64encode(f"{key}:{secret}".encode()).decode()


def list_body(bodies: Iterable[bytes], *, selector: str) -> bytes:
    """Wrap encoded items as the API does: `[{"order": {...}}, {"order": {...}}]`."""
    opening = b'{"' + selector.encode() + b'":'
    joined = (b"}," + opening).join(bodies)
    return b"[" + opening + joined + b"}]" if joined else b"[]"
