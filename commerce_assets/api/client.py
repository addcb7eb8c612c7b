"""The HTTP client: fetch one page per call, with rate limit, retries, timeouts, a size limit and no other host."""

import base64
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urljoin, urlsplit

import requests
import urllib3
from requests.auth import HTTPBasicAuth
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from commerce_assets import __version__
from commerce_assets.api.deadline import DeadlineAdapter
from commerce_assets.api.decoding import Page, PageDecoder
from commerce_assets.api.errors import ApiError, PullError, TransientApiError
from commerce_assets.api.rate_limit import RateLimiter
from commerce_assets.api.request import ItemRequest, ListRequest, store_of
from commerce_assets.api.responses import as_api_error, error_of
from commerce_assets.api.retry import is_retryable, seconds_to_wait, should_stop, wait_for
from commerce_assets.api.timestamps import parse_http_date
from commerce_assets.endpoint import Endpoint

_CHUNK_BYTES = 1 << 17
_LONGEST_NAME = 20
_MAX_REDIRECTS = 3
_PREPARED_REQUESTS = 50
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one request: timeouts in seconds, and bytes of the decompressed body."""

    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    total_seconds: float = 180.0
    body_bytes: int = 64 << 20


@dataclass(slots=True)
class Tally:
    """The cost of the requests so far: counts, seconds, and decompressed bytes."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    seconds_paced: float = 0.0
    seconds_backing_off: float = 0.0

    @property
    def seconds_waited(self) -> float:
        return self.seconds_paced + self.seconds_backing_off


