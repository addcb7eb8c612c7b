"""The endpoint table. A new API resource is one entry here.

Its asset, table, column metadata, checks, job and docs are generated from it.

Fields, types and descriptions follow the platform's public reference and connectors that run against real accounts.
Every field may be null unless its description says otherwise.
"""

from commerce_assets.endpoint import Column, ColumnType, Endpoint, ItemLookup, Sensitivity

_PERSONAL = Sensitivity.PERSONAL
_CAPABILITY = Sensitivity.CAPABILITY
_PRIVATE = Sensitivity.PRIVATE


def _integer(name: str, description: str) -> Column:
    return Column(name=name, type=ColumnType.BIGINT, description=description)


def _decimal(name: str, description: str) -> Column:
    return Column(name=name, type=ColumnType.DECIMAL, description=description)


def _boolean(name: str, description: str) -> Column:
    return Column(name=name, type=ColumnType.BOOLEAN, description=description)


def _timestamp(name: str, description: str) -> Column:
    return Column(name=name, type=ColumnType.TIMESTAMP, description=description)


def _text(name: str, description: str, sensitivity: Sensitivity | None = None) -> Column:
    return Column(name=name, type=ColumnType.TEXT, description=description, sensitivity=sensitivity)


def _text_list(name: str, description: str) -> Column:
    return Column(name=name, type=ColumnType.TEXT_LIST, description=description)


def _json(name: str, description: str, sensitivity: Sensitivity | None = None) -> Column:
    return Column(name=name, type=ColumnType.JSON, description=description, sensitivity=sensitivity)


def _address(kind: str) -> tuple[Column, ...]:
    parts = {
        "address1": "first line",
        "address2": "second line",
        "city": "city",
        "region": "region or state",
        "postcode": "postcode",
        "country": "country",
    }
    return tuple(
        _text(f"{kind}_{part}", f"{kind.capitalize()} address: {meaning}.", _PERSONAL)
        for part, meaning in parts.items()
    )


