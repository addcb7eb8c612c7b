SELECT in_table, in_orders
FROM (SELECT coalesce(sum(orders), 0) AS in_table FROM customers)
CROSS JOIN (SELECT count(customer_key(buyer_email)) AS in_orders FROM orders)
WHERE in_table <> in_orders
