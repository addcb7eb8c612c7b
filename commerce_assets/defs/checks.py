"""The asset checks: their specs, and their results from what is stored."""

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime

import duckdb
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    MetadataValue,
    multi_asset_check,
)
from dagster._core.definitions.metadata import RawMetadataValue

from commerce_assets.defs.resources import Warehouse
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.ingest import StagedLoad
from commerce_assets.warehouse import freshness
from commerce_assets.warehouse.check_queries import CheckOutcome, Scope, blocking_queries, questions
from commerce_assets.warehouse.freshness import HealthQuery

_SHRINKAGE = "row_count_not_collapsed"
_NOTHING_YET = CheckOutcome(passed=False, summary="nothing has been loaded yet: materialize an asset")


def build_check_specs(*, endpoint: Endpoint) -> list[AssetCheckSpec]:
    """A spec for each check of the endpoint's asset."""
    blocking = blocking_queries(endpoint)
    shrinkage = AssetCheckSpec(
        name=_SHRINKAGE,
        asset=endpoint.name,
        description="The store has not given none, or less than half, of the rows that are stored; else they are kept.",
        blocking=True,
    )
    return [shrinkage] + [
        AssetCheckSpec(
            name=question.__name__,
            asset=endpoint.name,
            description=question.__doc__,
            blocking=question in blocking,
        )
        for question in questions(endpoint)
    ]


def shrinkage_result(endpoint: Endpoint, pulled: StagedLoad) -> AssetCheckResult:
    """Whether what was pulled could be believed; if not, nothing of it was stored."""
    stored, given = pulled.comparison.stored, pulled.comparison.pulled
    summary = f"the store gives {given:,} rows where {stored:,} were stored"
    if not pulled.is_allowed:
        summary += (
            "; they were kept, and nothing was loaded. What to do: look at the store; if it is true, run it again with "
            "the run config allow_shrinkage: true"
        )
    return AssetCheckResult(
        check_name=_SHRINKAGE,
        asset_key=endpoint.name,
        passed=pulled.is_allowed,
        description=summary,
        metadata={"rows_pulled": given, "rows_stored": stored, "rows_not_in_the_answer": pulled.comparison.vanished},
    )


def check_results(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Iterator[AssetCheckResult]:
    """The result of each check, from the rows that are stored; after a load, in the same run."""
    blocking = blocking_queries(scope.endpoint)
    for question in questions(scope.endpoint):
        finding = question(connection, scope)
        yield AssetCheckResult(
            check_name=question.__name__,
            asset_key=scope.endpoint.name,
            passed=finding.passed,
            severity=AssetCheckSeverity.ERROR if question in blocking else AssetCheckSeverity.WARN,
            description=finding.summary,
            metadata=metadata_of(finding),
        )


def all_check_results(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, *, began_at: datetime | None, now: datetime
) -> list[AssetCheckResult]:
    """The result of every check of the endpoint after rows of any days have been stored.

    With `began_at`, keys are compared only with those that the pull which began then has written. Without these results
    the UI would show none: to Dagster, checks are of the materialization that they were evaluated with.
    """
    not_refused = AssetCheckResult(
        check_name=_SHRINKAGE,
        asset_key=endpoint.name,
        passed=True,
        description="rows were stored, which a list that had shrunk would not have been",
    )
    loaded = check_results(connection, Scope(endpoint, None, began_at or now, only_written=began_at is not None))
    return [not_refused, *loaded, *_health_results(connection, endpoint, now)]


def _health_queries(endpoint: Endpoint) -> list[HealthQuery]:
    questions: list[HealthQuery] = [freshness.fresh]
    if endpoint.is_partitioned:
        questions.append(freshness.complete)
    if endpoint.update_filter:
        questions.append(freshness.updated_after_supported)
    return questions


def _health_results(
    connection: duckdb.DuckDBPyConnection | None, endpoint: Endpoint, now: datetime
) -> Iterator[AssetCheckResult]:
    for question in _health_queries(endpoint):
        finding = question(connection, endpoint, now) if connection else _NOTHING_YET
        yield AssetCheckResult(
            check_name=question.__name__,
            asset_key=endpoint.name,
            passed=finding.passed,
            severity=AssetCheckSeverity.WARN,
            description=finding.summary,
            metadata=metadata_of(finding),
        )


def build_health_checks(*, endpoint: Endpoint) -> AssetChecksDefinition:
    """The checks that ask how things stand, whatever run was the last; they ask the warehouse and cost no request."""

    @multi_asset_check(
        name=f"{endpoint.name}_health",
        specs=[
            AssetCheckSpec(name=question.__name__, asset=endpoint.name, description=question.__doc__)
            for question in _health_queries(endpoint)
        ],
    )
    def health_checks(context: AssetCheckExecutionContext, warehouse: Warehouse) -> Iterator[AssetCheckResult]:
        database, now = warehouse.database(context.log), datetime.now(UTC)
        with database.read() if database.path.exists() else nullcontext() as connection:
            yield from _health_results(connection, endpoint, now)

    return health_checks


def metadata_of(finding: CheckOutcome) -> dict[str, RawMetadataValue]:
    return {
        name: value if isinstance(value, int | str) else MetadataValue.json(value)
        for name, value in finding.evidence.items()
        if isinstance(value, int) or value
    }
