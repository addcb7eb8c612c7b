"""The models of the analytics layer. A new model is one entry here and one file in `sql/`.

`sql/shared/sale.sql` defines what a sale is; no amount of another order is in any sum. The API limits the amounts: it
subtracts refunds from an order's `settled_gross`, books the renewals of a subscription on its first order, shows no
transaction for a chargeback, and may show none for the refunds in its list of orders.
"""

from dataclasses import dataclass

from commerce_assets.endpoint import Sensitivity

SCHEMA = "analytics"
"""The schema of the tables, beside the schema `commerce` that they are built from."""

_MONEY = "DECIMAL(38,4)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelColumn:
    """A column of a model; `type` is a DuckDB type."""

    name: str
    type: str
    description: str
    sensitivity: Sensitivity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A query in `sql/checks/<model>/<name>.sql` that returns the rows that fail; no rows: the check passes.

    Attributes:
        name: The name of the check and the file.
        description: When it passes.
        warns: A failure does not stop the run: the table is correct, but the store's data needs a look.
    """

    name: str
    description: str
    warns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A table and the query that fills it, `sql/<name>.sql`.

    Attributes:
        name: The name of the asset, the table and the file.
        description: What a row is.
        deps: The names of the endpoints that the query reads.
        columns: Every column of the table. The query returns exactly these, in any order.
        key: The columns that identify a row; they may be NULL.
        cursor: The column whose UTC day is the row's partition. None: every build replaces the table.
        ignored_deps: Endpoints whose materializations do not trigger a build.
        checks: Checks in addition to the uniqueness of the key.
        needs_history: The query reads the row history of the endpoint; without it, there is no asset.
    """

    name: str
    description: str
    deps: tuple[str, ...]
    columns: tuple[ModelColumn, ...]
    key: tuple[str, ...]
    cursor: str | None = None
    ignored_deps: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    needs_history: bool = False

    @property
    def is_partitioned(self) -> bool:
        return self.cursor is not None


def _integer(name: str, description: str) -> ModelColumn:
    return ModelColumn(name=name, type="BIGINT", description=description)


def _text(name: str, description: str, sensitivity: Sensitivity | None = None) -> ModelColumn:
    return ModelColumn(name=name, type="VARCHAR", description=description, sensitivity=sensitivity)


def _money(name: str, description: str) -> ModelColumn:
    return ModelColumn(name=name, type=_MONEY, description=description)


def _instant(name: str, description: str) -> ModelColumn:
    return ModelColumn(name=name, type="TIMESTAMP WITH TIME ZONE", description=description)


def _share(name: str, description: str) -> ModelColumn:
    return ModelColumn(name=name, type="DOUBLE", description=description)


def _texts(name: str, description: str) -> ModelColumn:
    return ModelColumn(name=name, type="VARCHAR[]", description=description)


def _date(name: str, description: str) -> ModelColumn:
    return ModelColumn(name=name, type="DATE", description=description)


def _flag(name: str, description: str) -> ModelColumn:
    return ModelColumn(name=name, type="BOOLEAN", description=description)


_CURRENCY = _text("currency", "Currency of the amounts, ISO 4217; XXX if the API returns none.")
_CUSTOMER = _text("customer", "The email address in lower case, or its hash.", Sensitivity.PERSONAL)
_DAY = "day in COMMERCE_TIMEZONE"
_GROSS = "Amount paid before refunds: net plus the refunds, as far as they are known. A chargeback reduces it."
_REFUNDS = "Amount refunded, as far as it is known; NULL if known_refund_share is 0."
_NET = "Amount paid minus refunds and chargebacks: settled_gross of orders."
_UNKNOWN_REFUNDS = _integer(
    "unknown_refunds",
    "Refunded or charged-back orders whose refunded amount the API does not show: gross and refunds lack it, net is "
    "correct.",
)
_KNOWN_SHARE = _share(
    "known_refund_share",
    "Share of the refunded and charged-back orders whose refunded amount is known, from 0 to 1; NULL if there are "
    "none.",
)

