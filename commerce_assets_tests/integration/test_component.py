"""The component CommerceShop: in a project as create-dagster 1.13.27 scaffolds it, and what it refuses."""

import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

import commerce_assets
from commerce_assets.component import CommerceShop
from commerce_assets.defs.resources import CommerceApiResource
from commerce_assets.settings import SettingError, variable_of, variables
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.faulty_store import faulty
from commerce_assets_tests.support.items import store_of
from commerce_assets_tests.support.pages import ROOT
from sample_store import SAMPLE_API_KEY, SAMPLE_API_SECRET

CONTEXT = dg.ComponentTree.for_test().load_context
KEY = "{{ env.ACME_API_KEY }}"
PROJECT = {
    "pyproject.toml": """
[project]
name = "my_project"
requires-python = ">=3.10,<3.15"
version = "0.1.0"
dependencies = ["dagster==1.13.27"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "my_project"
registry_modules = ["my_project.components.*"]

[tool.dg.cli]
telemetry.enabled = false
""",
    "src/my_project/__init__.py": "",
    "src/my_project/defs/__init__.py": "",
    "src/my_project/definitions.py": """
from datetime import date
from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
""",
}
OWN = """
import dagster as dg
import pyarrow as pa


@dg.asset(ins={"products": dg.AssetIn(key_prefix="acme")}, io_manager_key="acme_warehouse_io_manager")
def names(products: pa.Table) -> pa.Table:
    return products.select(["name"])


# The names of a shop without a name.
orders = dg.define_asset_job("orders", selection=["names"])
"""
OWN_RESOURCES = """
import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(resources={"warehouse": 1, "commerce_api": 2}, executor=dg.multiprocess_executor)
"""


def run_dg(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COMMERCE_", "DAGSTER_"))}
    done = subprocess.run(
        [sys.executable, "-m", "dagster_dg_cli.cli", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": f"{folder / 'src'}:{ROOT}", "DAGSTER_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_shop_and_an_own_asset_materialize_in_a_scaffolded_project(tmp_path: Path) -> None:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/dagster.yaml").write_text("telemetry: {enabled: false}\n")

    run_dg(tmp_path, "scaffold", "defs", "commerce_assets.CommerceShop", "acme")

    defs = tmp_path / "src/my_project/defs"
    scaffolded = (defs / "acme/defs.yaml").read_text()
    assert scaffolded.startswith("type: commerce_assets.CommerceShop\n")
    assert f"api_key: '{KEY}'\n" in scaffolded
    (defs / "own.py").write_text(OWN)
    (defs / "resources.py").write_text(OWN_RESOURCES)
    (tmp_path / ".env").write_text(f"ACME_API_KEY={SAMPLE_API_KEY}\nACME_API_SECRET={SAMPLE_API_SECRET}\n")
    with faulty(store_of(products=3)) as server:
        (defs / "acme/defs.yaml").write_text(
            re.sub(r"https://\S+", server.base_url, scaffolded) + "  api_requests_per_second: 0\n"
        )
        listed = json.loads(run_dg(tmp_path, "list", "defs", "--json"))
        run_dg(tmp_path, "launch", "--assets", "key:acme/products or key:names")

    assert {"acme/orders", "names"} <= {asset["asset_key"] for asset in listed["assets"]}
    assert {"acme_orders", "orders"} <= {job["name"] for job in listed["jobs"]}
    with DatabaseFile(path=tmp_path / "data/acme.duckdb").read() as connection:
        assert connection.execute("SELECT count(*) FROM commerce.products").fetchall() == [(3,)]
        assert connection.execute("SELECT name FROM commerce.names ORDER BY name").fetchall() == [
            (f"Product {number}",) for number in (1, 2, 3)
        ]


def load(**attributes: Any) -> CommerceShop:
    return CommerceShop.load(CommerceShop.get_model_cls()(**attributes), CONTEXT)


def test_a_secret_is_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "canary-key")
    monkeypatch.setenv("ACME_URL", "https://acme.example/")
    given = {"shop": "acme", "api_key": KEY, "api_paths": {"orders": "/v2/orders", "products": "{{ env.NOT_SET }}"}}

    definitions = load(**given, api_base_url="{{ env.ACME_URL }}").build_defs(CONTEXT)
    literal = load(**given, api_base_url="https://acme.example/").settings

    api = (definitions.resources or {})["acme_commerce_api"]
    assert isinstance(api, CommerceApiResource)
    assert vars(api)["api_key"] == dg.EnvVar("ACME_API_KEY")
    assert vars(api)["base_url"] == dg.EnvVar("ACME_URL")
    assert vars(api)["paths"] == {"orders": "/v2/orders"}
    assert (literal.api_base_url, literal.shop) == ("https://acme.example/", "acme")
    assert "canary" not in repr(literal)


@pytest.mark.parametrize("field", ["api_key", "api_secret", "personal_data_key", "alert_webhook_url", "postgres_url"])
@pytest.mark.parametrize("value", ["canary", "{{ env.ACME_API_KEY }}canary"])
def test_a_secret_in_the_file_is_refused_and_not_shown(field: str, value: str) -> None:
    with pytest.raises(SettingError, match=rf"^{field} is a secret and must not be in a file\. Fix: ") as refused:
        load(shop="acme", **{field: value})
    assert "canary" not in str(refused.value)


def test_an_attribute_is_a_value_or_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_ZONE", "Europe/Berlin")
    given: dict[str, Any] = {"order_history": True, "orders_start_date": "2024-01-31", "api_requests_per_second": 0.5}

    settings = load(shop="acme", timezone="{{ env.ACME_ZONE }}", duckdb_path="{{ env.ACME_UNSET }}", **given).settings

    assert {name: getattr(settings, name) for name in given} == {**given, "orders_start_date": date(2024, 1, 31)}
    assert (settings.timezone, settings.duckdb_path) == ("Europe/Berlin", Path("data/acme.duckdb"))


def test_an_unusable_attribute_is_named() -> None:
    with pytest.raises(SettingError, match=r"^COMMERCE_ORDERS_START_DATE is 'soon'\. Fix: "):
        load(shop="acme", orders_start_date="soon")
    with pytest.raises(ValidationError, match="api_kee"):
        load(shop="acme", api_kee=KEY)
    with pytest.raises(ValidationError, match="shop"):
        load(api_key=KEY)


def test_every_setting_is_an_attribute() -> None:
    fields = CommerceShop.get_model_cls().model_fields

    assert {variable_of(name) for name in fields} == {*variables(), "COMMERCE_API_PATHS"}
    assert [name for name, field in fields.items() if not field.description] == []


def test_the_package_offers_what_other_projects_use() -> None:
    assert commerce_assets.CommerceShop is CommerceShop
    for name in commerce_assets.__all__:
        assert getattr(commerce_assets, name)
    with pytest.raises(AttributeError, match="nothing"):
        _ = commerce_assets.nothing
