"""What the HTTP between here and the store can do wrong, done by a real server to the real client."""

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from commerce_assets.api.client import Limits
from commerce_assets.api.errors import ApiError, PullError
from commerce_assets.ingest.stage import stage
from commerce_assets.settings import CommerceSettings, SettingError, checked_base_url
from commerce_assets_tests.support.certificates import issue_certificate
from commerce_assets_tests.support.faulty_store import (
    Body,
    CutOff,
    Delay,
    Edit,
    Exchange,
    Fault,
    GzipBomb,
    OnPage,
    Raw,
    Redirect,
    Reset,
    Serve,
    Status,
    Trickle,
    faulty,
)
from commerce_assets_tests.support.items import ORDERS_OF_DAY, PRODUCT_LIST, body_of, order, product, store_of
from commerce_assets_tests.support.world import IMPATIENT, LOG, World, serving, staged_rows
from sample_store import SAMPLE_API_KEY, SAMPLE_API_SECRET

ROOT = Path(__file__).resolve().parents[2]
LOGIN_PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>"
MEBIBYTE = 1 << 20


@pytest.fixture
def puller(tmp_path: Path) -> Iterator[World]:
    """A store with 120 products: three pages."""
    with serving(store_of(products=120), tmp_path) as puller:
        yield puller


def failure(puller: World, **client_fields: Any) -> PullError:
    with pytest.raises(PullError) as caught:
        puller.pull(**client_fields)
    return caught.value


def limits_for(fault: Fault) -> Limits:
    """Impatient ones for a fault that does nothing but take its time."""
    return IMPATIENT if isinstance(fault, Delay | Trickle) else Limits()


def backed_off(seconds: list[float]) -> bool:
    """Whether these are the pauses of an exponential back-off with jitter: half of 2, 4, 8 s to all of it."""
    return all(1 << n <= pause <= 2 << n for n, pause in enumerate(seconds))


# Statuses


def test_a_429_with_seconds_waits_and_requests_the_page_again(puller: World) -> None:
    """Fault 1."""
    puller.server.script(None, Status(429, {"Retry-After": "7"}))
    pulled = puller.pull()
    assert puller.server.pages == [1, 2, 2, 3, 4]
    assert puller.sleeper.seconds == [7]
    assert pulled.ids == [*range(1, 121)]
    assert (pulled.cost.requests, pulled.cost.retries, pulled.cost.seconds_waited) == (5, 1, 7)


def test_a_429_with_a_date_waits_until_then(puller: World) -> None:
    """Fault 2."""
    then = datetime.now(UTC) + timedelta(seconds=30)
    puller.server.script(Status(429, {"Retry-After": format_datetime(then, usegmt=True)}))
    puller.pull()
    (pause,) = puller.sleeper.seconds
    assert 27 <= pause <= 30


@pytest.mark.parametrize(
    "value", ["Wed, 21 Oct 2015 07:28:00 GMT", "-5", "soon", "", "1e3", "٣", "Thu, 99 Foo 2015 07:28:00 GMT", "0"]
)
def test_a_retry_after_in_the_past_or_of_no_sense_is_ignored(puller: World, value: str) -> None:
    """Fault 2."""
    puller.server.script(None, Status(429, {"Retry-After": value.encode().decode("latin-1")}))
    assert puller.pull().ids == [*range(1, 121)]
    assert len(puller.sleeper.seconds) == 1
    assert backed_off(puller.sleeper.seconds)


@pytest.mark.parametrize("value", ["36000", "9" * 400, "a date"])
def test_retry_after_of_ten_hours_fails_at_once_with_the_time(puller: World, value: str) -> None:
    """Fault 2."""
    date = format_datetime(datetime.now(UTC) + timedelta(hours=10))
    puller.server.script(Status(503, {"Retry-After": date if value == "a date" else value}))
    error = failure(puller)
    assert puller.server.pages == [1]
    assert puller.sleeper.seconds == []
    assert "longer than a run is kept waiting" in str(error)
    assert "start the run again after that time" in str(error)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520])
def test_two_server_errors_are_retried_and_the_pull_completes(puller: World, status: int) -> None:
    """Fault 3."""
    puller.server.script(None, Status(status), Status(status))
    assert puller.pull().ids == [*range(1, 121)]
    assert puller.server.pages == [1, 2, 2, 2, 3, 4]
    assert backed_off(puller.sleeper.seconds)


