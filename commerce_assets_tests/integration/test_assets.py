"""Assets, checks and metadata: the real definitions against a real store, in this process."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    AssetMaterialization,
    ExecuteInProcessResult,
    TableMetadataValue,
)

from commerce_assets.defs.checks import build_check_specs
from commerce_assets.endpoint import ColumnType, Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets_tests.support.expected import as_stored
from commerce_assets_tests.support.faulty_store import Edit
from commerce_assets_tests.support.items import BY_NAME, orders, product
from commerce_assets_tests.support.world import World
from sample_store.shop import Shop, build_orders, build_shop

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS = BY_NAME["orders"]


def give(project: World, shop: Shop) -> None:
    project.store.shop = shop
    project.store.touch()


def assert_equal_to_store(project: World, endpoint: Endpoint, items: list[dict[str, Any]]) -> None:
    stored = project.rows(endpoint)
    assert stored.keys() == {item["id"] for item in items}
    json_columns = [column.name for column in endpoint.columns if column.type == ColumnType.JSON]
    for item in items:
        row = stored[item["id"]]
        for name in json_columns:
            row[name] = None if row[name] is None else json.loads(row[name])
        assert {name: row[name] for name in item} == {
            name: value for name, value in as_stored(endpoint, item).items() if name in item
        }
        assert row["_extra"] is None
        assert row["_invalid"] is None


def materializations(result: ExecuteInProcessResult, asset: str) -> list[AssetMaterialization]:
    return [
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == AssetKey(asset)
    ]


def numbers(event: AssetMaterialization) -> dict[str, Any]:
    return {name: value.value for name, value in event.metadata.items()}


def evaluation(result: ExecuteInProcessResult, name: str, asset: str | None = None) -> AssetCheckEvaluation:
    return next(
        check
        for check in result.get_asset_check_evaluations()
        if check.check_name == name and asset in {None, check.asset_key.to_user_string()}
    )


def test_every_table_equals_the_store_field_by_field(project: World) -> None:
    now = datetime.now(UTC)
    give(project, build_shop(now=now, days=40, orders_per_day=6))
    first = datetime.fromisoformat(project.store.shop.orders[0]["created_at"]).date()
    yesterday = date.fromordinal(now.date().toordinal() - 1)

    project.run("catalog")
    project.run("orders", days=(first, yesterday))

    shop = project.store.shop
    for endpoint, items in (
        (BY_NAME["products"], shop.products),
        (BY_NAME["packages"], shop.packages),
        (BY_NAME["subscriptions"], shop.subscriptions),
        (ORDERS, [order for order in shop.orders if order["created_at"][:10] <= yesterday.isoformat()]),
    ):
        assert items
        assert_equal_to_store(project, endpoint, items)


def test_a_hundred_days_are_one_run_with_the_fewest_requests(
    project: World,
) -> None:
    give(project, Shop(orders=build_orders(start=NEW_YEAR, days=100, per_day=200)))

    result = project.run("orders", days=(date(2026, 1, 1), date(2026, 4, 10)))

    assert_equal_to_store(project, ORDERS, project.store.shop.orders)
    events = materializations(result, "orders")
    assert [event.partition for event in events][:2] == ["2026-01-01", "2026-01-02"]
    assert len(events) == 100
    # 20,000 orders fill 400 pages. The last of them is full, so two more requests prove the end.
    assert project.requests() == 402
    assert {numbers(event)["dagster/partition_row_count"] for event in events} == {200}
    assert numbers(events[-1])["dagster/row_count"] == 20_000


def test_a_range_pulls_its_padded_window_and_stops_after_its_end(project: World) -> None:
    give(project, Shop(orders=build_orders(start=NEW_YEAR, days=40, per_day=60)))

    result = project.run("orders", days=(date(2026, 1, 11), date(2026, 1, 20)))

    # A day more on either side: 13 days of 60 fill 15.6 pages, and one more request proves the end.
    assert project.requests() == 17
    assert project.query("SELECT count(*), min(created_at)::DATE, max(created_at)::DATE FROM orders") == [
        (600, date(2026, 1, 11), date(2026, 1, 20))
    ]
    assert numbers(materializations(result, "orders")[-1])["run/rows_outside_window"] == 180


@pytest.mark.parametrize(("rows", "requests"), [(0, 1), (1, 2), (49, 2), (50, 2), (51, 3), (100, 4)])
def test_a_list_takes_its_pages_and_one_request_for_its_end(project: World, rows: int, requests: int) -> None:
    product = build_shop(now=NEW_YEAR, days=1).products[0]
    give(project, Shop(products=[{**product, "id": number} for number in range(1, rows + 1)]))

    project.run("catalog")

    assert len(project.store.requests_to("/products")) == requests
    assert project.query("SELECT count(*) FROM products") == [(rows,)]


def test_an_empty_day_materializes_with_no_rows(project: World) -> None:
    """Fault 57."""
    result = project.run("orders", days=(date(2026, 1, 1), date(2026, 1, 1)))

    (event,) = materializations(result, "orders")
    assert numbers(event)["dagster/partition_row_count"] == 0
    assert project.query("SELECT count(*) FROM orders") == [(0,)]
    # The loads' own checks; whether the table is fresh and complete is another matter.
    own = {spec.name for spec in build_check_specs(endpoint=ORDERS)}
    assert {check.check_name for check in result.get_asset_check_evaluations() if check.passed} >= own


def test_the_same_days_three_times_rewrite_nothing(project: World) -> None:
    """Fault 55."""
    give(project, Shop(orders=build_orders(start=NEW_YEAR, days=3, per_day=70)))
    days = (date(2026, 1, 1), date(2026, 1, 3))
    project.run("orders", days=days)
    before = project.rows(ORDERS)

    for _ in range(2):
        result = project.run("orders", days=days)

    assert project.rows(ORDERS) == before
    event = numbers(materializations(result, "orders")[0])
    assert (event["rows_unchanged"], event["rows_updated"], event["rows_inserted"]) == (70, 0, 0)


def test_the_materialization_has_the_numbers_that_the_ui_plots(project: World) -> None:
    give(project, Shop(orders=build_orders(start=NEW_YEAR, days=2, per_day=30)))
    days = (date(2026, 1, 1), date(2026, 1, 2))
    project.run("orders", days=days)
    project.store.update_order(1, tag="looked at")
    project.store.delete("orders", 31)

    events = materializations(project.run("orders", days=days), "orders")

    first, second = (numbers(event) for event in events)
    assert {name for name, value in first.items() if isinstance(value, int | float)} == {
        "dagster/partition_row_count",
        *("rows_inserted", "rows_updated", "rows_unchanged", "rows_removed"),
    }
    # The totals of the run, once, under names of their own.
    assert second.keys() - first.keys() == {
        "dagster/row_count",
        *("run/rows_loaded", "run/rows_inserted", "run/rows_updated", "run/rows_unchanged", "run/rows_removed"),
        *("run/rows_outside_window", "run/rows_repeated"),
        *("run/rows_with_invalid_values", "run/rows_with_undeclared_fields", "run/fields_changed"),
        *("run/requests", "run/retries", "run/bytes", "run/seconds_rate_limited"),
        *("run/seconds_to_extract", "run/seconds_to_load"),
        *("rows_per_day", "preview"),
    }
    assert (first["rows_updated"], first["rows_unchanged"], first["rows_removed"]) == (1, 29, 0)
    assert (second["rows_unchanged"], second["rows_removed"], second["dagster/partition_row_count"]) == (29, 1, 29)
    assert (second["dagster/row_count"], second["run/rows_loaded"]) == (59, 59)
    assert (second["run/rows_updated"], second["run/rows_unchanged"], second["run/rows_removed"]) == (1, 58, 1)
    # Two pages and the proof of their end; and all again, for a stored order is not in them.
    assert second["run/requests"] == 6
    assert second["run/bytes"] > 10_000


def test_the_preview_shows_five_rows_with_personal_data_masked(project: World) -> None:
    give(project, Shop(orders=build_orders(start=NEW_YEAR, days=2, per_day=30)))

    events = materializations(project.run("orders", days=(date(2026, 1, 1), date(2026, 1, 2))), "orders")

    assert "preview" not in events[0].metadata
    preview = events[1].metadata["preview"]
    assert isinstance(preview, TableMetadataValue)
    records = [dict(record.data) for record in preview.records]
    assert [record["id"] for record in records] == ["60", "59", "58", "57", "56"]
    assert {record["buyer_email"] for record in records} == {"***"}


def test_an_undeclared_field_is_kept_and_named_by_a_warning(project: World) -> None:
    """Fault 41."""
    orders = build_orders(start=NEW_YEAR, days=1, per_day=3)
    orders[1]["test_mode"] = True
    give(project, Shop(orders=orders))

    result = project.run("orders", days=(date(2026, 1, 1), date(2026, 1, 1)))

    assert project.query("SELECT id, _extra FROM orders WHERE _extra IS NOT NULL") == [(2, '{"test_mode":true}')]
    check = evaluation(result, "no_undeclared_fields")
    assert not check.passed
    assert check.severity.value == "WARN"
    assert check.metadata["rows_by_field"].value == {"test_mode": 1}
    assert result.success


def test_a_misfit_value_is_kept_raw_and_named_by_a_warning(project: World) -> None:
    """Fault 39."""
    orders = build_orders(start=NEW_YEAR, days=1, per_day=3)
    orders[2]["settled_gross"] = "£15.00"
    give(project, Shop(orders=orders))

    result = project.run("orders", days=(date(2026, 1, 1), date(2026, 1, 1)))

    assert project.query("SELECT id, settled_gross, _invalid FROM orders WHERE _invalid IS NOT NULL") == [
        (3, None, '{"settled_gross":"£15.00"}')
    ]
    check = evaluation(result, "values_fit_their_types")
    assert check.description == "values that do not fit their column, stored in _invalid: settled_gross in 1 row"
    assert check.metadata["examples"].value == ["3"]
    assert result.success


def test_a_deleted_product_is_marked_until_it_comes_back(project: World) -> None:
    """Fault 63."""
    give(project, build_shop(now=NEW_YEAR, days=1))
    project.run("catalog")
    gone = project.store.shop.products[3]
    project.store.delete("products", gone["id"])

    project.run("catalog")

    assert project.query("SELECT id FROM products WHERE _deleted_at IS NOT NULL") == [(gone["id"],)]
    project.store.add("products", gone)
    project.run("catalog")
    assert project.query("SELECT id FROM products WHERE _deleted_at IS NOT NULL") == []


def delete_after_first_page(project: World, monkeypatch: pytest.MonkeyPatch, kind: str, item_id: int) -> None:
    """Has the store lose a row right after it has answered the next request for a first page of its list."""
    respond = project.store.respond

    def respond_and_delete(path: str, query: Any, headers: Any) -> Any:
        answer = respond(path, query, headers)
        if path.endswith(kind) and query["page"] == "1":
            project.store.delete(kind, item_id)
        return answer

    monkeypatch.setattr(project.store, "respond", respond_and_delete)


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_delete_during_a_pull_loses_no_other_product(
    project: World, monkeypatch: pytest.MonkeyPatch, *, is_stored: bool
) -> None:
    """Fault 33."""
    product = build_shop(now=NEW_YEAR, days=1).products[0]
    give(project, Shop(products=[{**product, "id": number} for number in range(1, 121)]))
    if is_stored:
        project.run("catalog")
    delete_after_first_page(project, monkeypatch, "products", 3)

    project.run("catalog")

    assert project.query("SELECT count(*) FROM products WHERE _deleted_at IS NULL") == [(120,)]
    project.run("catalog")
    assert project.query("SELECT id FROM products WHERE _deleted_at IS NOT NULL") == [(3,)]


def test_a_delete_during_a_pull_loses_no_other_order(project: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 33: the pages of a window do not overlap, but an order that is stored does not go unasked."""
    give(project, Shop(orders=build_orders(start=NEW_YEAR, days=1, per_day=120)))
    ids = [order["id"] for order in project.store.shop.orders]
    day = (date(2026, 1, 1), date(2026, 1, 1))
    project.run("orders", days=day)
    delete_after_first_page(project, monkeypatch, "orders", ids[2])
    project.store.forget_requests()

    project.run("orders", days=day)

    assert project.rows(ORDERS).keys() == {*ids} - {ids[2]}
    # The first reading misses another order than the second, so a third one decides.
    assert project.requests() == 12


