"""A small shop of digital goods behind the commerce API, served on loopback for demos and tests."""

from typing import Final

SAMPLE_API_KEY: Final = "sample-key"
SAMPLE_API_SECRET: Final = "sample-secret"  # noqa: S105 - only for the sample data
ORDERS_PATH: Final = "../v1_3/orders"
"""The path of the orders, relative to the base URL, in the API version in which a refund is a flag."""

__all__ = ["ORDERS_PATH", "SAMPLE_API_KEY", "SAMPLE_API_SECRET"]
