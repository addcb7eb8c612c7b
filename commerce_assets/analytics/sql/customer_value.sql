WITH sums AS (
    SELECT
        customer,
        currency,
        min(created_at) AS first_sale_at,
        max(created_at) AS last_sale_at,
        count(*) AS sales,
        coalesce(sum(gross), 0) AS gross,
        sum(refunds) AS refunds,
        coalesce(sum(net), 0) AS net,
        count_if(NOT refund_amount_known) AS unknown_refunds,
        known_share(is_refunded OR is_charged_back, refund_amount_known) AS known_refund_share
    FROM order_amounts
    WHERE is_sale AND customer IS NOT NULL
    GROUP BY customer, currency
)
SELECT * REPLACE (refund_sum(refunds, known_refund_share) AS refunds) FROM sums
