WITH first_sales AS (
    SELECT min({'created_at': created_at, 'order_id': order_id}).order_id AS first_sale_id
    FROM order_amounts
    WHERE is_sale AND customer IS NOT NULL
    GROUP BY customer
),
sold AS (
    SELECT
        day,
        currency,
        count(*) AS orders,
        sum(gross) AS gross,
        sum(refunds) AS refunds,
        sum(net) AS net,
        sum(tax) AS tax,
        sum(shipping) AS shipping,
        sum(fees) AS fees,
        sum(affiliate_fees) AS affiliate_fees,
        count_if(is_refunded) AS refunded_orders,
        count_if(is_charged_back) AS charged_back_orders,
        count_if(NOT refund_amount_known) AS unknown_refunds,
        known_share(is_refunded OR is_charged_back, refund_amount_known) AS known_refund_share,
        count_if(len(unreadable) > 0) AS unreadable_orders,
        count(first_sale_id) AS new_customers,
        count(DISTINCT customer) - count(first_sale_id) AS returning_customers
    FROM order_amounts
    LEFT JOIN first_sales ON first_sale_id = order_id
    WHERE is_sale
    GROUP BY ALL
),
excluded AS (
    SELECT day, currency, count(*) AS excluded_orders, sum(excluded_amount) AS excluded_amount
    FROM order_amounts
    WHERE excluded_amount IS NOT NULL
    GROUP BY ALL
),
paid_out AS (
    SELECT day_of(occurred_at) AS day, refund_currency AS currency, sum(amount) AS refunds_paid_out
    FROM order_refunds
    WHERE is_sale AND occurred_at IS NOT NULL AND amount IS NOT NULL
    GROUP BY ALL
)
SELECT
    day,
    currency,
    coalesce(sum(COLUMNS(* EXCLUDE (day, currency, refunds, known_refund_share))), 0) AS '\0',
    refund_sum(sum(refunds), max(known_refund_share)) AS refunds,
    max(known_refund_share) AS known_refund_share
FROM (FROM sold UNION ALL BY NAME FROM excluded UNION ALL BY NAME FROM paid_out)
GROUP BY day, currency
