"""The test of each fault goes red when its defence is taken out: in a copy of the tree, one at a time.

Repeat one with `pytest -m slow commerce_assets_tests/test_defences.py -k "fault-33"`.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commerce_assets_tests.defences import Defence
from commerce_assets_tests.defences_of_pulls import PULLS
from commerce_assets_tests.defences_of_storage import STORAGE

ROOT = Path(__file__).resolve().parents[1]
DEFENCES = (*PULLS, *STORAGE)
_ROW = re.compile(r"\| (\d+) \| .+ \| .+ \| `(test_\w+)\.(test_\w+)` \|")


def named_tests() -> dict[int, str]:
    rows = map(_ROW.fullmatch, (ROOT / "docs" / "faults.md").read_text().splitlines())
    return {int(row[1]): f"commerce_assets_tests/{row[2]}.py::{row[3]}" for row in rows if row}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what the tests need, in which a defence can be taken out."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("commerce_assets", "commerce_assets_tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "Makefile", "dagster.yaml", "workspace.yaml", ".env.example"):
        shutil.copy(ROOT / name, copy / name)
    yield copy
    shutil.rmtree(copy)


def test_every_fault_has_a_defence_that_stands_where_it_is_said_to() -> None:
    assert {defence.fault for defence in DEFENCES} == set(range(1, 69))
    for defence in DEFENCES:
        source = (ROOT / "commerce_assets" / defence.file).read_text()
        assert source.count(defence.code) == 1, defence
        assert defence.code != defence.without


@pytest.mark.slow
@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: f"fault-{defence.fault}")
def test_without_its_defence_the_test_of_a_fault_goes_red(tree: Path, defence: Defence) -> None:
    file = tree / "commerce_assets" / defence.file
    source = file.read_text()
    file.write_text(source.replace(defence.code, defence.without))
    try:
        # Plain asserts: where CI is set, pytest would draw up differences of any length, for minutes.
        options = ("-x", "-q", "-p", "no:cacheprovider", "--assert=plain")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, named_tests()[defence.fault]],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        file.write_text(source)
    # 1: tests were collected and run, and some of them failed.
    assert done.returncode == 1, done.stdout[-2_000:]
