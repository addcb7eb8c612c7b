WITH paid AS (
    FROM order_amounts WHERE net IS NOT NULL
),
first_orders AS (
    SELECT min({'created_at': created_at, 'order_id': order_id}).order_id AS first_order_id
    FROM paid
    WHERE customer IS NOT NULL
    GROUP BY customer
)
SELECT
    day,
    currency,
    count(*) AS orders,
    sum(gross) AS gross,
    sum(refunds) AS refunds,
    sum(net) AS net,
    sum(fees) AS fees,
    sum(tax) AS tax,
    count_if(is_refunded) AS refunded_orders,
    count_if((is_refunded OR is_charged_back) AND NOT refund_amount_known) AS unknown_refunds,
    count(first_order_id) AS new_customers,
    count(DISTINCT customer) - count(first_order_id) AS returning_customers
FROM paid
LEFT JOIN first_orders ON first_order_id = order_id
GROUP BY day, currency
