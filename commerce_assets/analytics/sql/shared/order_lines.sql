-- The smallest amount of a currency in ten-thousandths.
CREATE OR REPLACE TEMP MACRO smallest(code) AS CASE decimals(code) WHEN 0 THEN 10000 WHEN 3 THEN 10 ELSE 100 END;

-- An amount's share `weight / total`, rounded towards 0 to the currency's decimals. Exact: HUGEINT holds the product.
CREATE OR REPLACE TEMP MACRO share(amount, weight, total, code) AS CAST(
    sign(amount) * ((CAST(abs(CAST(amount AS DECIMAL(38, 4))) * 10000 AS HUGEINT) * weight) // (CAST(total AS HUGEINT) * smallest(code)))
    * smallest(code) AS DECIMAL(34, 0)
) * 0.0001::DECIMAL(4, 4);

-- The lines of a cart, which the API may wrap; each may have a wrapper, too.
CREATE OR REPLACE TEMP MACRO cart_items(cart) AS json_extract(coalesce(cart -> '$.cart', cart), '$.cart_items[*]');
CREATE OR REPLACE TEMP MACRO cart_item(sent) AS coalesce(sent -> '$.cart_item', sent);
CREATE OR REPLACE TEMP MACRO quantity_of(sent) AS TRY_CAST(cart_item(sent) ->> '$.quantity' AS BIGINT);

-- One row per cart line with its share of the order's amounts; an order without lines has one row with line NULL.
CREATE OR REPLACE TEMP VIEW order_lines AS
WITH carts AS (
    SELECT * EXCLUDE (refund_list) REPLACE (cart_items(cart) AS cart) FROM order_amounts
),
items AS (
    SELECT
        * EXCLUDE (cart),
        unnest(CASE WHEN len(cart) > 0 THEN cart ELSE [NULL] END) AS item,
        unnest(CASE WHEN len(cart) > 0 THEN range(1, len(cart) + 1) ELSE [NULL] END) AS line
    FROM carts
),
plain AS (
    SELECT * REPLACE (cart_item(item) AS item) FROM items
),
lines AS (
    SELECT
        * EXCLUDE (item),
        TRY_CAST(item ->> '$.product_id' AS BIGINT) AS product_id,
        TRY_CAST(item ->> '$.package_id' AS BIGINT) AS named_package_id,
        quantity_of(item) AS quantity,
        TRY_CAST(item ->> '$.price_at_checkout' AS DECIMAL(18, 4)) AS price_at_checkout,
        TRY_CAST(price_at_checkout * coalesce(quantity, 1) AS DECIMAL(18, 4)) AS price_of_units
    FROM plain
),
priced AS (
    SELECT
        *,
        -- Shares follow the prices only if each line has one.
        count(price_at_checkout) OVER cart = count(*) OVER cart
            AND min(price_at_checkout) OVER cart >= 0 AND sum(price_at_checkout) OVER cart > 0 AS has_prices,
        count(price_of_units) OVER cart = count(*) OVER cart
            AND min(price_of_units) OVER cart >= 0 AND sum(price_of_units) OVER cart > 0 AS has_unit_prices,
        -- The API does not say whether a line's price is that of a unit or of the line.
        CASE
            WHEN has_prices AND sum(price_at_checkout) OVER cart = order_price THEN 'line price'
            WHEN has_prices AND has_unit_prices AND sum(price_of_units) OVER cart = order_price THEN 'unit price'
            WHEN has_prices THEN 'unconfirmed price'
            ELSE 'equal'
        END AS split_by
    FROM lines
    WINDOW cart AS (PARTITION BY order_id)
),
weighted AS (
    SELECT
        *,
        CASE split_by
            WHEN 'equal' THEN 1
            WHEN 'unit price' THEN CAST(CAST(price_of_units AS DECIMAL(38, 4)) * 10000 AS HUGEINT)
            ELSE CAST(CAST(price_at_checkout AS DECIMAL(38, 4)) * 10000 AS HUGEINT)
        END AS weight
    FROM priced
),
shares AS (
    SELECT
        *,
        share(gross, weight, sum(weight) OVER cart, currency) AS gross_share,
        share(refunds, weight, sum(weight) OVER cart, currency) AS refunds_share,
        row_number() OVER (PARTITION BY order_id ORDER BY weight DESC, line) = 1 AS takes_rest
    FROM weighted
    WINDOW cart AS (PARTITION BY order_id)
),
parts AS (
    -- The largest line takes the rest of the rounding, so that the parts add up to the order's amount.
    SELECT
        * EXCLUDE (gross, refunds, net),
        gross_share + CASE WHEN takes_rest THEN gross - sum(gross_share) OVER cart ELSE 0 END AS gross,
        refunds_share + CASE WHEN takes_rest THEN refunds - sum(refunds_share) OVER cart ELSE 0 END AS refunds,
        net IS NOT NULL AS has_net
    FROM shares
    WINDOW cart AS (PARTITION BY order_id)
)
SELECT
    * EXCLUDE (has_prices, has_unit_prices, price_of_units, weight, gross_share, refunds_share, takes_rest, has_net),
    CASE WHEN has_net THEN gross - coalesce(refunds, 0) END AS net
FROM parts;
