WITH versions AS (
    -- Of orders that are stored: what the store has deleted is in no other table.
    SELECT
        id,
        created_at,
        valid_from,
        valid_to,
        _extracted_at,
        subscription_id,
        currency_code(settled_currency) AS currency,
        CASE WHEN exclusion(state, settled_gross, _extra, _invalid) IS NULL THEN coalesce(settled_gross, 0) ELSE 0 END
            AS net
    FROM orders_history SEMI JOIN orders USING (id)
),
steps AS (
    SELECT *, lag(net) OVER so_far AS net_before, lag(currency) OVER so_far AS currency_before
    FROM versions
    WINDOW so_far AS (PARTITION BY id ORDER BY valid_to NULLS LAST, valid_from, _extracted_at)
),
movements AS (
    SELECT
        day_of(CASE WHEN net_before IS NULL THEN created_at ELSE valid_from END) AS day,
        currency,
        net - CASE WHEN currency_before = currency THEN net_before ELSE 0 END AS change,
        CASE
            WHEN net_before IS NULL THEN 'new'
            WHEN change < 0 THEN 'decrease'
            WHEN subscription_id IS NOT NULL AND currency_before = currency THEN 'renewal'
            ELSE 'increase'
        END AS kind
    FROM steps
    UNION ALL
    -- An order that changes its currency leaves the old one.
    SELECT day_of(valid_from), currency_before, -net_before, 'decrease' FROM steps WHERE currency_before <> currency
)
SELECT
    day,
    currency,
    coalesce(sum(change) FILTER (kind = 'new'), 0) AS new_orders,
    coalesce(sum(change) FILTER (kind = 'renewal'), 0) AS renewals,
    coalesce(sum(change) FILTER (kind = 'increase'), 0) AS increases,
    coalesce(sum(change) FILTER (kind = 'decrease'), 0) AS decreases,
    sum(change) AS net
FROM movements
WHERE change <> 0
GROUP BY day, currency
