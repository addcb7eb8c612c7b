"""Draw orders: buyers, carts and amounts, then refunds, renewals, dispatch and edits.

Changes move `updated_at` but not `created_at`, so an extraction by creation date never sees them. People are invented,
with reserved domains and documentation IP ranges (RFC 2606, 5737).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from random import Random
from typing import NamedTuple

from sample_store.catalog import build_packages, build_products, build_subscriptions
from sample_store.rows import blank
from sample_store.values import Item, amount, cents, timestamp


class Place(NamedTuple):
    country: str
    currency: str
    vat_percent: int
    region: str | None
    city: str
    postcode: str
    street: str


_PLACES = (
    *(Place("US", "USD", 0, "OR", "Portland", "97205", "1840 SW Alder St"),) * 5,
    Place("US", "USD", 0, "TX", "Austin", "78701", "77 Congress Ave"),
    Place("CA", "USD", 0, "QC", "Montréal", "H2X 1Y4", "455 rue Saint-Urbain"),
    *(Place("GB", "GBP", 20, None, "York", "YO1 7HH", "3 Stonegate"),) * 2,
    *(Place("DE", "EUR", 19, None, "Köln", "50667", "Lindenstraße 12"),) * 2,
    Place("FR", "EUR", 20, None, "Besançon", "25000", "8 rue des Granges"),
    Place("NL", "EUR", 21, None, "Utrecht", "3511 AB", "Oudegracht 101"),
    Place("BE", "EUR", 21, None, "Gent", "9000", "Korenlei 9"),
    Place("PL", "EUR", 23, None, "Łódź", "90-001", "Piotrkowska 44"),
    Place("JP", "USD", 0, "京都府", "京都市", "604-8005", "恵比須町 427"),
)
_NAMES = {
    "Amelia Hart": "amelia.hart",
    "José Álvarez": "jose.alvarez",
    "Zoë van der Meer": "zoe.vandermeer",
    "Jürgen Groß": "juergen.gross",
    "Chloé Lefèvre": "chloe.lefevre",
    "Łukasz Wójcik": "lukasz.wojcik",
    "佐藤 花子": "hanako.sato",
    "Siobhán O'Neill": "siobhan.oneill",
    "Marcus Bell": "marcus.bell",
    "Priya Raman": "priya.raman",
    "Noah Kim": "noah.kim",
    "Ingrid Sørensen": "ingrid.sorensen",
    "Daniel Osei": "daniel.osei",
    "Мария Иванова": "maria.ivanova",
    "Grace Liu": "grace.liu",
    "Tom Ashworth": "tom.ashworth",
}
_DOMAINS = ("example.com", "example.org")
_IP_PREFIXES = ("192.0.2", "198.51.100", "203.0.113")
_UNPAID_STATES = ("initial", "failed", "fraud_review")
_PAYMENTS = (
    *(("Stripe", "card"),) * 6,
    *(("PayPal", "paypal"),) * 3,
    ("PayPal", "paypal_express"),
    ("Stripe", "apple_pay"),
    ("Shopify", "card"),
    ("BitPay", None),
)
_LOCAL_METHODS = {"NL": "ideal", "BE": "bancontact"}
_TAGS = ("wholesale", "newsletter", "Weihnachtsaktion")
_REASONS = ("Bought twice", "Not as expected", None)
_SHIPPING_CENTS = 690
_DOWNLOADS = "https://downloads.inkandoak.example"
_INTERVALS = {"week": timedelta(days=7), "month": timedelta(days=30), "year": timedelta(days=365)}


class Purchase(NamedTuple):
    """One product, package or plan in the cart; `price` in cents, for the whole quantity, before discount and tax."""

    name: str
    products: Sequence[Item]
    quantity: int
    price: int
    ships: bool = False
    plan: Item | None = None


@dataclass(frozen=True)
class Catalog:
    products: list[Item] = field(default_factory=build_products)
    packages: list[Item] = field(default_factory=build_packages)
    subscriptions: list[Item] = field(default_factory=build_subscriptions)

    def choose(self, rng: Random) -> Purchase:
        """Draw a purchase; the first products of the catalog sell best."""
        singles, bundles, plans = self._choices
        chance = rng.random()
        if chance < 0.08:
            return rng.choice(plans)
        if chance < 0.18:
            return rng.choice(bundles)
        single = singles[int(len(singles) * rng.random() ** 1.6)]
        quantity = rng.choice((1, 1, 1, 2, 3)) if single.ships else 1
        return single._replace(quantity=quantity, price=single.price * quantity)

    @cached_property
    def _choices(self) -> tuple[list[Purchase], list[Purchase], list[Purchase]]:
        return (
            [_purchase(item["name"], [item], item["price"]) for item in self.products],
            [_purchase(item["name"], self._components(item), item["price"]) for item in self.packages],
            [
                _purchase(
                    item["name"], self._components(item), item["trial_price"] or item["recurring_price"], plan=item
                )
                for item in self.subscriptions
            ],
        )

    def _components(self, bundle: Item) -> list[Item]:
        return [product for product in self.products if product["id"] in bundle["components"]["product_ids"]]


def _purchase(name: str, products: list[Item], price: str | float, *, plan: Item | None = None) -> Purchase:
    ships = any(product["product_type"] == "tangible" for product in products)
    return Purchase(name, products, 1, cents(price), ships, plan)


def place_order(rng: Random, *, order_id: int, placed_at: datetime, purchase: Purchase) -> Item:
    """Draw an order's buyer, payment and delivery; amounts are in the currency of the buyer's country."""
    buyer = _person(rng)
    place: Place = buyer["place"]
    state = _state(rng, purchase)
    paid = state in {"complete", "subscription_active"}
    settled, imported, unpaid = paid or state == "free", state == "imported", state in _UNPAID_STATES
    gateway, method = _payment(rng, place) if paid or unpaid else (None, None)
    business = rng.random() < 0.05
    created_at = timestamp(placed_at)
    return blank("orders") | {
        "id": order_id,
        "order_name": purchase.name,
        "state": state,
        "gateway": gateway,
        "payment_method": method,
        "buyer_email": buyer["email"],
        "buyer_name": buyer["name"],
        "paypal_email": buyer["email"] if gateway == "PayPal" else None,
        **_gift(rng, placed_at),
        "business_name": f"{buyer['name'].split()[-1]} & Co." if business else None,
        "business_vat_number": f"{place.country}000000000" if business and place.vat_percent else None,
        **(_address("shipping", place) if purchase.ships else {}),
        **(_address("billing", place) if method == "card" else {}),
        "buyer_ip_address": None if imported else buyer["ip_address"],
        "eu_resolved_country": place.country if place.vat_percent else None,
        **_money(rng, purchase, place, settled=settled, reverse_charge=business),
        "refunded": False,
        "refund_transactions": [],
        "can_market_to_buyer": None if imported else rng.random() < 0.4,
        "gateway_transaction_ids": [_transaction_id(rng, gateway)] if paid and gateway else [],
        "cart": None if imported else _cart(purchase, placed_at, completed=settled),
        "subscription_id": purchase.plan["id"] if purchase.plan else None,
        **_delivery(rng, purchase, order_id, delivered=not unpaid),
        "order_custom_checkout_fields": _answers(rng),
        "valid_until": timestamp(placed_at + timedelta(days=365)) if paid and not purchase.plan else None,
        "tag": rng.choice(_TAGS) if rng.random() < 0.06 else None,
        "created_at": created_at,
        "updated_at": created_at,
    }


def _person(rng: Random) -> Item:
    """Draw one of some 1,600 people, so that some buy again."""
    number = int(rng.random() * 100)
    name, mailbox = rng.choice([*_NAMES.items()])
    return {
        "name": name,
        "email": f"{mailbox}{number}@{_DOMAINS[number % 2]}",
        "place": rng.choice(_PLACES),
        "ip_address": f"{rng.choice(_IP_PREFIXES)}.{number + 1}",
    }


def _state(rng: Random, purchase: Purchase) -> str:
    chance = rng.random()
    if chance < 0.02:
        return rng.choice(_UNPAID_STATES)
    if chance < 0.025:
        return "imported"
    if purchase.plan:
        return "subscription_active"
    return "complete" if purchase.price else "free"


def _payment(rng: Random, place: Place) -> tuple[str, str | None]:
    gateway, method = rng.choice(_PAYMENTS)
    return gateway, _LOCAL_METHODS.get(place.country, method) if gateway == "Stripe" else method


def _transaction_id(rng: Random, gateway: str) -> str:
    return f"{gateway.lower()}_{rng.getrandbits(56):014x}"


def _gift(rng: Random, placed_at: datetime) -> Item:
    if rng.random() >= 0.02:
        return {}
    giftee = _person(rng)
    deliver_at = timestamp(placed_at + timedelta(days=rng.randrange(1, 30)))
    return {"giftee_name": giftee["name"], "giftee_email": giftee["email"], "gift_deliver_at": deliver_at}


def _address(use: str, place: Place) -> Item:
    return {
        f"{use}_address1": place.street,
        f"{use}_city": place.city,
        f"{use}_region": place.region,
        f"{use}_postcode": place.postcode,
        f"{use}_country": place.country,
    }


def _money(rng: Random, purchase: Purchase, place: Place, *, settled: bool, reverse_charge: bool) -> Item:
    discount = purchase.price * rng.choice((10, 20, 50)) // 100 if rng.random() < 0.12 else 0
    net = purchase.price - discount
    # Reverse charge: a business in the EU accounts for the VAT itself.
    tax = 0 if reverse_charge else net * place.vat_percent // 100
    shipping = _SHIPPING_CENTS if purchase.ships else 0
    gross = net + tax + shipping
    by_affiliate = rng.random() < 0.03
    sold = {
        "discount": amount(discount) if discount else None,
        "price_at_checkout": amount(purchase.price),
        "affiliate_system": "ShareASale" if by_affiliate else None,
    }
    if not settled:
        return sold
    return sold | {
        "settled_currency": place.currency,
        "settled_gross": amount(gross),
        "settled_gateway_fee": amount(gross * 29 // 1000 + 30 if gross else 0),
        "settled_tax": amount(tax),
        "settled_handling": "0.00",
        "settled_shipping": amount(shipping),
        "settled_affiliate_fee": amount(net // 10) if by_affiliate else None,
        "accounted_tax": amount(tax),
    }


def _cart(purchase: Purchase, placed_at: datetime, *, completed: bool) -> Item:
    price = amount(purchase.price) if len(purchase.products) == 1 else None
    rest = {"quantity": purchase.quantity, "price_at_checkout": price, "download_attempts": 0, "valid_until": None}
    return {
        "state": "completed" if completed else "started",
        "started_checkout_at": timestamp(placed_at - timedelta(seconds=95)),
        "completed_checkout_at": timestamp(placed_at) if completed else None,
        "cart_items": [{"cart_item": {"product_id": product["id"], **rest}} for product in purchase.products],
    }


def _delivery(rng: Random, purchase: Purchase, order_id: int, *, delivered: bool) -> Item:
    # These URLs grant access to the goods, so they have a token like the real ones.
    token = f"{rng.getrandbits(64):016x}"
    return {
        "download_url": f"{_DOWNLOADS}/{order_id}/{token}" if delivered else None,
        "subscription_management_url": f"{_DOWNLOADS}/manage/{token}" if delivered and purchase.plan else None,
        "download_items": [
            {
                "download_item": {
                    "name": product["name"],
                    "type": "Product",
                    "url": f"{_DOWNLOADS}/{order_id}/{token}/{product['id']}",
                    "accessible": delivered,
                    "downloadable": delivered,
                }
            }
            for product in purchase.products
            if product["attachment"]
        ],
        # The reference does not document the shape of this field.
        "downloads": [],
        "download_attempts": int(rng.random() * 4) if delivered else 0,
        "access_allowed": delivered,
    }


def _answers(rng: Random) -> list[Item]:
    if rng.random() >= 0.04:
        return []
    return [{"order_custom_checkout_field": {"name": "How did you hear of us?", "value": "My sister 🖋, at the café"}}]


@dataclass(frozen=True)
class Change:
    """The values of an order's fields from `at` on."""

    at: datetime
    order_id: int
    values: Item


