-- XXX is the ISO 4217 code for no currency.
CREATE OR REPLACE TEMP MACRO currency_code(written) AS coalesce(nullif(upper(trim(written)), ''), 'XXX');

-- One customer per address: however it is capitalised, and whether its accents are one code point or two.
CREATE OR REPLACE TEMP MACRO customer_key(email) AS nullif(lower(nfc_normalize(trim(email))), '');

-- One row per order. Each measure of the models is defined here only.
CREATE OR REPLACE TEMP VIEW order_amounts AS
WITH refunds AS (
    SELECT
        id AS order_id,
        settled_currency,
        -- With or without its wrapper.
        unnest(list_transform(json_extract(refund_transactions, '$[*]'), lambda t: coalesce(t -> '$.refund_transaction', t)))
            AS refund
    FROM orders
),
known AS (
    SELECT
        order_id,
        -- A refund in another currency than the order's cannot be added to it.
        CASE WHEN currency_code(coalesce(nullif(refund ->> '$.currency', ''), settled_currency))
            = currency_code(settled_currency) THEN TRY_CAST(refund ->> '$.amount' AS DECIMAL(18, 4)) END AS amount,
        TRY_CAST(refund ->> '$.occurred_at' AS TIMESTAMPTZ) AS occurred_at
    FROM refunds
),
refunds_of AS (
    SELECT
        order_id,
        count(*) AS transactions,
        coalesce(sum(amount), 0) AS total,
        count(amount) = count(*) AS amount_known,
        min(occurred_at) AS first_refunded_at,
        max(occurred_at) AS last_refunded_at
    FROM known
    GROUP BY order_id
)
SELECT
    id AS order_id,
    created_at,
    updated_at,
    CAST(created_at AS DATE) AS day,
    state,
    order_name,
    subscription_id,
    gateway_transaction_ids,
    cart,
    customer_key(buyer_email) AS customer,
    currency_code(settled_currency) AS currency,
    settled_gross + coalesce(total, 0) AS gross,
    coalesce(total, 0) AS refunds,
    settled_gross AS net,
    coalesce(settled_gateway_fee, 0) AS fees,
    coalesce(settled_tax, 0) AS tax,
    -- In version 1 of the API a refund is a state, in later versions a flag.
    coalesce(refunded, FALSE) OR state IS NOT DISTINCT FROM 'refunded' OR transactions IS NOT NULL AS is_refunded,
    state IS NOT DISTINCT FROM 'chargeback' AS is_charged_back,
    coalesce(amount_known, FALSE) AND NOT is_charged_back AS refund_amount_known,
    coalesce(transactions, 0) AS transactions,
    first_refunded_at,
    last_refunded_at
FROM orders
LEFT JOIN refunds_of ON order_id = id;
