"""What an asset hands to the IO manager: a staged pull, what it cost, and how it is to be taken."""

from dataclasses import dataclass

from commerce_assets.extract import PullCost
from commerce_assets.privacy import PersonalDataPolicy
from commerce_assets.staging import StagedPull
from commerce_assets.warehouse.comparison import Comparison
from commerce_assets.warehouse.load import LoadResult


@dataclass(slots=True, kw_only=True)
class Extraction:
    """A pull on its way into the warehouse; `result` is set once it is there."""

    staged: StagedPull
    cost: PullCost
    comparison: Comparison
    policy: PersonalDataPolicy
    believe_shrinkage: bool = False
    result: LoadResult | None = None

    @property
    def is_believed(self) -> bool:
        """Whether it may be loaded: it holds about what is stored, or a person has said that it is true."""
        return self.believe_shrinkage or not self.comparison.is_doubtful
