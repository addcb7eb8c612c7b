WITH stored AS (
    SELECT order_id, sum(net) AS net, sum(gross - coalesce(refunds, 0)) AS gross_less_refunds, min(refunds) AS smallest
    FROM order_items GROUP BY order_id
),
expected AS (
    SELECT
        id AS order_id,
        CASE WHEN exclusion(state, settled_gross, _extra, _invalid) IS NULL THEN settled_gross END AS sold
    FROM orders
)
SELECT order_id, net, sold
FROM stored JOIN expected USING (order_id)
WHERE net IS DISTINCT FROM sold OR gross_less_refunds IS DISTINCT FROM sold OR smallest < 0
