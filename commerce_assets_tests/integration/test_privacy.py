"""Personal data and capability URLs: what is to be hashed or dropped is stored so, and is nowhere in clear."""

import hmac
import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dagster import AssetKey

from commerce_assets.analytics.tables import MODELS
from commerce_assets.defs.metadata import definition_metadata
from commerce_assets.endpoint import EXTRA, Column, ColumnType, Endpoint, Sensitivity
from commerce_assets.warehouse.load import LoadResult
from commerce_assets.warehouse.privacy.expressions import bind_key, hashed, masked
from commerce_assets.warehouse.privacy.policy import DEFAULT_POLICY, Masking, PersonalDataPolicy
from commerce_assets_tests.support.expected import Row, without_urls
from commerce_assets_tests.support.items import BY_NAME, ORDERS, PRODUCTS, days, order, product
from commerce_assets_tests.support.world import World, counts
from sample_store.shop import Shop, build_orders

KEEP, HASH, DROP = Masking
KEY, OTHER_KEY = "a key that nobody can guess", "another key that nobody can guess"
CANARY = "canary"
EMAIL = f"{CANARY}@x.example"
WINDOW = days("2024-03-15")
KEPT = PersonalDataPolicy(capability_urls=KEEP)
HASHED = PersonalDataPolicy(personal=HASH, key=KEY)
HASHED_WITH_ANOTHER_KEY = PersonalDataPolicy(personal=HASH, key=OTHER_KEY)
DROPPED = PersonalDataPolicy(personal=DROP)
# Some columns of each kind: all of them take a while to plan. The whole project is tested with all of them.
SOME_COLUMNS = {
    *("id", "order_name", "state", "settled_gross", "refunded", "created_at", "updated_at"),
    *("buyer_email", "buyer_name", "giftee_email", "buyer_ip_address", "order_custom_checkout_fields"),
    *("download_url", "subscription_management_url", "download_items", "downloads"),
}
SOME = replace(
    ORDERS, columns=tuple(column for column in ORDERS.columns if column.name in SOME_COLUMNS), item_lookup=None
)
PERSONAL = [column for column in SOME.columns if column.sensitivity is Sensitivity.PERSONAL]


def digest(value: str, key: str = KEY) -> str:
    composed = unicodedata.normalize("NFC", value.strip(" \t\r\n"))
    return hmac.new(key.encode(), composed.lower().encode(), "sha256").hexdigest()


@pytest.fixture
def session() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def put(storage: World, policy: PersonalDataPolicy, *items: dict[str, Any], **options: Any) -> LoadResult:
    return storage.load(SOME, items, window=WINDOW, policy=policy, **options)


def stored_row(storage: World, number: int = 1) -> Row:
    with storage.file.read() as connection:
        rows = connection.execute("FROM commerce.orders WHERE id = ?", [number])
        names = [column[0] for column in rows.description or []]
        row = dict(zip(names, rows.fetchall()[0], strict=True))
    of_json = {column.name for column in SOME.stored_columns if column.type is ColumnType.JSON}
    return {name: json.loads(value) if name in of_json and value else value for name, value in row.items()}


# The policy.


@pytest.mark.parametrize(
    ("text", "personal", "exceptions"),
    [
        ("keep", KEEP, {}),
        (" Hash ", HASH, {}),
        ("DROP", DROP, {}),
        (
            "hash, orders.buyer_email=keep,orders.buyer_ip_address = Drop",
            HASH,
            {"orders.buyer_email": KEEP, "orders.buyer_ip_address": DROP},
        ),
    ],
)
def test_a_policy_is_a_word_and_exceptions_from_it(text: str, personal: Masking, exceptions: dict[str, str]) -> None:
    policy = PersonalDataPolicy.parse(text)
    assert (policy.personal, policy.exceptions, policy.capability_urls) == (personal, exceptions, DROP)
    assert PersonalDataPolicy.parse(str(policy)) == policy


