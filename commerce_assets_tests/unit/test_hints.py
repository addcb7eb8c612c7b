"""Commands in texts: a person can paste them, wherever the program is and whichever file has the settings."""

import sys
from pathlib import Path

import pytest

from commerce_assets.defs.shop import Shop
from commerce_assets.hints import program, with_program
from commerce_assets.settings import CommerceSettings


def environment_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *, script: bool = True) -> Path:
    """Make this process one of an environment in the folder; return the environment's programs."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    if script:
        (programs / "commerce-assets").touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    return programs


@pytest.mark.parametrize("activated", [True, False])
def test_a_clone_calls_the_program_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, activated: bool
) -> None:
    programs = environment_in(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(programs) if activated else "")

    assert program() == ".venv/bin/commerce-assets"


def test_elsewhere_the_program_is_called_by_name_if_that_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = environment_in(tmp_path / "an app", monkeypatch)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")

    monkeypatch.setenv("PATH", str(programs))
    assert program() == "commerce-assets"
    monkeypatch.setenv("PATH", "")
    assert program() == f"'{programs}/commerce-assets'"


def test_another_environments_program_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = environment_in(tmp_path / "other", monkeypatch)
    mine = environment_in(tmp_path / "mine", monkeypatch)
    monkeypatch.setenv("PATH", str(other))

    assert program() == f"{mine}/commerce-assets"


def test_without_the_script_python_runs_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = environment_in(tmp_path, monkeypatch, script=False)

    assert program() == f"{programs}/python -m commerce_assets"


def test_each_command_of_a_text_gets_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "run `commerce-assets pull orders`, or (commerce-assets pull products --store-moved)"
    typed = text.replace("commerce-assets ", "commerce-assets --env-file {} ")

    assert with_program(text) == text
    assert with_program(text, Path("data/sample.env")) == typed.replace("{}", "data/sample.env")
    assert with_program(with_program(text, Path("a shop.env")), Path("other.env")) == typed.replace(
        "{}", "'a shop.env'"
    )


def test_a_shop_with_a_name_has_commands_if_its_file_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "run the job orders (`commerce-assets pull orders`, or Materialize in the UI)"

    assert Shop("acme").hint(text) == "run the job acme_orders (Materialize in the UI)"
    assert Shop("acme", Path("acme.env")).hint(text) == (
        "run the job acme_orders (`commerce-assets --env-file acme.env pull orders`, or Materialize in the UI)"
    )
    assert Shop("acme").hint("materialize it (`commerce-assets pull orders`), or wait") == "materialize it, or wait"
    assert Shop.of(CommerceSettings.read({"COMMERCE_SHOP": "acme", "COMMERCE_ENV_FILE": "acme.env"})).env_file


def test_what_is_no_command_is_left_alone() -> None:
    for text in ("commerce-assets: interrupted", "commerce-assets-backup.service", "commerce-assets 1.0.0"):
        assert with_program(text, Path("data/sample.env")) == text
