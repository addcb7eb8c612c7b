SELECT
    customer,
    min(created_at) AS first_order_at,
    max(created_at) AS last_order_at,
    count(*) AS orders,
    count_if(is_sale) AS sales,
    count_if(is_sale AND is_refunded) AS refunded_orders,
    count_if(is_sale AND is_charged_back) AS charged_back_orders
FROM order_amounts
WHERE customer IS NOT NULL
GROUP BY customer
