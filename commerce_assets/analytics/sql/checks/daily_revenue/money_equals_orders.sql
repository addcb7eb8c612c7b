WITH stored AS (
    SELECT
        currency,
        sum(orders) AS orders, sum(net) AS net, sum(gross - coalesce(refunds, 0)) AS gross_less_refunds, sum(fees) AS fees,
        sum(tax) AS tax, sum(excluded_orders) AS excluded_orders, sum(excluded_amount) AS excluded_amount,
        coalesce(min(refunds), 0) >= 0 AND min(gross - net) >= 0 AND min(refunds_paid_out) >= 0 AS is_plausible
    FROM daily_revenue
    GROUP BY currency
    -- A refund in another currency than its order's makes a row without orders.
    HAVING sum(orders + excluded_orders) > 0
),
rated AS (
    SELECT
        *,
        currency_code(settled_currency) AS currency,
        exclusion(state, settled_gross, _extra, _invalid) IS NULL AS is_sale
    FROM orders
),
expected AS (
    SELECT
        currency,
        count_if(is_sale) AS orders,
        coalesce(sum(settled_gross) FILTER (is_sale), 0) AS net,
        coalesce(sum(settled_gross) FILTER (is_sale), 0) AS gross_less_refunds,
        coalesce(sum(settled_gateway_fee) FILTER (is_sale), 0) AS fees,
        coalesce(sum(settled_tax) FILTER (is_sale), 0) AS tax,
        count_if(NOT is_sale) AS excluded_orders,
        coalesce(sum(settled_gross) FILTER (NOT is_sale), 0) AS excluded_amount,
        TRUE AS is_plausible
    FROM rated
    WHERE is_sale OR settled_gross IS NOT NULL
    GROUP BY currency
)
SELECT currency, stored AS in_table, expected AS in_orders
FROM stored FULL JOIN expected USING (currency)
WHERE stored IS DISTINCT FROM expected
