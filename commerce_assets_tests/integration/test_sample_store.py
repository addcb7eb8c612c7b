"""The sample store keeps to the API's reference pages: what the other tests pull from must be right itself."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from commerce_assets.api.client import CommerceClient
from commerce_assets.api.decoding import PageDecoder
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.api.request import ListRequest
from commerce_assets.cli.main import main as commerce_assets
from commerce_assets.endpoint import Column, ColumnType, Endpoint, PageNumberPaginatorConfig
from commerce_assets.window import Window
from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.__main__ import main
from sample_store.dialect import Dialect
from sample_store.server import serve
from sample_store.shop import Shop, build_orders, build_shop
from sample_store.store import SampleStore
from sample_store.values import Item

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)


def names(text: str) -> set[str]:
    return set(text.split())


LINK_FIELDS = "product_image_url instant_buy_url sales_page_url"
PRODUCT_FIELDS = names(
    f"""
    id product_type name category subcategory attachment price currency_code pdf_stamping sales_limit self_hosted_url
    license_type license_fetch_url shopify_variant_id custom_field {LINK_FIELDS} add_to_cart_url price_is_minimum
    limit_to_single_qty_in_cart affiliate_sellable download_folder commission_rate weight drip_items created_at
    updated_at
    """
)
PACKAGE_FIELDS = names(
    f"""
    id name category subcategory price currency_code custom_field components shopify_variant_id {LINK_FIELDS}
    add_to_cart_url price_is_minimum limit_to_single_qty_in_cart affiliate_sellable commission_rate created_at
    updated_at access_all_products access_after_order_creation access_after_order_creation_includes_previous
    """
)
SUBSCRIPTION_FIELDS = names(
    f"""
    id name category subcategory trial_price trial_frequency trial_no_of_occurrences recurring_price frequency
    frequency_interval frequency_value recurring_type no_of_occurrences access_all_products access_drip
    access_subset_products components sell_tangible_product sell_service perform_redirect redirect_url custom_field
    currency_code {LINK_FIELDS} affiliate_sellable commission_rate drip_items created_at updated_at
    """
)
ORDER_FIELDS = names(
    """
    id order_name state gateway payment_method buyer_email buyer_name paypal_email giftee_name giftee_email
    gift_deliver_at business_name business_vat_number shipping_address1 shipping_address2 shipping_city
    shipping_region shipping_postcode shipping_country billing_address1 billing_address2 billing_city billing_region
    billing_postcode billing_country buyer_ip_address eu_resolved_country settled_currency settled_gross
    settled_gateway_fee settled_tax settled_handling settled_shipping settled_affiliate_fee accounted_tax discount
    price_at_checkout refunded refund_transactions affiliate_system can_market_to_buyer gateway_transaction_ids cart
    subscription_id download_url subscription_management_url download_items downloads order_custom_checkout_fields
    valid_until dispatched_at download_attempts access_allowed tag created_at updated_at
    """
)

MONEY = {
    *("settled_gross", "settled_gateway_fee", "settled_tax", "settled_handling", "settled_shipping"),
    *("settled_affiliate_fee", "accounted_tax", "discount", "price_at_checkout"),
    *("price", "trial_price", "recurring_price", "weight"),
}
DECIMAL_OR_NUMBER = {"price", "commission_rate"}
TIMES = {"gift_deliver_at", "valid_until", "dispatched_at", "created_at", "updated_at"}
FLAGS = {
    *("refunded", "can_market_to_buyer", "access_allowed", "pdf_stamping", "price_is_minimum", "affiliate_sellable"),
    *("limit_to_single_qty_in_cart", "access_all_products", "access_drip", "access_subset_products"),
    *("access_after_order_creation", "access_after_order_creation_includes_previous"),
    *("sell_tangible_product", "sell_service", "perform_redirect"),
}
COUNTS = {
    *("id", "sales_limit", "shopify_variant_id", "trial_no_of_occurrences", "frequency_value", "no_of_occurrences"),
    *("subscription_id", "download_attempts"),
}
LISTS = {
    *("refund_transactions", "gateway_transaction_ids", "download_items", "downloads"),
    *("order_custom_checkout_fields", "drip_items"),
}
OBJECTS = {"attachment", "components", "cart"}


class Client:
    """Asks a running store, by default with the right credentials and headers."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.session = requests.Session()
        self.session.auth = (SAMPLE_API_KEY, SAMPLE_API_SECRET)
        self.session.headers["Accept"] = "application/json"

    def get(self, path: str, **query: object) -> requests.Response:
        return self.session.get(self.base_url + path, params={name: str(value) for name, value in query.items()})

    def ids(self, path: str = ORDERS_PATH, **query: object) -> list[int]:
        response = self.get(path, **query)
        assert response.status_code == 200, response.text
        return [item["id"] for entry in response.json() for item in entry.values()]

    def orders(self, **query: object) -> list[Item]:
        return [entry["order"] for entry in self.get(ORDERS_PATH, **query).json()]


