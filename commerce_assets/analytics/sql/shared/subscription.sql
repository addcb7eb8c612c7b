-- Which subscriptions are active, and what a plan costs per month.

-- A subscription is active, or cancelled to the end of a period.
CREATE OR REPLACE TEMP MACRO active_subscription(is_sale, status) AS
    coalesce(is_sale AND status IN ('subscription_active', 'subscription_cancelling'), FALSE);

-- The unit of a plan's period, from the legacy field if the other one is empty.
CREATE OR REPLACE TEMP MACRO period_unit(frequency_interval, frequency) AS
    coalesce(lower(bare(frequency_interval)), CASE lower(bare(frequency))
        WHEN 'daily' THEN 'day' WHEN 'weekly' THEN 'week' WHEN 'monthly' THEN 'month' WHEN 'yearly' THEN 'year'
    END);

-- The price of a plan per month of a year of 365 days; NULL for a fixed number of payments and an unknown period.
CREATE OR REPLACE TEMP MACRO monthly_price(price, recurring_type, frequency_interval, frequency_value, frequency) AS CAST(
    CASE WHEN lower(bare(recurring_type)) IS DISTINCT FROM 'fixed' THEN
        CASE period_unit(frequency_interval, frequency)
            WHEN 'day' THEN price * 365 / 12 WHEN 'week' THEN price * 365 / 84 WHEN 'month' THEN price
            WHEN 'year' THEN price / 12
        END / CASE WHEN frequency_interval IS NULL THEN 1 ELSE nullif(coalesce(frequency_value, 1), 0) END
    END AS DECIMAL(38, 4)
);
