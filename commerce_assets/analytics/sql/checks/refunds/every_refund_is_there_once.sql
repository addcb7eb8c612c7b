WITH expected AS (
    SELECT
        id AS order_id,
        coalesce(json_array_length(refund_transactions), 0) AS transactions,
        coalesce(lower(bare(state)) = 'chargeback', FALSE) AS is_chargeback,
        is_chargeback OR transactions > 0 OR coalesce(refunded, FALSE) OR coalesce(lower(bare(state)) = 'refunded', FALSE)
            AS is_refunded
    FROM orders
    WHERE exclusion(state, settled_gross, _extra, _invalid) IS NULL
),
stored AS (
    SELECT order_id, count(refund_number) AS numbered, count(*) - count(refund_number) AS others
    FROM refunds GROUP BY order_id
)
SELECT order_id, transactions, numbered, others
FROM (FROM expected WHERE is_refunded) FULL JOIN stored USING (order_id)
WHERE transactions IS DISTINCT FROM numbered
    OR others IS DISTINCT FROM CASE WHEN is_chargeback OR transactions = 0 THEN 1 ELSE 0 END