@contextmanager
def client_of(store: SampleStore) -> Iterator[Client]:
    with serve(store) as server:
        client = Client(server.base_url)
        with client.session:
            yield client


def order(order_id: int, created_at: str, **fields: object) -> Item:
    item = build_orders(start=NOW, days=1, per_day=1, first_id=order_id)[0]
    return item | {"created_at": created_at, "updated_at": created_at} | fields


@pytest.fixture(scope="module")
def shop() -> Shop:
    return build_shop(now=NOW, days=120)


@pytest.fixture(scope="module")
def client(shop: Shop) -> Iterator[Client]:
    """A store that no test changes."""
    with client_of(SampleStore(shop)) as client:
        yield client


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[SampleStore, Client]]:
    store = SampleStore(Shop())
    with client_of(store) as client:
        yield store, client


@pytest.fixture
def store(served: tuple[SampleStore, Client]) -> SampleStore:
    """A store of three orders a day apart, put back before each test that changes it."""
    store, _ = served
    store.shop = Shop(orders=[order(number, f"2026-03-0{number}T12:00:00Z") for number in (1, 2, 3)])
    store.dialect = Dialect()
    store.touch()
    return store


@pytest.fixture
def changing(store: SampleStore, served: tuple[SampleStore, Client]) -> Client:  # noqa: ARG001 - puts it back
    return served[1]


# Transport


@pytest.mark.parametrize("auth", [None, (SAMPLE_API_KEY, "wrong"), ("wrong", SAMPLE_API_SECRET), ("", "")])
def test_bad_credentials_are_refused_with_a_json_body(client: Client, auth: tuple[str, str] | None) -> None:
    response = requests.get(f"{client.base_url}products", auth=auth, headers={"Accept": "application/json"}, timeout=5)
    assert response.status_code == 401
    assert "error" in response.json()


@pytest.mark.parametrize("header", ["Basic", "Basic ?", "Basic ÿ", "Bearer c2FtcGxlLWtleTpzYW1wbGUtc2VjcmV0"])
def test_a_malformed_authorization_header_is_refused(client: Client, header: str) -> None:
    headers: dict[str, str | bytes] = {"Accept": "application/json", "Authorization": header.encode("latin-1")}
    assert requests.get(f"{client.base_url}products", headers=headers, timeout=5).status_code == 401


@pytest.mark.parametrize("accept", [None, "*/*", "text/html", "application/xml", "application/jsonp"])
def test_an_accept_header_without_json_gets_the_valid_options(client: Client, accept: str | None) -> None:
    response = requests.get(
        f"{client.base_url}products", auth=client.session.auth, headers={"Accept": accept}, timeout=5
    )
    assert response.status_code == 415
    assert "application/json" in response.text


@pytest.mark.parametrize("accept", ["application/json", "text/html, application/json;q=0.9", "Application/JSON"])
def test_an_accept_header_that_names_json_is_enough(client: Client, accept: str) -> None:
    response = requests.get(
        f"{client.base_url}products", auth=client.session.auth, headers={"Accept": accept}, timeout=5
    )
    assert response.status_code == 200


def test_an_answer_is_dated_utf8_json(client: Client) -> None:
    response = client.get("products", per_page=50)
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert "date" in response.headers
    assert "Søndag Grotesk" in response.content.decode()


