"""The lock files hold versions and hashes of everything that is installed, and nothing of where it came from."""

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
RUNTIME, DEV, CLUSTER = "requirements.lock", "requirements-dev.lock", "requirements-cluster.lock"
# A package with its one version, perhaps for some machines only; each file that may be installed by its hash.
PINNED = re.compile(r"(?P<name>[a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==(?P<version>[a-z0-9.+!]+)(?: ; [\w .*'<>=!()]+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def entries_of(lock: str) -> list[list[str]]:
    """What pip reads as one line: a requirement, then its options."""
    text = (PROJECT / lock).read_text().replace("\\\n", "\0")
    return [[part.strip() for part in line.split("\0")] for line in text.splitlines()]


def versions_of(lock: str) -> dict[str, set[str]]:
    versions: dict[str, set[str]] = {}
    for requirement, *_ in entries_of(lock):
        if match := PINNED.fullmatch(requirement):
            versions.setdefault(match["name"], set()).add(match["version"])
    return versions


@pytest.mark.parametrize("lock", [RUNTIME, DEV, CLUSTER])
def test_every_line_of_a_lock_has_a_version_and_hashes(lock: str) -> None:
    entries = entries_of(lock)

    assert len(entries) > 50
    # A URL, an index or another file to read would be neither a requirement nor a hash.
    assert [entry for entry in entries if not PINNED.fullmatch(entry[0])] == []
    assert [entry[0] for entry in entries if not entry[1:] or not all(map(HASH.fullmatch, entry[1:]))] == []


def test_what_is_installed_for_the_tests_is_what_runs_and_more() -> None:
    runtime, dev, cluster = versions_of(RUNTIME), versions_of(DEV), versions_of(CLUSTER)

    # A lake's extensions need another version of DuckDB than a file, and both environments run the tests.
    assert cluster.pop("duckdb") == {"1.5.5"}
    assert "duckdb" not in dev
    del runtime["duckdb"]
    assert {name: dev.get(name) for name in runtime} == runtime
    assert {name: cluster.get(name) for name in runtime} == runtime
    # Both are installed into one environment for the tests of several machines.
    assert {name: dev[name] for name in dev.keys() & cluster.keys()} == {
        name: cluster[name] for name in dev.keys() & cluster.keys()
    }


def test_everything_that_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    for lock, asked in (
        (RUNTIME, project["project"]["dependencies"] + groups["install"]),
        (DEV, groups["dev"]),
        (CLUSTER, project["project"]["optional-dependencies"]["cluster"]),
    ):
        names = {re.split(r"[^A-Za-z0-9_-]", requirement)[0].replace("_", "-") for requirement in asked}
        assert names - versions_of(lock).keys() == set()


@pytest.mark.parametrize("lock", [RUNTIME, DEV, CLUSTER])
def test_urllib3_does_not_unpack_without_bounds(lock: str) -> None:
    """Fault 21: before 2.6.3, some ways to read an answer unpacked all of it."""
    (version,) = versions_of(lock)["urllib3"]

    assert tuple(map(int, version.split("."))) >= (2, 6, 3)
