"""The docs say what is so."""

import ast
import math
import re
import subprocess
import sys
from difflib import unified_diff
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl

from commerce_assets.analytics import checks as model_checks
from commerce_assets.analytics.metadata import LINEAGE
from commerce_assets.analytics.tables import MODELS
from commerce_assets.api.pagination import PageRequest, overlapping
from commerce_assets.defs import checks
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.settings import CommerceSettings, variables
from commerce_assets_tests.support.pages import DOCS, PAGES, ROOT, anchors, blocks, links
from tools.docs.cookbook import QUERY, cookbook
from tools.docs.dictionary import data_dictionary
from tools.docs.lineage import lineage_json
from tools.docs.sample import build_sample_database, connect
from tools.docs.settings import settings_page

TESTS = Path(__file__).parents[1]
FAULTS = DOCS / "faults.md"
# Caught inside the project, base classes, or not raised in a run.
HANDLED = {"FilterIgnoredError", "KnownError", "LoadError", "StagedPageDamagedError", "TransientDeliveryError"}
ROW = re.compile(r"\| (\d+) \| .+ \| .+ \| `(test_\w+)\.(test_\w+)` \|")
NUMBERS = re.compile(r"Faults? (\d+(?:(?:, | and | to )\d+)*)")


def numbers_of(docstring: str) -> set[int]:
    """The faults that a docstring names: `Fault 12.`, `Faults 7, 8 and 19.`, `Faults 3 to 10.`"""
    found: set[int] = set()
    for listed in NUMBERS.findall(docstring):
        for part in re.split(r", | and ", listed):
            first, _, last = part.partition(" to ")
            found |= set(range(int(first), int(last or first) + 1))
    return found