@pytest.mark.parametrize(
    "path",
    ["", "discounts", "../v1_3/products", "../v2/orders", "products/999", "products/x", "packages/1", "orders/0"],
)
def test_an_unknown_path_is_not_found(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_each_request_is_logged_with_its_answers_status() -> None:
    store = SampleStore(Shop())
    with client_of(store) as client:
        client.get("products", page=2)
        client.get(ORDERS_PATH, page=0)
    (logged,) = store.requests_to("/orders")
    assert (logged.path, logged.query, logged.status) == ("/api/v1_3/orders", {"page": "0"}, 422)
    assert [request.status for request in store.requests] == [200, 422]


# Pages


def test_ten_items_are_a_page_unless_asked_otherwise(client: Client) -> None:
    assert len(client.ids("products")) == 10
    assert len(client.ids("products", per_page=17)) == 17


@pytest.mark.parametrize(("page", "expected"), [(1, range(1, 11)), (2, range(11, 21)), (3, range(21, 26))])
def test_pages_follow_one_another_and_the_last_is_short(client: Client, page: int, expected: range) -> None:
    assert client.ids("products", page=page) == list(expected)


@pytest.mark.parametrize("path", ["products", "packages", "subscriptions", ORDERS_PATH, "orders"])
def test_a_page_beyond_the_last_is_an_empty_list(client: Client, path: str) -> None:
    assert client.get(path, page=10_000).json() == []


def test_more_than_fifty_a_page_are_clamped_to_fifty(client: Client) -> None:
    assert len(client.ids(per_page=51)) == 50


def test_a_list_can_come_as_one_object(store: SampleStore, changing: Client) -> None:
    store.dialect.wrapped = "object"
    body = changing.get(ORDERS_PATH).json()
    assert [item["id"] for item in body["orders"]] == [1, 2, 3]
    assert changing.get("products").json() == {"products": []}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("page", value) for value in ("0", "-1", "x", "1.5", "", "9" * 12)),
        *(("per_page", value) for value in ("0", "x")),
        *(
            (field, value)
            for field in ("from", "to")
            for value in ("x", "2026-02-30", "20260201", "2026-02-01T00:00:00Z")
        ),
        *(("updated_after", value) for value in ("x", "2026-02-01", "2026-02-01T00:00:00")),
    ],
)
def test_a_bad_parameter_gets_pairs_of_field_and_message(client: Client, field: str, value: str) -> None:
    response = client.get(ORDERS_PATH, **{field: value})
    assert response.status_code == 422
    [[named, message]] = response.json()
    assert named == field
    assert message.startswith(("must be", "is not"))


def test_every_bad_parameter_is_named(client: Client) -> None:
    response = client.get(ORDERS_PATH, updated_after="z", **{"from": "x", "to": "y"})
    assert [field for field, _ in response.json()] == ["from", "to", "updated_after"]


# Filters


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [1, 2, 3]),
        ({"from": "2026-03-02"}, [2, 3]),
        ({"to": "2026-03-02"}, [1, 2]),
        ({"from": "2026-03-02", "to": "2026-03-02"}, [2]),
        ({"from": "2026-03-03", "to": "2026-03-01"}, []),
        ({"from": "2026-03-02", "sort": "newest_first"}, [3, 2]),
        ({"sort": "newest_first"}, [3, 2, 1]),
        ({"referred_by": "ann"}, [1, 2, 3]),
    ],
)
def test_orders_are_selected_by_the_day_of_their_creation(
    changing: Client, query: dict[str, str], expected: list[int]
) -> None:
    assert changing.ids(**query) == expected


def test_to_is_exclusive_where_the_dialect_says_so(store: SampleStore, changing: Client) -> None:
    store.dialect.to_is_inclusive = False
    assert changing.ids(**{"from": "2026-03-01", "to": "2026-03-02"}) == [1]


@pytest.mark.parametrize(("zone", "expected"), [("UTC", [7]), ("America/New_York", []), ("Asia/Tokyo", [8, 7])])
def test_days_lie_in_the_dialects_zone(store: SampleStore, changing: Client, zone: str, expected: list[int]) -> None:
    # 3 March begins at 05:00Z in New York, and at 15:00Z of 2 March in Tokyo.
    store.shop.orders = [order(8, "2026-03-02T15:00:00Z"), order(7, "2026-03-03T04:59:59Z")]
    store.touch()
    store.dialect.day_zone = zone
    assert changing.ids(**{"from": "2026-03-03", "to": "2026-03-03"}) == expected


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("2026-03-05T10:00:00Z", [1]),
        ("2026-03-05T12:00:00+02:00", [1]),
        ("2026-03-05T10:00:00.5Z", []),
        ("2026-03-02T12:00:00Z", [1, 2, 3]),
        ("2026-03-02T12:00:01Z", [1, 3]),
    ],
)
def test_updated_after_finds_orders_updated_at_or_after_it(
    store: SampleStore, changing: Client, instant: str, expected: list[int]
) -> None:
    store.update_order(1, tag="late", updated_at="2026-03-05T10:00:00Z")
    assert changing.ids(updated_after=instant) == expected


