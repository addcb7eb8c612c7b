WITH plans AS (
    SELECT
        id,
        name,
        currency_code AS price_currency,
        -- The unit of a period, from the legacy field if the other one is empty.
        coalesce(lower(bare(frequency_interval)), CASE lower(bare(frequency))
            WHEN 'daily' THEN 'day' WHEN 'weekly' THEN 'week' WHEN 'monthly' THEN 'month' WHEN 'yearly' THEN 'year'
        END) AS unit,
        CASE WHEN frequency_interval IS NULL THEN 1 ELSE nullif(coalesce(frequency_value, 1), 0) END AS units,
        CASE WHEN lower(bare(recurring_type)) IS DISTINCT FROM 'fixed' THEN recurring_price END AS price
    FROM subscriptions
)
SELECT
    order_id,
    subscription_id AS plan_id,
    coalesce(plans.name, order_name) AS plan,
    state,
    coalesce(is_sale AND status IN ('subscription_active', 'subscription_cancelling'), FALSE) AS is_active,
    order_amounts.created_at AS started_at,
    order_amounts.updated_at AS last_change_at,
    coalesce(len(gateway_transaction_ids), 0) AS payments,
    CAST(CASE unit WHEN 'day' THEN price * 365 / 12 WHEN 'week' THEN price * 365 / 84 WHEN 'month' THEN price
        WHEN 'year' THEN price / 12 END / units AS DECIMAL(38, 4)) AS monthly_price,
    CASE WHEN plans.id IS NOT NULL THEN currency_code(price_currency) END AS price_currency,
    currency,
    net
FROM order_amounts
LEFT JOIN plans ON plans.id = subscription_id
WHERE subscription_id IS NOT NULL OR starts_with(status, 'subscription_')
