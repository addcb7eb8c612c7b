SELECT in_table, in_orders
FROM (SELECT coalesce(sum(new_customers), 0) AS in_table FROM daily_revenue)
CROSS JOIN (
    SELECT count(DISTINCT lower(nfc_normalize(trim(buyer_email)))) AS in_orders FROM orders
    WHERE settled_gross IS NOT NULL AND trim(buyer_email) <> ''
)
WHERE in_table <> in_orders
