SELECT
    order_id,
    day,
    CASE WHEN is_charged_back THEN 'chargeback' ELSE 'refund' END AS kind,
    state,
    currency,
    gross,
    refunds AS refunded,
    net AS settled,
    refund_amount_known,
    coalesce(net = 0, FALSE) AS fully_refunded,
    transactions,
    first_refunded_at,
    last_refunded_at
FROM order_amounts
WHERE is_refunded OR is_charged_back
