WITH carts AS (
    SELECT order_id, count(line) AS lines, coalesce(sum(coalesce(quantity, 1)) FILTER (line IS NOT NULL), 0) AS units
    FROM order_lines
    GROUP BY order_id
),
places AS (
    -- The place of each sale among those of its customer.
    SELECT order_id, row_number() OVER (PARTITION BY customer ORDER BY created_at, order_id) AS customer_sale_number
    FROM order_amounts
    WHERE is_sale AND customer IS NOT NULL
)
SELECT
    a.order_id,
    a.created_at,
    a.updated_at,
    a.day,
    a.state,
    a.is_sale,
    a.not_a_sale,
    a.customer,
    p.customer_sale_number,
    upper(bare(o.eu_resolved_country)) AS country,
    o.gateway,
    o.payment_method,
    o.affiliate_system,
    a.subscription_id AS plan_id,
    c.lines,
    c.units,
    a.order_price,
    o.discount,
    a.currency,
    a.gross,
    a.refunds,
    a.refund_amount_known,
    a.net,
    a.tax,
    o.accounted_tax,
    a.shipping,
    a.fees,
    a.affiliate_fees,
    a.net - a.tax - a.fees - a.affiliate_fees AS proceeds,
    a.excluded_amount,
    a.unreadable AS unreadable_amounts,
    a.is_refunded,
    a.is_charged_back,
    CASE WHEN o.cart IS NOT NULL THEN
        a.is_sale OR (coalesce(o.cart -> '$.cart', o.cart) ->> '$.completed_checkout_at') IS NOT NULL
    END AS checkout_completed
FROM order_amounts AS a
JOIN orders AS o ON o.id = a.order_id
JOIN carts AS c USING (order_id)
LEFT JOIN places AS p USING (order_id)
