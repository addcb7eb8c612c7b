-- A cart line has a product, seldom a package: an order of a package has the package's name.
WITH bundles AS (
    SELECT name AS order_name, CAST(product_id AS BIGINT) AS product_id, min(id) AS package_id
    FROM (SELECT id, name, unnest(json_extract_string(components, '$.product_ids[*]')) AS product_id FROM packages)
    WHERE TRY_CAST(product_id AS BIGINT) IS NOT NULL
    GROUP BY ALL
    HAVING count(DISTINCT id) = 1
)
SELECT
    l.order_id,
    l.line,
    l.created_at,
    l.state,
    l.product_id,
    products.name AS product,
    products.product_type,
    coalesce(l.named_package_id, bundles.package_id) AS package_id,
    packages.name AS package,
    l.subscription_id AS plan_id,
    subscriptions.name AS plan,
    l.quantity,
    l.price_at_checkout,
    l.split_by,
    l.currency,
    l.gross,
    l.refunds,
    l.net
FROM order_lines AS l
LEFT JOIN products ON products.id = l.product_id
LEFT JOIN bundles ON bundles.order_name = l.order_name AND bundles.product_id = l.product_id
    AND l.subscription_id IS NULL
LEFT JOIN packages ON packages.id = coalesce(l.named_package_id, bundles.package_id)
LEFT JOIN subscriptions ON subscriptions.id = l.subscription_id
WHERE l.line IS NOT NULL
