"""The commands of docs/operations.md, run in a folder with the services' data, and what they leave."""

import subprocess
from pathlib import Path

import duckdb

from commerce_assets_tests.support.pages import DOCS, blocks
from commerce_assets_tests.support.units import Services


def beside(path: Path) -> list[str]:
    """What is in the file's folder, apart from the file, staged pages and the run history."""
    names = {entry.name for entry in path.parent.iterdir()}
    return sorted(names - {path.name, f"{path.stem}.staging", "dagster"})


def rows_of(path: Path, table: str) -> int:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS copy (READ_ONLY)")
        (count,) = connection.execute(f"SELECT count(*) FROM copy.{table}").fetchone() or (0,)
        return int(count)


def block_with(word: str) -> str:
    """The page's one block of commands that contains a word."""
    (found,) = [block for block in blocks(DOCS / "operations.md", "") if word in block]
    return found


def follow(services: Services, word: str, **replaced: str) -> None:
    """Run the commands of such a block, on the one backup there is."""
    commands = block_with(word)
    backups = services.folder / "backups"
    for backup in backups.iterdir() if backups.exists() else ():
        replaced["2026-01-31T042500Z"] = backup.name
    for there, here in replaced.items():
        commands = commands.replace(there, here)
    subprocess.run(["bash", "-e", "-c", commands], cwd=services.folder, check=True)


def restore(services: Services) -> None:
    follow(services, "restored.duckdb")
