WITH sent AS (
    SELECT
        id AS order_id,
        list_sum(list_transform(
            json_extract(refund_transactions, '$[*]'),
            lambda t: refund_size(coalesce(t -> '$.refund_transaction', t) ->> '$.amount')
        )) AS in_orders
    FROM orders
),
stored AS (
    SELECT order_id, sum(amount) AS in_table, min(amount) AS smallest FROM refunds GROUP BY order_id
)
SELECT order_id, in_table, in_orders
FROM stored JOIN sent USING (order_id)
WHERE in_table IS DISTINCT FROM in_orders OR smallest < 0