def test_a_product_that_returns_in_an_older_version_is_unmarked(project: World) -> None:
    give(project, build_shop(now=NEW_YEAR, days=1))
    project.run("catalog")
    gone = project.store.shop.products[3]
    project.store.delete("products", gone["id"])
    project.run("catalog")

    project.store.add("products", {**gone, "name": "From a backup", "updated_at": "2001-01-01T00:00:00Z"})
    project.run("catalog")

    assert project.query(f"SELECT name, _deleted_at FROM products WHERE id = {gone['id']}") == [("From a backup", None)]


def test_a_suddenly_empty_list_is_refused_until_allowed(project: World) -> None:
    """Fault 64."""
    give(project, build_shop(now=NEW_YEAR, days=1))
    project.run("catalog")
    stored = project.query("SELECT count(*) FROM products")
    project.store.shop.products.clear()
    project.store.touch()

    result = project.run("catalog", expect_success=False)

    assert not result.success
    assert not materializations(result, "products")
    check = evaluation(result, "row_count_not_collapsed", "products")
    assert (check.passed, check.blocking) == (False, True)
    assert f"returns 0 rows where {stored[0][0]} are stored. Nothing was stored." in str(check.description)
    assert project.query("SELECT count(*) FROM products WHERE _deleted_at IS NULL") == stored
    project.run("catalog", config={"ops": {"extract_products": {"config": {"allow_shrinkage": True}}}})
    assert project.query("SELECT count(*) FROM products WHERE _deleted_at IS NULL") == [(0,)]


