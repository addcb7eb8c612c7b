"""A key, a secret and a buyer that occur nowhere else: orders that hold them, and answers that quote them."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

from commerce_assets_tests.support.faulty_store import Body, Edit, Fault, OnPage, Redirect, Status
from commerce_assets_tests.support.items import order
from commerce_assets_tests.support.leftovers import authorization, forms_of
from sample_store.values import Item

KEY = "canary-key-5b1f"
SECRET = "canary/secret+7&c9=d2e4"
EMAIL = "canary.buyer@inbox.example"
NAME = "Canary O'Buyer-Ünlü"
STREET = "71 Canary Perch Row"
ADDRESS = "203.0.113.171"
# A product's file may be private: its URL lets anyone download it.
PRIVATE_URL = "https://files.example/canary-capability"

CREDENTIALS = {
    "key": forms_of(KEY),
    "secret": forms_of(SECRET),
    "authorization": forms_of(authorization(KEY, SECRET)),
}
BUYER = {
    "e-mail": forms_of(EMAIL),
    "name": forms_of(NAME),
    "street": forms_of(STREET),
    "IP address": forms_of(ADDRESS),
    "private URL": forms_of(PRIVATE_URL),
}
QUERY = {"query": {b"per_page=50", b"&page=", b"from=20"}}

# What an answer could quote: all of it, and what was asked.
ECHO = f"{KEY} {SECRET} {authorization(KEY, SECRET)} {EMAIL} {NAME} ?from=2026-01-01&page=1&per_page=50"
REFUSED = [["key", f"{KEY} is refused"], ["header", authorization(KEY, SECRET)], ["buyer", EMAIL], ["page", "too far"]]
SENT = [
    ["secret", quote(SECRET)],
    ["path", "/orders?from=2026-01-01&page=1"],
    ["per_page=50", "no"],
    ["page", "too far"],
]


def canary_order(number: int, created_at: datetime, **fields: Any) -> Item:
    return (
        order(
            number,
            created_at,
            buyer_email=EMAIL,
            buyer_name=NAME,
            paypal_email=EMAIL,
            billing_address1=STREET,
            buyer_ip_address=ADDRESS,
            order_custom_checkout_fields=[{"name": "Your name", "value": NAME}],
            # No number: kept in _invalid.
            download_attempts=EMAIL,
            # Not declared: kept in _extra.
            newsletter_email=EMAIL,
        )
        | fields
    )


def orders_of(day: date, **fields: Any) -> list[Item]:
    """Two pages of orders."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return [canary_order(100 * day.toordinal() + n, noon + timedelta(minutes=n), **fields) for n in range(60)]


def days(count: int) -> list[date]:
    """Days so far apart that the window of none touches another."""
    return [date(2026, 1, 2) + timedelta(days=4 * index) for index in range(count)]


def twice(body: bytes) -> bytes:
    """Names a field of each item twice. DuckDB cannot parse that, and quotes how the item begins: with the buyer."""
    return body.replace(b'{"order":{', b'{"order":{"buyer_email":"%s",' % EMAIL.encode())


UNLOADABLE: tuple[str, Fault] = ("cannot be parsed", Edit(twice))
ECHOES: Mapping[str, tuple[str, Fault]] = {
    "401 at once": ("401 Unauthorized: the key or", Status(401, body=ECHO.encode())),
    "401 later": ("401 Unauthorized after it had", OnPage(2, Status(401, body=ECHO.encode()))),
    "403": ("403 Forbidden", OnPage(2, Status(403, body=ECHO.encode()))),
    "404": ("404 Not Found", OnPage(1, Status(404, body=ECHO.encode()))),
    "422 of what is refused": ("(page too far)", OnPage(1, Status(422, body=json.dumps(REFUSED).encode()))),
    "422 of what was sent": ("(page too far)", OnPage(1, Status(422, body=json.dumps(SENT).encode()))),
    "500": ("attempt 4: the store answered 500", OnPage(2, Status(500, body=ECHO.encode()))),
    "error in a 200": ("an object other than", OnPage(2, Body(json.dumps({"error": ECHO}).encode()))),
    "web page": ("a web page", OnPage(2, Body(f"<html>{ECHO}".encode(), "text/html"))),
    "cut off": ("was cut off", OnPage(2, Body(json.dumps([ECHO]).encode()[:-2]))),
    "no object": ("not an object", OnPage(2, Body(json.dumps([{"order": ECHO}]).encode()))),
    "no id": ("its id is missing", OnPage(2, Body(json.dumps([{"order": {"id": EMAIL, "tag": ECHO}}]).encode()))),
    "unloadable": UNLOADABLE,
    "redirect elsewhere": (
        "to http://elsewhere.example, where",
        OnPage(2, Redirect(f"http://elsewhere.example/{EMAIL}")),
    ),
    "redirect with secret": ("to another host, where", OnPage(2, Redirect(f"http://{KEY}.example/{quote(SECRET)}"))),
    "redirect within": (
        "redirects and drops the query",
        OnPage(2, Redirect(f"/{quote(SECRET)}?key={KEY}&mail={EMAIL}")),
    ),
}


# Where a buyer may be, and nowhere else.
IN_THE_DATABASE = {
    "commerce.duckdb",
    *(f"commerce.duckdb:orders.{column}" for column in ("buyer_email", "buyer_name", "paypal_email")),
    *(f"commerce.duckdb:orders.{column}" for column in ("billing_address1", "buyer_ip_address")),
    *(f"commerce.duckdb:orders.{column}" for column in ("order_custom_checkout_fields", "_invalid", "_extra")),
    "commerce.duckdb:products.self_hosted_url",
}


STAGED = re.compile(r"\w+\.staging/orders/[^/]+/items-\d+\.jsonl")


def seen_in(text: bytes, needles: Mapping[str, set[bytes]]) -> set[str]:
    return {what for what, forms in needles.items() if any(form in text for form in forms)}