def later_changes(rng: Random, order: Item, *, purchase: Purchase, placed_at: datetime) -> list[Change]:
    """Draw the changes of an order, earliest first, also future ones.

    A subscription ends with the plan or when the buyer cancels. Each change has complete new values, so changes can be
    applied in order without reading the order.
    """
    if order["state"] == "subscription_active" and purchase.plan:
        steps = _subscription(rng, order, purchase.plan, placed_at)
    elif order["state"] == "complete":
        steps = _sale(rng, order, placed_at, ships=purchase.ships)
    else:
        return []
    return [Change(at, order["id"], values | {"updated_at": timestamp(at)}) for at, values in steps]


def _sale(rng: Random, order: Item, at: datetime, *, ships: bool) -> Iterator[tuple[datetime, Item]]:
    if ships:
        at += timedelta(hours=rng.randrange(20, 90))
        yield at, {"dispatched_at": timestamp(at)}
    fate = rng.random()
    if fate < 0.03:
        at += timedelta(minutes=rng.randrange(24 * 60, 60 * 24 * 60))
        yield at, _refund(rng, order, at)
    elif fate < 0.034:
        at += timedelta(days=rng.randrange(10, 40))
        yield at, {"state": "in_dispute"}
        at += timedelta(days=rng.randrange(5, 30))
        nothing = dict.fromkeys(("settled_gross", "settled_tax", "accounted_tax"), "0.00")
        yield at, {"state": "chargeback", "access_allowed": False, **nothing}
    elif fate < 0.044:
        at += timedelta(minutes=rng.randrange(60, 90 * 24 * 60))
        yield at, {"tag": "support", "buyer_email": f"moved.{order['buyer_email']}"}


