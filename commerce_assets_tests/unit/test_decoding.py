"""What the items of a page can be, as far as it is decided before they are stored: over real HTTP."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.errors import ApiError, PullError
from commerce_assets.api.timestamps import format_instant, parse_instant
from commerce_assets.endpoint import Column, ColumnType, Endpoint
from commerce_assets.ingest.stage import stage
from commerce_assets_tests.support.faulty_store import Body
from commerce_assets_tests.support.items import ORDERS_OF_DAY, PRODUCT_LIST, body_of, order, orders, product, store_of
from commerce_assets_tests.support.world import LOG, World, serving
from sample_store.dialect import Dialect

CODES = Endpoint(
    name="codes",
    path="codes",
    data_selector=None,
    description="One row per code.",
    columns=(
        Column(name="id", type=ColumnType.BIGINT, description="The code's id."),
        Column(name="updated_at", type=ColumnType.TIMESTAMP, description="When it was last changed."),
    ),
)


@pytest.fixture
def puller(tmp_path: Path) -> Iterator[World]:
    with serving(store_of(), tmp_path) as puller:
        yield puller


def failure(puller: World, body: bytes) -> str:
    puller.server.script(otherwise=Body(body))
    with pytest.raises(PullError) as caught:
        puller.pull(ORDERS_OF_DAY)
    return str(caught.value)


def wrapped(*items: Any) -> bytes:
    return json.dumps([{"order": item} for item in items]).encode()


# The selector


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({}, 'item 1 has no key "order" where only "order" belongs'),
        ({"Order": order(2)}, 'item 1 has no key "order"'),
        ({"product": order(2)}, 'item 1 has no key "order"'),
        (order(2), 'item 1 has no key "order"'),
        ({"order": order(2), "product": product(2)}, 'item 1 has 2 keys where only "order" belongs'),
        ({"order": None}, 'item 1: what "order" holds is not an object'),
        ({"order": [order(2)]}, 'item 1: what "order" holds is not an object'),
        ({"order": "2"}, 'item 1: what "order" holds is not an object'),
    ],
)
def test_an_item_without_its_selector_fails_with_page_and_index(
    puller: World, second: dict[str, Any], said: str
) -> None:
    """Fault 37."""
    error = failure(puller, json.dumps([{"order": order(1)}, second]).encode())
    assert error.startswith(f"orders of 2024-03-15, page 1, first attempt: {said}")


def test_the_page_of_a_wrong_item_is_named_and_not_staged(puller: World) -> None:
    """Fault 37."""
    puller.server.script(Body(body_of(*orders(50), selector="order")), otherwise=Body(b'[{"odrer": {"id": 1}}]'))
    with pytest.raises(PullError, match=r'page 2, first attempt: item 0 has no key "order"'):
        puller.pull(ORDERS_OF_DAY)
    with puller.hold(ORDERS_OF_DAY) as staged:
        assert staged.count == 50


@pytest.mark.parametrize("count", [0, 1, 60])
def test_a_list_that_comes_as_one_object_is_read_just_the_same(puller: World, count: int) -> None:
    """Fault 37."""
    store = puller.server.store
    store.shop.products[:] = [product(number) for number in range(1, count + 1)]
    store.touch()
    store.dialect = Dialect(wrapped="object")
    assert puller.pull().ids == [*range(1, count + 1)]


@pytest.mark.parametrize("body", [b'[{"id": 7}, {"id": 8}]', b'{"codes": [{"id": 7}, {"id": 8}]}', b"[]"])
def test_without_a_selector_items_are_the_elements_of_the_list(body: bytes) -> None:
    page = PageDecoder(CODES).decode(body, number=1)
    assert [item.id for item in page.items] == ([7, 8] if len(body) > 2 else [])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'[{"id": 7}, 8]', "item 1 is not an object"),
        (b'[{"code": {"id": 7}}]', "item 0: its id is missing or not a whole number"),
        (b'{"error": "no"}', 'an object other than {"codes": [...]}'),
        (b"7", "a number or a flag instead of a list"),
    ],
)
def test_without_a_selector_other_shapes_are_refused(body: bytes, said: str) -> None:
    with pytest.raises(ApiError) as caught:
        PageDecoder(CODES).decode(body, number=1)
    assert said in str(caught.value)


# Ids


@pytest.mark.parametrize(
    ("sent", "read"),
    [(1, 1), ("0000123", 123), ("7", 7), (2**53 + 1, 2**53 + 1), (str(2**63 - 1), 2**63 - 1), (0, 0), (-3, -3)],
)
def test_an_id_as_text_with_leading_zeros_is_a_whole_number(puller: World, sent: object, read: int) -> None:
    """Fault 38."""
    puller.server.script(Body(body_of(order(1) | {"id": sent}, selector="order")))
    (item,) = puller.page(ORDERS_OF_DAY).items
    assert item.id == read


@pytest.mark.parametrize(
    "sent", [None, "", "12a", "1.0", 1.5, 1.0, True, [], {}, 2**63, str(2**63), 10**30, "9" * 5000, "-3", "٣", "1e3"]
)
def test_an_id_that_is_not_a_whole_number_is_refused(puller: World, sent: object) -> None:
    """Fault 38."""
    error = failure(puller, wrapped(order(1), order(2) | {"id": sent}))
    assert "page 1, first attempt: item 1: its id is missing or not a whole number" in error


def test_an_item_without_an_id_is_refused(puller: World) -> None:
    """Fault 38."""
    item = order(1)
    del item["id"]
    assert "item 0: its id is missing" in failure(puller, wrapped(item))


def test_the_same_id_twice_on_a_page_is_handed_on_twice(puller: World) -> None:
    """Fault 38: the load keeps the newer version."""
    puller.server.script(Body(wrapped(order(1), order(1, state="refunded"))))
    assert [row["state"] for row in puller.pull(ORDERS_OF_DAY).rows] == ["complete", "refunded"]


# Times


@pytest.mark.parametrize(
    "sent",
    [
        *(None, "", "yesterday", "2024-03-15", "2024-03-15T12:00:00", "2024-02-30T12:00:00Z", 1710504000, [], {}),
        *("2024-03-15T25:00:00Z", "20240315T120000.000Z", "2024-W11-5T12:00:00Z", "0001-01-01T00:00:00+14:00"),
        *(
            "2024-03-15T12:00:00Z\n",
            "٢٠٢٤-03-15T12:00:00Z",
            "2024-03-15T12:00:00.1234567890Z1",
            "2024-03-15T12:00:00UTC",
            "9999-12-31T23:59:59-14:00",
        ),
    ],
)
def test_an_order_with_an_unreadable_created_at_fails(puller: World, sent: object) -> None:
    """Fault 44."""
    error = failure(puller, wrapped(order(1), order(4711) | {"created_at": sent}))
    assert "page 1, first attempt: item 1, order 4711: its created_at is missing or no instant" in error
    assert "Fix: without it the row belongs to no partition" in error


@pytest.mark.parametrize("said", ['{"errors": [{"message": "Throttled"}]}', '{"error": "Rate limit exceeded"}'])
def test_a_throttled_200_differs_from_another_dialect(puller: World, said: str) -> None:
    """Fault 87."""
    assert "the store answered 200 and an error: it is throttled" in failure(puller, said.encode())


@pytest.mark.parametrize(
    ("sent", "microseconds"),
    [
        ("2024-01-02T00:00:00.1234567Z", 123456),
        ("2024-01-02T00:00:00.123456789+00:00", 123456),
        ("2024-01-02T00:00:00.999999999Z", 999999),
        ("2024-01-02 00:00:00 UTC", 0),
        ("2024-01-02T00:00:00.5 UTC", 500_000),
    ],
)
def test_nanoseconds_and_the_word_utc_are_read(puller: World, sent: str, microseconds: int) -> None:
    """Fault 91."""
    puller.server.script(Body(wrapped(order(1) | {"created_at": sent})))
    (item,) = puller.page(ORDERS_OF_DAY).items
    assert item.cursor == datetime(2024, 1, 2, microsecond=microseconds, tzinfo=UTC)


def test_an_order_without_created_at_fails_and_is_named(puller: World) -> None:
    """Fault 44."""
    item = order(4711)
    del item["created_at"]
    assert "item 0, order 4711: its created_at is missing" in failure(puller, wrapped(item))


def test_an_updated_at_that_cannot_be_read_is_no_reason_to_fail(puller: World) -> None:
    """Fault 44."""
    puller.server.script(Body(wrapped(order(1) | {"updated_at": "now"}, order(2) | {"updated_at": None})))
    page = puller.page(ORDERS_OF_DAY)
    assert [item.updated_at for item in page.items] == [None, None]
    assert page.facts(per_page=50).newest_update is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-31T12:00:00Z", "2024-01-31T12:00:00+00:00"),
        ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59+00:00"),
        ("2024-01-31T12:00:00z", "2024-01-31T12:00:00+00:00"),
        ("2024-01-31 12:00:00Z", "2024-01-31T12:00:00+00:00"),
        ("2024-01-31T12:00Z", "2024-01-31T12:00:00+00:00"),
        ("2024-01-31T12:00:00.123Z", "2024-01-31T12:00:00.123000+00:00"),
        ("2024-01-31T12:00:00.123456000Z", "2024-01-31T12:00:00.123456+00:00"),
        ("2024-01-31T12:00:00+00:00", "2024-01-31T12:00:00+00:00"),
        ("2024-01-31T12:00:00-00:00", "2024-01-31T12:00:00+00:00"),
        ("2024-01-31T12:00:00+01:00", "2024-01-31T11:00:00+00:00"),
        ("2024-01-31T00:30:00+0530", "2024-01-30T19:00:00+00:00"),
        ("2024-01-31T23:30:00-05", "2024-02-01T04:30:00+00:00"),
        ("2024-01-31T12:00:60Z", None),
        ("2024-13-01T12:00:00Z", None),
        ("2023-02-29T12:00:00Z", None),
        ("2024-01-31T12:00:00+25:00", None),
        ("2024-01-31T12Z", None),
        ("24-01-31T12:00:00Z", None),
        (" 2024-01-31T12:00:00Z", None),
        (b"2024-01-31T12:00:00Z", None),
    ],
)
def test_a_time_is_the_instant_that_it_names_in_utc(text: object, expected: str | None) -> None:
    """Fault 45."""
    instant = parse_instant(text)
    assert (instant and instant.isoformat()) == expected
    assert instant is None or instant.tzinfo is UTC


def test_an_instant_is_written_as_the_api_writes_it() -> None:
    assert format_instant(datetime.fromisoformat("2024-01-31T23:30:00.9-05:00")) == "2024-02-01T04:30:00Z"


# Texts


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        pytest.param('"☃ 🖋 Søndag 日本"'.encode(), "☃ 🖋 Søndag 日本", id="emoji"),
        pytest.param(rb'"\ud83d\ude00"', "😀", id="escaped pair"),
        pytest.param(rb'"\uD83D\uDE00!"', "😀!", id="escaped pair in capitals"),
        pytest.param(rb'"a\u0000b"', "a\0b", id="NUL"),
        pytest.param(rb'"\ud83d"', "�", id="first half"),
        pytest.param(rb'"\uDE00 x"', "� x", id="second half"),
        pytest.param(rb'"\ude00\ud83d"', "��", id="halves the wrong way round"),
        pytest.param(rb'"\ud83d\ud83d\ude00"', "�😀", id="half before a pair"),
        pytest.param(rb'"\\ud83d"', r"\ud83d", id="escaped backslash"),
        pytest.param(rb'"\\\ud83d"', "\\�", id="escaped backslash before a half"),
        pytest.param(b'"\xed\xa0\xbd"', "���", id="half in UTF-8"),
        pytest.param("Société".join('""').encode("latin-1"), "Soci�t�", id="latin-1"),
        pytest.param(b'"\xff\xfe"', "��", id="no UTF-8 at all"),
        pytest.param(rb'"\u0026 \/ \" \n"', '& / " \n', id="escapes"),
        pytest.param(b'"' + b"x" * (1 << 20) + b'"', "x" * (1 << 20), id="1 MB"),
        pytest.param(b'"=HYPERLINK(\\"http://x\\")"', '=HYPERLINK("http://x")', id="formula"),
        pytest.param(b'"<script>alert(1)</script>"', "<script>alert(1)</script>", id="script"),
        pytest.param("\u2028\u2029\u0085".join('""').encode(), "\u2028\u2029\u0085", id="separators of lines"),
    ],
)
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "undeclared"])
def test_a_text_is_kept_and_what_is_no_text_in_it_is_replaced(
    puller: World,
    sent: bytes,
    read: str,
    declared: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Faults 48, 49."""
    name = "order_name" if declared else "undeclared"
    item = b'{"id": 1, "created_at": "2024-03-15T12:00:00Z", "%s": %s}' % (name.encode(), sent)
    puller.server.script(Body(body_of(item, order(2), selector="order")))
    row, following = puller.pull(ORDERS_OF_DAY).rows
    assert (row if declared else row["_extra"])[name] == read
    assert following == order(2)


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"\t", b"\n\n  \r"])
def test_line_breaks_between_tokens_do_not_break_a_staged_line(puller: World, blank: bytes) -> None:
    """Fault 48."""
    pretty = json.dumps([{"product": product(n, undeclared={"a": [1]})} for n in (1, 2)], indent=2).encode()
    puller.server.script(Body(b"\xef\xbb\xbf" + pretty.replace(b"\n", blank)))
    assert [row["_extra"] for row in puller.pull().rows] == [{"undeclared": {"a": [1]}}] * 2