@dataclass(slots=True)
class CommerceClient:
    """Fetches pages of lists from one store. Use it as a context manager: it holds keep-alive connections.

    It is thread-safe. When one thread backs off, all of them do.

    Attributes:
        base_url: The base of the endpoints' paths; ends with a slash.
        key: The API key, the user name of Basic auth.
        secret: The API secret, the password of Basic auth.
        paths: Endpoint name to path, if it differs from the endpoint table.
        per_page: Items to request per page. None: the limit of the endpoint's paginator.
        concurrency: Maximum number of requests in flight, if responses take longer than the rate limit allows.
        item_requests: Maximum number of requests per refresh for single items; 0: none.
        overlap_windows: Whether the pages of a window overlap too, as those of all other requests do; see `pagination`.
        ca_bundle: CA certificates to trust, a file or a folder; None: those of certifi.
        tally: The cost so far.
        store_clock: Seconds by which the store's clock is ahead of this machine's, by the last Date header.
        latency: Seconds from the last request to its response, without the rate limit.
    """

    base_url: str
    key: str = field(repr=False)
    secret: str = field(repr=False)
    pacer: RateLimiter
    paths: Mapping[str, str] = field(default_factory=dict)
    per_page: int | None = None
    concurrency: int = 1
    item_requests: int = 0
    overlap_windows: bool = False
    ca_bundle: Path | None = None
    limits: Limits = field(default_factory=Limits)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))
    sleep: Callable[[float], None] = time.sleep
    tally: Tally = field(default_factory=Tally)
    store_clock: float = 0.0
    latency: float = 0.0
    _listed: set[str] = field(init=False, repr=False, default_factory=set)
    _lock: threading.Lock = field(init=False, repr=False, default_factory=threading.Lock)
    _idle: "list[_Session]" = field(init=False, repr=False, default_factory=list)
    _backing_off: tuple[int, float] = field(init=False, repr=False, default=(0, 0.0))

    def _new_session(self) -> "_Session":
        session = _Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, DeadlineAdapter(seconds=self.limits.total_seconds))
        # Ignore the environment: a proxy would see the credentials, and .netrc would replace them.
        session.trust_env = False
        if self.ca_bundle:
            session.verify = str(self.ca_bundle)
        session.auth = HTTPBasicAuth(self.key.encode(), self.secret.encode())
        session.headers.update({"Accept": "application/json", "User-Agent": f"commerce_assets/{__version__}"})
        return session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    @contextmanager
    def _session(self) -> "Iterator[_Session]":
        """Borrow a session that no other thread uses; its connection is kept for the next request."""
        with self._lock:
            session = self._idle.pop() if self._idle else self._new_session()
        try:
            yield session
        finally:
            with self._lock:
                self._idle.append(session)

    @property
    def store(self) -> str:
        """The store and the account; it does not reveal the key."""
        return store_of(self.base_url, self.key)

    def url_of(self, endpoint_name: str, path: str) -> str:
        """Return the URL of an endpoint's list; its setting overrides the endpoint table."""
        return urljoin(self.base_url, self.paths.get(endpoint_name, path).lstrip("/"))

    def page_size(self, endpoint: Endpoint) -> int:
        """Return the number of items to request per page of an endpoint."""
        return self.per_page or endpoint.paginator.limit

    def page(
        self,
        pull: ListRequest,
        decoder: PageDecoder,
        number: int,
        *,
        per_page: int | None = None,
        once: bool = False,
    ) -> Page:
        """Fetch page `number` of a list, for pages of `per_page` items.

        Raises:
            PullError: The request failed, after its retries; with `once`, without retries.
        """
        url = self.url_of(pull.endpoint.name, pull.endpoint.path)
        limit = per_page or self.page_size(pull.endpoint)
        query = {**pull.params, **pull.endpoint.paginator.params(page=number, limit=limit)}

        def get() -> Page:
            body, charset = self._get(url, query)
            return decoder.decode(body, number=number, charset=charset)

        page = self._retry(get, pull, number, once=once)
        self._listed.add(url)
        return page

    def item(self, request: ItemRequest, decoder: PageDecoder, key: int, *, number: int) -> Page:
        """Fetch one item by its key, as page `number` of the request.

        Raises:
            PullError: The request failed, after its retries; or the answer is another item.
        """
        items = f"{self.url_of(request.endpoint.name, request.endpoint.path).rstrip('/')}/"

        def get() -> Page:
            try:
                body, charset = self._get(f"{items}{key}", {}, items=items)
            except ApiError as error:
                if error.status == HTTPStatus.FORBIDDEN:
                    error.hint += " Or do without: set COMMERCE_REFUND_REQUESTS to 0."
                raise
            page = decoder.decode_item(body, number=number, charset=charset)
            if page.items[0].id != key:
                raise ApiError("the store answered with another item", hint="Look at the endpoint's path.")
            return page

        page = self._retry(get, f"{request}, {request.endpoint.item_name} {key}", None)
        self._listed.add(items)
        return page

    def _retry(self, get: Callable[[], Page], pull: object, number: int | None, *, once: bool = False) -> Page:
        """Call `get`, and again as long as its error is worth it; the other arguments name what it gets."""
        attempts = 0
        what = pull if number is None else f"{pull}, page {number}"

        def attempt() -> Page:
            nonlocal attempts
            attempts += 1
            return get()

        def log_retry(state: RetryCallState) -> None:
            pause = state.upcoming_sleep
            self._spend(retries=1, seconds_backing_off=pause)
            self._back_off(pause)
            error = state.outcome.exception() if state.outcome else None
            reason = error.reason if isinstance(error, ApiError) else error
            self.log.warning("%s, attempt %d: %s; retrying in %.0f s", what, attempts, reason, pause)

        retrying = Retrying(
            retry=retry_if_exception(is_retryable),
            stop=stop_after_attempt(1) if once else should_stop,
            wait=wait_for,
            before_sleep=log_retry,
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except ApiError as error:
            if once and is_retryable(error) and isinstance(error, TransientApiError):
                self._back_off(seconds_to_wait(error, 1, 1.0))
            raise PullError(pull=pull, page=number, attempts=attempts, error=error) from error.alone()

    def _get(self, url: str, query: Mapping[str, str], *, items: str = "") -> tuple[bytes, str]:
        """Return the body of a 200 and its charset, blank if unknown: one attempt, after the rate limit.

        `items` is the base of the URLs of single items: a permission is for all of them, as it is for a list.
        """
        resource, params = items or url, query
        for _ in range(_MAX_REDIRECTS + 1):
            self._wait_for_back_off()
            self._spend(seconds_paced=self.pacer.wait_for_slot(), requests=1)
            began = time.monotonic()
            try:
                with (
                    self._session() as session,
                    session.fetch(
                        url, params, timeout=(self.limits.connect_seconds, self.limits.read_seconds)
                    ) as response,
                ):
                    body = self._read(response)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise as_api_error(error) from None
            self.latency = time.monotonic() - began
            self._spend(bytes=len(body))
            if response.status_code in _REDIRECTS:
                location = response.headers.get("Location", "")
                url, params = _redirected(url, location, page=query.get("page"), hidden=self._credentials()), {}
                continue
            self._note_clock(response.headers.get("Date"))
            if refusal := error_of(
                response.status_code,
                response.headers,
                body,
                now=datetime.now(UTC),
                succeeded_before=bool(self._listed),
                listed_before=resource in self._listed,
                hidden=self._credentials(),
            ):
                raise refusal
            return body, _charset_of(response.headers.get("Content-Type", ""))
        raise ApiError("the store redirects in circles", hint="Look at COMMERCE_API_BASE_URL and the endpoint's path.")

    def _back_off(self, seconds: float) -> None:
        self._backing_off = (threading.get_ident(), time.monotonic() + seconds)

    def _wait_for_back_off(self) -> None:
        """Wait while another thread backs off: the store means all threads."""
        thread, until = self._backing_off
        if thread != threading.get_ident() and (pause := until - time.monotonic()) > 0:
            self.sleep(pause)

    def _spend(self, **amounts: float) -> None:
        with self._lock:
            for name, amount in amounts.items():
                setattr(self.tally, name, getattr(self.tally, name) + amount)

    def _read(self, response: requests.Response) -> bytes:
        encodings = {part.strip().lower() for part in response.headers.get("Content-Encoding", "").split(",")}
        if unknown := encodings - {"", "identity", *urllib3.HTTPResponse.CONTENT_DECODERS}:
            named = ", ".join(sorted(name[:_LONGEST_NAME] for name in unknown if name.isprintable()))
            raise ApiError(
                f"the answer is compressed in a way that was not asked for ({named})",
                hint="Check any proxy between here and the store.",
            )
        # read1 decompresses at most a chunk at a time, so a gzip bomb meets the limit before it fills the memory.
        raw: urllib3.HTTPResponse = response.raw
        body = bytearray()
        while chunk := raw.read1(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > self.limits.body_bytes:
                raise ApiError(
                    f"the answer is larger than {self.limits.body_bytes >> 20} MiB", hint="That is no page of a list."
                )
        return bytes(body)

    def _credentials(self) -> tuple[str, ...]:
        """Return the credentials, plain and as in the request header."""
        return self.key, self.secret, base64.b64encode(f"{self.key}:{self.secret}".encode()).decode()

    def _note_clock(self, date: str | None) -> None:
        if date and (instant := parse_http_date(date)):
            self.store_clock = instant.timestamp() - time.time()


class _Session(requests.Session):
    """Prepares the request of a list once: only the query differs per page, and preparing is a third of the cost."""

    def __init__(self) -> None:
        super().__init__()
        self._prepared: dict[str, requests.PreparedRequest] = {}

    def fetch(self, url: str, query: Mapping[str, str] | None, *, timeout: tuple[float, float]) -> requests.Response:
        """Send a GET and return the response before its body is read. Redirects are not followed."""
        if url not in self._prepared:
            if len(self._prepared) >= _PREPARED_REQUESTS:  # each item has a URL
                self._prepared.clear()
            self._prepared[url] = self.prepare_request(requests.Request("GET", url))
        request = self._prepared[url].copy()
        if query:
            request.url = f"{request.url}?{urlencode(query)}"
        return self.send(request, stream=True, timeout=timeout, allow_redirects=False, verify=self.verify)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Do nothing: to find the target, requests would read the whole body without a limit."""


def _charset_of(content_type: str) -> str:
    message = Message()
    message["Content-Type"] = content_type
    return message.get_content_charset("")


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, in lower case."""
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _redirected(url: str, location: str, *, page: str | None, hidden: Collection[str]) -> str:
    """Return the target of a redirect if it has the same scheme, host and port, so that credentials may go there.

    An error names the host, unless the location contains something `hidden`.
    """
    try:
        here, there = urlsplit(url), urlsplit(urljoin(url, location))
        is_here = _origin(here) == _origin(there) and not there.username
    except ValueError:  # "http://["
        here, there, is_here = urlsplit(url), urlsplit(""), False
    if not location or not is_here:
        target = f"{there.scheme}://{there.hostname}" if location and there.hostname else "nowhere"
        if any(word in unquote(location) for word in hidden):
            target = "another host"
        raise ApiError(
            f"the store redirects to {target}, where credentials are not sent",
            hint="If that is the store's new address, set COMMERCE_API_BASE_URL to it.",
            is_general=True,
        )
    if dict(parse_qsl(there.query)).get("page") != page:
        raise ApiError(
            "the store redirects and drops the query, so that no page but the first could be read",
            hint="Set COMMERCE_API_BASE_URL, or the endpoint's path, to the address that it redirects to.",
        )
    return there.geturl()
