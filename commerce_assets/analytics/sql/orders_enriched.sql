WITH places AS (
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
    upper(bare(a.eu_resolved_country)) AS country,
    a.gateway,
    a.payment_method,
    a.affiliate_system,
    a.subscription_id AS plan_id,
    coalesce(len(cart_items(a.cart)), 0) AS lines,
    coalesce(list_sum(list_transform(cart_items(a.cart), lambda i: coalesce(quantity_of(i), 1))), 0) AS units,
    a.order_price,
    a.discount,
    a.currency,
    a.gross,
    a.refunds,
    a.refund_amount_known,
    a.net,
    a.tax,
    a.accounted_tax,
    a.shipping,
    a.fees,
    a.affiliate_fees,
    a.net - a.tax - a.fees - a.affiliate_fees AS proceeds,
    a.excluded_amount,
    a.unreadable AS unreadable_amounts,
    a.is_refunded,
    a.is_charged_back,
    CASE WHEN a.cart IS NOT NULL THEN
        a.is_sale OR (coalesce(a.cart -> '$.cart', a.cart) ->> '$.completed_checkout_at') IS NOT NULL
    END AS checkout_completed
FROM order_amounts AS a
LEFT JOIN places AS p USING (order_id)
