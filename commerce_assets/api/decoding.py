"""Decode a response body to a page: unwrap the selector, keep the raw items, extract the facts for pagination."""

import codecs
import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec

from commerce_assets.api.errors import ApiError, BlockedApiError, TransientApiError
from commerce_assets.api.timestamps import parse_instant
from commerce_assets.endpoint import Endpoint

_BYTE_ORDER_MARK = "\ufeff".encode()
# Encodings in which even ASCII is not UTF-8.
_WIDE = ("utf-16", "utf-32", "utf16", "utf32")
_THROTTLED = re.compile(rb"throttl|rate.?limit|too many|slow down|try again", re.IGNORECASE)
_LARGEST_BIGINT = 2**63 - 1
_OTHER_DIALECT = (
    "The API's dialect differs from what the endpoint table says; see the endpoint's data_selector and fields."
)
# Group 1 is an escaped lone surrogate: legal in JSON's grammar, but not valid text. Escaped backslashes and complete
# pairs match first and are left alone.
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_LONE_SURROGATE = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


class Item(msgspec.Struct, frozen=True, gc=False):
    """One row as the API sent it, without its wrapper.

    Attributes:
        raw: The JSON object, byte for byte.
        id: The primary key as a number ("0000123" is 123).
        cursor: The value of the cursor; None if the endpoint has no cursor.
        updated_at: When it was last changed; None if missing.
        has_undeclared: It has fields that the endpoint does not declare.
    """

    raw: msgspec.Raw
    id: int
    cursor: datetime | None
    updated_at: datetime | None
    has_undeclared: bool


class PageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a page for pagination, resuming and progress; written beside the staged items.

    Attributes:
        number: The page number, from 1, for pages of `per_page` items.
        per_page: The requested number of items.
        count: The number of items on the page.
        digest: A hash of the ids in their order; equal for equal pages.
        first: The cursor of the first item that was not on the page before; None if there is no such item or cursor.
        last: The last item's cursor.
        ascending: The cursors are in ascending order.
        oldest_update: The earliest `updated_at` on the page.
        newest_update: The latest `updated_at` on the page.
        has_replaced_text: Some bytes were not valid text and are U+FFFD.
        repeated: Rows met on pages before, beyond those that an overlapping page repeats: the list has moved.
        reading: Which reading of the list it belongs to, from 1; a list that has moved is read again.
    """

    number: int
    per_page: int
    count: int
    digest: str
    first: datetime | None = None
    last: datetime | None = None
    ascending: bool = True
    oldest_update: datetime | None = None
    newest_update: datetime | None = None
    has_replaced_text: bool = False
    repeated: int = 0
    reading: int = 1


@dataclass(frozen=True, slots=True)
class Page:
    """One page: `number` counts from 1, `items` are in the order of the API; see `PageFacts` for the rest."""

    number: int
    items: tuple[Item, ...]
    has_replaced_text: bool = False

    def facts(self, *, per_page: int, known: Collection[int] = (), repeated: int = 0, reading: int = 1) -> PageFacts:
        """Return the facts of a page of `per_page` requested items; `known` are the ids on the page before."""
        cursors = [item.cursor for item in self.items if item.cursor]
        updates = [item.updated_at for item in self.items if item.updated_at]
        ids = ",".join(str(item.id) for item in self.items)
        return PageFacts(
            number=self.number,
            per_page=per_page,
            count=len(self.items),
            digest=hashlib.blake2b(ids.encode(), digest_size=16).hexdigest(),
            first=next((item.cursor for item in self.items if item.id not in known), None),
            last=cursors[-1] if cursors else None,
            ascending=all(earlier <= later for earlier, later in pairwise(cursors)),
            oldest_update=min(updates, default=None),
            newest_update=max(updates, default=None),
            has_replaced_text=self.has_replaced_text,
            repeated=repeated,
            reading=reading,
        )


class PageDecoder:
    """Decodes the pages of one endpoint and refuses everything else."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        facts = [endpoint.primary_key, endpoint.updated_at, *([endpoint.cursor] if endpoint.cursor else [])]
        looked_at = [(name, Any, None) for name in dict.fromkeys(facts)]
        skipped = [
            (column.name, msgspec.Raw, msgspec.field(default=msgspec.Raw()))
            for column in endpoint.columns
            if column.name not in facts
        ]
        # The strict struct detects undeclared fields without a look at each key; the lenient one then reads the facts.
        declared = msgspec.defstruct("Declared", [*looked_at, *skipped], forbid_unknown_fields=True, gc=False)
        lenient = msgspec.defstruct("Lenient", looked_at, gc=False)
        self._declared = msgspec.json.Decoder(declared)
        self._lenient = msgspec.json.Decoder(lenient)
        self._wrapped = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])

    def decode(self, body: bytes, *, number: int, charset: str = "") -> Page:
        """Decode `body` to a page; `charset` is that of its Content-Type, for a body that is not UTF-8.

        Raises:
            TransientApiError: The body is truncated or not JSON.
            ApiError: It is JSON of another shape; the message names the item's index, counted from 0.
        """
        return self._page(body, number, charset, unwrap=self._unwrap, expected="a list")

    def decode_item(self, body: bytes, *, number: int, charset: str = "") -> Page:
        """Decode the answer to a request for one item, `{selector: {...}}` or `{...}`, to a page of one.

        Raises:
            TransientApiError, ApiError: As `decode`.
        """
        return self._page(body, number, charset, unwrap=self._unwrap_item, expected="an item")

    def _page(
        self,
        body: bytes,
        number: int,
        charset: str,
        *,
        unwrap: Callable[[bytes], list[msgspec.Raw]],
        expected: str,
    ) -> Page:
        body, has_replaced_text = _as_utf8(body, charset)
        if not body.strip():
            raise ApiError(
                "the store answered 200 with an empty body", hint="An empty list would be []; look at the store."
            )
        if body.lstrip()[:1] == b"<":
            raise TransientApiError(
                "the store answered 200 with a web page instead of JSON",
                hint="A login, block or maintenance page? Look at the base URL in a browser.",
            )
        try:
            items = tuple(self._item(raw, index) for index, raw in enumerate(unwrap(body)))
        except msgspec.ValidationError:
            raise ApiError(
                f"the store answered with {_kind_of(body)} instead of {expected}", hint=_OTHER_DIALECT
            ) from None
        except RecursionError:
            raise ApiError("the answer is nested too deeply to be read", hint=_OTHER_DIALECT) from None
        except msgspec.DecodeError:
            raise TransientApiError(
                "the answer is not valid JSON, or was cut off",
                hint="Run it again; if it fails again, ask the store's support.",
            ) from None
        return Page(number=number, items=items, has_replaced_text=has_replaced_text)

    def _unwrap(self, body: bytes) -> list[msgspec.Raw]:
        """Return the items of `[{selector: {...}}, ...]`, `[{...}, ...]` or `{selector or name: [...]}`."""
        selector, name = self._endpoint.data_selector, self._endpoint.name
        if body.lstrip()[:1] == b"{":
            answer = _object(body)
            if len(answer) != 1 or not answer.keys() <= {selector, name}:
                raise ApiError(
                    f'the store answered with an object other than {{"{selector or name}": [...]}}', hint=_OTHER_DIALECT
                )
            (items,) = answer.values()
            return msgspec.json.decode(items, type=list[msgspec.Raw])
        if selector is None:
            return msgspec.json.decode(body, type=list[msgspec.Raw])
        raws = []
        for index, item in enumerate(self._wrapped.decode(body)):
            if item.keys() != {selector}:
                found = f"{len(item)} keys" if selector in item else f'no key "{selector}"'
                raise ApiError(f'item {index} has {found} where only "{selector}" belongs', hint=_OTHER_DIALECT)
            raws.append(item[selector])
        return raws

    def _unwrap_item(self, body: bytes) -> list[msgspec.Raw]:
        """Return the item of `{selector: {...}}`, or of `{...}`, as a list of one."""
        answer, selector = _object(body), self._endpoint.data_selector
        if selector and answer.keys() == {selector}:
            return [answer[selector]]
        if self._endpoint.primary_key not in answer:
            raise ApiError(
                f'the store answered with an object other than {{"{selector or "id"}": ...}}', hint=_OTHER_DIALECT
            )
        return [msgspec.Raw(body)]

    def _item(self, raw: msgspec.Raw, index: int) -> Item:
        endpoint = self._endpoint
        undeclared = False
        try:
            facts = self._declared.decode(raw)
        except msgspec.ValidationError:
            undeclared = True
            try:
                facts = self._lenient.decode(raw)
            except msgspec.ValidationError:
                selector = endpoint.data_selector
                where = f'item {index}: what "{selector}" holds' if selector else f"item {index}"
                reason = f"{where} is not an object"
                raise ApiError(reason, hint=_OTHER_DIALECT) from None
        key = as_bigint(getattr(facts, endpoint.primary_key))
        if key is None:
            raise ApiError(
                f"item {index}: its {endpoint.primary_key} is missing or not a whole number", hint=_OTHER_DIALECT
            )
        cursor = None
        if endpoint.cursor:
            cursor = parse_instant(getattr(facts, endpoint.cursor))
            if cursor is None:
                raise ApiError(
                    f"item {index}, {endpoint.item_name} {key}: its {endpoint.cursor} is missing or no instant",
                    hint="Without it the row belongs to no partition; look at it in the store.",
                )
        return Item(raw, key, cursor, parse_instant(getattr(facts, endpoint.updated_at)), undeclared)


