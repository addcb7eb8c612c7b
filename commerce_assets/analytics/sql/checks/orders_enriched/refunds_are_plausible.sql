SELECT order_id, gross, refunds, net
FROM orders_enriched
WHERE refunds < 0 OR gross < net OR gross - coalesce(refunds, 0) <> net
    OR (is_sale AND refund_amount_known <> (refunds IS NOT NULL))
