WITH expected AS (
    SELECT id FROM orders WHERE subscription_id IS NOT NULL OR starts_with(lower(bare(state)), 'subscription_')
)
SELECT coalesce(id, order_id) AS order_id, id IS NOT NULL AS in_orders, order_id IS NOT NULL AS in_table
FROM expected FULL JOIN subscription_orders ON order_id = id
WHERE id IS NULL OR order_id IS NULL
