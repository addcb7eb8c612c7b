WITH months AS (
    SELECT
        CAST(date_trunc('month', day) AS DATE) AS month,
        product_id,
        currency,
        count(DISTINCT order_id) AS orders,
        sum(CASE WHEN line IS NULL THEN 0 ELSE coalesce(quantity, 1) END) AS units,
        coalesce(sum(gross), 0) AS gross,
        sum(refunds) AS refunds,
        coalesce(sum(net), 0) AS net,
        count(DISTINCT order_id) FILTER (is_refunded) AS refunded_orders,
        count(DISTINCT order_id) FILTER (NOT refund_amount_known) AS unknown_refunds,
        count(DISTINCT order_id) FILTER (is_refunded OR is_charged_back) AS to_know,
        (to_know - unknown_refunds) / nullif(to_know, 0) AS known_refund_share
    FROM order_lines
    WHERE is_sale
    GROUP BY ALL
)
SELECT
    months.* EXCLUDE (to_know) REPLACE (refund_sum(refunds, known_refund_share) AS refunds),
    products.name AS product
FROM months
LEFT JOIN products ON products.id = months.product_id
