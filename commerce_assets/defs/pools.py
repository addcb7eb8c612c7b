"""Dagster's pools, each of which lets one run at a time in (`dagster.yaml`)."""

from typing import Final

API_POOL: Final = "commerce_api"
"""The pool of every step that calls the API: one step at a time, as one address is counted by the API as one caller.

All that write to the DuckDB file call the API first, so that this pool keeps the file to one writer as well.
"""

WAREHOUSE_POOL: Final = "warehouse"
"""The pool of steps that only write to the DuckDB file: one at a time.

It is not that of the API, where a pull of hours would keep them waiting. A load of a pull that falls in the same
seconds waits for the file, as it does for anybody who has it open.
"""
