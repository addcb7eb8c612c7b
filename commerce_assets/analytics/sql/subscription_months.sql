WITH versions AS (
    -- By the plan that the order has now.
    SELECT
        v.id,
        o.subscription_id AS plan_id,
        v.created_at,
        v.valid_from,
        v.valid_to,
        v._extracted_at,
        lower(bare(v.state)) AS status,
        exclusion(v.state, v.settled_gross, v._extra, v._invalid) IS NULL AS is_sale,
        active_subscription(is_sale, status) AS is_active
    FROM orders_history AS v JOIN orders AS o ON o.id = v.id
),
steps AS (
    SELECT *, lag(is_active) OVER so_far AS was_active
    FROM versions
    WINDOW so_far AS (PARTITION BY id ORDER BY valid_to NULLS LAST, valid_from, _extracted_at)
),
events AS (
    SELECT
        plan_id,
        day_of(CASE WHEN was_active IS NULL THEN created_at ELSE valid_from END) AS day,
        1 AS started,
        0 AS cancelled,
        0 AS completed
    FROM steps
    WHERE (is_active AND was_active IS DISTINCT FROM TRUE)
        -- First stored after its end: its start is known, its end is at the latest when the order last changed.
        OR (was_active IS NULL AND is_sale AND status IN ('subscription_cancelled', 'subscription_complete'))
    UNION ALL
    SELECT
        plan_id,
        day_of(valid_from),
        0,
        CASE WHEN status IN ('subscription_complete', 'complete') THEN 0 ELSE 1 END,
        CASE WHEN status IN ('subscription_complete', 'complete') THEN 1 ELSE 0 END
    FROM steps
    WHERE (was_active AND NOT is_active)
        OR (was_active IS NULL AND is_sale AND status IN ('subscription_cancelled', 'subscription_complete'))
),
changes AS (
    SELECT
        CAST(date_trunc('month', day) AS DATE) AS month, plan_id,
        sum(started) AS started, sum(cancelled) AS cancelled, sum(completed) AS completed
    FROM events
    GROUP BY ALL
),
months AS (
    -- Every month up to that of the newest event, so that the active ones of a quiet month are there.
    SELECT plan_id, CAST(unnest(range(min(month), (SELECT max(month) + 1 FROM changes), INTERVAL 1 MONTH)) AS DATE) AS month
    FROM changes
    GROUP BY plan_id
),
filled AS (
    SELECT
        months.month,
        months.plan_id,
        coalesce(started, 0) AS started,
        coalesce(cancelled, 0) AS cancelled,
        coalesce(completed, 0) AS completed,
        sum(coalesce(started - cancelled - completed, 0)) OVER (PARTITION BY months.plan_id ORDER BY months.month) AS active
    FROM months
    LEFT JOIN changes AS c ON c.month = months.month AND c.plan_id IS NOT DISTINCT FROM months.plan_id
)
SELECT
    month,
    plan_id,
    name AS plan,
    started,
    cancelled,
    completed,
    active,
    active * monthly_price(recurring_price, recurring_type, frequency_interval, frequency_value, frequency) AS recurring,
    CASE WHEN id IS NOT NULL THEN currency_code(currency_code) END AS price_currency
FROM filled
LEFT JOIN subscriptions ON id = plan_id