@pytest.mark.parametrize(
    ("policy", "column", "masking"),
    [
        ("keep", "buyer_email", KEEP),
        ("hash", "buyer_email", HASH),
        ("drop", "order_custom_checkout_fields", DROP),
        ("hash, orders.buyer_email=keep", "buyer_email", KEEP),
        ("keep, orders.buyer_email=drop", "buyer_email", DROP),
        ("keep, orders.buyer_email=drop", "buyer_name", KEEP),
        ("drop", "state", KEEP),
        ("keep", "download_url", DROP),
        ("hash", "download_items", DROP),
        ("keep, orders.buyer_email=drop", "_extra", KEEP),
        ("hash, orders.buyer_email=keep", "_extra", DROP),
        ("drop", "_extra", DROP),
    ],
)
def test_a_column_has_the_policy_of_its_exception_or_kind(policy: str, column: str, masking: Masking) -> None:
    named = next(each for each in ORDERS.stored_columns if each.name == column)
    assert PersonalDataPolicy.parse(policy).masking_of(ORDERS, named) is masking


def test_a_policy_does_not_show_its_key() -> None:
    """Fault 65."""
    assert KEY not in f"{HASHED!r} {HASHED}"


@pytest.mark.parametrize("sensitivity", [Sensitivity.PERSONAL, Sensitivity.CAPABILITY])
@pytest.mark.parametrize("kind", [ColumnType.BIGINT, ColumnType.TEXT_LIST, ColumnType.TIMESTAMP])
def test_a_personal_column_must_be_able_to_hold_a_hash(sensitivity: Sensitivity, kind: ColumnType) -> None:
    with pytest.raises(ValueError, match=r"'born_on' is .*: its type must be TEXT or JSON"):
        Column(name="born_on", type=kind, description="", sensitivity=sensitivity)


@pytest.mark.parametrize(("policy", "masking"), [(DEFAULT_POLICY, "keep"), (HASHED, "hash"), (DROPPED, "drop")])
def test_the_tags_of_a_column_say_what_is_stored_of_it(policy: PersonalDataPolicy, masking: str) -> None:
    def tags(endpoint: Endpoint) -> dict[str, dict[str, str]]:
        schema: Any = definition_metadata(endpoint, policy)["dagster/column_schema"]
        return {column.name: dict(column.tags) for column in schema.columns}

    assert tags(ORDERS)["buyer_email"] == {"sensitivity": "personal", "masking": masking}
    assert tags(ORDERS)["download_url"] == {"sensitivity": "capability", "masking": "drop"}
    assert tags(ORDERS)["state"] == {}
    assert tags(PRODUCTS)["self_hosted_url"] == {"sensitivity": "private"}


# What is left of a value.


@pytest.mark.parametrize("key", [KEY, "k" * 64, "k" * 65, "ключ" * 40])
def test_a_hash_is_the_hmac_of_the_trimmed_lower_cased_text(session: duckdb.DuckDBPyConnection, key: str) -> None:
    texts = ["ann@x.com", " Ann@X.COM\r\n", "", " ", "Jürgen Groß", "МАРИЯ", "佐藤 花子", "a\0b", "x" * 10_000, "it's"]
    bind_key(session, key)
    found = session.execute(f"SELECT {hashed('t')} FROM (SELECT unnest($1) AS t)", [texts]).fetchall()
    assert [each for (each,) in found] == [digest(text, key) if text.strip() else "" for text in texts]
    assert session.execute(f"SELECT {hashed('NULL')}").fetchall() == [(None,)]


def test_composed_and_decomposed_addresses_have_one_hash(session: duckdb.DuckDBPyConnection) -> None:
    """Fault 95."""
    texts = [unicodedata.normalize(form, "Zoë@müller.example") for form in ("NFC", "NFD")]
    assert texts[0] != texts[1]
    bind_key(session, KEY)
    found = session.execute(f"SELECT DISTINCT {hashed('t')} FROM (SELECT unnest($1) AS t)", [texts]).fetchall()
    assert found == [(digest(texts[0]),)]


@pytest.mark.parametrize("policy", [HASHED, DROPPED])
def test_an_undeclared_phone_number_is_not_kept(storage: World, policy: PersonalDataPolicy) -> None:
    """Fault 97."""
    put(storage, policy, order(1, phone=491701234567, born=19800229.5, newsletter=True, note=None))
    assert stored_row(storage)["_extra"] == {"phone": None, "born": None, "newsletter": True, "note": None}


DOWNLOADS = ORDERS.column("downloads")


