WITH stored AS (
    SELECT month, currency, sum(net) AS in_table FROM product_performance GROUP BY ALL
),
expected AS (
    SELECT
        CAST(date_trunc('month', day_of(created_at)) AS DATE) AS month,
        currency_code(settled_currency) AS currency,
        coalesce(sum(settled_gross), 0) AS in_orders
    FROM orders
    WHERE exclusion(state, settled_gross, _extra, _invalid) IS NULL
    GROUP BY ALL
)
SELECT month, currency, in_table, in_orders
FROM stored FULL JOIN expected USING (month, currency)
WHERE in_table IS DISTINCT FROM in_orders
