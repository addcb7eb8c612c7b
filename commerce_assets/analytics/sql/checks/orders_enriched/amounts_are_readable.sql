SELECT order_id, unreadable_amounts FROM orders_enriched WHERE is_sale AND len(unreadable_amounts) > 0
