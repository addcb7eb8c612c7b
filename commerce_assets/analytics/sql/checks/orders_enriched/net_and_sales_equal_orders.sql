SELECT coalesce(id, order_id) AS order_id, settled_gross, net, excluded_amount
FROM orders FULL JOIN orders_enriched ON order_id = id
WHERE id IS NULL OR order_id IS NULL
    OR is_sale IS DISTINCT FROM (exclusion(orders.state, settled_gross, _extra, _invalid) IS NULL)
    OR net IS DISTINCT FROM CASE WHEN is_sale THEN settled_gross END
    OR excluded_amount IS DISTINCT FROM CASE WHEN NOT is_sale THEN settled_gross END
