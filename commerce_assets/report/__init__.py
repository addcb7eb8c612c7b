"""The report: one HTML page about the shop, from the marts, for people who do not query DuckDB."""