@pytest.mark.parametrize(
    "sent",
    [
        r'[{"download_item":{"name":"A song","url":"https://x.example/1","accessible":true,"size":1.50}}]',
        r'[{"url":"https:\/\/x.example\/1"},{"url":"https:\u002f\u002Fx"},{"url":"https\u003A//x"},{"url":"a://b"}]',
        r'["https://x.example/\"quoted\"","no url: // here","say \"x://y\" now","\\","x://\\"]',
        r'["a \" b","c://d","e"]',
        r'["\"","\"://\"","\\\"","plain"]',
        r'{"a":["://",["x://y"],{}],"b":null,"c":[],"d":"http:/one"}',
        '[ "x://y" , { "u" : "x://y" } ]',
        '"x://y"',
        '"x"',
        "[]",
    ],
)
def test_of_json_with_urls_all_but_these_is_left(session: duckdb.DuckDBPyConnection, sent: str) -> None:
    ((left,),) = session.execute(f"SELECT {masked('$1::JSON', DOWNLOADS, DROP)}", [sent]).fetchall()
    assert json.loads(left) == without_urls(json.loads(sent))
    assert masked("x", DOWNLOADS, KEEP) == "x"


def test_a_url_that_is_the_name_of_a_member_is_not_left_either(session: duckdb.DuckDBPyConnection) -> None:
    sent = '{"https://x.example/1":{"name":"x"},"b" : 1}'
    ((left,),) = session.execute(f"SELECT {masked('$1::JSON', DOWNLOADS, DROP)}", [sent]).fetchall()
    assert json.loads(left) == {"url": {"name": "x"}, "b": 1}


def test_of_undeclared_fields_names_and_flags_are_left(session: duckdb.DuckDBPyConnection) -> None:
    """Fault 97."""
    sent = (
        '{"a":"text","b":17.50,"c":true,"d":null,"e":{"f":1},"g":["x"],"":"","it\'s \\"q\\"":12345678901234567890123,'
        '"h":" Yes\\n","i":0,"j":"1.0"}'
    )
    ((left,),) = session.execute(f"SELECT {masked('$1::JSON', EXTRA, DROP)}", [sent]).fetchall()
    expected = {
        "a": None,
        "b": None,
        "c": True,
        "d": None,
        "e": None,
        "g": None,
        "": None,
        "h": " Yes\n",
        "i": 0,
        "j": None,
    }
    assert json.loads(left) == expected | {'it\'s "q"': None}
    assert session.execute(f"SELECT {masked('NULL::JSON', EXTRA, DROP)}").fetchall() == [(None,)]


# At load.

FULL = order(
    1,
    **{column.name: f" {column.name} of Canary" for column in PERSONAL if column.type is ColumnType.TEXT},
    order_custom_checkout_fields=[{"name": "Name?", "value": CANARY}],
    download_url=f"https://x.example/{CANARY}",
    subscription_management_url=f"https://x.example/manage/{CANARY}",
    download_items=[{"download_item": {"name": "Song", "url": f"https://x.example/{CANARY}", "accessible": True}}],
    downloads=[{"link": f"https://x.example/{CANARY}"}],
    settled_gross="9.00",
    phone=CANARY,
    age=40,
)
MISFITS = order(
    2,
    buyer_email={"address": CANARY},
    order_custom_checkout_fields=CANARY,
    download_url=[f"https://x.example/{CANARY}"],
    download_items=f"https://x.example/{CANARY}",
    downloads=17,
    settled_gross="free",
)


def test_by_default_personal_data_is_kept_and_urls_are_not(storage: World) -> None:
    storage.load(SOME, [FULL, MISFITS], window=WINDOW)
    row = stored_row(storage)
    assert [row[column.name] for column in PERSONAL] == [FULL[column.name] for column in PERSONAL]
    assert (row["download_url"], row["subscription_management_url"]) == (None, None)
    assert row["download_items"] == [{"download_item": {"name": "Song", "url": None, "accessible": True}}]
    assert row["downloads"] == [{"link": None}]
    assert row["_extra"] == {"phone": CANARY, "age": 40}
    assert stored_row(storage, 2)["_invalid"] == {
        "buyer_email": {"address": CANARY},
        "order_custom_checkout_fields": CANARY,
        "download_url": None,
        "download_items": None,
        "downloads": 17,
        "settled_gross": "free",
    }


def test_capability_urls_are_kept_if_they_are_asked_for(storage: World) -> None:
    put(storage, KEPT, FULL, MISFITS)
    row = stored_row(storage)
    for name in ("download_url", "subscription_management_url", "download_items", "downloads"):
        assert row[name] == FULL[name]
    assert stored_row(storage, 2)["_invalid"].items() <= MISFITS.items()