def test_a_store_that_stays_down_fails_after_three_retries(puller: World) -> None:
    """Fault 4."""
    puller.server.script(otherwise=OnPage(2, Status(503)))
    error = failure(puller)
    assert puller.server.pages == [1, 2, 2, 2, 2]
    assert len(puller.sleeper.seconds) == 3
    assert backed_off(puller.sleeper.seconds)
    assert str(error) == (
        "products, page 2, attempt 4: the store answered 503 Service Unavailable. "
        "Fix: run it again later; the pages extracted so far are kept."
    )


def test_the_error_names_the_window(tmp_path: Path) -> None:
    """Fault 4."""
    with serving(store_of(), tmp_path) as puller:
        puller.server.script(otherwise=Status(500))
        with pytest.raises(PullError, match=r"^orders of 2024-03-15, page 1, attempt 4: "):
            puller.pull(ORDERS_OF_DAY)


def test_a_401_on_the_first_call_names_key_and_secret_at_once(
    puller: World,
) -> None:
    """Fault 5."""
    error = failure(puller, secret="not-the-secret")
    assert puller.server.pages == [1]
    assert "the key or the secret is wrong. Fix: correct COMMERCE_API_KEY and COMMERCE_API_SECRET" in str(error)
    assert "first attempt" in str(error)


def test_a_401_after_successes_waits_two_minutes_twice(
    puller: World,
) -> None:
    """Fault 6."""
    puller.server.script(None, otherwise=Status(401))
    error = failure(puller)
    assert puller.server.pages == [1, 2, 2, 2]
    assert puller.sleeper.seconds == [120, 120]
    assert "it blocks requests that come too fast, or the key was revoked. Fix: look at the key" in str(error)


def test_a_block_that_is_lifted_costs_two_minutes_and_no_row(puller: World) -> None:
    """Fault 6."""
    puller.server.script(None, Status(401))
    assert puller.pull().ids == [*range(1, 121)]
    assert puller.sleeper.seconds == [120]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "the key may not read this. Fix: tick its permission for this resource"),
        (404, "the path is wrong. Fix: look at COMMERCE_API_BASE_URL and the endpoint's path."),
        (415, "415 Unsupported Media Type: the store does not offer JSON"),
        (204, "204 No Content: an empty list would be 200 and []"),
        (400, "the store does not understand the request"),
        (206, "the API does not document that"),
        (304, "the API does not document that"),
        (299, "the store answered 299: "),
    ],
)
def test_a_permanent_error_fails_at_once_with_a_hint(puller: World, status: int, said: str) -> None:
    """Faults 7, 8, 9, 19."""
    puller.server.script(otherwise=Status(status))
    error = failure(puller)
    assert puller.server.pages == [1]
    assert said in str(error)


def test_a_path_that_the_store_does_not_have_is_named_as_that(puller: World) -> None:
    """Fault 8."""
    assert "404 Not Found: the path is wrong" in str(failure(puller, paths={"products": "goods"}))


def test_messages_of_a_422_show_no_credential_and_no_buyer(puller: World) -> None:
    """Fault 10."""
    messages = [
        ["per_page", "must be at most 25"],
        ["buyer_email", "ann@example.com is no address"],
        ["key", f"{SAMPLE_API_SECRET} is unknown"],
        ["to", "is\n\x1b[31mbefore from"],
    ]
    puller.server.script(Status(422, body=json.dumps(messages).encode()))
    error = str(failure(puller))
    assert "(per_page must be at most 25; to is  [31mbefore from)" in error
    assert "ann@" not in error


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[[1, 2]]", b'[["to"]]', b"<html>", b"[" * 5000, b"\xff", json.dumps([["a", "b" * 999]])]
)
def test_a_422_of_another_shape_is_an_error_of_bearable_length(puller: World, body: bytes | str) -> None:
    """Fault 10."""
    puller.server.script(Status(422, body=body if isinstance(body, bytes) else body.encode()))
    error = failure(puller)
    assert "422 Unprocessable" in str(error)
    assert len(str(error)) < 400


