WITH months AS (
    SELECT
        CAST(date_trunc('month', day) AS DATE) AS month,
        product_id,
        currency,
        count(DISTINCT order_id) AS orders,
        sum(CASE WHEN line IS NULL THEN 0 ELSE coalesce(quantity, 1) END) AS units,
        sum(gross) AS gross,
        sum(refunds) AS refunds,
        sum(net) AS net,
        count(DISTINCT order_id) FILTER (is_refunded) AS refunded_orders
    FROM order_lines
    WHERE net IS NOT NULL
    GROUP BY ALL
)
SELECT months.*, products.name AS product
FROM months
LEFT JOIN products ON products.id = months.product_id
