"""`python -m sample_store`: serve the sample store until interrupted."""

import ipaddress
import json
import shlex
import signal
import sys
from datetime import UTC, datetime, timedelta

import click

from sample_store import ORDERS_PATH, SAMPLE_API_KEY, SAMPLE_API_SECRET
from sample_store.server import serve
from sample_store.shop import MAX_ORDERS_PER_DAY, build_shop
from sample_store.store import SampleStore
from sample_store.values import timestamp

_AHEAD = timedelta(days=30)
"""New orders arrive for this long."""


def _loopback(ctx: click.Context, param: click.Parameter, value: str) -> str:  # noqa: ARG001 - click's signature
    try:
        is_loopback = value == "localhost" or ipaddress.IPv4Address(value).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise click.BadParameter(f"{value} is not a loopback address such as 127.0.0.1.")
    return value


@click.command(
    context_settings={"show_default": True}, epilog="Example: commerce-assets sample-store --port 8765 --days 30"
)
@click.option("--host", callback=_loopback, default="127.0.0.1", help="A loopback address.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8765, help="0 for any free port.")
@click.option("--days", type=click.IntRange(0, 3_650), default=400, help="Days of orders before today.")
@click.option("--orders-per-day", type=click.FloatRange(0, MAX_ORDERS_PER_DAY), default=8.0, help="On average.")
@click.option("--key", default=SAMPLE_API_KEY, help="The API key to accept.")
@click.option("--secret", default=SAMPLE_API_SECRET, help="The API secret to accept.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Form of stdout.")
def main(*, host: str, port: int, days: int, orders_per_day: float, key: str, secret: str, form: str) -> None:
    """Serve the bundled sample store until interrupted."""
    # Blocked before the server's thread starts, so that it inherits the mask and the signals wait for sigwait below.
    stop_signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    now = datetime.now(UTC)
    shop = build_shop(now=now, days=days, orders_per_day=orders_per_day, ahead=_AHEAD)
    store = SampleStore(shop, api_key=key, api_secret=secret)
    placed = sum(order["created_at"] <= timestamp(now) for order in shop.orders)
    try:
        with serve(store, host=host, port=port) as server:
            settings = {
                "COMMERCE_API_BASE_URL": server.base_url,
                "COMMERCE_API_ORDERS_PATH": ORDERS_PATH,
                "COMMERCE_API_KEY": key,
                "COMMERCE_API_SECRET": secret,
            }
            if form == "json":
                click.echo(json.dumps(settings))
            else:
                exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
                click.echo(
                    f"Sample store with {len(shop.products)} products and {placed} orders at {server.base_url}: "
                    f"export {exported}"
                )
            signal.sigwait(stop_signals)
    except OSError as error:
        raise click.UsageError(f"cannot serve on {host}:{port}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
