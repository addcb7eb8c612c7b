"""The marts: tables that DuckDB builds from the endpoints' tables, one SQL file per table in `sql/`."""
