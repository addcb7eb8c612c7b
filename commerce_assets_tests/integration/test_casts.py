"""What becomes of each raw value: it is stored exactly, or kept in `_invalid` as it was sent; it is never bent."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product as product_of
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commerce_assets.api.timestamps import parse_instant
from commerce_assets.endpoint import Column, ColumnType, Endpoint
from commerce_assets.warehouse.privacy.policy import Masking, PersonalDataPolicy
from commerce_assets_tests.support.items import ORDERS, PRODUCTS, days, order, product
from commerce_assets_tests.support.world import World

BIGINT, DECIMAL, BOOLEAN = ColumnType.BIGINT, ColumnType.DECIMAL, ColumnType.BOOLEAN
TIMESTAMP, TEXT, TEXT_LIST, JSON = ColumnType.TIMESTAMP, ColumnType.TEXT, ColumnType.TEXT_LIST, ColumnType.JSON

VALUES = Endpoint(
    name="values",
    path="values",
    data_selector="value",
    description="A column of each type.",
    columns=(
        Column(name="id", type=BIGINT, description=""),
        Column(name="updated_at", type=TIMESTAMP, description=""),
        *(Column(name=kind.name.lower(), type=kind, description="") for kind in ColumnType),
    ),
)
ABSENT = "(absent)"
LONG = "ü" * 500_000


class Misfit(NamedTuple):
    """The column is NULL, and `_invalid` keeps this; by default what was sent, to the byte."""

    kept: str = ""


class Case(NamedTuple):
    type: ColumnType
    raw: str
    stored: Any

    def __repr__(self) -> str:
        return f"{self.type.name} {self.raw[:40]}"


def utc(year: int, month: int, day: int, hour: int = 0) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


NOON = utc(2024, 1, 31, 12)

CASES = [
    # Whole numbers.
    Case(BIGINT, "17", 17),
    Case(BIGINT, "-17", -17),
    Case(BIGINT, "0", 0),
    Case(BIGINT, "17.0", 17),
    Case(BIGINT, '"17"', 17),
    Case(BIGINT, '"17.00"', 17),
    Case(BIGINT, '"0000123"', 123),
    Case(BIGINT, "9007199254740993", 2**53 + 1),
    Case(BIGINT, '"9007199254740993"', 2**53 + 1),
    Case(BIGINT, "9223372036854775807", 2**63 - 1),
    Case(BIGINT, "-9223372036854775808", -(2**63)),
    Case(BIGINT, "null", None),
    Case(BIGINT, ABSENT, None),
    Case(BIGINT, "17.5", Misfit()),
    Case(BIGINT, '"17.5"', Misfit()),
    Case(BIGINT, '""', Misfit()),
    Case(BIGINT, '" 17"', Misfit()),
    Case(BIGINT, '"17\\n"', Misfit()),
    Case(BIGINT, '"abc"', Misfit()),
    Case(BIGINT, '"0x11"', Misfit()),
    Case(BIGINT, '"1e3"', Misfit()),
    Case(BIGINT, '"1_000"', Misfit()),
    Case(BIGINT, '"\uff11\uff17"', Misfit()),
    Case(BIGINT, "true", Misfit()),
    Case(BIGINT, "[17]", Misfit()),
    Case(BIGINT, '{"id":17}', Misfit()),
    Case(BIGINT, "9223372036854775808", Misfit()),
    Case(BIGINT, "123456789012345678901234567890", Misfit()),
    # A double cannot hold 2^53 + 1.
    Case(BIGINT, "9007199254740993.0", 2**53 + 1),
    Case(BIGINT, "17.50", Misfit()),
    Case(BIGINT, "1e3", Misfit()),
    # Money.
    Case(DECIMAL, '"64.90"', Decimal("64.9000")),
    Case(DECIMAL, "17", Decimal("17.0000")),
    Case(DECIMAL, "17.5", Decimal("17.5000")),
    Case(DECIMAL, "0.1", Decimal("0.1000")),
    Case(DECIMAL, '"0.00"', Decimal("0.0000")),
    Case(DECIMAL, "0", Decimal("0.0000")),
    Case(DECIMAL, '"-5.5"', Decimal("-5.5000")),
    Case(DECIMAL, '"1.23450000"', Decimal("1.2345")),
    Case(DECIMAL, '"12345678901234.5678"', Decimal("12345678901234.5678")),
    Case(DECIMAL, "12345678901234", Decimal("12345678901234.0000")),
    Case(DECIMAL, "99999999999.9999", Decimal("99999999999.9999")),
    Case(DECIMAL, "null", None),
    Case(DECIMAL, ABSENT, None),
    Case(DECIMAL, '""', Misfit()),
    Case(DECIMAL, '"£18.00"', Misfit()),
    Case(DECIMAL, '"18.00 GBP"', Misfit()),
    Case(DECIMAL, '"1,234.50"', Misfit()),
    Case(DECIMAL, '"1.234,50"', Misfit()),
    Case(DECIMAL, '"12,50"', Misfit()),
    Case(DECIMAL, '"1e2"', Misfit()),
    Case(DECIMAL, '"5."', Misfit()),
    Case(DECIMAL, '".5"', Misfit()),
    Case(DECIMAL, '"NaN"', Misfit()),
    Case(DECIMAL, '"Infinity"', Misfit()),
    Case(DECIMAL, '"0.00001"', Misfit()),
    Case(DECIMAL, "0.00001", Misfit()),
    Case(DECIMAL, "0.30000000000000004", Misfit()),
    Case(DECIMAL, "999999999999.9999", Decimal("999999999999.9999")),
    Case(DECIMAL, "12345678901234.5678", Decimal("12345678901234.5678")),
    Case(DECIMAL, "17.5000", Decimal("17.5000")),
    Case(DECIMAL, "1.50e1", Misfit()),
    Case(DECIMAL, '"123456789012345.0"', Misfit()),
    Case(DECIMAL, "9007199254740993", Misfit()),
    Case(DECIMAL, "false", Misfit()),
    Case(DECIMAL, '{"amount":"5.00"}', Misfit()),
    # Flags.
    Case(BOOLEAN, "true", True),
    Case(BOOLEAN, "false", False),
    Case(BOOLEAN, '"true"', True),
    Case(BOOLEAN, '"False"', False),
    Case(BOOLEAN, "null", None),
    Case(BOOLEAN, ABSENT, None),
    Case(BOOLEAN, "1", Misfit()),
    Case(BOOLEAN, "0", Misfit()),
    Case(BOOLEAN, '""', Misfit()),
    Case(BOOLEAN, '"yes"', Misfit()),
    Case(BOOLEAN, '"t"', Misfit()),
    Case(BOOLEAN, "[true]", Misfit()),
    # Instants.
    Case(TIMESTAMP, '"2024-01-31T12:00:00Z"', NOON),
    Case(TIMESTAMP, '"2024-01-31T13:00:00+01:00"', NOON),
    Case(TIMESTAMP, '"2024-01-31T07:00:00-0500"', NOON),
    Case(TIMESTAMP, '"2024-01-31 17:30:00+05:30"', NOON),
    Case(TIMESTAMP, '"2024-02-01T01:00:00+13"', NOON),
    Case(TIMESTAMP, '"2024-01-31T12:00Z"', NOON),
    Case(TIMESTAMP, '"2024-01-31T12:00:00z"', NOON),
    Case(TIMESTAMP, '"2024-01-31T12:00:00.123Z"', NOON + timedelta(milliseconds=123)),
    Case(TIMESTAMP, '"2024-01-31T12:00:00.123456Z"', NOON + timedelta(microseconds=123456)),
    Case(TIMESTAMP, '"2024-01-31T12:00:00.123456000Z"', NOON + timedelta(microseconds=123456)),
    Case(TIMESTAMP, '"2024-02-29T00:00:00Z"', utc(2024, 2, 29)),
    Case(TIMESTAMP, "null", None),
    Case(TIMESTAMP, ABSENT, None),
    Case(TIMESTAMP, '""', Misfit()),
    Case(TIMESTAMP, '"2024-01-31T12:00:00"', Misfit()),
    Case(TIMESTAMP, '"2024-01-31"', Misfit()),
    Case(TIMESTAMP, '"2024-02-30T12:00:00Z"', Misfit()),
    Case(TIMESTAMP, '"2023-02-29T12:00:00Z"', Misfit()),
    Case(TIMESTAMP, '"2024-01-31T12:00:00.1234567Z"', NOON + timedelta(microseconds=123456)),
    Case(TIMESTAMP, '"2024-01-31T12:00:00.999999999Z"', NOON + timedelta(microseconds=999999)),
    Case(TIMESTAMP, '"2024-01-31 12:00:00 UTC"', NOON),
    Case(TIMESTAMP, '"2024-01-31T12:00:00.5 UTC"', NOON + timedelta(milliseconds=500)),
    Case(TIMESTAMP, '"2024-01-31T12:00:00UTC"', Misfit()),
    Case(TIMESTAMP, '"31/01/2024 12:00"', Misfit()),
    Case(TIMESTAMP, '"yesterday"', Misfit()),
    Case(TIMESTAMP, '"infinity"', Misfit()),
    Case(TIMESTAMP, '"epoch"', Misfit()),
    Case(TIMESTAMP, "1706702400", Misfit()),
    Case(TIMESTAMP, '["2024-01-31T12:00:00Z"]', Misfit()),
    # Texts.
    Case(TEXT, '"complete"', "complete"),
    Case(TEXT, '"a_state_that_nobody_knows"', "a_state_that_nobody_knows"),
    Case(TEXT, '""', ""),
    Case(TEXT, '"null"', "null"),
    Case(TEXT, "null", None),
    Case(TEXT, ABSENT, None),
    Case(TEXT, "17", "17"),
    Case(TEXT, "1.10", "1.10"),
    Case(TEXT, "1E+2", "1E+2"),
    Case(TEXT, "0.1000000000000000055", "0.1000000000000000055"),
    Case(TEXT, '"a: 1.10, [2.50, \\"b\\":3.10"', 'a: 1.10, [2.50, "b":3.10'),
    Case(TEXT, "true", "true"),
    Case(TEXT, "123456789012345678901234567890", "123456789012345678901234567890"),
    Case(TEXT, '"0000123"', "0000123"),
    Case(TEXT, '"👩\u200d🚀 \\ud83d\\ude00"', "👩\u200d🚀 😀"),
    Case(TEXT, '"a\\u0000b"', "a\0b"),
    Case(TEXT, '"\\ud83d"', "\ufffd"),
    Case(TEXT, '"line\\nbreak\\ttab\\\\n"', "line\nbreak\ttab\\n"),
    Case(TEXT, '"=HYPERLINK(\\"http://example.com\\",\\"x\\")"', '=HYPERLINK("http://example.com","x")'),
    Case(TEXT, '"<script>alert(1)</script>"', "<script>alert(1)</script>"),
    Case(TEXT, '"\'; DROP TABLE orders; --"', "'; DROP TABLE orders; --"),
    Case(TEXT, '"{not an object}"', "{not an object}"),
    Case(TEXT, '"[not a list]"', "[not a list]"),
    Case(TEXT, f'"{LONG}"', LONG),
    Case(TEXT, '{"street":"1 High Street"}', Misfit()),
    Case(TEXT, '["a"]', Misfit()),
    # Lists of scalars.
    Case(TEXT_LIST, "[]", []),
    Case(TEXT_LIST, '["pi_1","ch_2"]', ["pi_1", "ch_2"]),
    Case(TEXT_LIST, '["a, b","c\\"d","[e]","{f}"," g ",""]', ["a, b", 'c"d', "[e]", "{f}", " g ", ""]),
    Case(
        TEXT_LIST, '["line\\nbreak","tab\\t","\\u00e9","back\\\\slash"]', ["line\nbreak", "tab\t", "é", "back\\slash"]
    ),
    Case(TEXT_LIST, '[17,2.5,true,null,"null"]', ["17", "2.5", "true", None, "null"]),
    Case(TEXT_LIST, "[9007199254740993]", ["9007199254740993"]),
    Case(TEXT_LIST, '[1.10,"1.10",2.5,null,1e5]', ["1.10", "1.10", "2.5", None, "1e5"]),
    Case(TEXT_LIST, "[[1.10]]", Misfit()),
    Case(TEXT_LIST, json.dumps(["x"] * 10_000, separators=(",", ":")), ["x"] * 10_000),
    Case(TEXT_LIST, "null", None),
    Case(TEXT_LIST, ABSENT, None),
    Case(TEXT_LIST, '"pi_1"', Misfit()),
    Case(TEXT_LIST, '""', Misfit()),
    Case(TEXT_LIST, '["pi_1",{"id":2}]', Misfit()),
    Case(TEXT_LIST, '[["pi_1"]]', Misfit()),
    Case(TEXT_LIST, '{"0":"pi_1"}', Misfit()),
    # Objects, and lists of them.
    Case(JSON, '{"state":"x","cart_items":[{"cart_item":{"quantity":1}}]}', None),
    Case(JSON, "[]", None),
    Case(JSON, "{}", None),
    Case(JSON, '{"big":123456789012345678901234567890,"text":"a\\u0000b"}', None),
    Case(JSON, '{"big":1234567890123456.78,"small":[1.10,1e5,-0.00001,2.5],"text":"x: 1.10, \\"2.50\\":3.10"}', None),
    Case(JSON, "[" * 300 + "]" * 300, None),
    Case(JSON, "null", None),
    Case(JSON, ABSENT, None),
    Case(JSON, '"text"', Misfit()),
    Case(JSON, '""', Misfit()),
    Case(JSON, "17", Misfit()),
    Case(JSON, "true", Misfit()),
]
# A JSON column keeps what was sent, to the byte once it has no spaces.
CASES = [
    case._replace(stored=case.raw)
    if case.type is JSON and case.stored is None and case.raw not in {"null", ABSENT}
    else case
    for case in CASES
]


def item_of(number: int, case: Case) -> bytes:
    value = "" if case.raw == ABSENT else f',"{case.type.name.lower()}":{case.raw}'
    return f'{{"id":{number}{value}}}'.encode()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Mapping[str, Any]]:
    """All the cases, one row each, from one load; by id."""
    storage = World(tmp_path_factory.mktemp("values"))
    storage.load(VALUES, [item_of(number, case) for number, case in enumerate(CASES)])
    with storage.file.read() as connection:
        rows = connection.execute('FROM commerce."values"')
        names = [column[0] for column in rows.description or []]
        return {row[0]: dict(zip(names, row, strict=True)) for row in rows.fetchall()}


@pytest.mark.parametrize(("number", "case"), [*enumerate(CASES)], ids=map(repr, CASES))
def test_a_value_is_stored_exactly_or_kept_as_it_was_sent(
    stored: Mapping[int, Mapping[str, Any]], number: int, case: Case
) -> None:
    """Fault 38. Fault 39. Fault 40. Fault 42. Fault 43. Fault 45. Fault 47. Fault 48. Fault 49. Fault 50.

    Fault 94.
    """
    row = stored[number]
    field = case.type.name.lower()
    if isinstance(case.stored, Misfit):
        assert row[field] is None
        assert row["_invalid"] == f'{{"{field}":{case.stored.kept or case.raw}}}'
    else:
        assert row[field] == case.stored
        assert type(row[field]) is type(case.stored)
        assert row["_invalid"] is None
    assert row["_extra"] is None
    assert all(row[kind.name.lower()] is None for kind in ColumnType if kind is not case.type)


def test_the_cases_have_good_and_bad_values_of_every_type() -> None:
    for kind in ColumnType:
        outcomes = {isinstance(case.stored, Misfit) for case in CASES if case.type is kind}
        assert outcomes == {True, False}


def test_an_all_null_column_keeps_its_declared_type(tmp_path: Path) -> None:
    """Fault 42."""
    storage = World(tmp_path)
    nothing = {column.name: None for column in PRODUCTS.columns}
    storage.load(PRODUCTS, [nothing | {"id": number} for number in range(3)])
    described = storage.query("DESCRIBE commerce.products")
    assert {name: kind for name, kind, *_ in described} == {c.name: str(c.type) for c in PRODUCTS.stored_columns}
    storage.load(PRODUCTS, [product(1, category="text at last", price="9.00")])
    assert storage.query("SELECT category, price FROM commerce.products WHERE id = 1") == [
        ("text at last", Decimal("9.0000"))
    ]


@pytest.mark.parametrize(
    ("undeclared", "kept"),
    [
        ('"test_mode":true', '{"test_mode":true}'),
        ('"a":null,"b":[1,{"c":2}]', '{"a":null,"b":[1,{"c":2}]}'),
        ('"ID":"not the id"', '{"ID":"not the id"}'),
        ('"_extra":{"x":1},"_invalid":2', '{"_extra":{"x":1},"_invalid":2}'),
        ('"_extracted_at":"1970-01-01T00:00:00Z"', '{"_extracted_at":"1970-01-01T00:00:00Z"}'),
        ('"rate":1.10,"big":[1234567890123456.78]', '{"rate":1.10,"big":[1234567890123456.78]}'),
        ('"":"no name","it\'s; \\"quoted\\"":1', '{"":"no name","it\'s; \\"quoted\\"":1}'),
        ('"deep":' + "[" * 300 + "]" * 300, '{"deep":' + "[" * 300 + "]" * 300 + "}"),
    ],
)
def test_a_field_that_is_not_declared_is_kept_in_extra(tmp_path: Path, undeclared: str, kept: str) -> None:
    """Fault 41. Fault 50. Fault 60. Fault 94."""
    storage = World(tmp_path)
    result = storage.load(PRODUCTS, [f'{{"id":1,"name":"x",{undeclared}}}'.encode()])
    assert result.undeclared == 1
    assert storage.query("SELECT id, name, _extra, _invalid FROM commerce.products") == [(1, "x", kept, None)]


def test_several_misfits_of_one_row_are_all_kept(tmp_path: Path) -> None:
    """Fault 43."""
    storage = World(tmp_path)
    assert storage.load(PRODUCTS, [product(1, price="£9.00", sales_limit="many", pdf_stamping=1)]).invalid == 1
    (kept,) = storage.query("SELECT _invalid FROM commerce.products")
    assert json.loads(kept[0]) == {"price": "£9.00", "sales_limit": "many", "pdf_stamping": 1}


@pytest.mark.parametrize("space", ["", " ", "\t"])
def test_numbers_are_stored_digit_by_digit(tmp_path: Path, space: str) -> None:
    """Fault 94."""
    storage = World(tmp_path)
    raw = '"name":SPACE1.10,"price":SPACE[7.50],"packages":{"a":SPACE1234567890123456.78},"rate":SPACE1.10'
    storage.load(PRODUCTS, [f'{{"id":1,{raw.replace("SPACE", space)}}}'.encode()])
    (row,) = storage.query("SELECT name, _extra, _invalid FROM commerce.products")
    assert row == ("1.10", '{"packages":{"a":1234567890123456.78},"rate":1.10}', '{"price":[7.50]}')


@pytest.mark.parametrize("break_", [b"\n", b"\r\n", b"\r", b"\t"])
def test_line_breaks_between_tokens_do_not_cut_an_item_in_two(tmp_path: Path, break_: bytes) -> None:
    storage = World(tmp_path)
    raw = break_.join([b"{", b'"id"', b":", b"1", b",", b'"name"', b":", b'"a\\nb"', b"}"])
    storage.load(PRODUCTS, [raw, product(2)])
    assert storage.query("SELECT id, name FROM commerce.products ORDER BY id") == [(1, "a\nb"), (2, "Product 2")]


# Random items: whatever is sent is found again.

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(max_size=12)
NUMERALS = st.from_regex(r"[+-]?[0-9]{1,20}(\.[0-9]{1,6})?", fullmatch=True)
INSTANTS = st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda at: at.isoformat() + "Z")  # noqa: DTZ001
ANYTHING = st.recursive(
    SCALARS | TEXTS | NUMERALS | INSTANTS | st.just("true"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def holds(kind: ColumnType, stored: Any, sent: Any) -> bool:
    """Whether the typed value says the same as what was sent."""
    match kind:
        case ColumnType.BIGINT | ColumnType.DECIMAL:
            return not isinstance(sent, bool) and Decimal(str(sent)) == Decimal(stored)
        case ColumnType.BOOLEAN:
            return str(sent).lower() == str(stored).lower() and isinstance(stored, bool)
        case ColumnType.TIMESTAMP:
            return stored is not None and parse_instant(sent) == stored
        case ColumnType.TEXT:
            return says(stored, sent)
        case ColumnType.TEXT_LIST:
            return len(stored) == len(sent) and all(map(says, stored, sent))
        case ColumnType.JSON:
            return same(json.loads(stored), sent)


def says(stored: str | None, sent: Any) -> bool:
    if stored is None or isinstance(sent, str):
        return bool(stored == sent)
    return same(json.loads(stored), sent)


def same(stored: object, sent: object) -> bool:
    """Equal, and True is not 1."""
    return json.dumps(stored, sort_keys=True) == json.dumps(sent, sort_keys=True)


@st.composite
def items(draw: st.DrawFn, endpoint: Endpoint) -> list[dict[str, Any]]:
    facts = {endpoint.primary_key, endpoint.cursor}
    names = [column.name for column in endpoint.columns if column.name not in facts]
    fields = st.dictionaries(
        st.sampled_from(names) | TEXTS.filter(lambda name: name not in facts), ANYTHING, max_size=8
    )
    make = order if endpoint.is_partitioned else product
    return [make(number) | draw(fields) for number in range(draw(st.integers(1, 12)))]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as made:
        yield Path(made)


@pytest.mark.parametrize("endpoint", [ORDERS, PRODUCTS], ids=lambda endpoint: endpoint.name)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(data=st.data())
def test_columns_extra_and_invalid_hold_all_that_was_sent(
    folder: Path, endpoint: Endpoint, data: st.DataObject
) -> None:
    """Fault 39. Fault 41. Fault 43."""
    sent = data.draw(items(endpoint))
    with TemporaryDirectory(dir=folder) as made:
        storage = World(Path(made))
        window = days("2024-03-15") if endpoint.is_partitioned else None
        storage.load(endpoint, sent, window=window, policy=PersonalDataPolicy(capability_urls=Masking.KEEP))
        with storage.file.read() as connection:
            rows = connection.execute(f"FROM commerce.{endpoint.name} ORDER BY id")
            names = [column[0] for column in rows.description or []]
            stored = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    assert len(stored) == len(sent)
    declared = {column.name: column.type for column in endpoint.columns}
    for row, item in zip(stored, sent, strict=True):
        extra = json.loads(row["_extra"] or "{}")
        invalid = json.loads(row["_invalid"] or "{}")
        assert same(extra, {name: value for name, value in item.items() if name not in declared})
        assert invalid.keys() <= item.keys()
        for name, kind in declared.items():
            value = item.get(name)
            if name in invalid:
                assert row[name] is None
                assert same(invalid[name], value)
            elif value is None:
                assert row[name] is None
            else:
                assert row[name] is not None
                assert holds(kind, row[name], value), (name, row[name], value)


DATES = "0001-01-01 0999-06-01 1582-10-10 1900-02-29 1969-12-31 2023-02-29 2024-02-29 2024-13-01 9999-12-31"
TIMES = "00:00 23:59:59 24:00:00 23:59:60 12:60:00 12:00:00.1 12:00:00.123456 12:00:00.123456000"
ZONES = "Z z +00 -00:00 +01:00 -0530 +14 -12:00 +15:59 +23:59 +24:00 -99:99"


def test_client_and_database_read_timestamps_alike(tmp_path: Path) -> None:
    """Fault 45."""
    texts = ["".join(parts) for parts in product_of(DATES.split(), "T ", TIMES.split(), ZONES.split())]
    epoch, microsecond = utc(1970, 1, 1), timedelta(microseconds=1)
    read = {
        number: (instant - epoch) // microsecond
        for number, text in enumerate(texts)
        if (instant := parse_instant(text))
    }
    assert len(read) > 100
    storage = World(tmp_path)
    storage.load(VALUES, [{"id": number, "timestamp": text} for number, text in enumerate(texts)])
    stored = storage.query('SELECT id, epoch_us("timestamp") FROM commerce."values"')
    assert {number: moment for number, moment in stored if number in read} == read
