-- Settled orders and their amounts per gateway, month and currency.
{{ config(materialized='table') }}

SELECT
    gateway,
    CAST(date_trunc('month', created_at) AS DATE) AS month,
    settled_currency AS currency,
    count(*) AS orders,
    sum(settled_gross) AS settled_gross
FROM {{ source('commerce', 'orders') }}
WHERE settled_gross IS NOT NULL
GROUP BY ALL
