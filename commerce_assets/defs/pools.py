"""Dagster's concurrency pools; `dagster.yaml` limits each to one run."""

from typing import Final

API_POOL: Final = "commerce_api"
"""The pool of steps that call the API: one at a time, because the API limits requests per IP address.

These steps also load, so they do not compete for the DuckDB file.
"""

WAREHOUSE_POOL: Final = "warehouse"
"""The pool of steps that only write to the DuckDB file: one at a time.

It is separate from the API's pool, in which an extraction can take hours. A load that coincides with such a step waits
for the writer lock of the file.
"""
