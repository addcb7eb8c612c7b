SELECT not_a_sale, currency, count(*) AS orders, sum(excluded_amount) AS amount
FROM orders_enriched
WHERE excluded_amount <> 0
GROUP BY ALL
