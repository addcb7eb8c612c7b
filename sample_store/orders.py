"""One order of the sample shop, as it was placed.

Every field that the API's reference pages give an order is present, null where a real one may be null, and no other.
"""

from datetime import datetime, timedelta
from random import Random

from sample_store.people import Buyer, Place, any_buyer
from sample_store.purchases import Purchase
from sample_store.values import Item, amount, timestamp

_UNPAID_SHARE = 0.02
_IMPORTED_SHARE = 0.005
_DISCOUNT_SHARE = 0.12
_GIFT_SHARE = 0.02
_BUSINESS_SHARE = 0.05
_TAG_SHARE = 0.06
_ANSWER_SHARE = 0.04
_AFFILIATE_SHARE = 0.03
_CONSENT_SHARE = 0.4

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
_SHIPPING_CENTS = 690
_ADDRESS = ("address1", "address2", "city", "region", "postcode", "country")
_NO_SHIPPING: Item = {f"shipping_{part}": None for part in _ADDRESS}
_NO_BILLING: Item = {f"billing_{part}": None for part in _ADDRESS}
_DOWNLOADS = "https://downloads.inkandoak.example"


def transaction_id(rng: Random, gateway: str) -> str:
    return f"{gateway.lower()}_{rng.getrandbits(56):014x}"


def place_order(rng: Random, *, order_id: int, placed_at: datetime, purchase: Purchase) -> Item:
    """Draw an order's buyer, payment and delivery; amounts are in the currency of the buyer's place."""
    buyer = any_buyer(rng)
    state = _state(rng, purchase)
    paid = state in {"complete", "subscription_active"}
    imported = state == "imported"
    gateway, method = _payment(rng, buyer) if paid or state in _UNPAID_STATES else (None, None)
    business = rng.random() < _BUSINESS_SHARE
    created_at = timestamp(placed_at)
    return {
        "id": order_id,
        "order_name": purchase.name,
        "state": state,
        "gateway": gateway,
        "payment_method": method,
        "buyer_email": buyer.email,
        "buyer_name": buyer.name,
        "paypal_email": buyer.email if gateway == "PayPal" else None,
        **_gift(rng, placed_at),
        "business_name": f"{buyer.name.split()[-1]} & Co." if business else None,
        "business_vat_number": f"{buyer.place.country}000000000" if business and buyer.place.vat_percent else None,
        **(_address("shipping", buyer.place) if purchase.ships else _NO_SHIPPING),
        **(_address("billing", buyer.place) if method == "card" else _NO_BILLING),
        "buyer_ip_address": None if imported else buyer.ip_address,
        "eu_resolved_country": buyer.place.country if buyer.place.vat_percent else None,
        **_money(rng, purchase, buyer, settled=paid or state == "free", reverse_charge=business),
        "refunded": False,
        "refund_transactions": [],
        "can_market_to_buyer": None if imported else rng.random() < _CONSENT_SHARE,
        "gateway_transaction_ids": [transaction_id(rng, gateway)] if paid and gateway else [],
        "cart": None if imported else _cart(purchase, placed_at, created_at, completed=paid or state == "free"),
        "subscription_id": purchase.plan["id"] if purchase.plan else None,
        **_delivery(rng, purchase, order_id, delivered=state not in _UNPAID_STATES),
        "order_custom_checkout_fields": _answers(rng),
        "valid_until": timestamp(placed_at + timedelta(days=365)) if paid and not purchase.plan else None,
        "dispatched_at": None,
        "tag": rng.choice(_TAGS) if rng.random() < _TAG_SHARE else None,
        "created_at": created_at,
        "updated_at": created_at,
    }


def _state(rng: Random, purchase: Purchase) -> str:
    chance = rng.random()
    if chance < _UNPAID_SHARE:
        return rng.choice(_UNPAID_STATES)
    if chance < _UNPAID_SHARE + _IMPORTED_SHARE:
        return "imported"
    if purchase.plan:
        return "subscription_active"
    return "complete" if purchase.price else "free"


def _payment(rng: Random, buyer: Buyer) -> tuple[str, str | None]:
    gateway, method = rng.choice(_PAYMENTS)
    return gateway, _LOCAL_METHODS.get(buyer.place.country, method) if gateway == "Stripe" else method


def _gift(rng: Random, placed_at: datetime) -> Item:
    if rng.random() >= _GIFT_SHARE:
        return {"giftee_name": None, "giftee_email": None, "gift_deliver_at": None}
    giftee = any_buyer(rng)
    deliver_at = timestamp(placed_at + timedelta(days=rng.randrange(1, 30)))
    return {"giftee_name": giftee.name, "giftee_email": giftee.email, "gift_deliver_at": deliver_at}


def _address(use: str, place: Place) -> Item:
    return {
        f"{use}_address1": place.street,
        f"{use}_address2": None,
        f"{use}_city": place.city,
        f"{use}_region": place.region,
        f"{use}_postcode": place.postcode,
        f"{use}_country": place.country,
    }


def _money(rng: Random, purchase: Purchase, buyer: Buyer, *, settled: bool, reverse_charge: bool) -> Item:
    discount = purchase.price * rng.choice((10, 20, 50)) // 100 if rng.random() < _DISCOUNT_SHARE else 0
    net = purchase.price - discount
    # A business in the EU accounts for the VAT itself.
    tax = 0 if reverse_charge else net * buyer.place.vat_percent // 100
    shipping = _SHIPPING_CENTS if purchase.ships else 0
    gross = net + tax + shipping
    fee = gross * 29 // 1000 + 30 if gross else 0
    by_affiliate = rng.random() < _AFFILIATE_SHARE
    return {
        "settled_currency": buyer.place.currency if settled else None,
        "settled_gross": amount(gross) if settled else None,
        "settled_gateway_fee": amount(fee) if settled else None,
        "settled_tax": amount(tax) if settled else None,
        "settled_handling": "0.00" if settled else None,
        "settled_shipping": amount(shipping) if settled else None,
        "settled_affiliate_fee": amount(net // 10) if settled and by_affiliate else None,
        "accounted_tax": amount(tax) if settled else None,
        "discount": amount(discount) if discount else None,
        "price_at_checkout": amount(purchase.price),
        "affiliate_system": "ShareASale" if by_affiliate else None,
    }


def _cart(purchase: Purchase, placed_at: datetime, created_at: str, *, completed: bool) -> Item:
    return {
        "state": "completed" if completed else "started",
        "started_checkout_at": timestamp(placed_at - timedelta(seconds=95)),
        "completed_checkout_at": created_at if completed else None,
        "cart_items": [
            {
                "cart_item": {
                    "product_id": product["id"],
                    "quantity": purchase.quantity,
                    "price_at_checkout": amount(purchase.price) if len(purchase.products) == 1 else None,
                    "download_attempts": 0,
                    "valid_until": None,
                }
            }
            for product in purchase.products
        ],
    }


def _delivery(rng: Random, purchase: Purchase, order_id: int, *, delivered: bool) -> Item:
    # Whoever holds one of these URLs holds the goods, so they carry a token as the real ones do.
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
        # The reference pages name this field and say nothing of its shape.
        "downloads": [],
        "download_attempts": int(rng.random() * 4) if delivered else 0,
        "access_allowed": delivered,
    }


def _answers(rng: Random) -> list[Item]:
    if rng.random() >= _ANSWER_SHARE:
        return []
    return [{"order_custom_checkout_field": {"name": "How did you hear of us?", "value": "My sister 🖋, at the café"}}]
