"""The docs say what is so."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
FAULTS = TESTS.parent / "docs" / "faults.md"
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
        for path in TESTS.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


def test_the_list_of_faults_is_complete_and_each_names_a_test_that_says_it_proves_it() -> None:
    rows = [match.groups() for match in map(ROW.fullmatch, FAULTS.read_text().splitlines()) if match]
    proven = faults_by_test()

    assert [int(number) for number, _, _ in rows] == list(range(1, 69))
    for number, module, test in rows:
        assert int(number) in proven.get(f"{module}.{test}", set()), f"{number}: {module}.{test}"
