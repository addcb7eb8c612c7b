SELECT in_table, in_orders
FROM (SELECT coalesce(sum(new_customers), 0) AS in_table FROM daily_revenue)
CROSS JOIN (
    SELECT count(DISTINCT customer_key(buyer_email)) AS in_orders FROM orders
    WHERE exclusion(state, settled_gross, _extra, _invalid) IS NULL
)
WHERE in_table <> in_orders
