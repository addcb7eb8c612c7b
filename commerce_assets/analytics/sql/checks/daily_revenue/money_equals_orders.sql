WITH stored AS (
    SELECT
        currency,
        sum(orders) AS orders, sum(net) AS net, sum(gross - refunds) AS gross_less_refunds, sum(fees) AS fees, sum(tax) AS tax
    FROM daily_revenue
    GROUP BY currency
),
expected AS (
    SELECT
        coalesce(nullif(upper(trim(settled_currency)), ''), 'XXX') AS currency,
        count(*) AS orders, sum(settled_gross) AS net, sum(settled_gross) AS gross_less_refunds,
        coalesce(sum(settled_gateway_fee), 0) AS fees, coalesce(sum(settled_tax), 0) AS tax
    FROM orders
    WHERE settled_gross IS NOT NULL
    GROUP BY ALL
)
SELECT currency, stored AS in_table, expected AS in_orders
FROM stored FULL JOIN expected USING (currency)
WHERE stored IS DISTINCT FROM expected
