"""The DuckDB side: the file, the tables, the load, the checks. Nothing in here knows of Dagster or HTTP."""

LOCK_TIMEOUT = 300.0
"""Seconds to wait for another program that has the file open, unless a setting says otherwise."""

MEMORY_LIMIT = "1GB"
"""What DuckDB may use before it spills to disk, unless a setting says otherwise."""

LOAD_MEMORY_LIMIT = "128MB"
"""What a load uses, unless it needs more: its memory does not grow with the number of rows, and it runs every hour."""
