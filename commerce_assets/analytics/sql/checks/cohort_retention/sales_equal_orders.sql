SELECT stored AS in_table, expected AS in_orders
FROM (
    SELECT {
        'sales': coalesce(sum(sales), 0), 'customers': coalesce(sum(cohort_size) FILTER (months_later = 0), 0),
        'in_first_month': coalesce(sum(customers) FILTER (months_later = 0), 0)
    } AS stored
    FROM cohort_retention
)
CROSS JOIN (
    SELECT {
        'sales': count(*), 'customers': count(DISTINCT customer_key(buyer_email)),
        'in_first_month': count(DISTINCT customer_key(buyer_email))
    } AS expected
    FROM orders
    WHERE exclusion(state, settled_gross, _extra, _invalid) IS NULL AND customer_key(buyer_email) IS NOT NULL
)
WHERE stored IS DISTINCT FROM expected
