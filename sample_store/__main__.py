"""`python -m sample_store`: serve the sample store until interrupted."""

import argparse
import ipaddress
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NoReturn, TypeVar

from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.server import serve
from sample_store.shop import MAX_ORDERS_PER_DAY, build_shop
from sample_store.store import SampleStore
from sample_store.values import timestamp

_AHEAD = timedelta(days=30)
"""New orders keep coming in for as long as a server is likely to run."""

_MAX_DAYS = 3_650
_MAX_PORT = 65_535

_Number = TypeVar("_Number", int, float)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments_given: Sequence[str] | None = None, *, prog: str = "python -m sample_store") -> int:
    """Serves until a signal comes; `arguments_given` are those of the command line unless given."""
    parser = _build_parser(prog)
    arguments = parser.parse_args(arguments_given)
    # Blocked before the server's thread starts, so that it inherits the mask and the signals wait for sigwait below.
    stop_signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    now = datetime.now(UTC)
    shop = build_shop(now=now, days=arguments.days, orders_per_day=arguments.orders_per_day, ahead=_AHEAD)
    store = SampleStore(shop, api_key=arguments.key, api_secret=arguments.secret)
    try:
        with serve(store, host=arguments.host, port=arguments.port) as server:
            placed = sum(order["created_at"] <= timestamp(now) for order in shop.orders)
            sys.stdout.write(
                f"Sample store with {len(shop.products)} products, {len(shop.packages)} packages, "
                f"{len(shop.subscriptions)} subscriptions and {placed} orders at {server.base_url}: "
                f"export COMMERCE_API_BASE_URL={server.base_url} COMMERCE_API_ORDERS_PATH={ORDERS_PATH} "
                f"COMMERCE_API_KEY={shlex.quote(arguments.key)} COMMERCE_API_SECRET={shlex.quote(arguments.secret)}\n"
            )
            sys.stdout.flush()
            signal.sigwait(stop_signals)
    except OSError as error:
        parser.error(f"cannot serve on {arguments.host}:{arguments.port}: {error.strerror}")
    return 0


def _build_parser(prog: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog,
        description="Serve a small shop of digital goods over the commerce API's dialect, until interrupted.",
        epilog=f"Example: {prog} --port 8765 --days 30",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", type=_loopback, default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=_number(int, 0, _MAX_PORT), default=8765, help="0 takes any free one")
    parser.add_argument("--days", type=_number(int, 0, _MAX_DAYS), default=400, help="how far back the orders go")
    parser.add_argument("--orders-per-day", type=_number(float, 0, MAX_ORDERS_PER_DAY), default=8.0, help="on average")
    parser.add_argument("--key", default=SAMPLE_API_KEY, help="the API key to accept")
    parser.add_argument("--secret", default=SAMPLE_API_SECRET, help="the API secret to accept")
    return parser


def _number(parse: Callable[[str], _Number], least: _Number, most: _Number) -> Callable[[str], _Number]:
    def number(text: str) -> _Number:
        try:
            value = parse(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a number from {least} to {most}, not {text}")
        return value

    return number


def _loopback(text: str) -> str:
    try:
        loopback = text == "localhost" or ipaddress.IPv4Address(text).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise argparse.ArgumentTypeError(f"must be a loopback address such as 127.0.0.1, not {text}")
    return text


if __name__ == "__main__":
    sys.exit(main())
