"""A small shop of digital goods behind the commerce API's dialect, served on loopback for demos and tests."""

from typing import Final

SAMPLE_API_KEY: Final = "sample-key"
SAMPLE_API_SECRET: Final = "sample-secret"  # noqa: S105 - opens nothing but the bundled sample data
ORDERS_PATH: Final = "../v1_3/orders"
"""The orders' path in the version that tells refunds apart from states, relative to the base URL."""

__all__ = ["ORDERS_PATH", "SAMPLE_API_KEY", "SAMPLE_API_SECRET"]
