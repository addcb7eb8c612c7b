"""The DuckDB side: the file, the tables, the load, the checks. Nothing in here knows of Dagster or HTTP."""

LOCK_TIMEOUT = 300.0
"""Seconds to wait for another program that has the file open, unless a setting says otherwise."""

MEMORY_LIMIT = "160MB"
"""What DuckDB may use before it spills to disk, unless a setting says otherwise.

A first load of a million orders needs less than 128 MB, and none of the tables built on them is faster with 256.
"""
