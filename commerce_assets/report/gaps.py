"""What the figures of the report lack: what the API does not show, and what is not loaded yet, in sentences."""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import duckdb

from commerce_assets.analytics.build import inspect
from commerce_assets.analytics.tables import MODELS
from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.freshness import due_days_never_loaded, fresh
from commerce_assets.warehouse.item_lookups import count_not_looked_up
from commerce_assets.warehouse.load_log import Kind, first_loaded, followed, last_followed, loaded_windows, read_note
from commerce_assets.warehouse.sql import scalar
from commerce_assets.wording import counted

_IN_STEP = "daily_revenue"


def loaded_until(connection: duckdb.DuckDBPyConnection, endpoints: Sequence[Endpoint], now: datetime) -> datetime:
    """Return up to when the orders are stored: the end of the newest loaded day, or the last refresh if that is later.

    Without a load, as in a database that another program has written, it is now.
    """
    ends = []
    for endpoint in endpoints:
        if endpoint.is_partitioned:
            ends += [window.end for window in loaded_windows(connection, endpoint)]
            if mark := followed(connection, endpoint).mark:
                ends.append(mark)
    return min(max(ends, default=now), now)


def find_unknown(connection: duckdb.DuckDBPyConnection, *, has_history: bool) -> list[str]:
    """Say what the marts do not know, with its size. Each sentence says which figure lacks it."""
    said = []
    for currency, unknown, unreadable, excluded, amount in connection.execute(_BY_CURRENCY).fetchall():
        kind = "without a currency" if currency == "XXX" else f"in {currency}"
        if unknown:
            said.append(
                f"The refunded amount of {counted(unknown, 'order')} {kind} is not known: amounts before refunds and "
                "refunds lack it, amounts after refunds are right."
            )
        if unreadable:
            said.append(f"An amount of {counted(unreadable, 'sale')} {kind} is not a number; the sums lack it.")
        if excluded:
            said.append(
                f"No sum contains {counted(excluded, 'order')} {kind} with {_plain(amount)} in total: tests, and "
                "orders whose payment did not succeed."
            )
    for query, noun, text in (
        (_WITHOUT_CURRENCY, "sale", "The currency of {} is not known; they are shown apart."),
        (_WITHOUT_CUSTOMER, "sale", "{} without an email address: no customer and no cohort contains them."),
        (_WITHOUT_TIME, "refund", "The day of {} is not known; what was paid back in a month lacks them."),
        (_WITHOUT_PRICE, "active subscription", "{} without a price per month; the recurring revenue lacks them."),
    ):
        if found := scalar(connection, query):
            said.append(text.format(counted(found, noun)))
    if not has_history and scalar(connection, "SELECT count(*) FROM analytics.subscription_orders"):
        said.append(
            "The store shows the present state of a subscription only: past months, cancellations and the days of "
            "renewals are known from the day on which the order history is switched on. Revenue of renewals is in the "
            "month of the first order."
        )
    return said


def find_late(
    connection: duckdb.DuckDBPyConnection,
    endpoints: Sequence[Endpoint],
    *,
    start: date,
    timezone: str,
    now: datetime,
    looks_up: bool,
) -> list[str]:
    """Say what is not loaded yet, days, changes or lists, and whether the marts are older than the orders.

    With `looks_up`, also how many rows the next refreshes will look up.
    """
    zone = ZoneInfo(timezone)
    said = []
    for endpoint in endpoints:
        if endpoint.is_partitioned:
            said += _late_days(connection, endpoint, start, now, zone)
        elif not fresh(connection, endpoint, start, now).passed:
            at = last_followed(connection, endpoint)
            when = f"were last loaded on {_moment(at, zone)}" if at else "were never loaded"
            said.append(f"The {endpoint.name} {when}.")
        lookup = endpoint.item_lookup
        if looks_up and lookup and (left := count_not_looked_up(connection, endpoint)):
            noun = endpoint.name.removesuffix("s")
            said.append(f"The {lookup.column.replace('_', ' ')} of {counted(left, noun)} are not looked up yet.")
    model = next(model for model in MODELS if model.name == _IN_STEP)
    sources = [endpoint for endpoint in endpoints if endpoint.name in model.deps]
    outcomes = inspect(connection, model, sources, start=start, now=now, timezone=timezone) or []
    if any(outcome.wrong and not outcome.warns for outcome in outcomes):
        said.append("Orders have changed since these figures were computed; the next build brings them up to date.")
    return said


def _late_days(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, start: date, now: datetime, zone: ZoneInfo
) -> list[str]:
    said = []
    missing = due_days_never_loaded(connection, endpoint, start, now)
    if missing:
        days = (
            f"{len(missing):,} days (UTC), {missing[0]} to {missing[-1]},"
            if len(missing) > 1
            else f"{missing[0]} (UTC)"
        )
        said.append(f"The {endpoint.name} of {days} are not loaded.")
    elif not fresh(connection, endpoint, start, now).passed:
        at = last_followed(connection, endpoint) or first_loaded(connection, endpoint)
        said.append(
            f"Changes of {endpoint.name}, such as refunds and renewals, were last loaded on {_moment(at, zone)}."
            if at
            else f"The {endpoint.name} were never loaded."
        )
    note = read_note(connection, endpoint, Kind.RECONCILIATION)
    if note and note.value["differences"]:
        said.append(
            f"When the {endpoint.name} were last compared with the store, on {_moment(note.at, zone)}, the store had "
            f"{note.value['in_store']:,} and these tables {note.value['stored']:,}."
        )
    return said


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():,f}"


def _moment(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"


_BY_CURRENCY = """
    SELECT currency, sum(unknown_refunds), sum(unreadable_orders), sum(excluded_orders), sum(excluded_amount)
    FROM analytics.daily_revenue GROUP BY currency ORDER BY sum(orders) DESC, currency"""
_WITHOUT_CURRENCY = "SELECT coalesce(sum(orders), 0) FROM analytics.daily_revenue WHERE currency = 'XXX'"
_WITHOUT_CUSTOMER = "SELECT count(*) FROM analytics.orders_enriched WHERE is_sale AND customer IS NULL"
_WITHOUT_TIME = "SELECT count(*) FROM analytics.refunds WHERE kind = 'refund' AND refunded_at IS NULL"
_WITHOUT_PRICE = "SELECT count(*) FROM analytics.subscription_orders WHERE is_active AND monthly_price IS NULL"
