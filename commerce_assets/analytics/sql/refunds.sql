WITH refunded AS (
    -- A row per transaction; one without a number if the API shows none, and for a chargeback.
    SELECT * FROM order_refunds
    UNION ALL BY NAME
    SELECT * EXCLUDE (refund_list) FROM order_amounts
    WHERE is_charged_back OR (is_refunded AND refund_list IS NULL)
)
SELECT
    order_id,
    number AS refund_number,
    CASE WHEN is_charged_back AND number IS NULL THEN 'chargeback' ELSE 'refund' END AS kind,
    state,
    day AS order_day,
    occurred_at AS refunded_at,
    day_of(occurred_at) AS refund_day,
    date_diff('day', day, day_of(occurred_at)) AS days_to_refund,
    coalesce(refund_currency, currency) AS currency,
    amount,
    coalesce(net = 0, FALSE) AS fully_refunded
FROM refunded
WHERE is_sale
