"""The sample shop's products, packages and subscription plans, identical in every build.

Dates are fixed, not relative to today, so that a shop built tomorrow sells the same.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sample_store.rows import blank
from sample_store.values import Item, timestamp

_OPENED = datetime(2019, 3, 4, 9, 30, tzinfo=UTC)
_SHOP = "https://inkandoak.example"
_MEGABYTE = 1_048_576


class _Product(NamedTuple):
    kind: str
    category: str | None
    name: str
    price: str | float
    file: str | None = None
    megabytes: int = 0


_PRODUCTS = (
    _Product("digital", "E-books", "The Quiet Garden", "12.50", "quiet-garden.epub", 9),
    _Product("digital", "E-books", "Bread & Patience", 17, "bread-and-patience.pdf", 31),
    _Product("digital", "E-books", "Kleine Gärten, große Ernte", "14.00", "kleine-gärten.pdf", 24),
    _Product("digital", "E-books", "Ink for Beginners", 9.5, "ink-for-beginners.epub", 6),
    _Product("digital", "E-books", "水彩の手帖", "21.00", "watercolour-notes-ja.pdf", 44),
    _Product("digital", "Patterns", "Harbour Jacket", "16.00", "harbour-jacket.zip", 18),
    _Product("digital", "Patterns", "Linen Apron", "7.00", "linen-apron.zip", 5),
    _Product("digital", "Patterns", "Mitaines d'Hiver", 6, "mitaines.pdf", 3),
    _Product("digital", "Presets", "Coastal Light", "29.00", "coastal-light.zip", 2),
    _Product("digital", "Presets", "Night Market", "29.00", "night-market.zip", 2),
    _Product("digital", "Audio", "Rain on Slate", "4.99", "rain-on-slate.flac", 212),
    _Product("digital", "Audio", "Forest Morning", "4.99", "forest-morning.flac", 188),
    _Product("digital", None, "Printable Planner", "0.00", "planner.pdf", 1),
    _Product("digital", "Fonts", "Søndag Grotesk", 48, "sondag-grotesk.zip", 4),
    _Product("software", "Apps", "Brushwork for Desktop", "59.00", "brushwork-setup.dmg", 143),
    _Product("software", "Apps", "Brushwork Upgrade", "24.00", "brushwork-upgrade.dmg", 143),
    _Product("software", "Plug-ins", "Halftone Plug-in", 35, "halftone.zip", 12),
    _Product("software", "Plug-ins", "Kerning Helper", "19.00", "kerning-helper.zip", 7),
    _Product("drip", "Courses", "Watercolour in Eight Weeks", "89.00"),
    _Product("drip", "Courses", "A Letter a Day", 25),
    _Product("service", "Coaching", "Portfolio Review", "120.00"),
    _Product("service", "Coaching", "One Hour of Brush Lettering", 75),
    _Product("tangible", "Prints", "Oak Leaf, A3 Giclée Print", "38.00"),
    _Product("tangible", "Stationery", "Notebook, Dot Grid", "15.50"),
    _Product("redirect", None, "Community Forum Seat", "10.00"),
)
_PACKAGES = (
    ("The Reader's Shelf", "E-books", "45.00", (1, 2, 4)),
    ("Two Jackets and an Apron", "Patterns", "26.00", (6, 7, 8)),
    ("All Presets", "Presets", "49.00", (9, 10)),
    ("Evening Sounds", "Audio", "8.00", (11, 12)),
    ("Studio Starter", None, "99.00", (4, 14, 15)),
    ("Designer's Toolbox", "Plug-ins", "95.00", (14, 17, 18)),
    ("Learn and Review", "Courses", "180.00", (19, 21)),
    ("Everything on Paper", None, "50.00", (23, 24)),
)
_PLANS = (
    ("Pattern of the Month", "9.00", "month", None, (6, 7, 8)),
    ("Studio Membership", "24.00", "month", None, (14, 15, 17)),
    ("Studio Membership, yearly", "240.00", "year", None, (14, 15, 17)),
    ("Watercolour Course, three payments", "32.00", "month", 3, (19,)),
    ("Weekly Prompt", "2.50", "week", None, ()),
)
_FREQUENCIES = {"week": "weekly", "month": "monthly", "year": "yearly"}
_WEEKLY = {"release_after_human_interval": "week", "drip_orderable_type": "Product", "drip_orderable_id": 3}


# Details of some products.
_PRODUCT_DETAILS: dict[int, Item] = {
    1: {"subcategory": "Bestsellers", "sales_page_url": f"{_SHOP}/quiet-garden"},
    5: {"affiliate_sellable": True, "commission_rate": 15},
    10: {"affiliate_sellable": True, "commission_rate": "12.5"},
    12: {"download_folder": "2019/audio", "self_hosted_url": "https://files.inkandoak.example/private/forest-morning"},
    13: {"price_is_minimum": True},
    18: {"license_type": "url", "license_fetch_url": "https://licenses.inkandoak.example/fetch"},
    19: {"drip_items": [_WEEKLY | {"id": week, "release_after_human_value": week} for week in range(1, 9)]},
    23: {"sales_limit": 200, "weight": "0.35", "shopify_variant_id": 40_000_000_023},
}
_PLAN_DETAILS: dict[int, Item] = {
    1: {"affiliate_sellable": True, "commission_rate": 20},
    2: {"trial_price": "1.00", "trial_frequency": "monthly", "trial_no_of_occurrences": 1, "commission_rate": "7.5"},
}


def build_products() -> list[Item]:
    return [_product(number, row) | _PRODUCT_DETAILS.get(number, {}) for number, row in enumerate(_PRODUCTS, start=1)]


def build_packages() -> list[Item]:
    return [_package(number, *row) for number, row in enumerate(_PACKAGES, start=1)]


def build_subscriptions() -> list[Item]:
    """Build the plans for sale; subscriptions are orders."""
    return [_plan(number, row) | _PLAN_DETAILS.get(number, {}) for number, row in enumerate(_PLANS, start=1)]


def _for_sale(list_name: str, number: int, *, age: timedelta) -> Item:
    """Build the common fields of products, packages and plans, created `age` after the shop."""
    return blank(list_name) | {
        "id": number,
        "currency_code": "USD",
        "instant_buy_url": f"{_SHOP}/{list_name}/{number}/purchase",
        "affiliate_sellable": False,
        "created_at": timestamp(_OPENED + age),
        "updated_at": timestamp(_OPENED + age + timedelta(days=500)),
    }


def _product(number: int, row: _Product) -> Item:
    return _for_sale("products", number, age=timedelta(days=11 * number)) | {
        "product_type": row.kind,
        "name": row.name,
        "category": row.category,
        "attachment": {"filename": row.file, "size": row.megabytes * _MEGABYTE + 37 * number} if row.file else None,
        "price": row.price,
        "pdf_stamping": row.file is not None and row.file.endswith(".pdf"),
        "product_image_url": f"{_SHOP}/images/products/{number}.jpg",
        "add_to_cart_url": f"{_SHOP}/products/{number}/cart",
        "price_is_minimum": False,
        "limit_to_single_qty_in_cart": row.kind != "tangible",
        "drip_items": [],
    }


def _package(number: int, name: str, category: str | None, price: str, product_ids: tuple[int, ...]) -> Item:
    return _for_sale("packages", number, age=timedelta(days=300 + 7 * number)) | {
        "name": name,
        "category": category,
        "price": price,
        "components": {"product_ids": list(product_ids)},
        "product_image_url": f"{_SHOP}/images/packages/{number}.jpg",
        "add_to_cart_url": f"{_SHOP}/packages/{number}/cart",
        "price_is_minimum": False,
        "limit_to_single_qty_in_cart": True,
        "affiliate_sellable": True,
        "commission_rate": "10.0" if category else None,
        "access_all_products": False,
        "access_after_order_creation": False,
    }


def _plan(number: int, row: tuple[str, str, str, int | None, tuple[int, ...]]) -> Item:
    name, price, interval, occurrences, product_ids = row
    return _for_sale("subscriptions", number, age=timedelta(days=500 + 30 * number)) | {
        "name": name,
        "category": "Membership" if product_ids else None,
        "recurring_price": price,
        "frequency": _FREQUENCIES[interval],
        "frequency_interval": interval,
        "frequency_value": 1,
        "recurring_type": "fixed" if occurrences else "ongoing",
        "no_of_occurrences": occurrences,
        "access_all_products": False,
        "access_drip": not product_ids,
        "access_subset_products": bool(product_ids),
        "components": {"product_ids": list(product_ids)},
        "sales_page_url": f"{_SHOP}/members",
        "drip_items": [],
    }
