"""The asset checks of the models: their specs, and their results from what the build has found."""

from collections.abc import Iterable, Iterator

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, MetadataValue

from commerce_assets.analytics.build import KEY_IS_UNIQUE, CheckOutcome
from commerce_assets.analytics.tables import Model


def build_check_specs(*, model: Model) -> list[AssetCheckSpec]:
    """A spec for each check of the model; all of them block, for a sum that is wrong is worse than one that is late."""
    described = {KEY_IS_UNIQUE: f"No two rows share {', '.join(model.key)}."}
    described |= {check.name: check.description for check in model.checks}
    return [
        AssetCheckSpec(name=name, asset=model.name, description=description, blocking=True)
        for name, description in described.items()
    ]


def check_results(model: Model, findings: Iterable[CheckOutcome]) -> Iterator[AssetCheckResult]:
    for finding in findings:
        yield AssetCheckResult(
            check_name=finding.check,
            asset_key=model.name,
            passed=finding.wrong == 0,
            severity=AssetCheckSeverity.ERROR,
            description=f"{finding.wrong:,} rows are wrong" if finding.wrong else "no row is wrong",
            metadata={
                "wrong": finding.wrong,
                **({"examples": MetadataValue.json(finding.examples)} if finding.wrong else {}),
            },
        )