MODELS: tuple[Model, ...] = (
    Model(
        name="orders_enriched",
        description=(
            "One row per order: whether it is a sale, its amounts, its customer and its cart. A sale is an order "
            "with a settled amount, unless it is a test (`test_mode`) or its state is initial, pending, failed or "
            "fraud_review. The amounts of other orders are NULL, so that sums need no filter."
        ),
        deps=("orders",),
        # Not partitioned: the place of a sale among those of its customer depends on every earlier day.
        key=("order_id",),
        columns=(
            _integer("order_id", "The order; see orders.id."),
            _instant("created_at", "When the order was created."),
            _instant("updated_at", "When the order last changed."),
            _date("day", f"The {_DAY} on which the order was created."),
            _text("state", "State of the order."),
            _flag("is_sale", "The order is a sale; never NULL."),
            _text("not_a_sale", "Why it is not a sale: test, the state, or 'no amount'; NULL for a sale."),
            _CUSTOMER,
            _integer("customer_sale_number", "1 for the customer's first sale; NULL without a customer or sale."),
            _text("country", "Country of the VAT rate, ISO 3166."),
            _text("gateway", "Payment gateway."),
            _text("payment_method", "Payment method."),
            _text("affiliate_system", "The affiliate system of the referral."),
            _integer("plan_id", "The subscription plan."),
            _integer("lines", "Lines of the cart."),
            _integer("units", "Total quantity; a line without a quantity counts as one."),
            _money("order_price", "Price at checkout, before discount; the API does not name its currency."),
            _money("discount", "Discount; the API does not name its currency."),
            _CURRENCY,
            _money("gross", _GROSS),
            _money(
                "refunds", "Amount refunded; 0 if the order was not refunded, NULL if it was and the amount is unknown."
            ),
            _flag(
                "refund_amount_known",
                "The order was not refunded, or each refund transaction in the API has a readable amount in the "
                "order's currency; false for a chargeback.",
            ),
            _money("net", _NET),
            _money("tax", "Tax, after refunds; included in net."),
            _money("accounted_tax", "Tax to account for, as the API sends it."),
            _money("shipping", "Shipping and handling; included in net."),
            _money("fees", "Gateway fees; not subtracted from net."),
            _money("affiliate_fees", "Affiliate fees; not subtracted from net."),
            _money("proceeds", "net minus tax, fees and affiliate_fees. What shipping costs the shop is unknown."),
            _money("excluded_amount", "settled_gross of an order that is not a sale."),
            _texts("unreadable_amounts", "Amounts of the order that are not numbers; see `_invalid` of orders."),
            _flag("is_refunded", "Refunded, fully or in part."),
            _flag("is_charged_back", "Charged back."),
            _flag(
                "checkout_completed", "The order is a sale or the cart has a time of completion; NULL without a cart."
            ),
        ),
        checks=(
            Check(
                name="net_and_sales_equal_orders",
                description="Each order has one row; net is settled_gross for a sale, excluded_amount for another.",
            ),
            Check(
                name="refunds_are_plausible",
                description="No refund is negative, and gross minus refunds is net, so gross is never below net.",
            ),
            Check(
                name="only_sales_have_amounts",
                description="No test order, and no order in the state initial, pending, failed or fraud_review, has a "
                "settled amount. The sums lack these amounts.",
                warns=True,
            ),
            Check(
                name="amounts_are_readable",
                description="Every amount of a sale is a number. The sums lack the others.",
                warns=True,
            ),
            Check(
                name="net_excludes_refunds",
                description="settled_gross of a refunded order is not the full price at checkout: the API has "
                "subtracted the refund. If it has not, net of the listed orders is too high.",
                warns=True,
            ),
        ),
    ),
    Model(
        name="order_items",
        description="One row per line of an order's cart, whatever its state; amounts are NULL if it is not a sale.",
        deps=("orders", "products", "packages", "subscriptions"),
        # Names are those at the time of the build, or each daily extraction of the catalog would build every day.
        ignored_deps=("products", "packages", "subscriptions"),
        key=("order_id", "line"),
        cursor="created_at",
        columns=(
            _integer("order_id", "The order; see orders.id."),
            _integer("line", "Position in the cart, from 1."),
            _instant("created_at", "When the order was created; its UTC day is the partition."),
            _text("state", "State of the order."),
            _integer("product_id", "The product; NULL if the line has no valid product id."),
            _text("product", "The product's name when the day was built; NULL if it is not in products."),
            _text("product_type", "digital, software, redirect, tangible, service or drip."),
            _integer(
                "package_id",
                "The package that the line belongs to: the line's own package id or, as most lines have none, the "
                "only package that has the order's name and contains the product.",
            ),
            _text("package", "The package's name when the day was built."),
            _integer("plan_id", "The order's subscription plan."),
            _text("plan", "The plan's name when the day was built."),
            _integer("quantity", "Quantity in the cart; NULL if the cart has none."),
            _money("price_at_checkout", "Price in the cart; lines of a package or plan often have none."),
            _text(
                "split_by",
                "What the shares follow. 'line price': the prices of the lines add up to the order's price; 'unit "
                "price': prices times quantities do; 'unconfirmed price': neither does, so the prices are taken as "
                "those of the lines; 'equal': a line has no price.",
            ),
            _CURRENCY,
            _money(
                "gross",
                "The line's share of the order's gross amount, tax and shipping included; rounded down to the "
                "currency's decimals, and the largest line takes the rest.",
            ),
            _money("refunds", "The line's share of the order's refunds, split the same way; NULL: unknown."),
            _money("net", "gross minus the known refunds."),
        ),
        checks=(
            Check(
                name="every_cart_line_is_there_once",
                description="Each order of the built days has one row per line of its cart.",
            ),
            Check(
                name="amounts_equal_orders",
                description="The net amounts of a sale's lines add up to its settled_gross, to the cent.",
            ),
        ),
    ),
    Model(
        name="refunds",
        description=(
            "One row per refund transaction of a sale. A sale that was charged back, or whose refund the API shows "
            "without a transaction, has a row without number, amount and time."
        ),
        deps=("orders",),
        key=("order_id", "refund_number"),
        columns=(
            _integer("order_id", "The order; see orders.id."),
            _integer(
                "refund_number", "Position among the transactions of the order, from 1; NULL if the API shows none."
            ),
            _text("kind", "refund or chargeback."),
            _text("state", "State of the order."),
            _date("order_day", f"The {_DAY} on which the order was created."),
            _instant("refunded_at", "When the refund happened; NULL: unknown."),
            _date("refund_day", f"The {_DAY} on which the refund happened."),
            _integer("days_to_refund", "Days from order_day to refund_day."),
            _text("currency", "Currency of the refund, else of the order; XXX if the API returns none."),
            _money("amount", "Amount refunded, positive; NULL: unknown."),
            _flag("fully_refunded", "Nothing of the order's amount is left: net is 0."),
        ),
        checks=(
            Check(
                name="every_refund_is_there_once",
                description="Each refunded or charged-back sale has a row per transaction, and no other order has one.",
            ),
            Check(name="amounts_are_those_of_orders", description="The amounts are the sizes of those in orders."),
        ),
    ),
    Model(
        name="customers",
        description="One row per customer, keyed by lower-cased email address, or by its hash if orders store that.",
        deps=("orders",),
        key=("customer",),
        columns=(
            _text(
                "customer",
                "The email address or its hash. Orders without an address are in no row.",
                Sensitivity.PERSONAL,
            ),
            _instant("first_order_at", "When the first order was created, a sale or not."),
            _instant("last_order_at", "When the last order was created, a sale or not."),
            _integer("orders", "Orders, sales or not."),
            _integer("sales", "Sales, including free and fully refunded ones."),
            _integer("refunded_orders", "Sales that were refunded, fully or in part."),
            _integer("charged_back_orders", "Sales that were charged back."),
        ),
        checks=(
            Check(
                name="orders_equal_orders", description="orders adds up to the number of orders with an email address."
            ),
        ),
    ),
    Model(
        name="customer_value",
        description="One row per customer and currency of their sales: what the customer has paid so far.",
        deps=("orders",),
        key=("customer", "currency"),
        columns=(
            _CUSTOMER,
            _CURRENCY,
            _instant("first_sale_at", "When the first sale in this currency was created."),
            _instant("last_sale_at", "When the last sale in this currency was created."),
            _integer("sales", "Sales, including free and fully refunded ones."),
            _money("gross", _GROSS),
            _money("refunds", _REFUNDS),
            _money("net", _NET),
            _UNKNOWN_REFUNDS,
            _KNOWN_SHARE,
        ),
        checks=(
            Check(
                name="net_equals_orders",
                description="net adds up to that of the sales with an email address, per currency, to the cent.",
            ),
        ),
    ),
    Model(
        name="cohort_retention",
        description=(
            "One row per month of first sale and number of months since then: how many of the customers bought in "
            "that month. Renewals of a subscription do not count, because the API books them on the first order."
        ),
        deps=("orders",),
        key=("cohort", "months_later"),
        columns=(
            _date("cohort", f"First day of the month (a {_DAY}) of the customers' first sale."),
            _integer("months_later", "Months since then, from 0 to the month of the newest sale."),
            _integer("cohort_size", "Customers with their first sale in the month of the cohort."),
            _integer("customers", "Those of them with a sale in the later month."),
            _integer("sales", "Their sales in that month."),
        ),
        checks=(
            Check(
                name="sales_equal_orders",
                description="sales adds up to the number of sales with an email address, and each customer is in one "
                "cohort.",
            ),
        ),
    ),
    Model(
        name="daily_revenue",
        description=(
            f"One row per {_DAY} and currency with sales, including free ones. Refunds and renewals count on the day "
            "of their order, because the API books them there; refunds_paid_out counts on the day of the refund. "
            "Never add amounts of different currencies."
        ),
        deps=("orders",),
        # Not partitioned: whether a customer is new depends on every earlier day.
        key=("day", "currency"),
        columns=(
            _date("day", f"The {_DAY} on which the orders were created."),
            _CURRENCY,
            _integer("orders", "Sales, including free and fully refunded ones."),
            _money("gross", _GROSS),
            _money("refunds", _REFUNDS),
            _money("net", _NET),
            _money("tax", "Tax after refunds; included in net."),
            _money("shipping", "Shipping and handling; included in net."),
            _money("fees", "Gateway fees; not subtracted from net."),
            _money("affiliate_fees", "Affiliate fees; not subtracted from net."),
            _integer("refunded_orders", "Sales that were refunded, fully or in part."),
            _integer("charged_back_orders", "Sales that were charged back."),
            _UNKNOWN_REFUNDS,
            _KNOWN_SHARE,
            _money("refunds_paid_out", "Refunds that happened on this day, of any order, with known time and amount."),
            _integer("unreadable_orders", "Sales with an amount that is not a number; the sums lack it."),
            _integer("excluded_orders", "Orders that are not sales but have an amount; in no other column."),
            _money("excluded_amount", "The settled amounts of these orders."),
            _integer("new_customers", "Customers whose first sale is on this day."),
            _integer("returning_customers", "The other customers. Orders without an email address count for neither."),
        ),
        checks=(
            Check(
                name="money_equals_orders",
                description="Per currency, the number of orders and the amounts equal those of orders, to the cent.",
            ),
            Check(
                name="each_customer_is_new_once",
                description="new_customers adds up to the number of customers with a sale.",
            ),
        ),
    ),
    Model(
        name="revenue_movements",
        description=(
            f"One row per {_DAY} and currency on which net revenue changed: by new orders, renewals or refunds. A "
            "change counts on the day of the order's updated_at, and as one if two extractions saw no version "
            "between. The first stored version of an order counts on the day of the order, with the renewals until "
            "then. Exists with COMMERCE_ORDER_HISTORY=true."
        ),
        deps=("orders",),
        needs_history=True,
        key=("day", "currency"),
        columns=(
            _date("day", f"The {_DAY} of the order, or of its change."),
            _CURRENCY,
            _money("new_orders", "Net of the first version of sales created on this day."),
            _money("renewals", "Increases of orders with a subscription plan, in the same currency."),
            _money("increases", "Increases of other orders."),
            _money("decreases", "Refunds, chargebacks and other decreases; negative."),
            _money("net", "Sum of the four: over all days, net of daily_revenue."),
        ),
        checks=(
            Check(
                name="net_adds_up_to_orders",
                description="Per currency, the movements of all days add up to settled_gross of the sales.",
            ),
        ),
    ),
    Model(
        name="product_performance",
        description=(
            "One row per product, month and currency of sales. The row without a product has the amounts of orders "
            "whose cart has no product: plans without products, imports."
        ),
        deps=("orders", "products"),
        key=("month", "product_id", "currency"),
        columns=(
            _date("month", f"First day of the month (a {_DAY}) in which the orders were created."),
            _integer("product_id", "The product; NULL if the cart has none."),
            _text("product", "Current name."),
            _CURRENCY,
            _integer("orders", "Sales with the product."),
            _integer("units", "Total quantity; a line without a quantity counts as one."),
            _money("gross", "The product's share of the gross amounts; see order_items.gross."),
            _money("refunds", "The product's share of the known refunds; NULL if known_refund_share is 0."),
            _money("net", "gross minus the known refunds."),
            _integer("refunded_orders", "Sales with the product that were refunded, fully or in part."),
            _UNKNOWN_REFUNDS,
            _KNOWN_SHARE,
        ),
        checks=(
            Check(
                name="net_equals_orders", description="Per month and currency, net equals that of orders, to the cent."
            ),
        ),
    ),
    Model(
        name="subscription_orders",
        description=(
            "One row per order of a subscription plan: the state of the subscription. The API shows neither the "
            "dates of renewals nor that of a cancellation: past months are in subscription_months and "
            "revenue_movements, which need COMMERCE_ORDER_HISTORY=true."
        ),
        deps=("orders", "subscriptions"),
        key=("order_id",),
        columns=(
            _integer("order_id", "The order; see orders.id."),
            _integer("plan_id", "The plan; NULL if the API returns none."),
            _text("plan", "The plan's current name, or the order's name if the plan is unknown."),
            _text("state", "State of the order: subscription_active, subscription_cancelled and so on."),
            _flag("is_active", "The subscription is a sale and active, or cancelled to the end of a period."),
            _instant("started_at", "When the order was created."),
            _instant("last_change_at", "When the order last changed: a renewal, a cancellation or any other edit."),
            _integer("payments", "Number of gateway transactions so far, including the first."),
            _money(
                "monthly_price",
                "The plan's current price per month of a year of 365 days, before tax and discounts: summed over "
                "active subscriptions, the monthly recurring revenue. NULL for a plan with a fixed number of "
                "payments.",
            ),
            _text("price_currency", "Currency of monthly_price, ISO 4217; XXX if the plan has none."),
            _CURRENCY,
            _money("net", _NET + " Includes all renewals."),
        ),
        checks=(
            Check(
                name="every_subscription_is_there_once",
                description="Each order with a plan or a subscription state has one row, and no other order has one.",
            ),
        ),
    ),
    Model(
        name="subscription_months",
        description=(
            "One row per plan and month: how many subscriptions started and ended, how many were active at its end, "
            "and the monthly recurring revenue. An end counts on the day of the order's updated_at, so one from "
            "before the history may be shown too late. Exists with COMMERCE_ORDER_HISTORY=true."
        ),
        deps=("orders", "subscriptions"),
        needs_history=True,
        key=("month", "plan_id"),
        columns=(
            _date("month", f"First day of the month (a {_DAY}), up to that of the newest start or end."),
            _integer("plan_id", "The plan that the orders have now; NULL if the API returns none."),
            _text("plan", "The plan's current name; NULL if it is not in subscriptions."),
            _integer("started", "Subscriptions that started or became active again."),
            _integer(
                "cancelled",
                "Subscriptions that ended before their last payment. Divided by active of the month before, the "
                "churn rate.",
            ),
            _integer("completed", "Subscriptions of a fixed length that ended with their last payment."),
            _integer("active", "Active at the end of the month, or cancelled to the end of a period."),
            _money("recurring", "active times the plan's price per month; see subscription_orders.monthly_price."),
            _text("price_currency", "Currency of recurring, ISO 4217; XXX if the plan has none."),
        ),
        checks=(
            Check(
                name="active_equals_orders",
                description="Per plan, active of the newest month is the number of active subscriptions in orders.",
            ),
        ),
    ),
)
