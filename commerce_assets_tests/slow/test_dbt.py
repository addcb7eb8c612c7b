"""The example project for dbt, as docs/tools.md says to run it."""

import os
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from commerce_assets_tests.support.pages import DOCS, ROOT, blocks
from tools.docs.sample import build_sample_database

DBT = ROOT / ".venv-dbt" / "bin"


@pytest.mark.slow
def test_the_dbt_example_builds_as_the_page_says(tmp_path: Path) -> None:
    database = build_sample_database(tmp_path)
    shutil.copytree(ROOT / "examples" / "dbt", tmp_path / "examples" / "dbt")
    (command,) = [line for block in blocks(DOCS / "tools.md") for line in block.splitlines() if "dbt build" in line]

    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{DBT}:{os.environ['PATH']}", "SHOP_DATABASE": str(database)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert "PASS=4 WARN=0 ERROR=0" in done.stdout
    with duckdb.connect(tmp_path / "examples" / "dbt" / "dbt.duckdb", read_only=True) as connection:
        built = connection.execute("SELECT sum(orders), sum(settled_gross) FROM orders_by_gateway").fetchall()
    with duckdb.connect(database, read_only=True) as connection:
        stored = "SELECT count(settled_gross), sum(settled_gross) FROM commerce.orders"
        assert built == connection.execute(stored).fetchall()
