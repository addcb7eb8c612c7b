-- What a sale is, and how texts are compared. Every model uses these macros, so that each rule is written once.

-- Without the blanks, tabs and line breaks around it; NULL if nothing else is there.
CREATE OR REPLACE TEMP MACRO bare(written) AS nullif(trim(written, chr(32) || chr(9) || chr(13) || chr(10)), '');

-- Why an order is not a sale; NULL: it is one. A sale is an order with a settled amount, also one of 0 or one that is not a
-- number, unless it is a test or its payment did not succeed. Refunded, charged-back, disputed, free and imported orders are sales, and
-- so are orders in a state that the API does not document.
CREATE OR REPLACE TEMP MACRO exclusion(state, settled_gross, extra, invalid) AS CASE
    WHEN lower(bare(extra ->> '$.test_mode')) IN ('true', '1', 'yes') THEN 'test'
    WHEN lower(bare(state)) IN ('initial', 'pending', 'failed', 'fraud_review') THEN lower(bare(state))
    WHEN settled_gross IS NULL AND json_exists(coalesce(invalid, '{}'), '$.settled_gross') IS FALSE THEN 'no amount'
END;

-- XXX is the ISO 4217 code for no currency.
CREATE OR REPLACE TEMP MACRO currency_code(written) AS coalesce(upper(bare(written)), 'XXX');

-- One customer per address: however it is capitalised, and whether its accents are one code point or two.
CREATE OR REPLACE TEMP MACRO customer_key(email) AS lower(nfc_normalize(bare(email)));

-- The size of a refund: the API writes it with a minus. NULL if it is not a number.
CREATE OR REPLACE TEMP MACRO refund_size(written) AS abs(TRY_CAST(bare(written) AS DECIMAL(18, 4)));
