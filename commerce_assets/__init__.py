"""A shop's products, packages, orders and subscriptions, from its commerce API into DuckDB, as Dagster assets."""

__version__ = "1.0.0"