def faults_by_test() -> dict[str, set[int]]:
    return {
        f"{path.stem}.{node.name}": numbers_of(ast.get_docstring(node) or "")
        for path in TESTS.rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


def differences(page: str, generated: str) -> list[str]:
    """The lines that differ. On whole pages, pytest would take minutes to compute the difference."""
    return list(unified_diff(page.splitlines(), generated.splitlines(), lineterm="", n=0))


def requests_for(rows: int) -> int:
    """How many requests it takes to read `rows` rows in overlapping pages, and to prove their end."""
    request, count, before = PageRequest(1, 50), 1, 0
    while request.end <= rows:
        before, request, count = request.end, overlapping(request.end, per_page=50), count + 1
    return count + (rows > before)


def test_settings_page_has_the_requests_per_day_of_the_schedules() -> None:
    page = (DOCS / "settings.md").read_text()
    a_day = (10, 1_000, 10_000)
    # The run begins at 00:10, and one more request proves the end. Each order is made, and changed once.
    yesterday = [math.ceil(orders * (1 + 10 / (24 * 60)) / 50) + 1 for orders in a_day]
    changes = [
        23 * requests_for(math.ceil(2 * 2 * orders / 24)) + requests_for(math.ceil(2 * 25 * orders / 24))
        for orders in a_day
    ]

    for row, costs in (("yesterday's orders", yesterday), ("updates", changes)):
        cells = " | ".join(f"{cost:,}" for cost in costs)
        assert re.search(rf"^\| {row}[^|]*\| {re.escape(cells)} \|$", page, re.MULTILINE), (row, cells)


def test_each_fault_names_a_test_that_names_the_fault() -> None:
    rows = [match.groups() for match in map(ROW.fullmatch, FAULTS.read_text().splitlines()) if match]
    proven = faults_by_test()

    numbers = [int(number) for number, _, _ in rows]
    assert numbers == sorted({*numbers})
    assert {*numbers} >= {*range(1, 99)}
    for number, module, test in rows:
        assert int(number) in proven.get(f"{module}.{test}", set()), f"{number}: {module}.{test}"


def test_the_data_dictionary_equals_endpoints_and_models() -> None:
    stale = differences((DOCS / "data-dictionary.md").read_text(), data_dictionary())

    assert not stale, "run `make docs`"


def test_the_column_lineage_follows_from_the_sql() -> None:
    assert LINEAGE.read_text() == lineage_json(), "run `make docs`"


def test_decimals_arrive_as_the_page_of_tools_says() -> None:
    page = (DOCS / "tools.md").read_text()
    shop = duckdb.connect()
    relation = shop.sql("SELECT 0.1::DECIMAL(38, 4) AS net")

    assert (
        "| decimals become floats. Exact: `relation.to_arrow_table().to_pandas(types_mapper=pd.ArrowDtype)` |" in page
    )
    assert str(relation.df().net.dtype) == "float64"
    exact = relation.to_arrow_table().to_pandas(types_mapper=pd.ArrowDtype)
    assert str(exact.net.dtype) == "decimal128(38, 4)[pyarrow]"
    assert relation.pl().schema["net"] == pl.Decimal(38, 4)


def test_every_query_of_the_cookbook_answers_what_the_page_shows(tmp_path: Path) -> None:
    page = (DOCS / "cookbook.md").read_text()
    with connect(build_sample_database(tmp_path)) as connection:
        stale = differences(page, cookbook(page, connection))

    assert len(QUERY.findall(page)) == 13
    assert not stale, "run `make docs`"


def test_python_of_readme_and_cookbook_runs_as_shown(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    build_sample_database(tmp_path / "data")
    for page, shown in ((ROOT / "README.md", "refund_rate"), (DOCS / "cookbook.md", "10 rows")):
        (code,) = [block for block in blocks(page, "python") if block.startswith("import duckdb")]
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout
        assert "EUR" in done.stdout


def test_every_link_leads_to_an_existing_file_and_heading() -> None:
    for page in PAGES:
        for link in links(page):
            if link.startswith("https://"):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_command_in_the_docs_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    shown = [line for page in PAGES for block in blocks(page) for line in block.splitlines()]
    modules = {module for line in shown for module in re.findall(r"python -m ([\w.]+)", line)}
    targets = {target for line in shown for target in re.findall(r"(?:^|sudo )make (\w+)", line)}

    assert modules >= {"commerce_assets"}
    assert not [module for module in modules if not find_spec(module)]
    assert targets >= {"dev", "test", "install"}
    assert not [target for target in targets if f"\n{target}:" not in makefile]


def test_the_page_of_settings_lists_every_setting() -> None:
    page = (DOCS / "settings.md").read_text()

    assert not differences(page, settings_page(page)), "run `make docs`"
    assert set(re.findall(r"^\| `(COMMERCE_\w+)`", page, re.MULTILINE)) == {*variables(), "COMMERCE_API_ORDERS_PATH"}


def test_the_env_example_lists_every_setting_with_its_default() -> None:
    lines = re.findall(r"^#?(COMMERCE_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    example = {name: value for name, value in lines if not name.startswith("COMMERCE_API_")}

    assert {name for name, _ in lines} == {*variables(), "COMMERCE_API_ORDERS_PATH"}
    assert CommerceSettings.read(dict(lines)).api_paths == {"orders": "../v1_3/orders"}
    assert CommerceSettings.read(example) == CommerceSettings.read({})


def test_operations_page_has_a_fix_for_every_check_and_error() -> None:
    page = (DOCS / "operations.md").read_text()
    specs = [
        *(spec for endpoint in ENDPOINTS for spec in checks.build_check_specs(endpoint=endpoint)),
        *(spec for endpoint in ENDPOINTS for spec in checks.build_health_check_specs(endpoint=endpoint)),
        *(spec for model in MODELS for spec in model_checks.build_check_specs(model=model)),
    ]
    source = "".join(path.read_text() for path in (ROOT / "commerce_assets").rglob("*.py") if path.parent.name != "api")
    errors = set(re.findall(r"^class ([A-Z]\w+Error)\(", source, re.MULTILINE))

    assert not [spec.name for spec in specs if f"`{spec.name}`" not in page]
    assert errors >= {"WarehouseError", "StagingError", "DatabaseLockedError"}
    assert not [error for error in errors - HANDLED if f"`{error}`" not in page]


def test_the_readme_is_short_and_in_the_order_of_need() -> None:
    text = (ROOT / "README.md").read_text()

    assert len(text.split()) <= 900
    steps = ["Try it", "Your store", "Load the history", "Switch the schedules on", "Query", "More"]
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [heading for heading in headings if heading in steps] == steps
