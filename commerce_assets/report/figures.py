"""Query the marts for the figures of the report. No figure is of a person, and no sum mixes currencies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from commerce_assets.analytics.build import SQL
from commerce_assets.analytics.tables import MODELS
from commerce_assets.analytics.tables import SCHEMA as ANALYTICS
from commerce_assets.endpoint import Endpoint
from commerce_assets.report.gaps import find_late, find_unknown, loaded_until
from commerce_assets.warehouse.ddl import describe, exists
from commerce_assets.warehouse.load_log import loaded_endpoints

MARTS = (
    *("orders_enriched", "daily_revenue", "refunds", "customer_value", "cohort_retention"),
    *("product_performance", "subscription_orders"),
)
"""The marts that the report reads."""
HISTORY_MARTS = ("subscription_months",)
"""Those that it reads if they are there; they need the history of orders."""
NO_CURRENCY = "XXX"
CURRENCIES_SHOWN = 5
"""Currencies with charts and tables of their own; the others are in the overview only."""
_PRODUCTS_SHOWN = 10
_COHORTS_SHOWN = 12
_PERIOD_DAYS = 30
_DAYS_SHOWN = 90
_DAILY_UP_TO_DAYS = 62

Row = Mapping[str, Any]


class ReportError(Exception):
    """The report lacks a mart, or its file cannot be written; the message says how to fix it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Currency:
    """The sales in one currency.

    Attributes:
        code: ISO 4217; XXX where the API returns none.
        decimals: The decimals of its amounts.
        recent: The last thirty complete days, and `net_before` of the thirty before; None if those are not all stored.
        total: All days.
        by_month: A row per month from the first sale to today, quiet months included.
        by_day: Up to ninety days: day, net; quiet days included.
        products: The best sellers of the last twelve months by net, and a row for all others.
        products_from: The first of these months.
        customers: How many there are, and their average and median net.
    """

    code: str
    decimals: int
    recent: Row
    total: Row
    by_month: Sequence[Row] = ()
    by_day: Sequence[Row] = ()
    products: Sequence[Row] = ()
    products_from: date | None = None
    customers: Row = field(default_factory=dict)

    @property
    def is_young(self) -> bool:
        """The sales span so few days that days say more than months."""
        return len(self.by_day) <= _DAILY_UP_TO_DAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that the report shows.

    Attributes:
        written_at: When, in the zone of the marts.
        timezone: The zone, an IANA name.
        first_day: The day of the first sale. None: there are no sales.
        last_day: The last day whose orders are all stored.
        currencies: By number of sales, the highest first.
        customers_by_month: Sales to new and returning customers and without an email address.
        days_to_refund: The median; None if no refund has a time.
        cohorts: The last twelve cohorts that have customers: the size, and the customers per later month.
        plans: A row per subscription plan and currency of its price.
        plan_months: Subscriptions by month, over all plans; empty without the history of orders.
        unknown: Sentences about what the API does not show.
        late: Sentences about what is not loaded yet.
    """

    written_at: datetime
    timezone: str
    first_day: date | None
    last_day: date
    currencies: Sequence[Currency]
    customers_by_month: Sequence[Row]
    days_to_refund: float | None
    cohorts: Sequence[Row]
    plans: Sequence[Row]
    plan_months: Sequence[Row]
    unknown: Sequence[str]
    late: Sequence[str]


def read_figures(
    connection: duckdb.DuckDBPyConnection,
    *,
    endpoints: Sequence[Endpoint],
    start: date,
    timezone: str,
    now: datetime,
    looks_up: bool,
) -> Figures:
    """Query the marts and the log of loads.

    Args:
        connection: May be read-only.
        endpoints: The endpoints that are loaded.
        start: The first day that must be loaded.
        timezone: The zone that the marts were built with, an IANA name.
        now: The time of the report.
        looks_up: The refresh looks up refunds that the list of orders does not show.

    Raises:
        ReportError: A mart is not built.
    """
    _require_marts(connection)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute((SQL / "shared" / "currency.sql").read_text())
    until = loaded_until(connection, endpoints, now)
    written_at = now.astimezone(ZoneInfo(timezone))
    last_day = until.astimezone(ZoneInfo(timezone)).date() - timedelta(days=1)
    first_day, newest_day = _all(
        connection, "SELECT min(day) AS first, max(day) AS newest FROM analytics.daily_revenue WHERE orders > 0"
    )[0].values()
    codes = [
        row["currency"]
        for row in _all(
            connection,
            "SELECT currency, sum(orders) AS sales FROM analytics.daily_revenue GROUP BY ALL HAVING sales > 0 "
            "ORDER BY sales DESC, currency",
        )
    ]
    has_history = exists(connection, ANALYTICS, "subscription_months")
    return Figures(
        written_at=written_at,
        timezone=timezone,
        first_day=first_day,
        last_day=last_day,
        currencies=[
            _currency(
                connection,
                code,
                first_day=first_day,
                last_day=last_day,
                newest_day=max(newest_day, last_day),
                is_shown=place < CURRENCIES_SHOWN,
            )
            for place, code in enumerate(codes)
        ],
        customers_by_month=_all(connection, _CUSTOMERS_BY_MONTH),
        days_to_refund=_all(connection, "SELECT median(days_to_refund) AS days FROM analytics.refunds")[0]["days"],
        cohorts=_all(connection, _COHORTS, limit=_COHORTS_SHOWN),
        plans=_all(connection, _PLANS),
        plan_months=_all(connection, _PLAN_MONTHS) if has_history else [],
        unknown=find_unknown(connection, has_history=has_history),
        late=find_late(connection, endpoints, start=start, timezone=timezone, now=now, looks_up=looks_up),
    )


def _require_marts(connection: duckdb.DuckDBPyConnection) -> None:
    for model in MODELS:
        stored = describe(connection, model.name, schema=ANALYTICS)
        if model.name not in MARTS and not (stored and model.name in HISTORY_MARTS):
            continue
        name = f"{ANALYTICS}.{model.name}"
        if not stored and not loaded_endpoints(connection):
            raise ReportError("the database is empty. Fix: run the job orders, then run the job analytics.")
        if not stored:
            raise ReportError(f"{name} is not built yet. Fix: run the job analytics.")
        if {column.name: column.type for column in stored} != {column.name: column.type for column in model.columns}:
            raise ReportError(f"{name} has the columns of another version. Fix: run the job analytics.")


def _currency(
    connection: duckdb.DuckDBPyConnection,
    code: str,
    *,
    first_day: date,
    last_day: date,
    newest_day: date,
    is_shown: bool,
) -> Currency:
    period_began = last_day - timedelta(days=_PERIOD_DAYS - 1)
    named: dict[str, Any] = {"currency": code}
    total = _all(connection, _SUMS.format(when="TRUE"), **named)[0]
    recent = dict(
        _all(connection, _SUMS.format(when="day BETWEEN $first AND $last"), **named, first=period_began, last=last_day)[
            0
        ]
    )
    before = _all(
        connection,
        _SUMS.format(when="day BETWEEN $first AND $last"),
        **named,
        first=period_began - timedelta(days=_PERIOD_DAYS),
        last=period_began - timedelta(days=1),
    )[0]
    recent["net_before"] = before["net"] if first_day <= period_began - timedelta(days=_PERIOD_DAYS) else None
    decimals = _all(connection, "SELECT decimals($currency) AS decimals", **named)[0]["decimals"]
    if not is_shown:
        return Currency(code=code, decimals=decimals, recent=recent, total=total)
    year_began = _months_before(newest_day, 11)
    return Currency(
        code=code,
        decimals=decimals,
        recent=recent,
        total=total,
        by_month=_all(connection, _BY_MONTH, **named, first=first_day, last=newest_day),
        by_day=_all(
            connection,
            _BY_DAY,
            **named,
            first=max(first_day, newest_day - timedelta(days=_DAYS_SHOWN - 1)),
            last=newest_day,
        ),
        products=_products(connection, code, year_began),
        products_from=max(year_began, first_day.replace(day=1)),
        customers=_all(connection, _CUSTOMER_VALUE, **named)[0],
    )


def _products(connection: duckdb.DuckDBPyConnection, code: str, since: date) -> list[Row]:
    return _all(connection, _PRODUCTS, currency=code, since=since, limit=_PRODUCTS_SHOWN)


def _months_before(day: date, months: int) -> date:
    """Return the first day of the month that many months earlier."""
    index = day.year * 12 + day.month - 1 - months
    return date(index // 12, index % 12 + 1, 1)


def _all(connection: duckdb.DuckDBPyConnection, sql: str, **named: object) -> list[Row]:
    answered = connection.execute(sql, named) if named else connection.execute(sql)
    names = [name for name, *_ in answered.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answered.fetchall()]


# The amounts and counts of some days. Refunds are NULL if none of those days' refunds is known.
_MEASURES = """
    coalesce(sum(orders), 0)::BIGINT AS sales,
    coalesce(sum(gross), 0) AS gross,
    coalesce(sum(unknown_refunds), 0)::BIGINT AS unknown_refunds,
    CASE
        WHEN coalesce(count_if(unknown_refunds > 0), 0) = 0 OR count_if(known_refund_share > 0) > 0
        THEN coalesce(sum(refunds), 0)
    END AS refunds,
    coalesce(sum(net), 0) AS net,
    coalesce(sum(tax), 0) AS tax,
    coalesce(sum(fees + affiliate_fees), 0) AS fees,
    coalesce(sum(refunded_orders), 0)::BIGINT AS refunded,
    coalesce(sum(charged_back_orders), 0)::BIGINT AS charged_back,
    coalesce(sum(refunds_paid_out), 0) AS paid_out"""
_SUMS = f"SELECT {_MEASURES} FROM analytics.daily_revenue WHERE currency = $currency AND {{when}}"
_BY_MONTH = f"""
    WITH months AS (
        SELECT unnest(range(date_trunc('month', $first::DATE), $last::DATE + 1, INTERVAL 1 MONTH))::DATE AS month
    )
    SELECT month, {_MEASURES}
    FROM months LEFT JOIN (FROM analytics.daily_revenue WHERE currency = $currency) ON date_trunc('month', day) = month
    GROUP BY month ORDER BY month"""
_BY_DAY = """
    SELECT unnested.day::DATE AS day, coalesce(net, 0) AS net
    FROM (SELECT unnest(range($first::DATE, $last::DATE + 1, INTERVAL 1 DAY)) AS day) AS unnested
    LEFT JOIN (FROM analytics.daily_revenue WHERE currency = $currency) AS sold ON sold.day = unnested.day
    ORDER BY 1"""
_PRODUCTS = """
    WITH sold AS (
        SELECT
            product_id,
            any_value(product) AS product,
            sum(orders) AS sales,
            sum(units) AS units,
            sum(net) AS net,
            sum(refunded_orders) AS refunded,
            row_number() OVER (ORDER BY product_id IS NULL, sum(net) DESC, product_id) AS place
        FROM analytics.product_performance
        WHERE currency = $currency AND month >= $since
        GROUP BY product_id
    ),
    placed AS (
        SELECT
            *,
            CASE WHEN product_id IS NULL THEN 'no product' WHEN place > $limit THEN 'others' ELSE 'product' END AS kind,
            CASE WHEN kind = 'product' THEN product_id END AS shown_id
        FROM sold
    )
    SELECT
        kind,
        shown_id AS product_id,
        any_value(product) AS product,
        count(*) AS products,
        sum(sales)::BIGINT AS sales,
        sum(units)::BIGINT AS units,
        sum(net) AS net,
        sum(refunded)::BIGINT AS refunded
    FROM placed
    GROUP BY kind, shown_id
    ORDER BY kind = 'no product', kind = 'others', min(place)"""
_CUSTOMER_VALUE = """
    SELECT
        count(*) AS customers,
        coalesce(sum(net), 0) AS net,
        median(net) AS median,
        count_if(sales > 1) AS returned,
        sum(net) FILTER (place <= ceil(customers / 10)) AS net_of_best_tenth
    FROM (
        SELECT net, sales, row_number() OVER (ORDER BY net DESC) AS place, count(*) OVER () AS customers
        FROM analytics.customer_value WHERE currency = $currency
    )"""
_CUSTOMERS_BY_MONTH = """
    WITH months AS (
        SELECT unnest(range(date_trunc('month', min(day)), max(day) + 1, INTERVAL 1 MONTH))::DATE AS month
        FROM analytics.orders_enriched WHERE is_sale
    )
    SELECT
        month,
        -- count_if of NULLs is NULL: a month may have no sale with an address.
        count(*) FILTER (customer_sale_number = 1) AS first,
        count(*) FILTER (customer_sale_number > 1) AS later,
        count_if(order_id IS NOT NULL AND customer IS NULL) AS without
    FROM months LEFT JOIN (FROM analytics.orders_enriched WHERE is_sale) ON date_trunc('month', day) = month
    GROUP BY month ORDER BY month"""
_COHORTS = """
    SELECT cohort, any_value(cohort_size) AS size, list(customers ORDER BY months_later)[:$limit] AS customers
    FROM analytics.cohort_retention
    WHERE cohort IN (SELECT DISTINCT cohort FROM analytics.cohort_retention ORDER BY cohort DESC LIMIT $limit)
    GROUP BY cohort ORDER BY cohort"""
_PLANS = """
    SELECT
        plan,
        plan_id,
        price_currency,
        count_if(is_active) AS active,
        count_if(NOT is_active) AS inactive,
        sum(monthly_price) FILTER (is_active) AS recurring,
        count_if(is_active AND monthly_price IS NULL) AS unpriced
    FROM analytics.subscription_orders
    GROUP BY ALL
    ORDER BY active DESC, inactive DESC, plan"""
_PLAN_MONTHS = """
    SELECT month, sum(started)::BIGINT AS started, sum(cancelled)::BIGINT AS cancelled,
        sum(completed)::BIGINT AS completed, sum(active)::BIGINT AS active
    FROM analytics.subscription_months GROUP BY month ORDER BY month"""
