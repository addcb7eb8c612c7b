WITH stored AS (
    SELECT order_id, sum(net) AS net, sum(gross - refunds) AS gross_less_refunds FROM order_items GROUP BY order_id
)
SELECT order_id, net, settled_gross
FROM stored JOIN orders ON id = order_id
WHERE net IS DISTINCT FROM settled_gross OR gross_less_refunds IS DISTINCT FROM settled_gross
