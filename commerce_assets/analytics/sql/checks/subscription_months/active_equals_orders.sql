WITH stored AS (
    SELECT plan_id, sum(started - cancelled - completed) AS in_table, arg_max(active, month) AS newest
    FROM subscription_months GROUP BY plan_id
),
expected AS (
    SELECT
        subscription_id AS plan_id,
        count_if(active_subscription(
            exclusion(state, settled_gross, _extra, _invalid) IS NULL, lower(bare(state))
        )) AS in_orders
    FROM orders SEMI JOIN orders_history USING (id)
    GROUP BY ALL
)
SELECT coalesce(stored.plan_id, expected.plan_id) AS plan_id, in_table, newest, in_orders
FROM stored FULL JOIN expected ON stored.plan_id IS NOT DISTINCT FROM expected.plan_id
WHERE coalesce(in_table, 0) <> coalesce(in_orders, 0) OR newest IS DISTINCT FROM in_table