# Shapes


@pytest.mark.parametrize(
    ("field", "kept"),
    [
        (b'"state": "a", "state": "b"', True),
        (b'"order_name": NaN', False),
        (b'"order_name": Infinity', False),
        (b'"order_name": 1e999', True),
        (b'"order_name": 0123', False),
        (b"\"order_name\": 'x'", False),
        (b'"order_name": "a\nb"', False),
        (b'"order_name": 1,', False),
        (b'"order_name": 1 // comment\n', False),
    ],
)
def test_invalid_json_is_kept_or_refused_per_page(
    puller: World,
    field: bytes,
    kept: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Fault 50."""
    item = b'{"id": 1, "created_at": "2024-03-15T12:00:00Z", %s}' % field
    puller.server.script(otherwise=Body(body_of(item, selector="order")))
    if kept:
        assert puller.pull(ORDERS_OF_DAY).ids == [1]
    else:
        with pytest.raises(PullError, match="attempt 4: the answer is not valid JSON"):
            puller.pull(ORDERS_OF_DAY)


@pytest.mark.parametrize("depth", [*range(850, 1000, 3), 1_000, 100_000])
@pytest.mark.parametrize("name", ["cart", "undeclared"])
def test_deep_nesting_is_kept_or_refused_and_crashes_nothing(puller: World, name: str, depth: int) -> None:
    """Fault 50."""
    nested = b"[" * depth + b"]" * depth
    item = b'{"id": 1, "created_at": "2024-03-15T12:00:00Z", "%s": %s}' % (name.encode(), nested)
    puller.server.script(otherwise=Body(body_of(item, selector="order")))
    with puller.hold(ORDERS_OF_DAY) as staged, puller.client() as client:
        refusal = None
        try:
            stage(client, staged, log=LOG)
        except PullError as error:
            refusal = str(error)
        # How deep is too deep depends on the version of Python.
        assert refusal or depth < 100_000
        assert "nested too deeply" in refusal if refusal else nested in staged.segments[0].read_bytes()


def test_arrays_null_empty_and_huge_are_kept_to_the_byte(puller: World) -> None:
    """Fault 47."""
    huge = json.dumps([{"download_item": {"name": f"File {n}"}} for n in range(5_000)]).encode()
    items = [
        b'{"id": %d, "created_at": "2024-03-15T12:00:00Z", "download_items": %s}' % (number, value)
        for number, value in enumerate((b"null", b"[]", huge), start=1)
    ]
    puller.server.script(Body(body_of(*items, selector="order")))
    assert [bytes(item.raw) for item in puller.page(ORDERS_OF_DAY).items] == items


def test_amounts_of_any_kind_are_handed_on_as_they_came(puller: World) -> None:
    """Fault 39, as far as it is the pull's: nothing goes through a float."""
    amounts = [b'"64.90"', b"17", b"17.50", b'"\xc2\xa318.00"', b'"1,234.50"', b'""', b"null", b"0.1000000000000000055"]
    # The writer quotes numbers that DuckDB would change.
    changed = {b"17.50", b"0.1000000000000000055"}
    items = [b'{"id": %d, "price": %s}' % (number, amount) for number, amount in enumerate(amounts, start=1)]
    puller.server.script(Body(body_of(*items)))
    with puller.client() as client, puller.hold(PRODUCT_LIST) as staged:
        stage(client, staged, log=LOG)
        mark = staged.manifest.pull_id.encode()
        quoted = [b'"%s:%s"' % (mark, amount) if amount in changed else amount for amount in amounts]
        expected = [b'{"id": %d, "price": %s}' % (number, amount) for number, amount in enumerate(quoted, start=1)]
        assert staged.segments[0].read_bytes() == b"\n".join([*expected, b""])


def test_only_undeclared_fields_are_in_extra(puller: World) -> None:
    """Fault 41."""
    sent = order(1, buyer_name="Ann") | {"test_mode": True, "licenses": [{"key": "a b"}], "": None, "_extra": {"x": 1}}
    puller.server.script(Body(wrapped(sent, order(2))))
    first, second = puller.pull(ORDERS_OF_DAY).rows
    extra = first.pop("_extra")
    assert extra == {"test_mode": True, "licenses": [{"key": "a b"}], "": None, "_extra": {"x": 1}}
    assert first.items() >= order(1, buyer_name="Ann").items()
    assert second == order(2)


def test_a_repeated_field_is_kept_beside_an_undeclared_one(puller: World) -> None:
    """Faults 41, 50."""
    raw = msgspec.json.encode(order(1, buyer_name="Ann") | {"test_mode": True})
    twice = raw[:-1] + b',"buyer_name":"Bob"}'
    puller.server.script(Body(b'[{"order":' + twice + b"}]"))
    with puller.client() as client, puller.hold(ORDERS_OF_DAY) as staged:
        stage(client, staged, log=LOG)
        assert staged.segments[0].read_bytes() == twice[:-1] + b',"_extra":{"test_mode":true}}\n'