def _object(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of an object that is not an error."""
    answer = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    errors = answer.get("errors") or answer.get("error")
    if errors and _THROTTLED.search(bytes(errors)):
        raise BlockedApiError(
            "the store answered 200 and an error: it is throttled",
            hint="Lower COMMERCE_API_REQUESTS_PER_SECOND, or run it again later.",
        )
    return answer


def as_bigint(value: object) -> int | None:
    """A primary key as a number; None for what is not a whole number of 64 bits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) <= 40 else None  # noqa: PLR2004 - far beyond any BIGINT
    if isinstance(value, int) and abs(value) <= _LARGEST_BIGINT:
        return value
    return None


def _as_utf8(body: bytes, charset: str) -> tuple[bytes, bool]:
    """Return the body in UTF-8, and whether U+FFFD replaces invalid text: bytes, or lone surrogates.

    JSON is UTF-8 whatever the header says; `charset` decides where it is not.
    """
    replaced = False
    if charset.startswith(_WIDE) or not _is_utf8(body):
        text = body.decode(_codec(charset), errors="replace")
        replaced = "\ufffd" in text
        body = text.encode(errors="replace")
    if b"\\" in body and _ESCAPED_SURROGATE.search(body):
        fixed = _LONE_SURROGATE.sub(lambda match: rb"\ufffd" if match[1] else match[0], body)
        body, replaced = fixed, replaced or fixed != body
    while body.startswith(_BYTE_ORDER_MARK):
        body = body.removeprefix(_BYTE_ORDER_MARK)
    return body, replaced


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _codec(charset: str) -> str:
    """A codec of Python for a charset; UTF-8 for one that is unknown or encodes no text."""
    try:
        codec = codecs.lookup(charset or "utf-8")
    except LookupError:
        return "utf-8"
    return codec.name if codec._is_text_encoding else "utf-8"  # noqa: SLF001 - rot13 and zlib are codecs, too


def _kind_of(body: bytes) -> str:
    kinds = {b"{": "an object", b"[": "a list of something else than objects", b'"': "a text", b"n": "null"}
    return kinds.get(body.lstrip()[:1], "a number or a flag")
