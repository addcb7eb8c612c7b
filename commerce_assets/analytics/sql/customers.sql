WITH revenue AS (
    SELECT customer, map_from_entries(list({'key': currency, 'value': net} ORDER BY currency)) AS net
    FROM (
        SELECT customer, currency, sum(net) AS net FROM order_amounts
        WHERE customer IS NOT NULL AND net IS NOT NULL
        GROUP BY ALL
    )
    GROUP BY customer
),
orders_of AS (
    SELECT
        customer,
        min(created_at) AS first_order_at,
        max(created_at) AS last_order_at,
        count(*) AS orders,
        count(net) AS paid_orders,
        count_if(is_refunded) AS refunded_orders,
        count_if(is_charged_back) AS charged_back_orders
    FROM order_amounts
    WHERE customer IS NOT NULL
    GROUP BY customer
)
SELECT orders_of.*, coalesce(revenue.net, MAP {}) AS net
FROM orders_of
LEFT JOIN revenue USING (customer)