def test_bytes_that_are_no_text_are_stored_with_a_warning(project: World) -> None:
    """Fault 84."""
    give(project, Shop(products=[product(1, name="canary")]))
    project.server.script(otherwise=Edit(lambda body: body.replace(b"canary", b"Zo\xeb")))

    check = evaluation(project.run("catalog"), "text_is_valid", "products")

    assert (check.passed, check.severity) == (False, AssetCheckSeverity.WARN)
    assert project.query("SELECT name FROM products") == [("Zo\ufffd",)]


def test_a_list_that_keeps_moving_fails_its_check(project: World) -> None:
    """Fault 74: a row comes twice, another one never, and each reading has another order than the one before."""
    give(project, Shop(orders=orders(120, start=NEW_YEAR)))
    readings: list[int] = []

    def move(body: bytes) -> bytes:
        items = json.loads(body)
        readings.extend(1 for item in items if item["order"]["id"] == 1)
        for item in items:
            item["order"]["id"] -= item["order"]["id"] == 51
        return json.dumps(items[::-1] if len(readings) % 2 else items).encode()

    project.server.script(otherwise=Edit(move))

    result = project.run("orders", days=(NEW_YEAR.date(), NEW_YEAR.date()), expect_success=False)

    check = evaluation(result, "list_was_consistent")
    assert (check.passed, check.blocking) == (False, True)
    assert "the list moved during each of 6 readings, which missed 1 row" in str(check.description)
    assert not materializations(result, "orders")
    assert not project.path.exists()


