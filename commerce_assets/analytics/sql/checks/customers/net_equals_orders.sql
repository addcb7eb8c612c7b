WITH stored AS (
    SELECT entry.key AS currency, sum(entry.value) AS in_table
    FROM (SELECT unnest(map_entries(net)) AS entry FROM customers)
    GROUP BY currency
),
expected AS (
    SELECT coalesce(nullif(upper(trim(settled_currency)), ''), 'XXX') AS currency, sum(settled_gross) AS in_orders
    FROM orders
    WHERE settled_gross IS NOT NULL AND trim(buyer_email) <> ''
    GROUP BY ALL
)
SELECT currency, in_table, in_orders
FROM stored FULL JOIN expected USING (currency)
WHERE in_table IS DISTINCT FROM in_orders
