WITH stored AS (
    SELECT month, currency, sum(net) AS in_table FROM product_performance GROUP BY ALL
),
expected AS (
    SELECT
        CAST(date_trunc('month', created_at) AS DATE) AS month,
        coalesce(nullif(upper(trim(settled_currency)), ''), 'XXX') AS currency,
        sum(settled_gross) AS in_orders
    FROM orders
    WHERE settled_gross IS NOT NULL
    GROUP BY ALL
)
SELECT month, currency, in_table, in_orders
FROM stored FULL JOIN expected USING (month, currency)
WHERE in_table IS DISTINCT FROM in_orders
