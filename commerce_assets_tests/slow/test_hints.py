"""The hints of `make dev` on the sample store, pasted as shown into another shell, lead from nothing to all is well."""

import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
import requests

from commerce_assets_tests.support.pages import ROOT
from commerce_assets_tests.support.processes import wait_until
from commerce_assets_tests.support.ui import bare_environment, clone, make_dev

pytestmark = pytest.mark.slow

COMMAND = re.compile(r"(?:`|Fix: |Commands +)(\.venv/bin/commerce-assets [^`\n]+)")
LAUNCH = """mutation { launchPipelineExecution(executionParams: {
  selector: {
    repositoryLocationName: "commerce_assets", repositoryName: "__repository__", pipelineName: "health_checks"
  }
  runConfigData: "{}" }) { __typename } }"""
CHECKS = """{ assetNodes { assetChecksOrError { ... on AssetChecks { checks {
  executionForLatestMaterialization { evaluation { description } } } } } } }"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone with its environment, as `make install` leaves it."""
    environment = tmp_path / ".venv"
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "installed.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    script = environment / "bin" / "commerce-assets"
    script.write_text(f"#!{environment}/bin/python\nfrom commerce_assets.cli.main import main\n\nmain()\n")
    script.chmod(0o755)
    return clone(tmp_path)


def paste(folder: Path, command: str) -> str:
    """Run the command as pasted into a shell that has activated nothing; return what it says."""
    environment = bare_environment() | {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, (command, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def described(url: str) -> list[str]:
    """The checks' results as the UI shows them."""
    nodes = requests.post(f"{url}/graphql", json={"query": CHECKS}, timeout=30).json()["data"]["assetNodes"]
    results = [
        check["executionForLatestMaterialization"]
        for node in nodes
        for check in node["assetChecksOrError"].get("checks", [])
    ]
    return [result["evaluation"]["description"] for result in results if result and result["evaluation"]]


def test_each_hint_on_the_sample_store_works_as_pasted(folder: Path) -> None:
    introduction: list[str] = []
    with make_dev(folder, folder / ".venv" / "bin" / "python", introduction) as url:
        (status,) = COMMAND.findall("".join(introduction))
        assert status == ".venv/bin/commerce-assets --env-file data/sample.env status"

        assert COMMAND.findall(paste(folder, status)) == [status.replace("status", "pull products")]
        requests.post(f"{url}/graphql", json={"query": LAUNCH}, timeout=30)
        wait_until(lambda: COMMAND.search("\n".join(described(url))), seconds=90)
        (pull,) = set(COMMAND.findall("\n".join(described(url))))
        assert " --env-file data/sample.env pull orders --from " in pull
        assert "the table holds" in paste(folder, pull)

        pasted = [pull]
        while hints := COMMAND.findall(paste(folder, status)):
            assert hints[0] not in pasted, paste(folder, status)
            pasted.append(hints[0])
            paste(folder, hints[0])
        assert len(pasted) > 4
        assert "no check fails" in paste(folder, f"{status} --strict")
    # The commands have written to no other database.
    assert [path.name for path in (folder / "data").glob("*.duckdb")] == ["sample.duckdb"]
