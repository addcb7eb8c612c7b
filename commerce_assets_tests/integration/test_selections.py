"""What the UI offers to execute: an asset without its checks, a check without its asset, an asset with some checks."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from commerce_assets.defs.checks import build_check_specs, build_health_check_specs
from commerce_assets_tests.support.items import BY_NAME
from commerce_assets_tests.support.world import World
from sample_store.shop import build_shop

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
DAYS = (YESTERDAY - timedelta(days=2), YESTERDAY)


def execute(
    project: World,
    *assets: str,
    checks: Iterable[dg.AssetCheckKey] = (),
    days: tuple[date, date] | None = None,
    expect_success: bool = True,
) -> dg.ExecuteInProcessResult:
    """Execute a selection of the job that the UI launches for assets and checks."""
    tags = {}
    if days:
        names = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        tags = dict(zip(names, map(str, days), strict=True))
    job = project.definitions.get_repository_def().get_implicit_global_asset_job_def()
    subset = job.get_subset(asset_selection={dg.AssetKey(asset) for asset in assets}, asset_check_selection={*checks})
    return subset.execute_in_process(instance=project.instance, tags=tags, raise_on_error=expect_success)


def results(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str | None]]:
    return {each.check_name: (each.passed, each.description) for each in result.get_asset_check_evaluations()}


def keys_of(asset: str) -> list[dg.AssetCheckKey]:
    specs = [*build_check_specs(endpoint=BY_NAME[asset]), *build_health_check_specs(endpoint=BY_NAME[asset])]
    return [spec.key for spec in specs]


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}


@pytest.fixture
def shop(project: World) -> World:
    """A store with three days of orders, up to yesterday."""
    project.settings["COMMERCE_ORDERS_START_DATE"] = str(DAYS[0])
    project.store.shop = build_shop(now=datetime.now(UTC), days=3, orders_per_day=5)
    project.store.touch()
    return project


@pytest.fixture
def loaded(shop: World) -> World:
    """The store's products and orders, loaded."""
    shop.run("catalog")
    shop.run("orders", days=DAYS)
    return shop


def test_an_asset_is_materialized_without_its_checks(shop: World) -> None:
    for asset, days in (("products", None), ("orders", DAYS)):
        result = execute(shop, asset, days=days)

        assert materialized(result) == {asset}
        assert results(result) == {}
        assert shop.query(f"SELECT count(*) > 0 FROM {asset}") == [(True,)]


def test_an_asset_is_materialized_with_some_of_its_checks(shop: World) -> None:
    some = [
        dg.AssetCheckKey(dg.AssetKey("orders"), name) for name in ("text_is_valid", "columns_match_schema", "fresh")
    ]

    result = execute(shop, "orders", checks=some, days=DAYS)

    assert materialized(result) == {"orders"}
    assert results(result).keys() == {key.name for key in some}


def test_each_check_can_be_executed_alone(loaded: World) -> None:
    """Fault 115: without a request, of whatever asset, and also before anything is built."""
    loaded.store.forget_requests()
    keys = loaded.definitions.resolve_asset_graph().asset_check_keys

    for key in sorted(keys, key=str):
        result = execute(loaded, checks=[key])

        assert result.get_asset_materialization_events() == []
        assert results(result).keys() == {key.name}
        assert all(passed for passed, _ in results(result).values()), (key, results(result))
    assert loaded.requests() == 0


def test_before_the_first_load_only_what_must_be_loaded_fails(project: World) -> None:
    keys = project.definitions.resolve_asset_graph().asset_check_keys

    result = execute(project, checks=keys)

    failed = {each.asset_check_key for each in result.get_asset_check_evaluations() if not each.passed}
    assert failed == {key for key in keys if key.name in {"fresh", "complete"}}
    passed = {each.description for each in result.get_asset_check_evaluations() if each.passed}
    assert passed == {"not yet loaded", "not yet built", "updated_after was not yet requested"}


def test_a_check_executed_alone_sees_what_is_stored_now(loaded: World) -> None:
    loaded.execute(
        'UPDATE commerce.orders SET _invalid = \'{"tag": "1"}\' WHERE id = (SELECT min(id) FROM commerce.orders)'
    )

    ((passed, said),) = results(
        execute(loaded, checks=[dg.AssetCheckKey(dg.AssetKey("orders"), "values_fit_their_types")])
    ).values()

    assert not passed
    assert said == "values that do not fit their column, stored in _invalid: tag in 1 row"


def test_the_checks_of_a_partitioned_mart_alone_see_every_loaded_day(loaded: World) -> None:
    checks = [key for key in loaded.definitions.resolve_asset_graph().asset_check_keys if "order_items" in str(key)]
    execute(loaded, "order_items", days=DAYS)
    loaded.execute(
        "DELETE FROM analytics.order_items WHERE created_at = (SELECT min(created_at) FROM analytics.order_items)"
    )

    found = results(execute(loaded, checks=checks, expect_success=False))

    assert {name for name, (passed, _) in found.items() if not passed} == {"every_cart_line_is_there_once"}


def test_checks_of_an_altered_table_name_the_column(loaded: World) -> None:
    loaded.execute("ALTER TABLE commerce.products DROP COLUMN _invalid")

    found = results(execute(loaded, checks=keys_of("products"), expect_success=False))

    assert found["columns_match_schema"] == (False, "missing: _invalid")
    assert found["values_fit_their_types"] == (False, "cannot be evaluated: columns_match_schema: missing: _invalid")


def test_a_check_of_the_extraction_repeats_the_last_result(loaded: World) -> None:
    """The refused extraction stays refused, whichever checks are executed again."""
    (check,) = [key for key in keys_of("products") if key.name == "row_count_not_collapsed"]
    loaded.store.shop.products.clear()
    loaded.store.touch()
    refused = execute(loaded, "products", checks=keys_of("products"), expect_success=False)
    (evaluation,) = [each for each in refused.get_asset_check_evaluations() if each.check_name == check.name]

    for _ in range(2):
        (again,) = execute(loaded, checks=[check], expect_success=False).get_asset_check_evaluations()

        assert not evaluation.passed
        assert (again.passed, again.description) == (evaluation.passed, evaluation.description)
        assert again.metadata["evaluated_by"].value == refused.run_id
