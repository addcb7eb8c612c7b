WITH stored AS (
    SELECT currency, sum(net) AS in_table FROM revenue_movements GROUP BY currency
),
expected AS (
    SELECT currency_code(settled_currency) AS currency, sum(settled_gross) AS in_orders
    FROM orders SEMI JOIN orders_history USING (id)
    WHERE exclusion(state, settled_gross, _extra, _invalid) IS NULL
    GROUP BY ALL
)
SELECT currency, in_table, in_orders
FROM stored FULL JOIN expected USING (currency)
WHERE coalesce(in_table, 0) <> coalesce(in_orders, 0)
