"""The report: its numbers are those of the marts, and its page needs nothing else."""

import base64
import json
import re
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import time_machine

from commerce_assets.analytics.build import build
from commerce_assets.analytics.tables import MODELS
from commerce_assets.api.request import ListRequest
from commerce_assets.composition import build_definitions
from commerce_assets.report import write
from commerce_assets.report.charts import ranking
from commerce_assets.report.figures import MARTS
from commerce_assets.report.write import write_report
from commerce_assets.settings import CommerceSettings
from commerce_assets.warehouse.load_log import set_mark
from commerce_assets.window import Window
from commerce_assets_tests.support.items import ORDERS, order, store_of
from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.second_store import TOKYO, build_second_store
from commerce_assets_tests.support.shell import Shell, settings_for
from commerce_assets_tests.support.world import World, running, serving

NOW = datetime(2026, 3, 20, 20, tzinfo=UTC)
"""In Tokyo it is the next day."""
START = date(2025, 9, 1)
BUYER = "somebody.unmistakable@example.com"


class Page(HTMLParser):
    """The text of a page, its tables by name and currency, and what it refers to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tables: dict[tuple[str, str], list[list[str]]] = defaultdict(list)
        self.references: list[str] = []
        self.images: list[str] = []
        self.text = ""
        self._rows: list[list[str]] | None = None
        self._is_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.references += [named[name] for name in ("src", "href", "srcset", "action", "data") if name in named]
        if tag == "table":
            self._rows = self.tables[named["data-table"], named.get("data-currency", "")]
        if tag == "tr" and self._rows is not None:
            self._rows.append([])
        if tag == "td" and self._rows:
            self._rows[-1].append("")
            self._is_cell = True
        if tag == "img":
            self.images.append(base64.b64decode(named["src"].partition(",")[2]).decode())

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._rows = None
        if tag == "td":
            self._is_cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._rows and self._is_cell:
            self._rows[-1][-1] += data

    def rows(self, name: str, currency: str = "") -> list[list[str]]:
        return [row for row in self.tables[name, currency] if row]


def number(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))


def load_all(world: World, *, timezone: str = "UTC", start: date = START, history: bool = False) -> None:
    """Extract everything up to yesterday, and what has changed since, and build the marts."""
    orders = replace(ORDERS, keeps_versions=history)
    window = Window.of_days(start, (NOW - timedelta(days=1)).date())
    lists = [ListRequest(endpoint=endpoint) for endpoint in world.endpoints if not endpoint.is_partitioned]
    changes = ListRequest(endpoint=orders, updated_after=window.end)
    # The log of loads has the time of this machine.
    with time_machine.travel(NOW):
        for request in (*lists, ListRequest(endpoint=orders, window=window), changes):
            world.ingest(request)
    with world.file.write() as connection:
        set_mark(connection, ORDERS, NOW)
    build_all(world, timezone=timezone, history=history)


def build_all(world: World, *, timezone: str = "UTC", history: bool = False) -> None:
    with world.file.write() as connection:
        for model in MODELS:
            if history or not model.needs_history:
                build(connection, model, world.endpoints, timezone=timezone)


def page_of(
    world: World, *, timezone: str = "UTC", start: date = START, now: datetime = NOW, looks_up: bool = False
) -> Page:
    # Of a lake, whose commands may make no other file, the default folder is not there yet.
    path = world.folder / "pages" / "report.html"
    write_report(
        world.file,
        path,
        endpoints=world.endpoints,
        start=start,
        timezone=timezone,
        now=now,
        looks_up=looks_up,
        makes_folder=True,
    )
    return Page(path.read_text())


def sale(number: int, at: datetime, amount: str = "10.00", **fields: Any) -> dict[str, Any]:
    cart = {"cart_items": [{"cart_item": {"product_id": 1, "quantity": 1}}]}
    return order(number, at, settled_gross=amount, settled_currency="EUR", buyer_email=BUYER, cart=cart, **fields)


@pytest.fixture
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A world with the orders of the test's parameter."""
    with serving(store_of(products=3, orders=request.param, now=lambda: NOW), tmp_path) as world:
        yield world


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The second store in Tokyo, with the history of its orders."""
    store = build_second_store(NOW, days=190)
    with serving(store, tmp_path_factory.mktemp("second")) as world:
        load_all(world, timezone=TOKYO, history=True)
        yield world


def marts(world: World, columns: str, name: str, condition: str = "TRUE") -> list[tuple[Any, ...]]:
    return world.query(f"SELECT {columns} FROM analytics.{name} WHERE {condition}")


def test_numbers_of_the_report_equal_the_marts(second: World) -> None:
    page = page_of(second, timezone=TOKYO)

    days = marts(second, "day, currency, orders, gross, refunds, net, tax, fees + affiliate_fees", "daily_revenue")
    codes = {code for _, code, orders, *_ in days if orders}
    assert codes == {"EUR", "USD", "JPY", "KWD", "XXX"}
    overview = {row[0]: row for row in page.rows("overview")}
    assert set(overview) == {"EUR", "USD", "JPY", "KWD", "No currency"}
    for code in codes:
        sold = [row for row in days if row[1] == code]
        shown = overview[code if code != "XXX" else "No currency"]
        assert number(shown[1]) == sum(row[2] for row in sold)
        # Before and after refunds, tax and fees, to the last decimal.
        for place, column in ((2, 3), (4, 5), (5, 6), (6, 7)):
            assert number(shown[place]) == sum(row[column] for row in sold), (code, place)
        known = sum(row[4] for row in sold if row[4] is not None)
        assert number(shown[3].partition(" +")[0]) == known

        months = {row[0]: row for row in page.rows("revenue", code)}
        by_month: dict[str, list[Any]] = defaultdict(list)
        for row in sold:
            by_month[f"{row[0]:%b %Y}"].append(row)
        assert {month for month, row in months.items() if number(row[1])} == {
            month for month, rows in by_month.items() if sum(row[2] for row in rows)
        }
        for month, rows in by_month.items():
            assert number(months[month][4]) == sum(row[5] for row in rows), (code, month)

    kinds = [[int(cell) for cell in row[1:]] for row in page.rows("customers")][::-1]
    sales = marts(second, "strftime(day, '%Y-%m'), customer_sale_number, customer", "orders_enriched", "is_sale")
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for month, place, customer in sales:
        counted[month][2 if customer is None else min(place, 2) - 1] += 1
    assert kinds == [counts for _, counts in sorted(counted.items())]

    for code in codes:
        products = page.rows("products", code)
        net = sum(row[0] for row in marts(second, "net", "product_performance", f"currency = '{code}'"))
        assert sum(number(row[3]) for row in products) == net

    plans = [row for code in ("EUR", "USD", "XXX") for row in page.rows("plans", code) if row[0] == "Sum"]
    ((active, recurring),) = marts(
        second, "count_if(is_active), sum(monthly_price) FILTER (is_active)", "subscription_orders"
    )
    assert sum(number(row[1]) for row in plans) == active
    assert abs(sum(number(row[3]) for row in plans) - recurring) < Decimal("0.015")
    assert page.rows("subscription months")
    assert all(re.match(r"[A-Z][a-z]{2} 202[56]$", row[0]) for row in page.rows("cohorts"))


def test_tiles_cover_thirty_complete_days_in_the_shops_zone(second: World) -> None:
    page = page_of(second, timezone=TOKYO)

    # Orders are stored up to now by the last refresh; in Tokyo it is 21 March, 05:00.
    last = date(2026, 3, 20)
    assert f"{last - timedelta(days=29)} to {last}" in page.text
    sold = marts(
        second, "sum(orders)", "daily_revenue", f"currency = 'EUR' AND day BETWEEN '{last}'::DATE - 29 AND '{last}'"
    )
    tiles = re.search(r"EUR</div>.+?Sales</span><b>([\d,]+)</b>", page.html, re.DOTALL)
    assert tiles
    assert int(tiles[1].replace(",", "")) == sold[0][0]


def test_the_page_is_self_contained_and_names_no_buyer(second: World) -> None:
    page = page_of(second, timezone=TOKYO)

    assert page.images
    assert {reference.partition(":")[0] for reference in page.references} <= {"data", "#unknown"}
    assert "<script" not in page.html
    for svg in page.images:
        assert not re.search(r'href="(?!#)|url\((?!#)|<script|<image', svg)
    customers = [customer for (customer,) in marts(second, "customer", "customers")]
    everything = page.html + "".join(page.images)
    assert customers
    assert not [customer for customer in customers if customer in everything.lower()]
    assert stat.S_IMODE((second.folder / "pages" / "report.html").stat().st_mode) == 0o600
    assert [path.name for path in second.folder.glob(".report*")] == []


def test_what_is_unknown_is_said_with_its_size(second: World) -> None:
    said = page_of(second, timezone=TOKYO).text

    for currency, unknown, unreadable in second.query(
        "SELECT currency, sum(unknown_refunds), sum(unreadable_orders) FROM analytics.daily_revenue GROUP BY 1"
    ):
        kind = "without a currency" if currency == "XXX" else f"in {currency}"
        assert (f"The refunded amount of {unknown} order{'s' * (unknown > 1)} {kind} is not known" in said) is bool(
            unknown
        )
        assert (f"An amount of {unreadable} sale{'s' * (unreadable > 1)} {kind} is not" in said) is bool(unreadable)
    ((without,),) = marts(second, "count(*)", "orders_enriched", "is_sale AND customer IS NULL")
    assert f"{without} sales without an email address" in said


@pytest.mark.parametrize("shop", [[]], indirect=True)
def test_marts_without_a_sale_make_a_page_that_says_so(shop: World) -> None:
    load_all(shop)

    page = page_of(shop)

    assert "No sales yet" in page.text
    assert not page.images


@pytest.mark.parametrize("shop", [[sale(1, NOW - timedelta(days=3), "12.50")]], indirect=True)
def test_one_order_makes_a_page(shop: World) -> None:
    load_all(shop)

    page = page_of(shop)

    assert page.rows("revenue", "EUR") == [["Mar 2026", "1", "12.50", "0.00", "12.50", "0.00", "0.00", "12.50"]]
    assert page.rows("products", "EUR") == [["Product 1", "1", "1", "12.50", "0.0 %"]]
    assert "Nothing: every day is loaded" in page.text


def in_currencies(count: int) -> list[dict[str, Any]]:
    codes = [f"{chr(65 + place)}AA" for place in range(count)]
    return [
        sale(number, NOW - timedelta(days=3), "5.00") | {"settled_currency": codes[number % count]}
        for number in range(1, 4 * count)
    ]


@pytest.mark.parametrize("shop", [in_currencies(8)], indirect=True)
def test_rare_currencies_are_only_in_the_overview(shop: World) -> None:
    load_all(shop)

    page = page_of(shop)

    assert len(page.rows("overview")) == 8
    assert len({currency for name, currency in page.tables if name == "revenue"}) == 5
    assert "Only in the table above: " in page.text


THREE_YEARS = [sale(day + 1, NOW - timedelta(days=1100 - day), f"{day % 90 + 1}.99") for day in range(1100)]


@pytest.mark.parametrize("shop", [THREE_YEARS], indirect=True)
def test_three_years_of_days_are_a_small_page(shop: World) -> None:
    load_all(shop, start=date(2023, 1, 1))

    page = page_of(shop, start=date(2023, 1, 1))

    months = page.rows("revenue", "EUR")
    assert len(months) == 37
    assert sum(number(row[4]) for row in months) == sum(Decimal(row["settled_gross"]) for row in THREE_YEARS)
    assert len(page.html) < 300_000


@pytest.mark.parametrize("shop", [[sale(1, NOW - timedelta(days=3))]], indirect=True)
def test_names_from_the_store_are_text_not_markup(shop: World) -> None:
    name = "<img src=x onerror=alert(1)> $\\frac{1}$ & Söhne"
    shop.store.shop.products[0] |= {"name": name}
    shop.store.shop.products[1] |= {"name": "Another"}
    other = {"cart_items": [{"cart_item": {"product_id": 2, "quantity": 1}}]}
    shop.store.add_order(sale(2, NOW - timedelta(days=2)) | {"cart": other})
    load_all(shop)

    page = page_of(shop)

    assert [name, "1", "1", "10.00", "0.0 %"] in page.rows("products", "EUR")
    assert "onerror=alert(1)>" not in page.html
    assert "<img src=x" not in "".join(page.images)


def test_a_name_in_a_script_that_matplotlib_lacks_is_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    chart = ranking(["水彩の手帖"], [1.0], ["1"])
    assert "水彩の手帖" in base64.b64decode(chart.partition(",")[2]).decode()
    assert not recwarn.list


@pytest.mark.parametrize("shop", [[sale(1, NOW - timedelta(days=3))]], indirect=True)
def test_late_days_lists_and_marts_are_on_the_first_screen(shop: World) -> None:
    load_all(shop)
    assert "Not up to date" not in page_of(shop).text

    late = page_of(shop, now=NOW + timedelta(days=4)).text
    assert "Not up to date" in late
    assert "The orders of 4 days (UTC), 2026-03-20 to 2026-03-23, are not loaded." in late
    assert re.search(r"The products were last loaded on \d{4}", late)

    shop.store.update_order(1, settled_gross="0.00")
    shop.ingest(ListRequest(endpoint=ORDERS, updated_after=NOW - timedelta(days=9)))
    assert "Orders have changed since these figures were computed" in page_of(shop).text


@pytest.mark.parametrize("shop", [[sale(n, NOW - timedelta(days=3), refunded=True) for n in (1, 2)]], indirect=True)
def test_refunds_that_are_not_looked_up_are_late(shop: World) -> None:
    load_all(shop)

    assert "The refund transactions of 2 orders are not looked up yet." in page_of(shop, looks_up=True).text
    # With COMMERCE_REFUND_REQUESTS=0, a person has decided that they stay unknown.
    assert "Not up to date" not in page_of(shop).text


# The asset.


def test_the_asset_writes_the_page_and_names_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).replace(hour=12)
    with running(store_of(products=3, orders=[sale(1, yesterday)]), tmp_path, monkeypatch) as world:
        world.settings["COMMERCE_ORDERS_START_DATE"] = yesterday.date().isoformat()
        days = (yesterday.date(), yesterday.date())
        world.run("catalog")
        world.run("orders", days=days)

        everything = world.definitions.resolve_implicit_global_asset_job_def()
        early = everything.execute_in_process(
            instance=world.instance, asset_selection=[dg.AssetKey("shop_report")], raise_on_error=False
        )
        (failure,) = [event.step_failure_data for event in early.all_events if event.is_step_failure]
        assert failure.user_failure_data
        assert failure.user_failure_data.description is not None
        assert failure.user_failure_data.description.endswith(
            "analytics.orders_enriched is not built yet. Fix: run the job analytics."
        )

        # Only the place of the page is recorded, not what it shows.
        result = world.run("analytics", days=days)
        (written,) = result.asset_materializations_for_node("shop_report")
        path = tmp_path / "shop-report.html"
        assert {name: value.value for name, value in written.metadata.items()} == {
            "path": str(path),
            "bytes": path.stat().st_size,
        }
        assert Page(path.read_text()).rows("overview")[0][:2] == ["EUR", "1"]
        node = world.definitions.resolve_asset_graph().get(dg.AssetKey("shop_report"))
        assert {key.to_user_string() for key in node.parent_keys} == {*MARTS}


def test_without_the_extra_there_is_no_asset(monkeypatch: pytest.MonkeyPatch) -> None:
    key = dg.AssetKey("shop_report")
    assert key in build_definitions(CommerceSettings.read({})).resolve_asset_graph().get_all_asset_keys()

    monkeypatch.setattr(write, "_NEEDED", ("jinja2", "a_library_that_is_not_there"))

    assert key not in build_definitions(CommerceSettings.read({})).resolve_asset_graph().get_all_asset_keys()


# The command.


def shell_of(world: World, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(world.folder)
    return Shell(world.folder, settings_for(world.base_url))


@pytest.mark.parametrize("shop", [[sale(1, NOW - timedelta(days=3))]], indirect=True)
def test_the_command_writes_the_page_beside_the_database(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = shell_of(shop, monkeypatch)
    load_all(shop)
    assert "`report` (needs an extra) writes a page" in (ROOT / "README.md").read_text()

    result = shell.run("report")
    assert result.exit_code == 0
    assert re.fullmatch(r"shop-report\.html: \d+ kB\n", result.stdout)
    assert "Shop report" in Path("shop-report.html").read_text()

    result = shell.run("report", "-o", "other.html", "--format", "json")
    assert json.loads(result.stdout) == {"file": "other.html", "bytes": Path("other.html").stat().st_size}

    result = shell.run("report", "-o", "nowhere/other.html")
    assert result.exit_code == 1
    assert "nowhere" in result.stderr
    assert "Fix: " in result.stderr


@pytest.mark.parametrize("shop", [[sale(1, NOW - timedelta(days=3))]], indirect=True)
def test_missing_marts_are_an_error_that_says_how_to_build(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = shell_of(shop, monkeypatch)
    result = shell.run("report")
    assert result.exit_code == 1
    assert "Fix: " in result.stderr

    load_all(shop)
    shop.execute("DROP TABLE analytics.refunds")
    result = shell.run("report")
    assert result.exit_code == 1
    assert "analytics.refunds is not built yet. Fix: run `commerce-assets build`." in result.stderr

    build_all(shop)
    shop.execute("ALTER TABLE analytics.refunds DROP COLUMN kind")
    result = shell.run("report")
    assert "analytics.refunds has the columns of another version. Fix: run `commerce-assets build`." in result.stderr
    assert not Path("shop-report.html").exists()


@pytest.mark.parametrize("shop", [[]], indirect=True)
def test_without_the_extra_the_command_says_what_to_install(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_NEEDED", ("jinja2", "a_library_that_is_not_there"))

    result = shell_of(shop, monkeypatch).run("report")

    assert result.exit_code == 1
    assert re.search(r"Fix: run `\S+ -m pip install 'commerce_assets\[report\]'`\.", result.stderr)
