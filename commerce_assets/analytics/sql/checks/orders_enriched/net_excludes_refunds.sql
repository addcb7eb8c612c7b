-- With tax on top of the price or in it. The refund is known, so a price that settled_gross still equals is before it.
SELECT order_id, order_price, net, refunds
FROM orders_enriched
WHERE refunds > 0 AND order_price > 0
    AND net - shipping IN (order_price - coalesce(discount, 0), order_price - coalesce(discount, 0) + tax)
