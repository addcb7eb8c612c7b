SELECT
    order_id,
    subscription_id AS plan_id,
    coalesce(name, order_name) AS plan,
    state,
    active_subscription(is_sale, status) AS is_active,
    order_amounts.created_at AS started_at,
    order_amounts.updated_at AS last_change_at,
    coalesce(len(gateway_transaction_ids), 0) AS payments,
    monthly_price(recurring_price, recurring_type, frequency_interval, frequency_value, frequency) AS monthly_price,
    CASE WHEN id IS NOT NULL THEN currency_code(currency_code) END AS price_currency,
    currency,
    net
FROM order_amounts
LEFT JOIN subscriptions ON id = subscription_id
WHERE subscription_id IS NOT NULL OR starts_with(status, 'subscription_')