def test_what_is_dropped_is_null_and_a_check_can_still_name_it(storage: World) -> None:
    result = put(storage, DROPPED, FULL, MISFITS)
    row = stored_row(storage)
    assert {row[column.name] for column in PERSONAL} == {None}
    assert (row["settled_gross"], row["_extra"], row["_invalid"]) == (9, {"phone": None, "age": None}, None)
    assert stored_row(storage, 2)["_invalid"] == {
        "buyer_email": None,
        "order_custom_checkout_fields": None,
        "download_url": None,
        "download_items": None,
        "downloads": 17,
        "settled_gross": "free",
    }
    assert (result.invalid, result.undeclared) == (1, 1)


def test_hashed_values_can_be_joined_and_keep_their_type(storage: World) -> None:
    put(storage, HASHED, FULL, MISFITS, order(3, buyer_email="Ann@X.com ", giftee_email="ann@x.com"))
    row = stored_row(storage)
    for column in PERSONAL:
        if column.type is ColumnType.TEXT:
            assert row[column.name] == digest(FULL[column.name])
    assert row["order_custom_checkout_fields"] == digest('[{"name":"Name?","value":"canary"}]')
    assert stored_row(storage, 2)["_invalid"] == {
        "buyer_email": digest('{"address":"canary"}'),
        "order_custom_checkout_fields": digest('"canary"'),
        "download_url": None,
        "download_items": None,
        "downloads": 17,
        "settled_gross": "free",
    }
    assert storage.query("SELECT id FROM commerce.orders WHERE buyer_email = giftee_email") == [(3,)]
    assert stored_row(storage, 3)["buyer_name"] is None


def test_an_exception_counts_for_its_column_alone(storage: World) -> None:
    text = "hash, orders.buyer_email=keep, orders.buyer_ip_address=drop"
    put(storage, PersonalDataPolicy.parse(text).with_key(KEY), FULL)
    row = stored_row(storage)
    assert row["buyer_email"] == FULL["buyer_email"]
    assert row["buyer_ip_address"] is None
    assert row["buyer_name"] == digest(FULL["buyer_name"])


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, KEPT, HASHED, DROPPED], ids=["default", "keep", "hash", "drop"])
def test_the_same_rows_again_are_as_they_were(storage: World, policy: PersonalDataPolicy) -> None:
    """Fault 55."""
    put(storage, policy, FULL, MISFITS)
    again = put(storage, policy, FULL, MISFITS)
    assert (counts(again), again.notes) == ((0, 0, 2, 0), [])


def test_a_change_of_a_hashed_value_counts_of_a_dropped_not(storage: World) -> None:
    changed = order(1, buyer_name="Bob", buyer_email="ANN@x.com")
    for policy, updated in ((HASHED, 1), (DROPPED, 0)):
        put(storage, policy, order(1, buyer_name="Ann", buyer_email="ann@x.com"))
        assert put(storage, policy, changed).updated == updated


# When the policy changes.

TABLE = "SELECT * EXCLUDE (_extracted_at) FROM commerce.orders ORDER BY id"


@pytest.fixture(scope="module")
def loaded_at_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[PersonalDataPolicy], list[tuple[Any, ...]]]:
    """What a table holds that has known one policy only."""
    tables: dict[str, list[tuple[Any, ...]]] = {}

    def table_of(policy: PersonalDataPolicy) -> list[tuple[Any, ...]]:
        name = f"{policy} {policy.capability_urls} {policy.key}"
        if name not in tables:
            storage = World(tmp_path_factory.mktemp("at-once"))
            put(storage, policy, FULL, MISFITS, order(3))
            tables[name] = storage.query(TABLE)
        return tables[name]

    return table_of


