"""The asset checks: their specs, and their results from what is stored."""

from collections.abc import Iterator

import duckdb
from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, MetadataValue

from commerce_assets.endpoint import Endpoint
from commerce_assets.warehouse import findings
from commerce_assets.warehouse.findings import Question, Scope

# What must hold for anything downstream to be right, and what a person should look at.
_BLOCKING: tuple[Question, ...] = (findings.columns_match_schema, findings.id_is_unique_and_present)
_BLOCKING_IF_PARTITIONED: tuple[Question, ...] = (findings.created_at_within_partition,)
_WARNING: tuple[Question, ...] = (findings.values_fit_their_types, findings.no_undeclared_fields)


def _blocking(endpoint: Endpoint) -> tuple[Question, ...]:
    return (*_BLOCKING, *(_BLOCKING_IF_PARTITIONED if endpoint.is_partitioned else ()))


def build_check_specs(*, endpoint: Endpoint) -> list[AssetCheckSpec]:
    """A spec for each check of the endpoint's asset."""
    blocking = _blocking(endpoint)
    return [
        AssetCheckSpec(
            name=question.__name__,
            asset=endpoint.name,
            description=question.__doc__,
            blocking=question in blocking,
        )
        for question in (*blocking, *_WARNING)
    ]


def check_results(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Iterator[AssetCheckResult]:
    """The result of each check, from the rows that are stored; after a load, in the same run."""
    blocking = _blocking(scope.endpoint)
    for question in (*blocking, *_WARNING):
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