def test_filters_narrow_one_another(store: SampleStore, changing: Client) -> None:
    store.update_order(1, updated_at="2026-03-05T10:00:00Z")
    assert changing.ids(updated_after="2026-03-03T00:00:00Z", to="2026-03-02") == [1]
    assert changing.ids(updated_after="2026-03-03T00:00:00Z", sort="newest_first") == [3, 1]


def test_a_dialect_may_ignore_dates_and_sort_the_other_way(store: SampleStore, changing: Client) -> None:
    store.dialect.ignores_dates = store.dialect.ignores_updated_after = True
    assert changing.ids(updated_after="2026-04-01T00:00:00Z", to="2026-03-02") == [1, 2, 3]
    store.dialect.oldest_first = False
    assert changing.ids() == [3, 2, 1]


def test_a_refund_is_a_state_in_v1_and_a_flag_since(store: SampleStore, changing: Client) -> None:
    store.update_order(2, refunded=True, state="complete")
    old = changing.get("orders").json()[1]["order"]
    assert old.keys() == ORDER_FIELDS - {"refunded", "downloads"}
    assert old["state"] == "refunded"
    new = changing.orders()[1]
    assert (new["state"], new["refunded"]) == ("complete", True)


# Any endpoint of the table


VISITS = Endpoint(
    name="visits",
    path="../v2/visits",
    data_selector=None,
    description="One row per visit.",
    cursor="seen_at",
    window_start_param="since",
    window_end_param="until",
    newest_first=("order", "desc"),
    updated_at="changed_at",
    update_filter="changed_since",
    paginator=PageNumberPaginatorConfig(page_param="p", limit_param="size", limit=4, first_page=0),
    columns=(
        *(Column(name=name, type=ColumnType.TIMESTAMP, description="When.") for name in ("seen_at", "changed_at")),
        *(Column(name=f"a_{type_.name.lower()}", type=type_, description="Any.") for type_ in ColumnType),
        Column(name="id", type=ColumnType.BIGINT, description="The visit's id."),
    ),
)


@pytest.fixture(scope="module")
def visits() -> Iterator[Client]:
    shop = build_shop(now=NOW, days=1, endpoints=[VISITS])
    with client_of(SampleStore(shop, endpoints=[VISITS])) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"size": 4}, [1, 2, 3, 4]),
        ({"size": 9}, [1, 2, 3, 4]),
        ({"size": 4, "p": 29}, [117, 118, 119, 120]),
        ({"size": 4, "p": 30}, []),
        ({"size": 4, "since": "2026-03-15"}, [118, 119, 120]),
        ({"size": 2, "since": "2026-03-14", "until": "2026-03-14", "p": 1}, [116, 117]),
        ({"size": 4, "changed_since": "2026-03-15T06:00:00Z"}, [119, 120]),
        ({"size": 2, "order": "desc"}, [120, 119]),
    ],
)
def test_another_endpoint_is_served_as_its_entry_says(
    visits: Client, query: dict[str, object], expected: list[int]
) -> None:
    response = visits.get("../v2/visits", **query)
    assert [row["id"] for row in response.json()] == expected


def test_rows_of_another_endpoint_have_its_columns(visits: Client) -> None:
    rows = visits.get("../v2/visits", size=4).json()
    assert all(row.keys() == {column.name for column in VISITS.columns} for row in rows)
    assert all(any(row[column.name] is not None for row in rows) for column in VISITS.columns)
    assert rows[0]["seen_at"] == "2026-02-13T18:00:00Z"
    assert rows[0]["a_decimal"] == "1.50"


def test_the_client_pulls_another_endpoint_as_its_entry_says(visits: Client) -> None:
    pacer = RateLimiter(base_url=visits.base_url, requests_per_second=0)
    day = Window.of_days(NOW.date(), NOW.date())
    with CommerceClient(base_url=visits.base_url, key=SAMPLE_API_KEY, secret=SAMPLE_API_SECRET, pacer=pacer) as client:
        page = client.page(ListRequest(endpoint=VISITS, window=day), PageDecoder(VISITS), 2)
        newest = client.page(ListRequest(endpoint=VISITS, newest_first=True), PageDecoder(VISITS), 1)
    # The window is padded by a day.
    assert [item.id for item in page.items] == [118, 119, 120]
    assert [item.id for item in newest.items] == [120, 119, 118, 117]


# Changes


