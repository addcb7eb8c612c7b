"""Who knows what: the imports of each part, held against the table of docs/architecture.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from commerce_assets_tests.support.pages import DOCS, ROOT, section

PACKAGE = ROOT / "commerce_assets"
LIBRARIES = {"HTTP": {"requests", "urllib3"}, "Dagster": {"dagster", "dagster_duckdb"}, "DuckDB": {"duckdb"}}
ROW = re.compile(r"^\| (`.+`) \| .+ \| (.*)\|$", re.MULTILINE)


def files_of(cell: str) -> Iterator[Path]:
    for name in re.findall(r"`([^`]+)`", cell):
        path = PACKAGE / name
        assert path.exists(), name
        yield from path.rglob("*.py") if path.is_dir() else [path]


def imported_by(path: Path) -> set[str]:
    """The packages that a module imports, wherever it does."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_no_part_imports_what_it_must_not_know() -> None:
    rows = ROW.findall(section(DOCS / "architecture.md", "## Who knows what"))
    bounds = {
        cell: {library for what, libraries in LIBRARIES.items() if what in words for library in libraries}
        for cell, words in rows
    }

    assert len(bounds) >= 8
    assert sum(map(bool, bounds.values())) >= 6
    for cell, unknown in bounds.items():
        for path in files_of(cell):
            assert not imported_by(path) & unknown, path


def test_what_an_endpoint_is_depends_on_nothing_else() -> None:
    modules = ("endpoint.py", "endpoints.py")

    assert {name for module in modules for name in imported_by(PACKAGE / module)} == {
        "commerce_assets",
        "dataclasses",
        "enum",
        "re",
    }
