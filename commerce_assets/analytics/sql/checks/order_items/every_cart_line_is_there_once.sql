WITH carts AS (
    SELECT id AS order_id, coalesce(json_array_length(coalesce(cart -> '$.cart', cart), '$.cart_items'), 0) AS in_cart
    FROM orders
),
stored AS (
    SELECT order_id, count(*) AS in_table, count(DISTINCT line) AS lines FROM order_items GROUP BY order_id
)
SELECT order_id, in_cart, in_table
FROM carts FULL JOIN stored USING (order_id)
WHERE coalesce(in_cart, 0) <> coalesce(in_table, 0) OR lines <> in_table
