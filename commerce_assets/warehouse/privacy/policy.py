"""The policy for personal data: what becomes of a buyer's details, and of URLs that open what was bought, at load."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from commerce_assets.endpoint import EXTRA, Column, Endpoint, Sensitivity

_EXAMPLE = "orders.buyer_email=keep"


class Masking(StrEnum):
    """What becomes of a column's values; from the mildest to the strictest."""

    KEEP = "keep"
    HASH = "hash"
    DROP = "drop"

    def is_stricter_than(self, other: "Masking") -> bool:
        order = [*Masking]
        return order.index(self) > order.index(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalDataPolicy:
    """A masking for each column that needs one.

    Attributes:
        personal: Of personal columns. Unless it is `keep`, undeclared fields keep their names and flags alone, such
            as true, "yes" or 1: anything else may be personal, a number such as a phone number too.
        exceptions: Of some personal columns, by `endpoint.column`.
        capability_urls: Of URLs that open what they point to: `keep` or `drop`.
        key: Of the hash; None until a run needs it. Secret.
    """

    personal: Masking = Masking.KEEP
    exceptions: Mapping[str, Masking] = field(default_factory=dict)
    capability_urls: Masking = Masking.DROP
    key: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str, *, capability_urls: str = Masking.DROP) -> "PersonalDataPolicy":
        """Reads `hash, orders.buyer_email=keep, orders.buyer_ip_address=drop`: a word, and exceptions from it.

        Raises:
            ValueError: Says which part cannot be read, and what it may be.
        """
        word, *parts = (part.strip() for part in text.split(","))
        exceptions: dict[str, Masking] = {}
        for part in parts:
            column, equals, exception = (piece.strip() for piece in part.partition("="))
            if not equals:
                raise ValueError(f"{part!r} is no exception; one is written {_EXAMPLE}")
            if column in exceptions:
                raise ValueError(f"{column} is named twice")
            exceptions[column] = _treatment(exception)
        return cls(personal=_treatment(word), exceptions=exceptions, capability_urls=Masking(capability_urls))

    def __str__(self) -> str:
        """What `parse` reads."""
        return ", ".join([self.personal, *(f"{column}={word}" for column, word in self.exceptions.items())])

    def check(self, endpoints: Sequence[Endpoint]) -> None:
        """Sees that every exception is of a personal column.

        Raises:
            ValueError: Names the column that is none, and lists those that there are.
        """
        personal = [
            f"{endpoint.name}.{column.name}"
            for endpoint in endpoints
            for column in endpoint.columns
            if column.sensitivity == Sensitivity.PERSONAL
        ]
        for name in self.exceptions:
            if name not in personal:
                raise ValueError(f"{name} is no personal column; these are: {', '.join(personal) or 'none'}")

    @property
    def hashes(self) -> bool:
        """Whether any column is hashed, so that a key is needed."""
        return Masking.HASH in {self.personal, *self.exceptions.values()}

    def with_key(self, key: str) -> "PersonalDataPolicy":
        return replace(self, key=key)

    def masking_of(self, endpoint: Endpoint, column: Column) -> Masking:
        match column.sensitivity:
            case Sensitivity.PERSONAL:
                return self.exceptions.get(f"{endpoint.name}.{column.name}", self.personal)
            case Sensitivity.CAPABILITY:
                return self.capability_urls
            case Sensitivity.UNDECLARED:
                return Masking.KEEP if self.personal is Masking.KEEP else Masking.DROP
            case _:
                return Masking.KEEP

    def maskings(self, endpoint: Endpoint) -> dict[Column, Masking]:
        """The masking of each column whose values come from the store."""
        return {column: self.masking_of(endpoint, column) for column in (*endpoint.columns, EXTRA)}


DEFAULT_POLICY = PersonalDataPolicy()
"""Personal data is kept, capability URLs are dropped."""


def _treatment(word: str) -> Masking:
    try:
        return Masking(word.lower())
    except ValueError:
        raise ValueError(f"{word!r} is none of {', '.join(Masking)}") from None
