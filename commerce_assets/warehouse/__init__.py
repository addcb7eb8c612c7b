"""The DuckDB side: the file, the tables, the load, the checks. Nothing in here knows of Dagster or HTTP."""