_CREATED = _timestamp("created_at", "When it was created in the store.")
_UPDATED = _timestamp("updated_at", "When it was last changed in the store.")
_SELLING_URLS = (
    _text("product_image_url", "Image shown in the shop."),
    _text("instant_buy_url", "Link directly to the checkout."),
    _text("add_to_cart_url", "Link that adds it to the cart."),
    _text("sales_page_url", "The merchant's page about it."),
)
_SELLING_RULES = (
    _boolean("price_is_minimum", "Pay what you want: the price is the minimum."),
    _boolean("limit_to_single_qty_in_cart", "At most one per cart."),
    _boolean("affiliate_sellable", "Affiliates may sell it."),
)
_DRIP_ITEMS = _json(
    "drip_items",
    "Content released over time: [{id, release_after_human_value, release_after_human_interval day/week/month, "
    "drip_orderable_type Product/Package, drip_orderable_id}].",
)
_COMPONENTS = _json("components", "Contents: {product_ids: [integer]}.")

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        name="products",
        path="products",
        data_selector="product",
        description="One row per product that the shop sells.",
        columns=(
            _integer("id", "The product's id; never null."),
            _text("product_type", "digital, software, redirect, tangible, service or drip."),
            _text("name", "Name shown to buyers."),
            _text("category", "The merchant's category."),
            _text("subcategory", "The merchant's subcategory."),
            _json("attachment", "The file for sale: {filename, size in bytes}."),
            _decimal("price", "Price in currency_code."),
            _text("currency_code", "Currency of the price, ISO 4217."),
            _boolean("pdf_stamping", "PDFs are stamped with the buyer's details."),
            _integer("sales_limit", "Maximum number of copies for sale; NULL: no limit."),
            _text("self_hosted_url", "URL of a self-hosted file; may be private.", _PRIVATE),
            _text("license_type", "Source of licence keys: generated, list or url."),
            _text("license_fetch_url", "URL that returns licence keys; may be private.", _PRIVATE),
            _integer("shopify_variant_id", "The variant in a linked Shopify shop."),
            _text("custom_field", "The merchant's free text."),
            *_SELLING_URLS,
            *_SELLING_RULES,
            _text("download_folder", "Folder of the product's file."),
            _decimal("commission_rate", "Affiliate's share in percent."),
            _decimal("weight", "Weight of a tangible product."),
            _DRIP_ITEMS,
            _CREATED,
            _UPDATED,
        ),
    ),
    Endpoint(
        name="packages",
        path="packages",
        data_selector="package",
        description="One row per package: a bundle of products sold together.",
        columns=(
            _integer("id", "The package's id; never null."),
            _text("name", "Name shown to buyers."),
            _text("category", "The merchant's category."),
            _text("subcategory", "The merchant's subcategory."),
            _decimal("price", "Price in currency_code."),
            _text("currency_code", "Currency of the price, ISO 4217."),
            _text("custom_field", "The merchant's free text."),
            _COMPONENTS,
            _integer("shopify_variant_id", "The variant in a linked Shopify shop."),
            *_SELLING_URLS,
            *_SELLING_RULES,
            _decimal("commission_rate", "Affiliate's share in percent."),
            _boolean("access_all_products", "Grants access to every product; absent on some accounts."),
            _boolean("access_after_order_creation", "Grants access to later products; absent on some accounts."),
            _boolean(
                "access_after_order_creation_includes_previous",
                "Grants access to earlier products as well; absent on some accounts.",
            ),
            _CREATED,
            _UPDATED,
        ),
    ),
    Endpoint(
        name="orders",
        path="orders",
        data_selector="order",
        description="One row per order. Refunds, renewals and edits change it later.",
        cursor="created_at",
        update_filter="updated_after",
        item_lookup=ItemLookup(
            column="refund_transactions", flag="refunded", states=frozenset({"refunded", "chargeback"})
        ),
        columns=(
            _integer("id", "The order's id; never null."),
            _text("order_name", "Name shown to the merchant."),
            _text(
                "state",
                "complete, subscription_active, subscription_cancelled, chargeback, ...; other values are stored too.",
            ),
            _text("gateway", "Payment gateway: PayPal, Stripe, Shopify, BitPay, ..."),
            _text("payment_method", "Payment method: card, apple_pay, ideal, paypal, ..."),
            _text("buyer_email", "The buyer's email address.", _PERSONAL),
            _text("buyer_name", "The buyer's name.", _PERSONAL),
            _text("paypal_email", "The buyer's PayPal address.", _PERSONAL),
            _text("giftee_name", "The gift recipient's name.", _PERSONAL),
            _text("giftee_email", "The gift recipient's email address.", _PERSONAL),
            _timestamp("gift_deliver_at", "Delivery date of the gift."),
            _text("business_name", "The buyer's company.", _PERSONAL),
            _text("business_vat_number", "The company's VAT number.", _PERSONAL),
            *_address("shipping"),
            *_address("billing"),
            _text("buyer_ip_address", "The buyer's IP address.", _PERSONAL),
            _text("eu_resolved_country", "Country of the VAT rate, ISO 3166."),
            _text("settled_currency", "Currency of the settled amounts, ISO 4217."),
            _decimal("settled_gross", "Amount paid minus refunds; 0: free or fully refunded; NULL: never paid."),
            _decimal("settled_gateway_fee", "Gateway fee."),
            _decimal("settled_tax", "Tax charged."),
            _decimal("settled_handling", "Handling charged."),
            _decimal("settled_shipping", "Shipping charged."),
            _decimal("settled_affiliate_fee", "Affiliate fee."),
            _decimal("accounted_tax", "Tax to account for."),
            _decimal("discount", "Discount."),
            _decimal("price_at_checkout", "Price at checkout."),
            _boolean("refunded", "Refunded, fully or in part (from API version 1.1)."),
            _json(
                "refund_transactions",
                "[{refund_transaction: {amount, currency, occurred_at, reason}}]; requested for each refunded or "
                "charged-back order whose list lacks it (COMMERCE_REFUND_REQUESTS).",
            ),
            _text("affiliate_system", "The affiliate system of the referral."),
            _boolean("can_market_to_buyer", "The buyer consented to marketing."),
            _text_list("gateway_transaction_ids", "Transaction ids of the gateway; renewals add ids."),
            _json(
                "cart",
                "{state, started_checkout_at, completed_checkout_at, cart_items: [{cart_item: {product_id, quantity, "
                "price_at_checkout, download_attempts, valid_until}}]}.",
            ),
            _integer("subscription_id", "The subscription plan; see subscriptions."),
            _text("download_url", "URL that opens the buyer's downloads.", _CAPABILITY),
            _text("subscription_management_url", "URL that manages the subscription.", _CAPABILITY),
            _json(
                "download_items",
                "[{download_item: {name, type, url, accessible, downloadable}}]; each url opens a download.",
                _CAPABILITY,
            ),
            _json("downloads", "From API version 1.3; shape not documented.", _CAPABILITY),
            _json("order_custom_checkout_fields", "The buyer's answers at checkout: [{name, value}].", _PERSONAL),
            _timestamp("valid_until", "When the downloads expire."),
            _timestamp("dispatched_at", "When a tangible product was dispatched."),
            _integer("download_attempts", "Number of downloads."),
            _boolean("access_allowed", "The buyer may download."),
            _text("tag", "The merchant's free text."),
            _timestamp("created_at", "When it was created in the store; never null. Its UTC day is the partition."),
            _UPDATED,
        ),
    ),
    Endpoint(
        name="subscriptions",
        path="subscriptions",
        data_selector="subscription",
        description="One row per subscription plan for sale. Its subscribers are orders (state subscription_*).",
        columns=(
            _integer("id", "The plan's id; never null."),
            _text("name", "Name shown to buyers."),
            _text("category", "The merchant's category."),
            _text("subcategory", "The merchant's subcategory."),
            _decimal("trial_price", "Price of a trial period."),
            _text("trial_frequency", "Length of a trial period."),
            _integer("trial_no_of_occurrences", "Number of trial periods."),
            _decimal("recurring_price", "Price of each period."),
            _text("frequency", "Legacy: daily, weekly, monthly or yearly."),
            _text("frequency_interval", "Unit of a period: day, week, month or year."),
            _integer("frequency_value", "Number of units in a period."),
            _text("recurring_type", "fixed or ongoing."),
            _integer("no_of_occurrences", "Number of periods of a fixed plan."),
            _boolean("access_all_products", "Grants access to every product."),
            _boolean("access_drip", "Grants access to products over time."),
            _boolean("access_subset_products", "Grants access to some products."),
            _COMPONENTS,
            _boolean("sell_tangible_product", "Includes a tangible product."),
            _boolean("sell_service", "Includes a service."),
            _boolean("perform_redirect", "Redirects the buyer to redirect_url."),
            _text("redirect_url", "Target of the redirect."),
            _text("custom_field", "The merchant's free text."),
            _text("currency_code", "Currency of the prices, ISO 4217."),
            _text("product_image_url", "Image shown in the shop."),
            _text("instant_buy_url", "Link directly to the checkout."),
            _text("sales_page_url", "The merchant's page about it."),
            _boolean("affiliate_sellable", "Affiliates may sell it."),
            _decimal("commission_rate", "Affiliate's share in percent."),
            _DRIP_ITEMS,
            _CREATED,
            _UPDATED,
        ),
    ),
)
