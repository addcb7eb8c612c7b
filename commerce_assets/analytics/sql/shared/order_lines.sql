-- The smallest amount of a currency in ten-thousandths.
CREATE OR REPLACE TEMP MACRO smallest(code) AS CASE decimals(code) WHEN 0 THEN 10000 WHEN 3 THEN 10 ELSE 100 END;

-- An amount's share `weight / total`, rounded towards 0 to the currency's decimals. Exact: HUGEINT holds the product.
CREATE OR REPLACE TEMP MACRO share(amount, weight, total, code) AS CAST(
    sign(amount) * ((CAST(abs(CAST(amount AS DECIMAL(38, 4))) * 10000 AS HUGEINT) * weight) // (CAST(total AS HUGEINT) * smallest(code)))
    * smallest(code) AS DECIMAL(34, 0)
) * 0.0001::DECIMAL(4, 4);

-- The lines of a cart, which the API may wrap; each may have a wrapper, too.
CREATE OR REPLACE TEMP MACRO cart_items(cart) AS
    list_transform(
        json_extract(coalesce(cart -> '$.cart', cart), '$.cart_items[*]'), lambda i: coalesce(i -> '$.cart_item', i)
    );
CREATE OR REPLACE TEMP MACRO quantity_of(item) AS TRY_CAST(item ->> '$.quantity' AS BIGINT);
CREATE OR REPLACE TEMP MACRO price_of(item) AS TRY_CAST(item ->> '$.price_at_checkout' AS DECIMAL(18, 4));

-- Shares can follow prices only if each line has one.
CREATE OR REPLACE TEMP MACRO are_weights(prices) AS
    len(list_filter(prices, lambda p: p IS NULL OR p < 0)) = 0 AND list_sum(prices) > 0;
CREATE OR REPLACE TEMP MACRO as_weights(prices) AS
    list_transform(prices, lambda p: CAST(CAST(p AS DECIMAL(38, 4)) * 10000 AS HUGEINT));

-- One row per cart line with its share of the order's amounts; an order without lines has one row with line NULL.
-- The shares are computed in the order's row: windows over the lines would sort those of all orders.
CREATE OR REPLACE TEMP VIEW order_lines AS
WITH carts AS (
    SELECT
        * EXCLUDE (cart, refund_list),
        coalesce(len(cart_items(cart)), 0) > 0 AS has_lines,
        CASE WHEN has_lines THEN cart_items(cart) ELSE [NULL] END AS items,
        list_transform(items, lambda i: price_of(i)) AS line_prices,
        list_transform(
            items, lambda i: TRY_CAST(price_of(i) * coalesce(quantity_of(i), 1) AS DECIMAL(18, 4))
        ) AS unit_prices
    FROM order_amounts
),
weighted AS (
    SELECT
        *,
        -- The API does not say whether a line's price is that of a unit or of the line.
        CASE
            WHEN NOT are_weights(line_prices) IS TRUE THEN 'equal'
            WHEN list_sum(line_prices) = order_price THEN 'line price'
            WHEN are_weights(unit_prices) AND list_sum(unit_prices) = order_price THEN 'unit price'
            ELSE 'unconfirmed price'
        END AS split_by,
        CASE split_by
            WHEN 'equal' THEN list_transform(items, lambda i: CAST(1 AS HUGEINT))
            WHEN 'unit price' THEN as_weights(unit_prices)
            ELSE as_weights(line_prices)
        END AS weights
    FROM carts
),
shares AS (
    -- The sum of the weights is a column of the subquery, so that it is computed once per order, not once per line.
    SELECT
        *,
        list_transform(weights, lambda w: share(gross, w, total, currency)) AS gross_shares,
        list_transform(weights, lambda w: share(refunds, w, total, currency)) AS refunds_shares
    FROM (SELECT *, list_sum(weights) AS total FROM weighted)
),
rests AS (
    SELECT
        *,
        gross - list_sum(gross_shares) AS gross_rest,
        refunds - list_sum(refunds_shares) AS refunds_rest,
        list_position(weights, list_max(weights)) AS largest
    FROM shares
),
parts AS (
    -- The largest line takes the rest of the rounding, so that the parts add up to the order's amount.
    SELECT
        * EXCLUDE (gross, refunds),
        unnest(items) AS item,
        unnest(range(1, len(items) + 1)) AS number,
        unnest(list_transform(gross_shares, lambda s, n: s + CASE WHEN n = largest THEN gross_rest ELSE 0 END)) AS gross,
        unnest(list_transform(refunds_shares, lambda s, n: s + CASE WHEN n = largest THEN refunds_rest ELSE 0 END))
            AS refunds
    FROM rests
)
SELECT
    * EXCLUDE (
        has_lines, items, line_prices, unit_prices, weights, total, gross_shares, refunds_shares, gross_rest, refunds_rest,
        largest, item, number
    ) REPLACE (CASE WHEN net IS NOT NULL THEN gross - coalesce(refunds, 0) END AS net),
    CASE WHEN has_lines THEN number END AS line,
    TRY_CAST(item ->> '$.product_id' AS BIGINT) AS product_id,
    TRY_CAST(item ->> '$.package_id' AS BIGINT) AS named_package_id,
    quantity_of(item) AS quantity,
    price_of(item) AS price_at_checkout
FROM parts;
