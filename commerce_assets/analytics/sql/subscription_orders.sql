SELECT
    order_id,
    subscription_id AS plan_id,
    coalesce(subscriptions.name, order_name) AS plan,
    state,
    coalesce(state IN ('subscription_active', 'subscription_cancelling'), FALSE) AS is_active,
    order_amounts.created_at AS started_at,
    order_amounts.updated_at AS last_change_at,
    coalesce(len(gateway_transaction_ids), 0) AS payments,
    currency,
    net
FROM order_amounts
LEFT JOIN subscriptions ON subscriptions.id = subscription_id
WHERE subscription_id IS NOT NULL OR starts_with(state, 'subscription_')
