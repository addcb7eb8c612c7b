"""The names of a shop's definitions: those of several shops do not clash on one instance or in one code location."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import dagster as dg

from commerce_assets.hints import with_program
from commerce_assets.settings import CommerceSettings

_JOB = re.compile(r"(?<=run the job )\w+")
_COMMAND = re.compile(r"`commerce-assets [^`]+`, or | \(`?commerce-assets [^`)]+`?\)")


@dataclass(frozen=True, slots=True)
class Shop:
    """Puts the shop's name before the name of every definition; a shop without a name changes none.

    Attributes:
        name: Lower-case letters and digits (COMMERCE_SHOP). It contains no underscore, so no name that begins with
            `acme_` belongs to another shop.
        env_file: The file with the shop's settings, if it is not `.env` (COMMERCE_ENV_FILE).
    """

    name: str = ""
    env_file: Path | None = None

    @classmethod
    def of(cls, settings: CommerceSettings) -> Self:
        """Return the shop of the settings."""
        return cls(settings.shop, settings.env_file)

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
        """Return a text with the names of this shop's jobs, and its commands as they are typed.

        The settings of a shop with a name are in a file. Unless COMMERCE_ENV_FILE names it, the text names no commands,
        which would take the settings of another shop. What can be done in the UI remains.
        """
        text = with_program(_COMMAND.sub("", text) if self.name and not self.env_file else text, self.env_file)
        return _JOB.sub(lambda job: self.named(job[0]), text)


UNNAMED: Final = Shop()
