WITH flagged AS (
    SELECT id FROM orders
    WHERE refunded OR state IN ('refunded', 'chargeback') OR json_array_length(refund_transactions) > 0
)
SELECT coalesce(id, order_id) AS order_id, id IS NOT NULL AS in_orders, order_id IS NOT NULL AS in_table
FROM flagged FULL JOIN refunds ON order_id = id
WHERE id IS NULL OR order_id IS NULL
