"""Other programs on this machine, which use the database file too."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from commerce_assets.warehouse.swap import wal_path
from commerce_assets_tests.support.pages import ROOT


def python(code: str, *arguments: object, zone: str = "UTC") -> str:
    """Run code in another process and time zone; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TZ": zone},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def opens_elsewhere(path: Path) -> bool:
    """Whether another process can write to the file right now."""
    code = (
        "import sys, duckdb\ntry:\n    duckdb.connect(sys.argv[1]).close()\nexcept duckdb.IOException:\n    print('no')"
    )
    return python(code, path) == ""


def leave_a_wal(path: Path, statement: str = "CREATE TABLE theirs AS SELECT 7 AS n") -> None:
    """Commit a statement in another program that is killed before its checkpoint."""
    code = "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute(sys.argv[2]); os._exit(0)"
    python(code, path, statement)
    assert wal_path(path).stat().st_size


@dataclass(frozen=True)
class Holder:
    """Another process that has the file open until `let_go`."""

    process: "subprocess.Popen[bytes]"

    def let_go(self) -> None:
        self.process.communicate()


@contextmanager
def held(path: Path, *, read_only: bool = False) -> Iterator[Holder]:
    code = f"import sys, duckdb; c = duckdb.connect(sys.argv[1], read_only={read_only}); print(); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield Holder(process)
