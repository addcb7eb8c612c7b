"""Tables that answer questions, built by DuckDB from the endpoints' tables: one SQL file each, in `sql/`."""