@pytest.mark.parametrize(
    ("before", "after"),
    [(KEPT, DEFAULT_POLICY), (KEPT, HASHED), (DEFAULT_POLICY, DROPPED), (HASHED, DROPPED)],
    ids=["keep URLs to default", "keep to hash", "default to drop", "hash to drop"],
)
def test_stored_rows_follow_a_stricter_policy_with_any_load(
    storage: World,
    loaded_at_once: Callable[[PersonalDataPolicy], list[tuple[Any, ...]]],
    before: PersonalDataPolicy,
    after: PersonalDataPolicy,
) -> None:
    put(storage, before, FULL, MISFITS, order(3))

    result = storage.load(SOME, [], window=days("2024-03-20"), policy=after)

    assert "applied the policy for personal data to 2 stored rows: " in str(result)
    assert storage.query(TABLE) == loaded_at_once(after)
    assert storage.query("SELECT count(*) FROM commerce.orders WHERE _extracted_at IS NULL") == [(0,)]
    again = put(storage, after, FULL, MISFITS, order(3))
    assert (counts(again), again.notes) == ((0, 0, 3, 0), [])


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (HASHED, KEPT, "buyer_email (hash to keep), "),
        (DROPPED, KEPT, "download_url (drop to keep), "),
        (DROPPED, HASHED, "buyer_email (drop to hash)"),
        (HASHED, HASHED_WITH_ANOTHER_KEY, "buyer_email (another key)"),
    ],
)
def test_what_a_policy_cannot_undo_ends_with_the_next_pull(
    storage: World,
    loaded_at_once: Callable[[PersonalDataPolicy], list[tuple[Any, ...]]],
    before: PersonalDataPolicy,
    after: PersonalDataPolicy,
    says: str,
) -> None:
    put(storage, before, FULL, MISFITS, order(3))

    result = storage.load(SOME, [], window=days("2024-03-20"), policy=after)

    (note,) = result.notes
    assert "they keep their values until they are extracted again: " in note
    assert says in note
    assert storage.query(TABLE) == loaded_at_once(before)
    assert put(storage, after, FULL, MISFITS, order(3)).notes == []
    assert storage.query(TABLE) == loaded_at_once(after)


@pytest.mark.parametrize("still_kept", [True, False])
def test_versions_of_rows_follow_a_stricter_policy_too(storage: World, *, still_kept: bool) -> None:
    with_versions = replace(SOME, keeps_versions=True)
    for item in (FULL, FULL | {"updated_at": "2024-03-16T00:00:00Z"}):
        storage.load(with_versions, [item], window=WINDOW)
    storage.load(with_versions if still_kept else SOME, [], window=days("2024-03-20"), policy=HASHED)
    assert storage.query("SELECT buyer_name, valid_to IS NULL FROM commerce.orders_history ORDER BY ALL") == [
        (digest(FULL["buyer_name"]), False),
        (digest(FULL["buyer_name"]), True),
    ]


def test_what_has_been_hashed_is_not_hashed_again(storage: World) -> None:
    put(storage, HASHED, FULL, MISFITS)
    first, second = stored_row(storage), stored_row(storage, 2)
    storage.load(SOME, [], window=days("2024-03-20"), policy=DEFAULT_POLICY)
    storage.load(SOME, [], window=days("2024-03-20"), policy=HASHED)
    assert (stored_row(storage), stored_row(storage, 2)) == (first, second)


def test_a_table_from_before_the_policy_follows_it_too(storage: World) -> None:
    put(storage, KEPT, FULL)
    storage.execute("DROP TABLE commerce_loads.maskings")
    storage.load(SOME, [], window=days("2024-03-20"))
    assert stored_row(storage)["download_url"] is None


def test_each_endpoint_follows_with_its_own_load(storage: World) -> None:
    storage.load(PRODUCTS, [product(1, unknown=CANARY)])
    put(storage, DROPPED, FULL)
    assert storage.query("SELECT _extra FROM commerce.products") == [('{"unknown":"canary"}',)]
    storage.load(PRODUCTS, [product(2)], policy=DROPPED)
    assert storage.query("SELECT _extra FROM commerce.products WHERE id = 1") == [('{"unknown":null}',)]


# What must lie nowhere.


