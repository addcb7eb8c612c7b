"""Generate the table of docs/settings.md from the settings class."""

from collections.abc import Iterator
from itertools import dropwhile
from typing import Any

from commerce_assets.settings import CommerceSettings, variables

_HEADINGS = ("| setting | default | meaning |", "|---|---|---|")


def settings_page(page: str) -> str:
    """Return the page with its table of settings up to date."""
    before, after = page.split("\n".join(_HEADINGS))
    rest = dropwhile(lambda line: line.startswith("|"), after.splitlines(keepends=True)[1:])
    return before + "\n".join((*_HEADINGS, *_rows())) + "\n" + "".join(rest)


def _rows() -> Iterator[str]:
    for name, field in variables().items():
        yield f"| `{name}` | {_shown(field.default_factory or field.default)} | {field.description} |"
        if name == "COMMERCE_API_SECRET":
            paths = CommerceSettings.model_fields["api_paths"].description
            yield f"| `COMMERCE_API_ORDERS_PATH`, `..._PRODUCTS_PATH` and so on | the endpoint's | {paths} |"


def _shown(default: Any) -> str:
    if default is None or default == "" or callable(default):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else format_number(default)}`"


def format_number(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)
