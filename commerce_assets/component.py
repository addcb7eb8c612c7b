"""The component `commerce_assets.CommerceShop`: a shop in another Dagster project, from YAML."""

import os
import re
from collections.abc import Mapping
from typing import Any, Final, Self

import dagster as dg
from dagster.components import Scaffolder, ScaffoldRequest, scaffold_component
from pydantic import BaseModel, Field, create_model

from commerce_assets.composition import build_definitions
from commerce_assets.settings import SECRETS, CommerceSettings, SettingError, variable_of, variables

_VARIABLE = re.compile(r"\s*\{\{\s*env(?:\.(\w+)|\(\s*['\"](\w+)['\"]\s*\))\s*\}\}\s*")
_SETTINGS = CommerceSettings.model_fields
_FIELDS: Final[dict[str, Any]] = {
    **{
        name: (str | int | float | bool | None, Field(None, description=field.description))
        for name, field in _SETTINGS.items()
        if variable_of(name) in variables()
    },
    "shop": (str, Field(description=_SETTINGS["shop"].description)),
    "api_paths": (dict[str, str], Field({}, description=_SETTINGS["api_paths"].description)),
}
_Attributes: type[BaseModel] = create_model("CommerceShopAttributes", __base__=dg.Model, **_FIELDS)


class _ShopScaffolder(Scaffolder[Any]):
    """Writes `defs.yaml` with the attributes that every shop needs; the shop has the folder's name."""

    def scaffold(self, request: ScaffoldRequest[Any]) -> None:
        shop = re.sub(r"^[0-9]+|[^a-z0-9]", "", request.target_path.name.lower()) or "shop"
        attributes = {
            "shop": shop,
            "api_base_url": "https://www.sendowl.com/api/v1/",
            "api_paths": {"orders": "../v1_3/orders"},
            "api_key": f"{{{{ env.{shop.upper()}_API_KEY }}}}",
            "api_secret": f"{{{{ env.{shop.upper()}_API_SECRET }}}}",
            "orders_start_date": str(_SETTINGS["orders_start_date"].default),
        }
        scaffold_component(request, attributes)


@dg.scaffold_with(_ShopScaffolder)
class CommerceShop(dg.Component):
    """A shop's products, packages, orders and subscriptions, from its commerce API into DuckDB, with marts and checks.

    The attributes are the settings of docs/settings.md without `COMMERCE_`, in lower case. `shop` is required: every
    name begins with it. A secret is the name of a variable, such as `{{ env.ACME_API_KEY }}`.
    """

    def __init__(self, settings: CommerceSettings) -> None:
        self.settings = settings

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the model of the attributes, one per setting."""
        return _Attributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Read the settings from the attributes.

        Raises:
            SettingError: An attribute cannot be used, or a secret is written in the file.
        """
        given = attributes.model_dump(exclude_none=True) if attributes else {}
        resolve = context.resolution_context.resolve_value
        paths: Mapping[str, str] = given.pop("api_paths", {})
        values = {
            variable_of(f"api_{name}_path"): str(value)
            for name, path in paths.items()
            if (value := resolve(path)) is not None  # None: a variable that is not set
        }
        sources = {"api_base_url": ""}
        for name, value in given.items():
            # A run resolves these itself, so that Dagster shows the name of the variable and not its value.
            if (name in SECRETS or name in sources) and (found := _VARIABLE.fullmatch(str(value))):
                sources[name] = found[1] or found[2]
                values[variable_of(name)] = os.environ.get(sources[name], "")
            elif name in SECRETS:
                raise SettingError(
                    f"{name} is a secret and must not be in a file. "
                    "Fix: write it as '{{ env.NAME }}', and set that variable, for example in .env."
                )
            elif (resolved := resolve(value)) is not None:
                values[variable_of(name)] = str(resolved)
        return cls(CommerceSettings.read(values, sources=sources))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002 - Dagster's signature
        """Build the definitions of the shop."""
        return build_definitions(self.settings)
