"""Lay the figures out as one HTML page, with charts beside the tables that have their exact values."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any

from jinja2 import Environment

from commerce_assets.report import charts
from commerce_assets.report.charts import BLUE, GREY, ORANGE, PALE, Series
from commerce_assets.report.figures import NO_CURRENCY, Currency, Figures, Row

_MONTHS_OPEN = 6
# The heads of what `_sums` returns.
_SUM_HEADS = ("Sales", "Before refunds", "Refunds", "After refunds", "Tax included", "Fees")
_DASH, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
_FEW = 2
_ALL = 1_000


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table; `shade` is a CSS colour."""

    text: str
    shade: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; the rows after `open_rows` are folded."""

    name: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    currency: str = ""
    open_rows: int = _ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A chart, a table or both, with a title."""

    title: str
    chart: str = ""
    table: Table | None = None
    note: str = ""
    is_full: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    """A number in large type."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles of a currency."""

    name: str
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page."""

    title: str
    lead: str = ""
    anchor: str = ""
    tiles: Sequence[Tiles] = ()
    cards: Sequence[Card] = ()
    points: Sequence[str] = field(default_factory=list)


def render(figures: Figures) -> str:
    """Return the page."""
    template = (files("commerce_assets.report") / "page.html.jinja").read_text()
    environment = Environment(autoescape=True)
    page = {
        "title": "Shop report",
        "subtitle": _subtitle(figures),
        "late": figures.late,
        "unknown": figures.unknown,
        "sections": [*_sections(figures)],
    }
    return environment.from_string(template).render(page=page) + "\n"


def _subtitle(figures: Figures) -> str:
    written = f"Written on {figures.written_at:%Y-%m-%d at %H:%M}; days and months are those of {figures.timezone}."
    if figures.first_day is None:
        return written
    return f"Orders from {figures.first_day} to {max(figures.last_day, figures.first_day)}. {written}"


def _sections(figures: Figures) -> Iterable[Section]:
    if figures.first_day is None:
        yield Section(title="No sales yet", lead="The stored orders contain no sale.")
    else:
        yield _overview(figures)
        yield _revenue(figures)
        yield _refunds(figures)
        yield _customers(figures)
        yield _products(figures)
    if figures.plans:
        yield _subscriptions(figures)
    yield Section(
        title="What is unknown",
        anchor="unknown",
        lead=""
        if figures.unknown
        else "Nothing: the store shows every amount, customer and date that these figures need.",
        points=figures.unknown,
    )
    yield Section(
        title="What is late",
        lead="" if figures.late else "Nothing: every day is loaded, and so are the changes of older orders.",
        points=figures.late,
    )


def _overview(figures: Figures) -> Section:
    shown = [currency for currency in figures.currencies if currency.by_month]
    period = f"{figures.last_day - timedelta(days=29)} to {figures.last_day}"
    table = Table(
        name="overview",
        heads=("Currency", *_SUM_HEADS, "Refunded sales"),
        rows=[[Cell(_name(each)), *_sums(each, each.total), Cell(_share(each.total))] for each in figures.currencies],
    )
    return Section(
        title="At a glance",
        lead=f"The last 30 complete days, {period}, per currency. Amounts of different currencies are never added.",
        tiles=[Tiles(_name(each), _tiles(each)) for each in shown],
        cards=[Card(title="All days, per currency", table=table, is_full=True)],
    )


def _tiles(currency: Currency) -> list[Tile]:
    recent, before = currency.recent, currency.recent["net_before"]
    sales = recent["sales"]
    change = "after refunds, tax included"
    if before:
        change = f"{_signed((recent['net'] - before) / before)} on the 30 days before"
    refunded = _lost(recent)
    return [
        Tile("Revenue", _amount(currency, recent["net"]), change),
        Tile("Sales", f"{sales:,}", "free ones included"),
        Tile("Average sale", _mean(currency, recent["net"], sales), "after refunds"),
        Tile("Refunded", _percent(refunded, sales), f"{refunded:,} of these sales so far"),
    ]


def _revenue(figures: Figures) -> Section:
    cards = []
    for each in figures.currencies:
        if not each.by_month:
            continue
        months = [row["month"] for row in each.by_month]
        if not each.is_young:
            kept = Series("after refunds", [float(row["net"]) for row in each.by_month], BLUE)
            lost = Series("refunded", [float(row["refunds"] or 0) for row in each.by_month], ORANGE)
            series = [kept, lost] if any(lost.values) else [kept]
            cards.append(
                Card(title=f"{_name(each)}, per month, after refunds", chart=charts.month_bars(months, series))
            )
        days = [row["day"] for row in each.by_day]
        cards.append(
            Card(
                title=f"{_name(each)}, per day, after refunds",
                chart=charts.day_bars(days, [float(row["net"]) for row in each.by_day], is_wide=each.is_young),
                is_full=each.is_young,
            )
        )
        table = Table(
            name="revenue",
            currency=each.code,
            heads=("Month", *_SUM_HEADS, "Average sale"),
            rows=[
                [
                    Cell(_month(row["month"])),
                    *_sums(each, row),
                    Cell(_mean(each, row["net"], row["sales"])),
                ]
                for row in reversed(each.by_month)
            ],
            open_rows=_MONTHS_OPEN,
        )
        cards.append(Card(title=f"{_name(each)}, months", table=table, is_full=True))
    others = [_name(each) for each in figures.currencies if not each.by_month]
    return Section(
        title="Revenue",
        lead="By the day of the order. A refund and a renewal count in the month of their order; tax and shipping are "
        "included; fees of gateways and affiliates are not subtracted."
        + (f" Only in the table above: {', '.join(others)}." if others else ""),
        cards=cards,
    )


def _sums(currency: Currency, row: Row) -> list[Cell]:
    refunds = _DASH if row["refunds"] is None else _amount(currency, row["refunds"])
    if row["unknown_refunds"]:
        refunds = "unknown" if row["refunds"] is None else f"{refunds} + {row['unknown_refunds']} unknown"
    amounts = [_amount(currency, row[name]) for name in ("net", "tax", "fees")]
    return [Cell(text) for text in (f"{row['sales']:,}", _amount(currency, row["gross"]), refunds, *amounts)]


def _refunds(figures: Figures) -> Section:
    cards = []
    for each in figures.currencies:
        if not each.by_month or not (each.total["refunded"] or each.total["charged_back"] or each.total["paid_out"]):
            continue
        is_short = len(each.by_month) <= _FEW
        shares = [100 * _part(_lost(row), row["sales"]) for row in each.by_month]
        months = [row["month"] for row in each.by_month]
        table = Table(
            name="refunds",
            currency=each.code,
            heads=("Month", "Refunded", "Charged back", "Share", "Amount", "Paid back in the month"),
            rows=[
                [
                    Cell(text)
                    for text in (
                        _month(row["month"]),
                        f"{row['refunded']:,}",
                        f"{row['charged_back']:,}",
                        _share(row),
                        _sums(each, row)[2].text,
                        _amount(each, row["paid_out"]),
                    )
                ]
                for row in reversed(each.by_month)
            ],
            open_rows=_ALL if is_short else 0,
        )
        chart = "" if is_short else charts.month_bars(months, [Series("share", shares, ORANGE)], percent=True)
        cards.append(Card(title=f"{_name(each)}, share of sales refunded or charged back", chart=chart, table=table))
    lead = "By the month of the order; recent months can still grow."
    if figures.days_to_refund is not None:
        lead += f" Half of the refunds came within {_days(figures.days_to_refund)} of the order."
    return Section(title="Refunds", lead=lead if cards else "No sale was refunded or charged back.", cards=cards)


def _customers(figures: Figures) -> Section:
    cards = []
    months = [row["month"] for row in figures.customers_by_month]
    kinds = [("first sale", "first", BLUE), ("later sale", "later", PALE), ("without email", "without", GREY)]
    series = [
        Series(label, [row[name] for row in figures.customers_by_month], color)
        for label, name, color in kinds
        if any(row[name] for row in figures.customers_by_month)
    ]
    table = Table(
        name="customers",
        heads=("Month", "First sale of a customer", "Later sale", "Without email address"),
        rows=[
            [Cell(_month(row["month"])), *(Cell(f"{row[name]:,}") for _, name, _ in kinds)]
            for row in reversed(figures.customers_by_month)
        ],
        open_rows=0 if len(months) > _FEW else _ALL,
    )
    chart = charts.month_bars(months, series) if len(months) > _FEW else ""
    cards.append(Card(title="Sales per month, by kind of customer", chart=chart, table=table))
    values = [each for each in figures.currencies if each.by_month and each.customers["customers"]]
    if values:
        worth = Table(
            name="customer value",
            heads=("Currency", "Customers", "Bought again", "Average", "Median", "Share of the best tenth"),
            rows=[[Cell(text) for text in _worth(each)] for each in values],
        )
        cards.append(
            Card(
                title="Revenue per customer, so far",
                table=worth,
                note="After refunds, per currency. The best tenth are the customers with the highest revenue.",
            )
        )
    if any(len(row["customers"]) > 1 for row in figures.cohorts):
        cards.append(_cohort_card(figures.cohorts))
    return Section(
        title="Customers", lead="A customer is an email address. Sales of all currencies count.", cards=cards
    )


def _worth(currency: Currency) -> Sequence[str]:
    customers = currency.customers
    best = customers["net_of_best_tenth"]
    return (
        _name(currency),
        f"{customers['customers']:,}",
        _percent(customers["returned"], customers["customers"]),
        _mean(currency, customers["net"], customers["customers"]),
        _rounded(customers["median"], currency.decimals),
        _percent(best, customers["net"]) if customers["net"] > 0 else _DASH,
    )


def _cohort_card(cohorts: Sequence[Row]) -> Card:
    width = max(len(row["customers"]) for row in cohorts)
    rows = []
    for row in cohorts:
        cells = [
            Cell(f"{100 * count / row['size']:.0f} %", _shade(count / row["size"]) if later else "")
            for later, count in enumerate(row["customers"])
        ]
        blank = [Cell("")] * (width - len(cells))
        rows.append([Cell(_month(row["cohort"])), Cell(f"{row['size']:,}"), *cells[1:], *blank])
    return Card(
        title="How many customers come back",
        table=Table(
            name="cohorts",
            heads=(
                "First sale in",
                "Customers",
                *(f"{later} mo. later" if later == 1 else str(later) for later in range(1, width)),
            ),
            rows=rows,
        ),
        note="Share of the customers with a first sale in a month who bought again that many months later. The newest "
        "month is not over. Renewals of subscriptions do not count.",
        is_full=True,
    )


def _products(figures: Figures) -> Section:
    cards = []
    for each in figures.currencies:
        if not each.products:
            continue
        sold = [row for row in each.products if row["kind"] == "product"]
        chart = ""
        if len(sold) > 1:
            chart = charts.ranking(
                [_product(row) for row in sold],
                [float(row["net"]) for row in sold],
                [_amount(each, row["net"]) for row in sold],
            )
        table = Table(
            name="products",
            currency=each.code,
            heads=("Product", "Sales", "Units", "After refunds", "Refunded"),
            rows=[
                [
                    Cell(text)
                    for text in (
                        _product(row),
                        f"{row['sales']:,}",
                        f"{row['units']:,}",
                        _amount(each, row["net"]),
                        _percent(row["refunded"], row["sales"]),
                    )
                ]
                for row in each.products
            ],
            open_rows=0 if chart else _ALL,
        )
        cards.append(Card(title=f"{_name(each)}, best sellers", chart=chart, table=table))
    since = min((each.products_from for each in figures.currencies if each.products_from), default=None)
    lead = f"Since {_month(since)}, by revenue after refunds. " if since else ""
    return Section(
        title="Products",
        lead=f"{lead}A sale of several products is divided by their prices; it counts as a sale of each.",
        cards=cards,
    )


def _product(row: Row) -> str:
    match row["kind"]:
        case "others":
            return f"{row['products']:,} other product{'s' if row['products'] > 1 else ''}"
        case "no product":
            return "Orders without a product"
        case _:
            return row["product"] or f"Product {row['product_id']}"


def _subscriptions(figures: Figures) -> Section:
    by_currency: dict[str, list[Row]] = {}
    for row in figures.plans:
        by_currency.setdefault(row["price_currency"] or NO_CURRENCY, []).append(row)
    cards = []
    months = figures.plan_months
    kinds = ("started", "cancelled", "completed", "active")
    if len(months) > 1:
        active = charts.month_line([row["month"] for row in months], [row["active"] for row in months])
        table = Table(
            name="subscription months",
            heads=("Month", *(name.capitalize() for name in kinds)),
            rows=[
                [Cell(_month(row["month"])), *(Cell(f"{row[name]:,}") for name in kinds)] for row in reversed(months)
            ],
            open_rows=0,
        )
        cards.append(Card(title="Active at the end of the month, all plans", chart=active, table=table))
    for code, plans in by_currency.items():
        recurring = sum((row["recurring"] or Decimal(0) for row in plans), Decimal(0))
        rows = [[Cell(text) for text in _plan(row)] for row in plans]
        active = sum(row["active"] for row in plans)
        inactive = sum(row["inactive"] for row in plans)
        rows.append([Cell(text) for text in ("Sum", f"{active:,}", f"{inactive:,}", _price(recurring))])
        cards.append(
            Card(
                title="Plans without a currency" if code == NO_CURRENCY else f"Plans in {code}",
                table=Table(
                    name="plans",
                    currency=code,
                    heads=("Plan", "Active", "Ended or not active", "Recurring per month"),
                    rows=rows,
                ),
            )
        )
    return Section(
        title="Subscriptions",
        lead="As they are now. Recurring per month: the plans' present prices, before tax and discounts, of the active "
        "subscriptions without a fixed number of payments.",
        cards=cards,
    )


def _plan(row: Row) -> Sequence[str]:
    name = row["plan"] or ("Unknown plan" if row["plan_id"] is None else f"Plan {row['plan_id']}")
    recurring = _DASH if row["recurring"] is None else _price(row["recurring"])
    return name, f"{row['active']:,}", f"{row['inactive']:,}", recurring


def _price(amount: Decimal) -> str:
    """Write a sum of monthly prices, which are fractions of yearly ones."""
    return _rounded(amount, 2)


def _name(currency: Currency) -> str:
    return "No currency" if currency.code == NO_CURRENCY else currency.code


def _amount(currency: Currency, value: Decimal) -> str:
    """Write an amount exactly, with at least the decimals of the currency."""
    exponent = Decimal(value).normalize().as_tuple().exponent
    return _rounded(value, max(currency.decimals, -int(exponent)))


def _mean(currency: Currency, total: Any, count: int) -> str:
    return _rounded(total / count, currency.decimals) if count else _DASH


def _rounded(value: Any, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace("-", _MINUS)


def _percent(part: Any, whole: Any) -> str:
    return f"{100 * float(part) / float(whole):.1f} %" if whole else _DASH


def _share(row: Row) -> str:
    return _percent(_lost(row), row["sales"])


def _lost(row: Row) -> int:
    """Return the number of sales that were refunded or charged back."""
    return int(row["refunded"] + row["charged_back"])


def _part(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _signed(change: Decimal) -> str:
    return f"{100 * change:+,.0f} %".replace("-", _MINUS)


def _days(days: float) -> str:
    return "a day" if days <= 1 else f"{days:,.0f} days"


def _month(month: date) -> str:
    return f"{month:%b %Y}"


def _shade(share: float) -> str:
    return f"rgba(31,111,235,{min(share, 0.6):.2f})" if share else ""
