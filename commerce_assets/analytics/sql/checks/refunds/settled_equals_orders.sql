SELECT order_id, settled, settled_gross
FROM refunds JOIN orders ON id = order_id
WHERE settled IS DISTINCT FROM settled_gross OR settled IS DISTINCT FROM gross - refunds.refunded