def found_in(folder: Path) -> set[str]:
    """The files that hold the canary, whatever it is written like."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name for path in files if CANARY.encode() in path.read_bytes().lower()}


@pytest.mark.parametrize(
    ("settings", "stored_email"),
    [
        ({}, EMAIL),
        ({"COMMERCE_PERSONAL_DATA": "hash", "COMMERCE_PERSONAL_DATA_KEY": KEY}, digest(EMAIL)),
        ({"COMMERCE_PERSONAL_DATA": "drop"}, None),
    ],
    ids=["keep", "hash", "drop"],
)
def test_a_hashed_or_dropped_buyer_is_in_no_file(
    project: World, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], stored_email: str | None
) -> None:
    """Faults 65, 66."""
    now = datetime.now(UTC)
    day = (now - timedelta(days=2)).date()
    orders = build_orders(start=datetime(day.year, day.month, day.day, tzinfo=UTC), days=1, per_day=20)
    orders[3] |= {name: FULL[name] for name in FULL if name not in {"id", "created_at", "updated_at"}}
    orders[4] |= {name: MISFITS[name] for name in MISFITS if name not in {"id", "created_at", "updated_at"}}
    project.store.shop = Shop(orders=orders)
    project.store.touch()
    project.settings |= settings
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    runs = [project.run("orders", days=(day, day))]
    project.store.update_order(orders[5]["id"], buyer_email=EMAIL, refunded=True)
    runs.append(project.run("orders_refresh"))

    assert project.query("SELECT count(*), count_if(refunded) FROM orders") == [(20, 1)]
    assert bool(found_in(project.folder)) == (stored_email == EMAIL)
    events = [event for run in runs for event in project.instance.all_logs(run.run_id)]
    assert CANARY not in repr(events).lower()
    assert KEY not in repr(events)
    assert all(KEY.encode() not in path.read_bytes() for path in project.folder.rglob("*") if path.is_file())
    row = project.rows(BY_NAME["orders"])[orders[5]["id"]]
    assert row["buyer_email"] == stored_email


@pytest.mark.file
@pytest.mark.parametrize(
    "settings",
    [{"COMMERCE_PERSONAL_DATA": "hash", "COMMERCE_PERSONAL_DATA_KEY": KEY}, {"COMMERCE_PERSONAL_DATA": "drop"}],
    ids=["hash", "drop"],
)
def test_after_a_stricter_policy_no_byte_of_the_file_is_raw(
    project: World, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    """Faults 65, 66, 106."""
    day = (datetime.now(UTC) - timedelta(days=2)).date()
    orders = build_orders(start=datetime(day.year, day.month, day.day, tzinfo=UTC), days=1, per_day=200)
    for number, item in enumerate(orders):
        item["buyer_email"] = f"{number}-{EMAIL}"
    project.store.shop = Shop(orders=orders)
    project.settings["COMMERCE_ORDER_HISTORY"] = "true"

    def build_customers() -> None:
        job = project.definitions.resolve_job_def("analytics")
        personal = [AssetKey(model.name) for model in MODELS if any(c.sensitivity for c in model.columns)]
        job.execute_in_process(instance=project.instance, asset_selection=personal)

    project.run("orders", days=(day, day))
    build_customers()
    assert found_in(project.folder) == {project.path.name}

    project.settings |= settings
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    project.run("orders_refresh")
    assert project.query("SELECT count(*) FROM orders WHERE buyer_email LIKE '%@%'") == [(0,)]
    # The tables with customers are built from orders and have not been rebuilt yet.
    assert found_in(project.folder) == {project.path.name}
    build_customers()

    assert found_in(project.folder) == set()
    assert project.query("SELECT count(*) FROM orders") == [(200,)]
    assert project.query("SELECT count(*) FROM orders_history") == [(200,)]


@pytest.mark.file
def test_the_load_of_a_stricter_policy_leaves_no_old_block(storage: World) -> None:
    """Faults 65, 66, 106."""
    items = [order(number, buyer_email=f"{number}-{EMAIL}") for number in range(2_000)]
    storage.load(ORDERS, items, window=WINDOW)
    assert CANARY.encode() in storage.path.read_bytes()

    storage.load(ORDERS, [], window=days("2024-03-20"), policy=DROPPED)

    assert storage.query("SELECT count(*), count(buyer_email) FROM commerce.orders") == [(2_000, 0)]
    assert CANARY.encode() not in storage.path.read_bytes()


def test_a_missing_hash_key_fails_before_the_pull(project: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 67."""
    project.settings |= {"COMMERCE_PERSONAL_DATA": "hash", "COMMERCE_PERSONAL_DATA_KEY": KEY}
    monkeypatch.setenv("COMMERCE_PERSONAL_DATA_KEY", " ")

    result = project.run("orders", days=(date(2024, 1, 1), date(2024, 1, 1)), expect_success=False)

    assert "COMMERCE_PERSONAL_DATA_KEY is not set" in str(result.get_step_failure_events())
    assert project.requests() == 0
