WITH refunded AS (
    -- A row per transaction; one without a number if the API shows none, and for a chargeback.
    SELECT a.*, t.number, t.currency AS refund_currency, t.amount, t.occurred_at
    FROM order_amounts AS a JOIN refund_transactions AS t USING (order_id)
    UNION ALL BY NAME
    SELECT * FROM order_amounts
    WHERE is_charged_back OR (is_refunded AND order_id NOT IN (SELECT order_id FROM refund_transactions))
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