# Connections


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Delay(30), id="no answer in time"),
        pytest.param(Reset(), id="reset in mid-body"),
        pytest.param(Reset(at=0), id="reset after the head"),
        pytest.param(CutOff(), id="Content-Length longer than the body"),
        pytest.param(CutOff(at=0), id="Content-Length without a body"),
        pytest.param(Raw(), id="no answer at all"),
        pytest.param(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\ncont"), id="cut off in the head"),
        pytest.param(Raw(b"not HTTP\r\n\r\n"), id="no HTTP"),
        pytest.param(Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n[{"), id="cut off in a chunk"),
        pytest.param(Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), id="broken chunk"),
        pytest.param(Raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"), id="two hundred headers"),
        pytest.param(Raw(b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000), id="header without end"),
        pytest.param(Raw(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n[]"), id="no gzip"),
        pytest.param(Body(LOGIN_PAGE, "text/html"), id="web page"),
        pytest.param(Body(b"\xef\xbb\xbf \n" + LOGIN_PAGE), id="web page that calls itself JSON"),
        pytest.param(Edit(lambda body: body[: len(body) // 2]), id="truncated JSON"),
        pytest.param(Edit(lambda body: body[:-1]), id="JSON without its last byte"),
        pytest.param(Edit(lambda body: body.replace(b'"9.00"', b"NaN", 1)), id="NaN"),
        pytest.param(Trickle("body"), id="body that trickles"),
        pytest.param(Trickle("head"), id="head that trickles"),
        pytest.param(Trickle("interim"), id="interim answers for ever"),
    ],
)
def test_a_page_that_was_cut_off_is_requested_again(puller: World, fault: Fault) -> None:
    """Faults 11, 12, 13, 14, 16, 22, 50."""
    puller.server.script(None, fault)
    began = time.monotonic()
    assert puller.pull(limits=limits_for(fault)).ids == [*range(1, 121)]
    assert puller.server.pages == [1, 2, 2, 3, 4]
    assert backed_off(puller.sleeper.seconds)
    assert time.monotonic() - began < 5


def test_a_connect_timeout_is_tried_four_times(tmp_path: Path) -> None:
    """Fault 11."""
    with serving(store_of(), tmp_path) as puller, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # The accept queue is full: the next connection gets no answer.
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            base_url = f"http://127.0.0.1:{address[1]}/"
            error = failure(puller, base_url=base_url, limits=Limits(connect_seconds=0.05))
    assert "attempt 4: the store did not answer in time" in str(error)


def test_a_refused_connection_is_tried_four_times(tmp_path: Path) -> None:
    """Fault 11."""
    with serving(store_of(), tmp_path) as puller:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        error = failure(puller, base_url=f"http://127.0.0.1:{port}/")
    assert "attempt 4: the store could not be reached: nothing listens at its address" in str(error)
    assert "COMMERCE_API_BASE_URL" in str(error)


def test_an_unknown_host_is_tried_four_times_and_named(tmp_path: Path) -> None:
    """Fault 11."""
    with serving(store_of(), tmp_path) as puller:
        # `.invalid` is reserved: it is no host's name, wherever the test runs.
        error = failure(puller, base_url="https://store.invalid/")
    assert "attempt 4: the store could not be reached: its host name is unknown here" in str(error)


def test_a_server_without_tls_is_not_a_certificate_error(tmp_path: Path) -> None:
    """Fault 23."""
    with serving(store_of(), tmp_path) as puller:
        error = failure(puller, base_url=f"https://127.0.0.1:{puller.server.port}/")
    assert "first attempt: there is no TLS where https was asked for" in str(error)


@pytest.mark.parametrize(
    "fault",
    [Body(LOGIN_PAGE, "text/html"), Edit(lambda body: body[:-1]), Reset(), CutOff(), Trickle("head")],
    ids=["web page", "truncated", "reset", "cut off", "trickles"],
)
def test_what_stays_broken_is_given_up_after_three_retries(puller: World, fault: Fault) -> None:
    """Faults 12, 13, 14, 16, 22."""
    puller.server.script(otherwise=OnPage(2, fault))
    error = failure(puller, limits=limits_for(fault))
    assert puller.server.pages == [1, 2, 2, 2, 2]
    assert str(error).startswith("products, page 2, attempt 4: ")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "200 with an empty body"),
        (b" \r\n", "200 with an empty body"),
        (b'{"error": "Oops"}', 'an object other than {"product": [...]}'),
        (b'{"product": []}  {"product": []}', None),
        (b'{"product": {"id": 1}}', "an object instead of a list"),
        (b'{"product": [], "total": 1}', 'an object other than {"product": [...]}'),
        (b"{}", 'an object other than {"product": [...]}'),
        (b"null", "null instead of a list"),
        (b"\xef\xbb\xbfnull", "null instead of a list"),
        (b'"none"', "a text instead of a list"),
        (b"0", "a number or a flag instead of a list"),
        (b"[1]", "a list of something else than objects instead of a list"),
        (b"[null]", "a list of something else than objects instead of a list"),
    ],
)
def test_a_200_that_is_not_a_list_fails(puller: World, body: bytes, said: str | None) -> None:
    """Faults 15, 17, 18."""
    puller.server.script(otherwise=Body(body))
    error = failure(puller)
    assert (said or "not valid JSON") in str(error)
    assert "Oops" not in str(error)
    assert puller.server.pages == [1] * (1 if said else 4)


@pytest.mark.parametrize("body", [b"[]", b" [ ] \n", b"\xef\xbb\xbf[]", b'{"product": []}', b'{"products": []}'])
def test_an_empty_list_is_a_valid_end(puller: World, body: bytes) -> None:
    """Fault 18."""
    puller.server.script(Body(body))
    assert puller.pull().ids == []
    assert puller.server.pages == [1]


@pytest.mark.parametrize("fault", [GzipBomb(1 << 40), Body(b"[" + b" " * 20 * MEBIBYTE)], ids=["bomb", "plain"])
def test_a_body_over_the_limit_is_refused_with_flat_memory(puller: World, fault: Fault) -> None:
    """Fault 21."""
    puller.server.script(otherwise=fault)
    tracemalloc.start()
    try:
        error = failure(puller, limits=Limits(body_bytes=MEBIBYTE))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "the answer is larger than 1 MiB" in str(error)
    assert puller.server.pages == [1]
    # The plain body is the server's, in this very process.
    assert peak < (8 if isinstance(fault, GzipBomb) else 28) * MEBIBYTE


# Where credentials go


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_refused(puller: World, code: int, tmp_path: Path) -> None:
    """Fault 20."""
    with serving(store_of(products=1), tmp_path / "elsewhere") as elsewhere:
        puller.server.script(Redirect(f"{elsewhere.server.base_url}products", code))
        error = failure(puller)
        assert elsewhere.server.requests == []
    assert "the store redirects to http://127.0.0.1, where credentials are not sent" in str(error)
    assert "COMMERCE_API_BASE_URL" in str(error)
    assert puller.server.pages == [1]


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:{port}/api/v1/products",
        "https://127.0.0.1:{port}/api/v1/products",
        "//127.0.0.1/api/v1/products",
        "http://ann:pw@127.0.0.1:{port}/api/v1/products",
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "http://[",
        "http://127.0.0.1:x/",
        "",
    ],
)
def test_a_redirect_that_leaves_scheme_host_or_port_is_refused(puller: World, location: str) -> None:
    """Fault 20."""
    puller.server.script(Redirect(location.format(port=puller.server.port)))
    error = failure(puller)
    assert "where credentials are not sent" in str(error)
    assert puller.server.pages == [1]


@pytest.mark.parametrize("variable", ["COMMERCE_API_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_ca_bundle_of_the_settings_is_trusted(variable: str, tmp_path: Path) -> None:
    """Faults 23, 89."""
    context, certificate = issue_certificate(tmp_path, name="127.0.0.1")
    with faulty(store_of(products=1), tls=context) as server:
        settings = {
            "COMMERCE_API_BASE_URL": server.base_url,
            "COMMERCE_API_KEY": SAMPLE_API_KEY,
            "COMMERCE_API_SECRET": SAMPLE_API_SECRET,
        }
        with CommerceSettings.read(settings | {variable: str(certificate)}).build_client(LOG) as client:
            assert client._get(client.url_of("products", "products"), {})[0].startswith(b'[{"product"')
        with (
            CommerceSettings.read(settings).build_client(LOG) as client,
            pytest.raises(ApiError, match="not trusted"),
        ):
            client._get(client.url_of("products", "products"), {})


def test_a_redirect_from_https_to_http_is_refused(tmp_path: Path) -> None:
    """Fault 20."""
    context, certificate = issue_certificate(tmp_path, name="127.0.0.1")
    with faulty(store_of(products=1), tls=context) as server, faulty(store_of(products=1)) as plain:
        puller = World(tmp_path, running_server=server)
        server.script(Redirect(f"{plain.base_url}products"))
        refused = pytest.raises(ApiError, match=r"redirects to http://127\.0\.0\.1, where credentials are not sent")
        with puller.client(ca_bundle=certificate) as client, refused:
            client._get(client.url_of("products", "products"), {"page": "1"})
        assert plain.requests == []


def test_a_redirect_within_the_host_counts_as_a_request(puller: World) -> None:
    """Fault 20."""
    puller.server.script(Redirect("/api/v1/products?page=1&per_page=50"))
    pulled = puller.pull()
    assert pulled.ids == [*range(1, 121)]
    assert pulled.cost.requests == len(puller.server.requests) == 5
    assert all(request.has_credentials for request in puller.server.requests)


def test_redirects_in_circles_end(puller: World) -> None:
    """Fault 20."""
    puller.server.script(otherwise=Redirect("/api/v1/products?page=1"))
    assert "redirects in circles" in str(failure(puller))
    assert len(puller.server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (GzipBomb(1 << 40, 302, {"location": "/api/v1/products?page=1"}), "larger than 1 MiB"),
        (Trickle("body", status=302, location="/api/v1/products"), "in time"),
    ],
    ids=["bomb", "trickle"],
)
def test_the_body_of_a_redirect_meets_the_same_limits(puller: World, fault: Fault, said: str) -> None:
    """Faults 20, 21, 22."""
    puller.server.script(otherwise=fault)
    began = time.monotonic()
    error = failure(puller, limits=Limits(read_seconds=0.1, total_seconds=0.1, body_bytes=MEBIBYTE))
    assert said in str(error)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("name", "trusted", "fails"),
    [("127.0.0.1", False, True), ("store.example", True, True), ("127.0.0.1", True, False)],
    ids=["not trusted", "another name", "right"],
)
def test_an_untrusted_or_misnamed_certificate_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    trusted: bool,  # noqa: FBT001 - a parameter of the test
    fails: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Fault 23."""
    context, certificate = issue_certificate(tmp_path, name=name)
    for variable in ("CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, str(certificate))
    with faulty(store_of(products=1), tls=context) as server:
        puller = World(tmp_path, running_server=server)
        with puller.client(ca_bundle=certificate if trusted else None) as client:
            url = client.url_of("products", "products")
            if fails:
                with pytest.raises(ApiError, match="certificate is not valid for its name, or not trusted") as caught:
                    client._get(url, {"page": "1"})
                assert type(caught.value) is ApiError
                assert server.requests == []
            else:
                assert client._get(url, {"page": "1"})[0].startswith(b'[{"product"')


@pytest.mark.parametrize(
    ("base_url", "accepted"),
    [
        ("http://shop.example/api/v1/", False),
        ("http://127.0.0.1.shop.example/", False),
        ("http://0.0.0.0/", False),
        ("http://127.0.0.1:8765/api/v1/", True),
        ("http://localhost/api", True),
        ("http://[::1]:80/", True),
        ("https://shop.example/api/v1", True),
    ],
)
def test_an_http_base_url_is_refused_except_on_loopback(
    base_url: str,
    accepted: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Fault 24."""
    if accepted:
        assert checked_base_url(base_url).endswith("/")
    else:
        with pytest.raises(SettingError, match="not encrypted"):
            checked_base_url(base_url)


def test_urls_inside_the_data_are_never_followed(tmp_path: Path) -> None:
    """Fault 25."""
    with serving(store_of(), tmp_path / "elsewhere") as elsewhere, serving(store_of(), tmp_path) as puller:
        there = elsewhere.server.base_url
        link = f'<{there}>; rel="next"'
        items = [product(number, next=there, url="http://169.254.169.254/latest") for number in range(1, 51)]
        puller.server.script(Body(body_of(*items)), Serve({"Link": link, "Refresh": f"0; url={there}"}))
        assert len(puller.pull().rows) == 50
        # The list is empty by then, so that its beginning is looked at once more.
        assert puller.server.pages == [1, 2, 1]
        assert elsewhere.server.requests == []


def test_proxies_and_netrc_of_the_environment_are_ignored(
    puller: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 26."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with serving(store_of(products=1), tmp_path / "proxy") as proxy:
        for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy.server.base_url)
        assert puller.pull().ids == [*range(1, 121)]
        assert proxy.server.requests == []
    assert all(request.has_credentials for request in puller.server.requests)


# Signals

PULL_IN_A_PROCESS = """
import logging, sys
from pathlib import Path
from commerce_assets_tests.support.items import PRODUCT_LIST
from commerce_assets_tests.support.world import World
from commerce_assets.api.client import CommerceClient
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.ingest.stage import stage
from commerce_assets.ingest.staging import Staging

log = logging.getLogger("pull")
base_url, staging = sys.argv[1:]
pacer = RateLimiter(base_url=base_url, requests_per_second=0)
with (
    CommerceClient(base_url=base_url, key="sample-key", secret="sample-secret", pacer=pacer) as client,
    Staging(Path(staging), log=log).hold(PRODUCT_LIST, store=base_url, wait_seconds=5) as staged,
):
    stage(client, staged, log=log)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_during_a_wait_ends_the_process_at_once(puller: World, number: signal.Signals) -> None:
    """Fault 28."""
    puller.server.script(None, Status(503, {"Retry-After": "500"}))
    command = [sys.executable, "-c", PULL_IN_A_PROCESS, puller.server.base_url, str(puller.staging)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 20
            while len(puller.server.requests) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.1)
            signalled = time.monotonic()
            process.send_signal(number)
            process.wait(5)
        finally:
            process.kill()
    assert time.monotonic() - signalled < 2
    assert process.returncode != 0
    puller.server.forget()
    pulled = puller.pull()
    assert pulled.ids == [*range(1, 121)]
    assert pulled.cost.rows_resumed == 50
    assert puller.server.pages == [1, 2, 3, 4]


# Clocks and compression


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("%a, %d %b %Y %H:%M:%S GMT", 3600),
        ("%a, %d %b %Y %H:%M:%S -0000", 3600),
        ("%a, %d %b %Y %H:%M:%S", 3600),
        ("yesterday", 0),
        ("", 0),
        ("Thu, 99 Foo 2015 07:28:00 GMT", 0),
        ("Thu, 01 Jan 99999999999 00:00:00 GMT", 0),
        ("Å" * 50, 0),
    ],
)
def test_the_date_header_is_read_and_garbage_is_ignored(
    puller: World, monkeypatch: pytest.MonkeyPatch, date: str, ahead: int
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        in_an_hour = datetime.now(UTC) + timedelta(hours=1)
        puller.server.script(Serve({"Date": in_an_hour.strftime(date) if "%" in date else date}))
        with puller.client() as client:
            client._get(client.url_of("products", "products"), {"page": "1"})
            assert client.store_clock == pytest.approx(ahead, abs=30)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_connections_are_reused_and_closed_ones_cost_no_retry(puller: World) -> None:
    puller.server.script(None, Serve({"Connection": "close"}))
    pulled = puller.pull()
    assert pulled.ids == [*range(1, 121)]
    assert pulled.cost.retries == 0


# Secrets

CANARY_KEY = "canary-key-b1946ac9"
CANARY_SECRET = "canary-secret-591785b7"
CANARY_EMAIL = "canary.e87d@buyers.example"
CANARIES = (CANARY_KEY, CANARY_SECRET, CANARY_EMAIL, "Y2FuYXJ5")  # the last one: how base64 of the credentials begins


def echo(exchange: Any) -> None:
    """A store that echoes everything it receives in everything that it sends."""
    echoed = f"{CANARY_KEY} {CANARY_SECRET} {exchange.request.headers['authorization']} {CANARY_EMAIL}"
    exchange.send(
        f"HTTP/1.1 {exchange.request.query['page']} {echoed}\r\ndate: {echoed}\r\nretry-after: {echoed}\r\n"
        f"location: http://elsewhere.example/{echoed.replace(' ', '-')}\r\n{echoed.replace(' ', '-')}: x\r\n"
        f"content-length: {len(echoed)}\r\n\r\n{echoed}".encode()
    )


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Status(status, {"X-Echo": CANARY_SECRET}, f'["{CANARY_KEY}", "{CANARY_EMAIL}"]'.encode()), id=name)
        for status, name in [(400, "400"), (401, "401"), (403, "403"), (404, "404"), (415, "415"), (500, "500")]
    ]
    + [
        pytest.param(Status(422, body=json.dumps([["key", echoed]]).encode()), id=f"422 {echoed[:10]}")
        for echoed in (CANARY_KEY, CANARY_SECRET, CANARY_EMAIL)
    ]
    + [
        pytest.param(Redirect(f"http://elsewhere.example/{CANARY_SECRET}?{CANARY_EMAIL}"), id="redirect"),
        pytest.param(Redirect(f"http://{CANARY_KEY}:{CANARY_SECRET}@["), id="redirect to nowhere"),
        pytest.param(Raw(f"HTTP/1.1 {CANARY_SECRET} {CANARY_EMAIL}\r\n\r\n".encode()), id="status line"),
        pytest.param(
            Raw(f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{CANARY_SECRET}\r\n".encode()), id="chunk"
        ),
        pytest.param(Body(f'{{"error": "{CANARY_SECRET} {CANARY_EMAIL}"}}'.encode()), id="object"),
        pytest.param(Body(f'[{{"{CANARY_EMAIL}": {{}}}}]'.encode()), id="selector"),
        pytest.param(Body(body_of(order(1, id=CANARY_EMAIL), selector="order")), id="id"),
        pytest.param(Body(body_of(order(1) | {"created_at": CANARY_EMAIL}, selector="order")), id="created_at"),
        pytest.param(Body(body_of(CANARY_EMAIL, selector="order")), id="item"),
        pytest.param(Body(f'[{{"order": {CANARY_EMAIL}'.encode()), id="no JSON"),
        pytest.param(Serve({"Date": CANARY_SECRET, CANARY_KEY: CANARY_SECRET}), id="headers"),
        pytest.param(Reset(), id="reset"),
        pytest.param(Delay(30), id="time-out"),
        pytest.param(echo, id="echo"),
    ],
)
def test_errors_and_logs_hold_no_credential_and_no_buyer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    """Faults 65, 66."""
    caplog.set_level(logging.DEBUG)
    shop = store_of(orders=[order(1, buyer_email=CANARY_EMAIL)], api_key=CANARY_KEY, api_secret=CANARY_SECRET)
    with serving(shop, tmp_path) as puller:
        puller.server.script(otherwise=fault)
        try:
            puller.pull(ORDERS_OF_DAY, key=CANARY_KEY, secret=CANARY_SECRET, limits=limits_for(fault))
        except PullError as error:
            echoed = [str(error), repr(error), repr(error.error), logging.Formatter().formatException(exc_info(error))]
        else:
            echoed = []
    echoed += [logging.Formatter("%(name)s %(message)s").format(record) for record in caplog.records]
    assert echoed
    assert [(canary, text) for text in echoed for canary in CANARIES if canary in text] == []


def exc_info(error: BaseException) -> tuple[type[BaseException], BaseException, Any]:
    return type(error), error, error.__traceback__


def test_credentials_are_not_in_the_repr_nor_in_staging(tmp_path: Path) -> None:
    """Faults 65, 66: a buyer's address is in staging, where it must be, and the credentials are not."""
    shop = store_of(orders=[order(1, buyer_email=CANARY_EMAIL)], api_key=CANARY_KEY, api_secret=CANARY_SECRET)
    with serving(shop, tmp_path) as puller:
        client = puller.client(key=CANARY_KEY, secret=CANARY_SECRET)
        assert not any(canary in f"{client!r} {client} {client.tally!r}" for canary in CANARIES)
        with puller.hold(ORDERS_OF_DAY) as staged, client:
            stage(client, staged, log=logging.getLogger())
            on_disk = b"".join(path.read_bytes() for path in puller.staging.rglob("*") if path.is_file()).decode()
    assert CANARY_EMAIL in on_disk
    assert CANARY_KEY not in on_disk
    assert CANARY_SECRET not in on_disk


# The wire


@pytest.mark.parametrize("charset", ["iso-8859-1", "windows-1252", '"ISO-8859-1"'])
def test_a_body_is_decoded_by_the_charset_of_its_content_type(puller: World, charset: str) -> None:
    """Fault 84."""
    body = body_of(product(1, name="Zoë Müller")).decode().encode("latin-1")
    puller.server.script(Body(body, f"application/json; charset={charset}"))
    page = puller.page()
    assert json.loads(bytes(page.items[0].raw))["name"] == "Zoë Müller"
    assert not page.has_replaced_text


@pytest.mark.parametrize(
    "content_type", [f"application/json{charset}" for charset in ("", "; charset=nonsense", "; charset=rot13")]
)
def test_bytes_that_are_no_text_are_replaced_and_flagged(puller: World, content_type: str) -> None:
    """Fault 84."""
    puller.server.script(Body(body_of(product(1, name="Zoë")).replace("ë".encode(), b"\xeb"), content_type))
    with puller.hold(PRODUCT_LIST) as staged, puller.client() as client:
        stage(client, staged, log=LOG)
        assert staged.has_replaced_text
        assert staged_rows(staged)[0]["name"] == "Zo\ufffd"


def test_utf_8_is_read_as_such_whatever_the_content_type_says(puller: World) -> None:
    """Fault 84."""
    puller.server.script(Body(body_of(product(1, name="Zoë")), "application/json; charset=iso-8859-1"))
    assert json.loads(bytes(puller.page().items[0].raw))["name"] == "Zoë"


@contextmanager
def damaging_relay(port: int, *, damage: str) -> Iterator[int]:
    """A port that relays to another one; it closes the first connection at once, or damages what the server says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pump(source: socket.socket, target: socket.socket, *, flip: bool) -> None:
            with suppress(OSError):
                while data := source.recv(65_536):
                    target.sendall(data[:-1] + bytes([data[-1] ^ 1]) if flip else data)
                    flip = False
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        def relay() -> None:
            is_first = True
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    if is_first and damage == "close":
                        client.recv(65_536)
                        client.close()
                    else:
                        server = socket.create_connection(("127.0.0.1", port))
                        for ends, flip in (((client, server), False), ((server, client), is_first)):
                            threading.Thread(target=pump, args=ends, kwargs={"flip": flip}, daemon=True).start()
                    is_first = False

        threading.Thread(target=relay, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("damage", ["close", "flip"])
def test_a_tls_handshake_that_breaks_once_is_retried(tmp_path: Path, damage: str) -> None:
    """Fault 85."""
    context, certificate = issue_certificate(tmp_path, name="127.0.0.1")
    with faulty(store_of(products=3), tls=context) as server, damaging_relay(server.port, damage=damage) as port:
        puller = World(tmp_path, running_server=server)
        pulled = puller.pull(base_url=f"https://127.0.0.1:{port}/api/v1/", ca_bundle=certificate)
    assert pulled.ids == [1, 2, 3]
    assert pulled.cost.retries == 1


@pytest.mark.parametrize(
    ("headers", "pause"),
    [({"Retry-After": "16.5"}, 16.5), ({"X-RateLimit-Reset": "16"}, 16), ({"RateLimit-Reset": "9.5"}, 9.5)],
)
def test_what_a_rate_limit_says_is_waited_for(puller: World, headers: dict[str, str], pause: float) -> None:
    """Fault 86."""
    puller.server.script(None, Status(429, headers))
    assert puller.pull().ids == [*range(1, 121)]
    assert puller.sleeper.seconds == [pause]


def test_a_rate_limit_that_resets_at_an_instant_is_waited_for(puller: World) -> None:
    """Fault 86."""
    puller.server.script(None, Status(429, {"X-RateLimit-Reset": str(int(time.time()) + 30)}))
    assert puller.pull().ids == [*range(1, 121)]
    assert 27 <= puller.sleeper.seconds[0] <= 30


@pytest.mark.parametrize(
    ("fault", "pause"),
    [
        (Status(403, {"Retry-After": "3", "content-type": "text/html"}, LOGIN_PAGE), 3),
        (Status(420, {"Retry-After": "3"}), 3),
        (Status(403), 120),
        (Status(409), 120),
        (Status(423), 120),
        (Status(430), 120),
        (Status(499), 120),
        (Body(b'{"errors": [{"message": "Throttled"}]}'), 120),
        (Body(b'{"error": "Rate limit exceeded", "code": 7}'), 120),
    ],
    ids=["403 with Retry-After", "420", "403 later", "409", "423", "430", "499", "200 throttled", "200 rate limit"],
)
def test_a_refusal_that_passes_is_waited_for(puller: World, fault: Fault, pause: float) -> None:
    """Fault 87."""
    puller.server.script(None, fault)
    assert puller.pull().ids == [*range(1, 121)]
    assert puller.sleeper.seconds == [pause]
    puller.server.script(None, otherwise=fault)
    failure(puller)
    assert puller.sleeper.seconds[1:] == [pause, pause]


def test_early_hints_before_an_answer_are_passed_over(puller: World) -> None:
    """Fault 88."""

    def hint(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n" * 2)
        Serve()(exchange)

    puller.server.script(otherwise=hint)
    assert puller.pull().ids == [*range(1, 121)]


def test_two_byte_order_marks_are_passed_over(puller: World) -> None:
    """Fault 88."""
    puller.server.script(otherwise=Edit(lambda body: b"\xef\xbb\xbf" * 2 + body))
    assert puller.pull().ids == [*range(1, 121)]


def test_an_encoding_that_was_not_asked_for_is_named(puller: World) -> None:
    """Fault 88."""
    puller.server.script(otherwise=Serve({"content-encoding": "x-zap"}))
    assert "compressed in a way that was not asked for (x-zap)" in str(failure(puller))
    assert puller.server.pages == [1]


def test_a_redirect_to_the_same_host_in_capitals_is_followed(tmp_path: Path) -> None:
    """Fault 92."""
    with serving(store_of(products=3), tmp_path) as puller:
        there = f"HTTP://LocalHost:{puller.server.port}/api/v1/products?page=1&per_page=50"
        puller.server.script(Redirect(there))
        assert puller.pull(base_url=f"http://localhost:{puller.server.port}/api/v1/").ids == [1, 2, 3]


def test_a_redirect_that_drops_the_query_is_named(puller: World) -> None:
    """Fault 92."""
    puller.server.script(None, Redirect("/api/v1/products"))
    assert "the store redirects and drops the query" in str(failure(puller))