def test_a_change_is_visible_at_once(store: SampleStore, changing: Client) -> None:
    assert changing.ids() == [1, 2, 3]
    store.add_order(order(4, "2026-03-01T00:00:00Z"))
    store.delete("orders", 3)
    store.update_order(1, tag="edited")
    store.add("products", {"id": 5, "name": "New"})
    first, edited, _ = changing.orders()
    assert (first["id"], edited["id"], edited["tag"]) == (4, 1, "edited")
    assert changing.ids("products") == [5]
    store.shop.orders.clear()
    store.touch()
    assert changing.ids() == []


def test_an_update_moves_updated_at_unless_it_is_given(store: SampleStore) -> None:
    store = SampleStore(store.shop, now=lambda: NOW)
    store.update_order(1, tag="x")
    store.update_order(2, tag="x", updated_at="2026-03-09T00:00:00Z")
    updated = [item["updated_at"] for item in store.shop.orders]
    assert updated == ["2026-03-15T12:00:00Z", "2026-03-09T00:00:00Z", "2026-03-03T12:00:00Z"]
    with pytest.raises(KeyError):
        store.update_order(99, tag="x")


def test_future_rows_are_hidden_until_their_time_comes() -> None:
    moments = [NOW]
    shop = build_shop(now=NOW, days=60, ahead=timedelta(days=20))
    expected = build_shop(now=NOW + timedelta(days=20), days=80)
    with client_of(SampleStore(shop, now=lambda: moments[-1])) as client:
        assert client.orders(per_page=50, sort="newest_first")[0]["created_at"] <= "2026-03-15T12:00:00Z"
        assert client.ids(updated_after="2026-03-15T12:00:01Z") == []
        moments.append(NOW + timedelta(days=20))
        assert client.orders(per_page=50, sort="newest_first") == expected.orders[:-51:-1]
        first_id = shop.orders[0]["id"]
        known = {item["id"]: item for item in expected.orders if item["id"] >= first_id}
        changed = client.orders(updated_after="2026-03-15T12:00:01Z", to="2026-03-15", per_page=50)
        assert {item["id"] for item in changed} >= {change.order_id for change in shop.changes[:1]}
        assert all(known[item["id"]] == item for item in changed)


# The shop


def test_a_day_has_the_same_orders_whenever_the_shop_is_built(shop: Shop) -> None:
    assert build_shop(now=NOW, days=120) == shop
    a_day_later = build_shop(now=NOW + timedelta(days=1), days=120)
    known = {item["id"] for item in shop.orders if item["created_at"] >= "2025-11-16"}
    assert known <= {item["id"] for item in a_day_later.orders}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("products", PRODUCT_FIELDS),
        ("packages", PACKAGE_FIELDS),
        ("subscriptions", SUBSCRIPTION_FIELDS),
        ("orders", ORDER_FIELDS),
    ],
)
def test_each_row_has_all_the_documented_fields_and_no_other(shop: Shop, kind: str, fields: set[str]) -> None:
    assert all(item.keys() == fields for item in getattr(shop, kind))


def fits(field: str, value: Any) -> bool:  # noqa: PLR0911 - one line for each type
    if field in DECIMAL_OR_NUMBER and type(value) in {int, float}:
        return True
    if field in MONEY | DECIMAL_OR_NUMBER:
        return isinstance(value, str) and re.fullmatch(r"[0-9]+\.[0-9]{1,2}", value) is not None
    if field in TIMES:
        return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value) is not None
    if field in FLAGS:
        return isinstance(value, bool)
    if field in COUNTS:
        return type(value) is int
    if field in LISTS:
        return isinstance(value, list)
    return isinstance(value, dict if field in OBJECTS else str)


def test_every_value_fits_its_documented_type(shop: Shop) -> None:
    items = [*shop.products, *shop.packages, *shop.subscriptions, *shop.orders]
    misfits = {
        (field, str(value))
        for item in items
        for field, value in item.items()
        if value is not None and not fits(field, value)
    }
    assert misfits == set()
    assert {type(item["price"]) for item in shop.products} == {str, int, float}


def test_orders_are_oldest_first_with_ascending_ids_up_to_now(shop: Shop) -> None:
    created = [item["created_at"] for item in shop.orders]
    ids = [item["id"] for item in shop.orders]
    assert created == sorted(created)
    assert ids == sorted(set(ids))
    assert created[-1] <= "2026-03-15T12:00:00Z"
    assert all(item["updated_at"] >= item["created_at"] for item in shop.orders)
    assert max(item["updated_at"] for item in shop.orders) <= "2026-03-15T12:00:00Z"


