"""A shop's products, packages, orders and subscriptions, from its commerce API into DuckDB, as Dagster assets."""

import importlib
from typing import Any

__version__ = "1.0.0"
__all__ = ["CommerceSettings", "CommerceShop", "__version__", "build_definitions"]

_MODULES = {"CommerceSettings": "settings", "CommerceShop": "component", "build_definitions": "composition"}


def __getattr__(name: str) -> Any:
    """Import what another project uses when it uses it: the command line does not wait for Dagster."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the names above too, for `dg list components`."""
    return sorted({*globals(), *_MODULES})
