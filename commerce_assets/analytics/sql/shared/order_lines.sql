-- The part of an amount between two cumulative shares, rounded to cents; the last part takes the rest.
CREATE OR REPLACE TEMP MACRO part(amount, since, up_to, is_last) AS
    CASE WHEN is_last THEN amount ELSE CAST(round(CAST(amount AS DOUBLE) * up_to, 2) AS DECIMAL(38, 4)) END
    - CASE WHEN since = 0 THEN 0 ELSE CAST(round(CAST(amount AS DOUBLE) * since, 2) AS DECIMAL(38, 4)) END;

-- One row per cart line with its share of the order's amounts; an order without lines has one row with line NULL.
CREATE OR REPLACE TEMP VIEW order_lines AS
WITH carts AS (
    SELECT * REPLACE (json_extract(coalesce(cart -> '$.cart', cart), '$.cart_items[*]') AS cart) FROM order_amounts
),
items AS (
    SELECT
        * EXCLUDE (cart),
        unnest(CASE WHEN len(cart) > 0 THEN cart ELSE [NULL] END) AS item,
        unnest(CASE WHEN len(cart) > 0 THEN range(1, len(cart) + 1) ELSE [NULL] END) AS line
    FROM carts
),
bare AS (
    -- With or without its wrapper.
    SELECT * REPLACE (coalesce(item -> '$.cart_item', item) AS item) FROM items
),
lines AS (
    SELECT
        * EXCLUDE (item),
        TRY_CAST(item ->> '$.product_id' AS BIGINT) AS product_id,
        TRY_CAST(item ->> '$.package_id' AS BIGINT) AS named_package_id,
        TRY_CAST(item ->> '$.quantity' AS BIGINT) AS quantity,
        TRY_CAST(item ->> '$.price_at_checkout' AS DECIMAL(18, 4)) AS price_at_checkout
    FROM bare
),
placed AS (
    SELECT
        *,
        count(*) OVER cart AS lines,
        row_number() OVER so_far AS place,
        sum(price_at_checkout) OVER cart AS price_of_all,
        sum(price_at_checkout) OVER so_far AS price_so_far,
        -- Shares follow the prices only if each line has one.
        count(price_at_checkout) OVER cart = count(*) OVER cart
            AND min(price_at_checkout) OVER cart >= 0
            AND sum(price_at_checkout) OVER cart > 0 AS is_priced
    FROM lines
    WINDOW cart AS (PARTITION BY order_id), so_far AS (PARTITION BY order_id ORDER BY line)
),
shares AS (
    -- The cumulative share of the order's amounts before and after the line: rounded parts then add up to the total.
    SELECT
        *,
        place = lines AS is_last,
        CASE WHEN is_priced THEN CAST(price_so_far - price_at_checkout AS DOUBLE) / CAST(price_of_all AS DOUBLE)
            ELSE (place - 1) / lines END AS since,
        CASE WHEN is_priced THEN CAST(price_so_far AS DOUBLE) / CAST(price_of_all AS DOUBLE)
            ELSE place / lines END AS up_to
    FROM placed
)
SELECT
    * EXCLUDE (gross, refunds, net, lines, place, price_of_all, price_so_far, is_priced, is_last, since, up_to),
    part(gross, since, up_to, is_last) AS gross,
    part(refunds, since, up_to, is_last) AS refunds,
    part(gross, since, up_to, is_last) - part(refunds, since, up_to, is_last) AS net
FROM shares;
