"""The names of a shop's definitions: those of several shops do not clash on one instance or in one code location."""

import re
from dataclasses import dataclass
from typing import Final

import dagster as dg

_JOB = re.compile(r"(?<=run the job )\w+")
_COMMAND = re.compile(r"`commerce-assets [^`]+`, or | \(commerce-assets [^)]+\)")


@dataclass(frozen=True, slots=True)
class Shop:
    """Puts the shop's name before the name of every definition; a shop without a name changes none.

    Attributes:
        name: Lower-case letters and digits (COMMERCE_SHOP). It contains no underscore, so no name that begins with
            `acme_` belongs to another shop.
    """

    name: str = ""

    def named(self, name: str) -> str:
        """Return the name of a job, schedule, sensor, op, group, pool or resource: `acme_orders`, or `orders`."""
        return f"{self.name}_{name}" if self.name else name

    def key(self, name: str) -> dg.AssetKey:
        """Return the key of an asset: `acme/orders`, or `orders`."""
        return dg.AssetKey([self.name, name] if self.name else [name])

    def has_name(self, name: str) -> bool:
        """Return whether a job, schedule or sensor is this shop's; without a name, all of the code location are."""
        return name.startswith(self.named(""))

    def has_key(self, key: dg.AssetKey) -> bool:
        """Return whether an asset is this shop's; without a name, all of the code location are."""
        return not self.name or key.path[0] == self.name

    def hint(self, text: str) -> str:
        """Return a text with the names of this shop's jobs.

        A shop with a name has a file of settings, which only a person knows: its text names no commands, which would
        take the settings of another shop. What can be done in the UI remains.
        """
        return _JOB.sub(lambda job: self.named(job[0]), _COMMAND.sub("", text)) if self.name else text


UNNAMED: Final = Shop()
