"""The models of the analytics layer. A new model is one entry here and one file in `sql/`.

The API limits the amounts: it subtracts refunds from an order's `settled_gross`, books the renewals of a subscription
on its first order, and shows no transaction for a chargeback.
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
    """A query in `sql/checks/<model>/<name>.sql` that returns the rows that fail; no rows: the check passes."""

    name: str
    description: str


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
    """

    name: str
    description: str
    deps: tuple[str, ...]
    columns: tuple[ModelColumn, ...]
    key: tuple[str, ...]
    cursor: str | None = None
    ignored_deps: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

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


def _date(name: str, description: str) -> ModelColumn:
    return ModelColumn(name=name, type="DATE", description=description)


def _flag(name: str, description: str) -> ModelColumn:
    return ModelColumn(name=name, type="BOOLEAN", description=description)


_CURRENCY = _text("currency", "Currency of the amounts, ISO 4217; XXX if the API returns none.")
_GROSS = "Amount paid before refunds: net plus refunds. A chargeback reduces it."
_REFUNDS = "Amount refunded in this currency, from the refund transactions in the API; 0 if it shows none."
_NET = "Amount paid minus refunds and chargebacks: settled_gross of orders."

MODELS: tuple[Model, ...] = (
    Model(
        name="order_items",
        description="One row per line of an order's cart, whatever its state; net is NULL if it was never paid.",
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
                "The package that the line belongs to: the line's own package id or, as most lines have none, the only "
                "package that has the order's name and contains the product.",
            ),
            _text("package", "The package's name when the day was built."),
            _integer("plan_id", "The order's subscription plan."),
            _text("plan", "The plan's name when the day was built."),
            _integer("quantity", "Quantity in the cart; NULL if the cart has none."),
            _money("price_at_checkout", "Price in the cart; lines of a package or plan often have none."),
            _CURRENCY,
            _money(
                "gross",
                "The line's share of the order's gross amount, tax and shipping included: by price if every line has "
                "one, else equal shares; rounded to the cent, and the last line takes the rest. NULL: the order was "
                "never paid.",
            ),
            _money("refunds", "The line's share of the order's refunds, split the same way."),
            _money("net", "gross minus refunds."),
        ),
        checks=(
            Check(
                name="every_cart_line_is_there_once",
                description="Each order of the built days has one row per line of its cart.",
            ),
            Check(
                name="amounts_equal_orders",
                description="The net amounts of an order's lines add up to its settled_gross, to the cent.",
            ),
        ),
    ),
    Model(
        name="refunds",
        description="One row per order that was refunded, fully or in part, or charged back.",
        deps=("orders",),
        key=("order_id",),
        columns=(
            _integer("order_id", "The order; see orders.id."),
            _date("day", "UTC day on which the order was created."),
            _text("kind", "refund or chargeback."),
            _text("state", "State of the order."),
            _CURRENCY,
            _money("gross", _GROSS + " NULL: the order was never paid."),
            _money("refunded", _REFUNDS),
            _money("settled", _NET),
            _flag(
                "refund_amount_known",
                "The refund transactions in the API add up to the full refund; always false for a chargeback.",
            ),
            _flag("fully_refunded", "net is 0."),
            _integer("transactions", "Number of refund transactions in the API; a list may show none."),
            _instant("first_refunded_at", "Time of the first refund transaction."),
            _instant("last_refunded_at", "Time of the last refund transaction."),
        ),
        checks=(
            Check(
                name="every_refunded_order_is_there_once",
                description="Each refunded or charged-back order has one row, and no other order has one.",
            ),
            Check(name="settled_equals_orders", description="settled equals settled_gross of the order."),
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
            _instant("first_order_at", "When the first order was created, paid or not."),
            _instant("last_order_at", "When the last order was created, paid or not."),
            _integer("orders", "Orders, paid or not."),
            _integer("paid_orders", "Orders with a settled amount, including free and fully refunded ones."),
            _integer("refunded_orders", "Orders that were refunded, fully or in part."),
            _integer("charged_back_orders", "Orders that were charged back."),
            ModelColumn(
                name="net",
                type=f"MAP(VARCHAR, {_MONEY})",
                description="Net revenue by currency: net['EUR']; empty if nothing was ever paid.",
            ),
        ),
        checks=(
            Check(
                name="orders_equal_orders", description="orders adds up to the number of orders with an email address."
            ),
            Check(
                name="net_equals_orders",
                description="net adds up to that of the orders with an email address, per currency, to the cent.",
            ),
        ),
    ),
    Model(
        name="daily_revenue",
        description=(
            "One row per UTC day and currency of paid orders, including free ones. Refunds and renewals count on the "
            "day of their order, because the API books them there. Never add amounts of different currencies."
        ),
        deps=("orders",),
        # Not partitioned: whether a customer is new depends on every earlier day.
        key=("day", "currency"),
        columns=(
            _date("day", "UTC day on which the orders were created."),
            _CURRENCY,
            _integer("orders", "Orders with a settled amount, including 0."),
            _money("gross", _GROSS),
            _money("refunds", _REFUNDS),
            _money("net", _NET),
            _money("fees", "Gateway fees; not subtracted from net."),
            _money("tax", "Tax after refunds; included in net."),
            _integer("refunded_orders", "Orders that were refunded, fully or in part."),
            _integer(
                "unknown_refunds",
                "Refunded or charged-back orders whose transactions are missing from the API: gross and refunds are "
                "too low by the same amount, net is correct.",
            ),
            _integer("new_customers", "Customers whose first paid order is on this day."),
            _integer("returning_customers", "The other customers. Orders without an email address count for neither."),
        ),
        checks=(
            Check(
                name="money_equals_orders",
                description="Per currency, the number of orders and the amounts equal those of orders, to the cent.",
            ),
            Check(
                name="each_customer_is_new_once",
                description="new_customers adds up to the number of customers with a paid order.",
            ),
        ),
    ),
    Model(
        name="product_performance",
        description=(
            "One row per product, month and currency of paid orders. The row without a product has the amounts of "
            "orders whose cart has no product: plans without products, imports."
        ),
        deps=("orders", "products"),
        key=("month", "product_id", "currency"),
        columns=(
            _date("month", "First day of the UTC month in which the orders were created."),
            _integer("product_id", "The product; NULL if the cart has none."),
            _text("product", "Current name."),
            _CURRENCY,
            _integer("orders", "Paid orders with the product."),
            _integer("units", "Total quantity; a line without a quantity counts as one."),
            _money("gross", "The product's share of the gross amounts; see order_items.gross."),
            _money("refunds", "The product's share of the refunds."),
            _money("net", "gross minus refunds."),
            _integer("refunded_orders", "Orders with the product that were refunded, fully or in part."),
        ),
        checks=(
            Check(
                name="net_equals_orders", description="Per month and currency, net equals that of orders, to the cent."
            ),
        ),
    ),
    Model(
        name="subscription_orders",
        description="One row per order of a subscription plan: the state of the subscription.",
        deps=("orders", "subscriptions"),
        key=("order_id",),
        columns=(
            _integer("order_id", "The order; see orders.id."),
            _integer("plan_id", "The plan; NULL if the API returns none."),
            _text("plan", "The plan's current name, or the order's name if the plan is unknown."),
            _text("state", "State of the order: subscription_active, subscription_cancelled and so on."),
            _flag("is_active", "The subscription is active, or cancelled to the end of a period."),
            _instant("started_at", "When the order was created."),
            _instant("last_change_at", "When the order last changed: a renewal, a cancellation or any other edit."),
            _integer("payments", "Number of gateway transactions so far, including the first."),
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
)
