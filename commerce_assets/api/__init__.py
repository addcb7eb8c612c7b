"""The client of the commerce API. Nothing in here knows of Dagster or DuckDB."""
