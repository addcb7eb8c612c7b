"""The asset checks of the endpoints: their specs and results."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime

import dagster as dg
import duckdb
from dagster._core.definitions.metadata import RawMetadataValue
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from commerce_assets.api.errors import ListMovedError, PullError
from commerce_assets.defs.shop import UNNAMED, Shop
from commerce_assets.endpoint import Endpoint
from commerce_assets.ingest.verify import RowCountCollapsedError, Verified
from commerce_assets.warehouse.check_queries import CheckOutcome, CheckQuery, Scope, check_queries
from commerce_assets.warehouse.database import Database
from commerce_assets.warehouse.ddl import exists
from commerce_assets.warehouse.freshness import health_queries
from commerce_assets.warehouse.load_log import last_loaded
from commerce_assets.warehouse.sql import SCHEMA

_ROW_COUNT = "row_count_not_collapsed"
_CONSISTENT = "list_was_consistent"
_TEXT = "text_is_valid"
_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def build_check_specs(*, endpoint: Endpoint, shop: Shop = UNNAMED) -> list[dg.AssetCheckSpec]:
    """Build the spec of each check of the endpoint's asset."""
    asset = shop.key(endpoint.name)
    verified = [
        dg.AssetCheckSpec(
            name=_ROW_COUNT,
            asset=asset,
            description="At most half of the stored rows are gone, in two readings; else nothing is stored.",
            blocking=True,
        ),
        dg.AssetCheckSpec(
            name=_CONSISTENT,
            asset=asset,
            description="Every position of the list was read, even if rows moved; else nothing is stored.",
            blocking=True,
        ),
        dg.AssetCheckSpec(
            name=_TEXT,
            asset=asset,
            description="Every byte of the API's responses is valid text; others are replaced by U+FFFD.",
        ),
    ]
    return verified + [
        dg.AssetCheckSpec(name=query.name, asset=asset, description=query.description, blocking=query.blocking)
        for query in check_queries(endpoint)
    ]


def verified_results(verified: Verified) -> Iterator[dg.AssetCheckResult]:
    """Build the results of the checks that passed before the load."""
    yield dg.AssetCheckResult(
        check_name=_ROW_COUNT,
        passed=True,
        description=_compared(verified),
        metadata=_counts(verified),
    )
    yield dg.AssetCheckResult(check_name=_CONSISTENT, passed=True, description=verified.end or "read to its end")
    yield dg.AssetCheckResult(
        check_name=_TEXT,
        passed=not verified.has_replaced_text,
        severity=dg.AssetCheckSeverity.WARN,
        description="some bytes were not valid text and are U+FFFD"
        if verified.has_replaced_text
        else "all text is valid",
    )


def refused_result(error: RowCountCollapsedError | PullError) -> dg.AssetCheckResult | None:
    """Return the failed check of rows that were refused; None if the extraction failed otherwise."""
    collapsed = isinstance(error, RowCountCollapsedError)
    if isinstance(error, PullError) and not isinstance(error.error, ListMovedError):
        return None
    return dg.AssetCheckResult(
        check_name=_ROW_COUNT if collapsed else _CONSISTENT,
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
        yield _result(query.name, query.run(connection, scope), _severity(query))


def results_without_load(
    instance: dg.DagsterInstance, endpoint: Endpoint, database: Database, selected: Collection[str], *, shop: Shop
) -> Iterator[dg.AssetCheckResult]:
    """Yield the results of checks that are evaluated alone: of the whole table, as it is stored.

    The checks that compare an extraction with the table repeat the result of the last one: without an extraction there
    is nothing new to compare.
    """
    stored = {query.name for query in check_queries(endpoint)}
    yield from _last_results(instance, shop.key(endpoint.name), [name for name in selected if name not in stored])
    with database.read_or_empty() as connection:
        if not exists(connection, SCHEMA, endpoint.name):
            yield from (_not_yet_loaded(name) for name in selected if name in stored)
            return
        scope = Scope(endpoint, None, last_loaded(connection, endpoint) or datetime.now(UTC))
        queries = check_queries(endpoint)
        columns = queries[0].run(connection, scope)
        # The other checks name columns.
        unknown = CheckOutcome(passed=False, summary=f"cannot be evaluated: {queries[0].name}: {columns.summary}")
        for query in queries:
            if query.name in selected:
                outcome = query.run(connection, scope) if columns.passed or query is queries[0] else unknown
                yield _result(query.name, outcome, _severity(query))


def _last_results(
    instance: dg.DagsterInstance, asset: dg.AssetKey, names: Iterable[str]
) -> Iterator[dg.AssetCheckResult]:
    for name in names:
        key = dg.AssetCheckKey(asset, name)
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=_EVALUATED)
        evaluation = records[0].evaluation if records else None
        yield (
            dg.AssetCheckResult(
                check_name=name,
                passed=evaluation.passed,
                severity=evaluation.severity,
                description=evaluation.description,
                metadata={"evaluated_by": dg.MetadataValue.dagster_run(records[0].run_id), **evaluation.metadata},
            )
            if evaluation
            else _not_yet_loaded(name)
        )


def _not_yet_loaded(name: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(check_name=name, passed=True, description="not yet loaded")


def health_results(
    connection: duckdb.DuckDBPyConnection, endpoint: Endpoint, *, shop: Shop, start: date, now: datetime
) -> Iterator[dg.AssetCheckResult]:
    """The result of each health check; every due day from `start` must be loaded."""
    for query in health_queries(endpoint):
        outcome = query.run(connection, endpoint, start, now)
        outcome = replace(outcome, summary=shop.hint(outcome.summary))
        yield _result(query.name, outcome, dg.AssetCheckSeverity.WARN)


def build_health_check_specs(*, endpoint: Endpoint, shop: Shop = UNNAMED) -> list[dg.AssetCheckSpec]:
    """A spec for each health check of the endpoint's asset."""
    return [
        dg.AssetCheckSpec(name=query.name, asset=shop.key(endpoint.name), description=query.description)
        for query in health_queries(endpoint)
    ]


def _severity(query: CheckQuery) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if query.blocking else dg.AssetCheckSeverity.WARN


def _result(name: str, outcome: CheckOutcome, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name,
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
