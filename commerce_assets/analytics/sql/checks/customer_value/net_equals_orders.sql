WITH stored AS (
    SELECT currency, sum(sales) AS sales, sum(net) AS net, sum(gross - coalesce(refunds, 0)) AS gross_less_refunds
    FROM customer_value GROUP BY currency
),
expected AS (
    SELECT
        currency_code(settled_currency) AS currency, count(*) AS sales, coalesce(sum(settled_gross), 0) AS net,
        coalesce(sum(settled_gross), 0) AS gross_less_refunds
    FROM orders
    WHERE exclusion(state, settled_gross, _extra, _invalid) IS NULL AND customer_key(buyer_email) IS NOT NULL
    GROUP BY ALL
)
SELECT currency, stored AS in_table, expected AS in_orders
FROM stored FULL JOIN expected USING (currency)
WHERE stored IS DISTINCT FROM expected
