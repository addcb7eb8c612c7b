"""The asset checks of the models: their specs and results."""

from collections.abc import Iterable, Iterator

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, MetadataValue

from commerce_assets.analytics.build import KEY_IS_UNIQUE, CheckOutcome
from commerce_assets.analytics.tables import Model


def build_check_specs(*, model: Model) -> list[AssetCheckSpec]:
    """Build the spec of each check. All of them block: a wrong sum is worse than a late one."""
    described = {KEY_IS_UNIQUE: f"No two rows share {', '.join(model.key)}."}
    described |= {check.name: check.description for check in model.checks}
    return [
        AssetCheckSpec(name=name, asset=model.name, description=description, blocking=True)
        for name, description in described.items()
    ]


def check_results(model: Model, outcomes: Iterable[CheckOutcome]) -> Iterator[AssetCheckResult]:
    """Build the check results from the outcomes."""
    for outcome in outcomes:
        yield AssetCheckResult(
            check_name=outcome.check,
            asset_key=model.name,
            passed=outcome.wrong == 0,
            severity=AssetCheckSeverity.ERROR,
            description=f"{outcome.wrong:,} rows fail the check" if outcome.wrong else "no row fails the check",
            metadata={
                "wrong": outcome.wrong,
                **({"examples": MetadataValue.json(outcome.examples)} if outcome.wrong else {}),
            },
        )
