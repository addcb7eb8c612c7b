"""The tables of the analytics layer: a new one is an entry here and a file in `sql/`, and no other edit.

Amounts are as far as the API shows them. It nets refunds off an order's `settled_gross`, books a subscription's
renewals on its first order, and shows no transaction for a chargeback: nothing here knows more than that.
"""

from dataclasses import dataclass

from commerce_assets.endpoint import Sensitivity

SCHEMA = "analytics"
"""Where the tables lie, beside the `commerce` that they are built from."""

_MONEY = "DECIMAL(38,4)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelColumn:
    """A column of a model; `type` is DuckDB's name of it."""

    name: str
    type: str
    description: str
    sensitivity: Sensitivity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A query in `sql/checks/<model>/<name>.sql` that finds the rows that are wrong: none, if all is well."""

    name: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A table and the query that fills it, `sql/<name>.sql`.

    Attributes:
        name: Names the asset, the table and the file.
        description: What a row is.
        deps: The endpoints that the query reads, by name.
        columns: Every column of the table; the query has these, in any order, and no others.
        key: The columns that identify a row; they may be NULL.
        cursor: The column whose UTC day is the row's partition. None: the table is always rebuilt whole.
        ignored_deps: Endpoints whose materializations alone are no reason to rebuild.
        checks: What must hold beside the uniqueness of the key.
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


_CURRENCY = _text("currency", "Currency of the amounts, ISO 4217; XXX where the API names none.")
_GROSS = "Paid before refunds: net and refunds together. A chargeback has taken its amount out of it as well."
_REFUNDS = "Refunded in this currency, as far as the API shows the transactions; 0 where it shows none."
_NET = "Paid, less refunds, chargebacks and nothing else: settled_gross of orders."

MODELS: tuple[Model, ...] = (
    Model(
        name="order_items",
        description="One row a line of an order's cart, whatever has become of the order: see state, and NULL in net.",
        deps=("orders", "products", "packages", "subscriptions"),
        # Names are as they were when the day was built: a catalogue that is read daily must not rebuild every day.
        ignored_deps=("products", "packages", "subscriptions"),
        key=("order_id", "line"),
        cursor="created_at",
        columns=(
            _integer("order_id", "The order; see orders.id."),
            _integer("line", "Position in the cart, from 1."),
            _instant("created_at", "When the order was created: the partition the line belongs to."),
            _text("state", "State of the order."),
            _integer("product_id", "The product; NULL where the line names none that can be read."),
            _text("product", "The product's name when the day was built; NULL if it is not in products."),
            _text("product_type", "digital, software, redirect, tangible, service or drip."),
            _integer(
                "package_id",
                "The package that the line is part of: the one the line names or, as lines usually name none, the only "
                "one that is called like the order and holds the product.",
            ),
            _text("package", "The package's name when the day was built."),
            _integer("plan_id", "The subscription plan that the order is for."),
            _text("plan", "The plan's name when the day was built."),
            _integer("quantity", "As in the cart; NULL where it says none."),
            _money("price_at_checkout", "As in the cart; the lines of a package or plan often have none."),
            _CURRENCY,
            _money(
                "gross",
                "The line's part of what was paid for the order before refunds, tax and shipping included: by price "
                "if every line has one, else in equal parts; to the cent, and the last line takes the rest. NULL: the "
                "order was never paid.",
            ),
            _money("refunds", "The line's part of the order's refunds, split alike."),
            _money("net", "gross less refunds."),
        ),
        checks=(
            Check(
                name="every_cart_line_is_there_once",
                description="Each order of the days that were built has as many rows as its cart has lines.",
            ),
            Check(
                name="amounts_equal_orders",
                description="The parts of an order's lines add up to what was settled for it, to the cent.",
            ),
        ),
    ),
    Model(
        name="refunds",
        description="One row an order that was refunded, wholly or in part, or charged back.",
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
            _money("settled", "What is left: " + _NET),
            _flag(
                "refund_amount_known",
                "The transactions in the API account for the whole refund; always false for a chargeback.",
            ),
            _flag("fully_refunded", "Nothing is left."),
            _integer("transactions", "Refund transactions that the API shows; a list may show none."),
            _instant("first_refunded_at", "When the first of them happened."),
            _instant("last_refunded_at", "When the last of them happened."),
        ),
        checks=(
            Check(
                name="every_refunded_order_is_there_once",
                description="Each order that is flagged as refunded, or charged back, has a row, and no other order.",
            ),
            Check(name="settled_equals_orders", description="settled is settled_gross of the order."),
        ),
    ),
    Model(
        name="customers",
        description="One row a customer, by e-mail address in small letters, or by its hash if orders hold that.",
        deps=("orders",),
        key=("customer",),
        columns=(
            _text("customer", "The address, or its hash; orders without one are in no row.", Sensitivity.PERSONAL),
            _instant("first_order_at", "When the first order was created, paid or not."),
            _instant("last_order_at", "When the last order was created, paid or not."),
            _integer("orders", "Orders, paid or not."),
            _integer("paid_orders", "Orders with a settled amount, free ones and those refunded to zero among them."),
            _integer("refunded_orders", "Orders that were refunded, wholly or in part."),
            _integer("charged_back_orders", "Orders that were charged back."),
            ModelColumn(
                name="net",
                type=f"MAP(VARCHAR, {_MONEY})",
                description="Revenue less refunds by currency: net['EUR']; empty if nothing was ever paid.",
            ),
        ),
        checks=(
            Check(name="orders_equal_orders", description="The customers' orders are all those with an address."),
            Check(name="net_equals_orders", description="So is their revenue, by currency and to the cent."),
        ),
    ),
    Model(
        name="daily_revenue",
        description=(
            "One row a UTC day and currency in which orders were created that were paid, free ones included. Refunds "
            "and renewals count on the day of their order, where the API books them. Never add across currencies."
        ),
        deps=("orders",),
        # Not partitioned: who is new on a day depends on every day before it.
        key=("day", "currency"),
        columns=(
            _date("day", "UTC day on which the orders were created."),
            _CURRENCY,
            _integer("orders", "Orders with a settled amount, 0 included."),
            _money("gross", _GROSS),
            _money("refunds", _REFUNDS),
            _money("net", _NET),
            _money("fees", "The gateways' fees; not subtracted from net."),
            _money("tax", "Tax that is left after refunds; contained in net."),
            _integer("refunded_orders", "Orders that were refunded, wholly or in part."),
            _integer(
                "unknown_refunds",
                "Orders refunded or charged back whose transactions the API does not show, or not all: gross and "
                "refunds are too low by the same amount, net is right.",
            ),
            _integer("new_customers", "Customers whose first paid order of all is among these."),
            _integer("returning_customers", "The other customers; orders without an e-mail address count for nobody."),
        ),
        checks=(
            Check(
                name="money_equals_orders",
                description="By currency, orders, gross, fees and tax are those of orders, to the cent.",
            ),
            Check(
                name="each_customer_is_new_once",
                description="There are as many new customers as there are customers with a paid order.",
            ),
        ),
    ),
    Model(
        name="product_performance",
        description=(
            "One row a product, month and currency, of paid orders. The row without a product holds what was paid for "
            "orders whose cart names none: plans without products, imports."
        ),
        deps=("orders", "products"),
        key=("month", "product_id", "currency"),
        columns=(
            _date("month", "First day of the UTC month in which the orders were created."),
            _integer("product_id", "The product; NULL where the cart names none."),
            _text("product", "Its name now."),
            _CURRENCY,
            _integer("orders", "Paid orders with the product."),
            _integer("units", "Quantities together; a line that says none counts as one."),
            _money("gross", "The product's part of what was paid before refunds; see order_items.gross."),
            _money("refunds", "The product's part of the refunds."),
            _money("net", "gross less refunds."),
            _integer("refunded_orders", "Orders with the product that were refunded, wholly or in part."),
        ),
        checks=(
            Check(name="net_equals_orders", description="By month and currency, net is that of orders, to the cent."),
        ),
    ),
    Model(
        name="subscription_orders",
        description="One row an order for a subscription plan: the subscriber's life, as far as one order tells it.",
        deps=("orders", "subscriptions"),
        key=("order_id",),
        columns=(
            _integer("order_id", "The order; see orders.id."),
            _integer("plan_id", "The plan; NULL where the API names none."),
            _text("plan", "The plan's name now, or the order's where the plan is not known."),
            _text("state", "State of the order: subscription_active, subscription_cancelled and so on."),
            _flag("is_active", "The state says that the subscription runs, if only to the end of a period."),
            _instant("started_at", "When the order was created."),
            _instant("last_change_at", "When the order last changed: a renewal, a cancellation, but also any edit."),
            _integer("payments", "Transactions with the gateway so far, the first included."),
            _CURRENCY,
            _money("net", _NET + " All renewals together."),
        ),
        checks=(
            Check(
                name="every_subscription_is_there_once",
                description="Each order with a plan, or in a state of subscriptions, has a row, and no other order.",
            ),
        ),
    ),
)