def test_a_wrong_key_fails_with_one_request_and_a_fix(project: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 5."""
    monkeypatch.setenv("COMMERCE_API_SECRET", "not-the-secret")

    result = project.run("orders", days=(date(2026, 1, 1), date(2026, 1, 1)), expect_success=False)

    assert not result.success
    assert project.requests() == 1
    (failure,) = result.get_step_failure_events()
    text = str(failure)
    assert "orders of 2026-01-01, page 1, first attempt: the store answered 401 Unauthorized" in text
    assert "COMMERCE_API_SECRET" in text
    assert "not-the-secret" not in text


@pytest.mark.parametrize("variable", ["COMMERCE_API_BASE_URL", "COMMERCE_API_KEY", "COMMERCE_API_SECRET"])
@pytest.mark.parametrize("value", [None, "   "])
def test_a_credential_that_is_missing_or_blank_is_named(
    project: World, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None
) -> None:
    """Fault 67."""
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)

    with pytest.raises(Exception, match=variable):
        project.run("catalog")

    assert project.requests() == 0


def test_a_partition_that_does_not_exist_is_refused(project: World) -> None:
    """Fault 58."""
    with pytest.raises(Exception, match="2031-01-01"):
        project.run("orders", days=(date(2031, 1, 1), date(2031, 1, 1)))

    assert project.requests() == 0


def test_every_endpoint_has_its_checks_and_some_block() -> None:
    for endpoint in ENDPOINTS:
        blocking = {spec.name for spec in build_check_specs(endpoint=endpoint) if spec.blocking}
        expected = {
            "row_count_not_collapsed",
            "list_was_consistent",
            "columns_match_schema",
            "id_is_unique_and_present",
        }
        assert blocking == (expected | {"created_at_within_partition"} if endpoint.name == "orders" else expected)


def test_a_database_in_a_missing_folder_fails_before_the_pull(project: World) -> None:
    """Fault 54."""
    project.settings["COMMERCE_DUCKDB_PATH"] = str(project.folder / "nowhere" / "commerce.duckdb")

    result = project.run("catalog", expect_success=False)

    assert "nowhere, does not exist" in str(result.get_step_failure_events()[0])
    assert project.requests() == 0
    assert not (project.folder / "nowhere").exists()
