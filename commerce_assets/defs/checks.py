"""The asset checks of the endpoints: their specs and results."""

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import duckdb
from dagster._core.definitions.metadata import RawMetadataValue

from commerce_assets.api.errors import PullError
from commerce_assets.defs.resources import WarehouseResource
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.verify import RowCountCollapsedError, Verified
from commerce_assets.warehouse.check_queries import CheckOutcome, Scope, check_queries
from commerce_assets.warehouse.freshness import health_queries

_ROW_COUNT = "row_count_not_collapsed"
_CONSISTENT = "list_was_consistent"
_TEXT = "text_is_valid"


def build_check_specs(*, endpoint: Endpoint) -> list[dg.AssetCheckSpec]:
    """Build the spec of each check of the endpoint's asset."""
    verified = [
        dg.AssetCheckSpec(
            name=_ROW_COUNT,
            asset=endpoint.name,
            description="At most half of the stored rows vanished, in two readings that agree; else nothing is stored.",
            blocking=True,
        ),
        dg.AssetCheckSpec(
            name=_CONSISTENT,
            asset=endpoint.name,
            description="Every place of the list is accounted for by a row, whatever moved. Else nothing is stored.",
            blocking=True,
        ),
        dg.AssetCheckSpec(
            name=_TEXT,
            asset=endpoint.name,
            description="Every byte of the answers is valid text. Others are replaced by U+FFFD.",
        ),
    ]
    return verified + [
        dg.AssetCheckSpec(name=query.name, asset=endpoint.name, description=query.description, blocking=query.blocking)
        for query in check_queries(endpoint)
    ]


def verified_results(endpoint: Endpoint, verified: Verified) -> Iterator[dg.AssetCheckResult]:
    """Build the results of the checks that passed before the load."""
    yield dg.AssetCheckResult(
        check_name=_ROW_COUNT,
        asset_key=endpoint.name,
        passed=True,
        description=_compared(verified),
        metadata=_counts(verified),
    )
    yield dg.AssetCheckResult(
        check_name=_CONSISTENT, asset_key=endpoint.name, passed=True, description=verified.end or "read to its end"
    )
    yield dg.AssetCheckResult(
        check_name=_TEXT,
        asset_key=endpoint.name,
        passed=not verified.has_replaced_text,
        severity=dg.AssetCheckSeverity.WARN,
        description="some bytes were not valid text and are U+FFFD"
        if verified.has_replaced_text
        else "all text is valid",
    )


def refused_result(endpoint: Endpoint, error: RowCountCollapsedError | PullError) -> dg.AssetCheckResult:
    """The failed check of rows that were refused. Nothing was stored, and the other checks keep their last results."""
    collapsed = isinstance(error, RowCountCollapsedError)
    return dg.AssetCheckResult(
        check_name=_ROW_COUNT if collapsed else _CONSISTENT,
        asset_key=endpoint.name,
        passed=False,
        description=str(error),
        metadata=_counts(error.verified) if isinstance(error, RowCountCollapsedError) else {},
    )


def _compared(verified: Verified) -> str:
    return f"{verified.extracted:,} rows extracted; of {verified.stored:,} stored rows, {verified.vanished:,} vanished"


def _counts(verified: Verified) -> dict[str, int]:
    return {
        "rows_extracted": verified.extracted,
        "rows_stored": verified.stored,
        "rows_vanished": verified.vanished,
        "readings": verified.readings,
    }


def check_results(connection: duckdb.DuckDBPyConnection, scope: Scope) -> Iterator[dg.AssetCheckResult]:
    """Build the result of each check of the stored rows."""
    for query in check_queries(scope.endpoint):
        severity = dg.AssetCheckSeverity.ERROR if query.blocking else dg.AssetCheckSeverity.WARN
        yield _result(scope.endpoint, query.name, query.run(connection, scope), severity)


def health_results(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, *, start: date, now: datetime
) -> Iterator[dg.AssetCheckResult]:
    """The result of each health check; every due day from `start` must be loaded."""
    for query in health_queries(endpoint):
        yield _result(endpoint, query.name, query.run(connection, endpoint, start, now), dg.AssetCheckSeverity.WARN)


def build_health_check_specs(*, endpoint: Endpoint) -> list[dg.AssetCheckSpec]:
    """A spec for each health check of the endpoint's asset."""
    return [
        dg.AssetCheckSpec(name=query.name, asset=endpoint.name, description=query.description)
        for query in health_queries(endpoint)
    ]


def build_health_checks(*, endpoint: Endpoint, start: date) -> dg.AssetChecksDefinition:
    """Build the checks of freshness and completeness, which query the warehouse and make no request.

    Args:
        endpoint: The asset.
        start: The first day that must be loaded, if the asset is partitioned.
    """

    @dg.multi_asset_check(
        name=f"{endpoint.name}_health", specs=build_health_check_specs(endpoint=endpoint), can_subset=True
    )
    def health_checks(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.AssetCheckResult]:
        file, now = warehouse.open(context.log).file, datetime.now(UTC)
        selected = {key.name for key in context.selected_asset_check_keys}
        with file.read_or_empty() as connection:
            for result in health_results(connection, endpoint, start=start, now=now):
                if result.check_name in selected:
                    yield result

    return health_checks


def _result(
    endpoint: Endpoint, name: str, outcome: CheckOutcome, severity: dg.AssetCheckSeverity
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=endpoint.name,
        passed=outcome.passed,
        severity=severity,
        description=outcome.summary,
        metadata=metadata_of(outcome),
    )


def metadata_of(outcome: CheckOutcome) -> dict[str, RawMetadataValue]:
    return {
        name: value if isinstance(value, int | str) else dg.MetadataValue.json(value)
        for name, value in outcome.evidence.items()
        if isinstance(value, int) or value
    }