def test_the_shop_has_what_a_real_one_has(shop: Shop) -> None:
    refunded = [item for item in shop.orders if item["refunded"]]
    assert refunded
    assert all(item["refund_transactions"] and item["updated_at"] > item["created_at"] for item in refunded)
    assert any(len(item["gateway_transaction_ids"]) > 2 for item in shop.orders)
    assert any(item["giftee_email"] for item in shop.orders)
    assert any(item["business_vat_number"] for item in shop.orders)
    assert any(item["dispatched_at"] for item in shop.orders)
    assert any(item["settled_gross"] is None for item in shop.orders)
    assert {"complete", "free", "subscription_active", "subscription_cancelled"} <= {o["state"] for o in shop.orders}


def test_people_and_addresses_are_reserved_for_documentation(shop: Shop) -> None:
    text = repr(shop)
    hosts = set(re.findall(r"https?://([^/'\"]+)", text))
    assert all(host.endswith(".example") for host in hosts)
    assert set(re.findall(r"@([\w.]+)", text)) == {"example.com", "example.org"}
    addresses = {item["buyer_ip_address"].rpartition(".")[0] for item in shop.orders if item["buyer_ip_address"]}
    assert addresses == {"192.0.2", "198.51.100", "203.0.113"}


def test_orders_can_be_built_by_the_thousand() -> None:
    orders = build_orders(start=datetime(2025, 1, 1, tzinfo=UTC), days=5, per_day=400, first_id=1_000)
    assert [item["id"] for item in orders] == list(range(1_000, 3_000))
    assert sum(item["created_at"].startswith("2025-01-03") for item in orders) == 400
    assert all(item.keys() == ORDER_FIELDS for item in orders)


# The command


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "sample_store", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(sign: signal.Signals) -> None:
    with started("--port", "0", "--days", "2", "--key", "k", "--secret", "s") as process:
        assert process.stdout
        line = process.stdout.readline()
        match = re.search(r"export COMMERCE_API_BASE_URL=(\S+) COMMERCE_API_ORDERS_PATH=(\S+) ", line)
        assert match, line
        assert "25 products" in line
        response = requests.get(match[1] + match[2], auth=("k", "s"), headers={"Accept": "application/json"}, timeout=5)
        assert response.json()
        asked_to_end = time.monotonic()
        process.send_signal(sign)
        rest, errors = process.communicate(timeout=5)
        assert (process.returncode, rest, errors) == (0, "", "")
        assert time.monotonic() - asked_to_end < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "is not a loopback address"),  # noqa: S104 - it is refused
        (["--host", "shop.example"], "is not a loopback address"),
        (["--port", "70000"], "70000 is not in the range 0<=x<=65535"),
        (["--orders-per-day", "many"], "'many' is not a valid float"),
    ],
)
def test_a_bad_argument_ends_the_command_with_status_2(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_installed_package_says_where_the_sample_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sample_store", None)
    for module in ("sample_store.__main__", "commerce_assets.cli.sample_store"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    result = CliRunner().invoke(commerce_assets, ["sample-store", "--port", "0"])
    assert result.exit_code == 1
    assert result.stderr.endswith("Fix: run it from a checkout of the repository.\n")


def test_a_taken_port_ends_the_command_with_status_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, started("--port", str(taken.getsockname()[1])) as process:
        _, errors = process.communicate(timeout=5)
    assert process.returncode == 2
    assert "cannot serve on 127.0.0.1" in errors


@pytest.mark.parametrize("lists_refunds", [True, False])
def test_a_single_order_has_its_refunds_and_its_list_may_not(*, lists_refunds: bool) -> None:
    refunds = [{"refund_transaction": {"amount": "-3.00"}}]
    store = SampleStore(
        Shop(orders=[order(7, "2026-03-02T15:00:00Z") | {"refunded": True, "refund_transactions": refunds}]),
        dialect=Dialect(lists_refunds=lists_refunds),
    )
    with client_of(store) as client:
        (listed,) = client.get("../v1_3/orders").json()
        single = client.get("../v1_3/orders/7").json()
        assert client.get("orders/7").json()["order"]["state"] == "refunded"
    assert single["order"]["refund_transactions"] == refunds
    assert listed["order"]["refund_transactions"] == (refunds if lists_refunds else None)
