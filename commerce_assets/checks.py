"""The asset checks: their specs, and their results from what is stored."""

from collections.abc import Iterator

import duckdb
from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, MetadataValue

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse.findings import Scope, blocking_questions, questions


def build_check_specs(*, endpoint: Endpoint) -> list[AssetCheckSpec]:
    """A spec for each check of the endpoint's asset."""
    blocking = blocking_questions(endpoint)
    return [
        AssetCheckSpec(
            name=question.__name__,
            asset=endpoint.name,
            description=question.__doc__,
            blocking=question in blocking,
        )
        for question in questions(endpoint)
    ]


def check_results(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Iterator[AssetCheckResult]:
    """The result of each check, from the rows that are stored; after a load, in the same run."""
    blocking = blocking_questions(scope.endpoint)
    for question in questions(scope.endpoint):
        finding = question(connection, scope)
        yield AssetCheckResult(
            check_name=question.__name__,
            asset_key=scope.endpoint.name,
            passed=finding.passed,
            severity=AssetCheckSeverity.ERROR if question in blocking else AssetCheckSeverity.WARN,
            description=finding.summary,
            metadata={
                name: value if isinstance(value, int | str) else MetadataValue.json(value)
                for name, value in finding.evidence.items()
                if isinstance(value, int) or value
            },
        )