def _refund(rng: Random, order: Item, at: datetime) -> Item:
    gross, tax = cents(order["settled_gross"]), cents(order["settled_tax"])
    partial = rng.random() < 0.3
    kept = gross // 2 if partial else 0
    transaction = {
        "amount": amount(kept - gross),
        "currency": order["settled_currency"],
        "occurred_at": timestamp(at),
        "reason": rng.choice(_REASONS),
    }
    return {
        "refunded": True,
        "settled_gross": amount(kept),
        "settled_tax": amount(tax * kept // gross),
        "accounted_tax": amount(tax * kept // gross),
        "refund_transactions": [{"refund_transaction": transaction}],
        "access_allowed": partial,
    }


def _subscription(rng: Random, order: Item, plan: Item, at: datetime) -> Iterator[tuple[datetime, Item]]:
    """Yield renewals, until a fixed plan is paid; 8 % of the subscribers of an ongoing plan cancel at each renewal."""
    gross, tax, fee = (cents(order[name]) for name in ("settled_gross", "settled_tax", "settled_gateway_fee"))
    net_renewal = cents(plan["recurring_price"])
    tax_renewal = net_renewal * tax // (gross - tax)
    interval = _INTERVALS[plan["frequency_interval"]]
    transactions = order["gateway_transaction_ids"]
    while plan["no_of_occurrences"] or rng.random() >= 0.08:
        at += interval
        gross, tax, fee = gross + net_renewal + tax_renewal, tax + tax_renewal, fee + net_renewal * 29 // 1000 + 30
        transactions = [*transactions, _transaction_id(rng, order["gateway"])]
        last = len(transactions) == plan["no_of_occurrences"]
        yield (
            at,
            {
                "state": "subscription_complete" if last else "subscription_active",
                "settled_gross": amount(gross),
                "settled_tax": amount(tax),
                "accounted_tax": amount(tax),
                "settled_gateway_fee": amount(fee),
                "gateway_transaction_ids": transactions,
            },
        )
        if last:
            return
    yield at + interval / 2, {"state": "subscription_cancelled", "access_allowed": False}
