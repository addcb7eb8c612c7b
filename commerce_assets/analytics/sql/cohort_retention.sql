WITH sales AS (
    SELECT customer, CAST(date_trunc('month', day) AS DATE) AS month, min(month) OVER (PARTITION BY customer) AS cohort
    FROM order_amounts
    WHERE is_sale AND customer IS NOT NULL
),
cohorts AS (
    SELECT cohort, count(DISTINCT customer) AS cohort_size FROM sales GROUP BY cohort
),
months AS (
    -- Every month up to that of the newest sale, so that a month without sales shows as 0.
    SELECT cohort, cohort_size, unnest(range(0, date_diff('month', cohort, (SELECT max(month) FROM sales)) + 1)) AS months_later
    FROM cohorts
)
SELECT
    months.cohort,
    months.months_later,
    cohort_size,
    count(DISTINCT customer) AS customers,
    count(customer) AS sales
FROM months
LEFT JOIN sales ON sales.cohort = months.cohort AND date_diff('month', sales.cohort, sales.month) = months_later
GROUP BY ALL
