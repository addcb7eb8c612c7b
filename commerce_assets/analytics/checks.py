"""The asset checks of the models: their specs and results."""

from collections.abc import Iterable, Iterator

from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, AssetKey, MetadataValue

from commerce_assets.analytics.build import KEY_IS_UNIQUE, CheckOutcome
from commerce_assets.analytics.tables import Check, Model
from commerce_assets.defs.shop import UNNAMED, Shop
from commerce_assets.wording import counted


def build_check_specs(*, model: Model, shop: Shop = UNNAMED) -> list[AssetCheckSpec]:
    """Build the spec of each check. They block, as a wrong sum is worse than a late one, unless they only warn."""
    return [
        AssetCheckSpec(
            name=check.name, asset=shop.key(model.name), description=check.description, blocking=not check.warns
        )
        for check in (_unique(model), *model.checks)
    ]


def _unique(model: Model) -> Check:
    return Check(name=KEY_IS_UNIQUE, description=f"No two rows share {', '.join(model.key)}.")


def check_results(model: Model, key: AssetKey, outcomes: Iterable[CheckOutcome]) -> Iterator[AssetCheckResult]:
    """Build the check results from the outcomes."""
    rules = {check.name: check.description for check in (_unique(model), *model.checks)}
    for outcome in outcomes:
        yield AssetCheckResult(
            check_name=outcome.check,
            asset_key=key,
            passed=outcome.wrong == 0,
            severity=AssetCheckSeverity.WARN if outcome.warns else AssetCheckSeverity.ERROR,
            description=f"{counted(outcome.wrong, 'row')} against the rule: {rules[outcome.check]}"
            if outcome.wrong
            else "no row fails the check",
            metadata={
                "wrong": outcome.wrong,
                **({"examples": MetadataValue.json(outcome.examples)} if outcome.wrong else {}),
            },
        )
