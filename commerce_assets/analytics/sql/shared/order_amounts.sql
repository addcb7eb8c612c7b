-- An amount of a sale: 0 if the API sends none, NULL if it could not be read.
CREATE OR REPLACE TEMP MACRO measure(is_sale, unreadable, name, amount) AS
    CASE WHEN is_sale AND NOT list_contains(unreadable, name) THEN coalesce(amount, 0) END;

-- The share of the refunds and chargebacks whose amount is known; NULL if there are none.
CREATE OR REPLACE TEMP MACRO known_share(is_refund, is_known) AS avg(CASE WHEN is_refund THEN CAST(is_known AS INTEGER) END);

-- A sum of refunds: 0 if there are none, NULL if there are some and no amount is known.
CREATE OR REPLACE TEMP MACRO refund_sum(refunds, share_known) AS
    CASE WHEN share_known = 0 THEN NULL ELSE coalesce(refunds, 0) END;

-- The refund transactions of an order, with or without their wrapper; NULL if the API shows none.
CREATE OR REPLACE TEMP MACRO refunds_of(sent) AS CASE WHEN json_array_length(sent) > 0 THEN
    list_transform(json_extract(sent, '$[*]'), lambda t: coalesce(t -> '$.refund_transaction', t))
END;

CREATE OR REPLACE TEMP MACRO refund_amount(refund) AS refund_size(refund ->> '$.amount');
CREATE OR REPLACE TEMP MACRO refund_currency(refund, order_currency) AS
    currency_code(coalesce(bare(refund ->> '$.currency'), order_currency));

-- Whether the amounts of an order's refunds add up: one in another currency cannot be added to the order's amounts.
CREATE OR REPLACE TEMP MACRO are_amounts_known(refund_list, order_currency) AS len(list_filter(
    refund_list,
    lambda r: refund_amount(r) IS NULL OR refund_currency(r, order_currency) <> currency_code(order_currency)
)) = 0;

-- One row per order. Each measure of the models is defined here only. The amounts of an order that is not a sale are
-- NULL, so that no sum contains them. Computed row by row: a join of all orders with themselves needs memory for them.
CREATE OR REPLACE TEMP VIEW order_amounts AS
WITH flagged AS (
    SELECT
        *,
        lower(bare(state)) AS status,
        exclusion(state, settled_gross, _extra, _invalid) AS not_a_sale,
        not_a_sale IS NULL AS is_sale,
        refunds_of(refund_transactions) AS refund_list,
        -- In version 1 of the API a refund is a state, in later versions a flag.
        coalesce(refunded, FALSE) OR status IS NOT DISTINCT FROM 'refunded' OR refund_list IS NOT NULL AS is_refunded,
        status IS NOT DISTINCT FROM 'chargeback' AS is_charged_back,
        -- The API shows no transaction of a chargeback, and lists may show none of refunds.
        NOT is_charged_back
            AND (NOT is_refunded OR coalesce(are_amounts_known(refund_list, settled_currency), FALSE))
            AS refund_amount_known,
        CASE WHEN refund_amount_known THEN coalesce(list_sum(list_transform(refund_list, lambda r: refund_amount(r))), 0) END
            AS known_refunds,
        list_filter(coalesce(json_keys(_invalid), []), lambda k: k[:8] = 'settled_' OR k = 'accounted_tax') AS unreadable
    FROM orders
)
SELECT
    id AS order_id,
    created_at,
    updated_at,
    day_of(created_at) AS day,
    state,
    status,
    is_sale,
    not_a_sale,
    order_name,
    subscription_id,
    gateway_transaction_ids,
    gateway,
    payment_method,
    affiliate_system,
    eu_resolved_country,
    accounted_tax,
    cart,
    discount,
    price_at_checkout AS order_price,
    customer_key(buyer_email) AS customer,
    currency_code(settled_currency) AS currency,
    CASE WHEN is_sale THEN settled_gross + coalesce(known_refunds, 0) END AS gross,
    CASE WHEN is_sale THEN known_refunds END AS refunds,
    CASE WHEN is_sale THEN settled_gross END AS net,
    measure(is_sale, unreadable, 'settled_tax', settled_tax) AS tax,
    measure(is_sale, unreadable, 'settled_shipping', settled_shipping)
        + measure(is_sale, unreadable, 'settled_handling', settled_handling) AS shipping,
    measure(is_sale, unreadable, 'settled_gateway_fee', settled_gateway_fee) AS fees,
    measure(is_sale, unreadable, 'settled_affiliate_fee', settled_affiliate_fee) AS affiliate_fees,
    CASE WHEN NOT is_sale THEN settled_gross END AS excluded_amount,
    unreadable,
    is_refunded,
    is_charged_back,
    refund_amount_known,
    refund_list
FROM flagged;

-- One row per refund transaction that the API shows, with its order's columns.
CREATE OR REPLACE TEMP VIEW order_refunds AS
SELECT
    * EXCLUDE (refund),
    refund_amount(refund) AS amount,
    refund_currency(refund, currency) AS refund_currency,
    TRY_CAST(refund ->> '$.occurred_at' AS TIMESTAMPTZ) AS occurred_at
FROM (
    SELECT * EXCLUDE (refund_list), unnest(refund_list) AS refund, unnest(range(1, len(refund_list) + 1)) AS number
    FROM order_amounts
);
