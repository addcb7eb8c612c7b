"""The checks: each passes on what a load has stored, and fails on what somebody or something has broken in the file."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path

import duckdb
import pytest
from dagster import AssetCheckResult, AssetCheckSeverity

from commerce_assets.defs.checks import build_check_specs, check_results
from commerce_assets.endpoint import Endpoint
from commerce_assets.endpoints import ENDPOINTS
from commerce_assets.warehouse import check_queries
from commerce_assets.warehouse.check_queries import CheckOutcome, Scope
from commerce_assets.window import Window
from commerce_assets_tests.support.items import ORDERS, PRODUCTS, days, order, product
from commerce_assets_tests.support.world import FIRST_PULL, World

WINDOW = days("2024-03-15")
CANARY = "canary@buyer.example"
VERIFIED = {"row_count_not_collapsed", "list_was_consistent"}
TEXT = "text_is_valid"
BLOCKING = {"columns_match_schema", "id_is_unique_and_present"}
WARNING = {"values_fit_their_types", "no_undeclared_fields"}
ORDERS_SCOPE = Scope(ORDERS, WINDOW, FIRST_PULL)
PRODUCTS_SCOPE = Scope(PRODUCTS, None, FIRST_PULL)


@pytest.fixture(scope="module")
def flawless(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three orders and two products, without a flaw, and full of what nobody else should see."""
    storage = World(tmp_path_factory.mktemp("flawless"))
    buyer = {"buyer_email": CANARY, "buyer_name": CANARY, "download_url": CANARY}
    storage.load(ORDERS, [order(number, **buyer) for number in (1, 2, 3)], window=WINDOW)
    storage.load(PRODUCTS, [product(1), product(2)])
    return storage


@pytest.fixture
def storage(tmp_path: Path, flawless: World) -> World:
    """A copy of it, to be broken; two pulls have been made."""
    shutil.copy(flawless.path, tmp_path)
    return World(tmp_path, pulls=count(2))


def ask(
    storage: World,
    question: Callable[[duckdb.DuckDBPyConnection, Scope], CheckOutcome],
    scope: Scope = ORDERS_SCOPE,
) -> CheckOutcome:
    with storage.file.read() as connection:
        finding = question(connection, scope)
    assert CANARY not in repr(finding)
    return finding


def results(storage: World, scope: Scope) -> dict[str | None, AssetCheckResult]:
    with storage.file.read() as connection:
        return {result.check_name: result for result in check_results(connection, scope)}


def test_after_a_refresh_written_keys_are_checked_everywhere(
    storage: World,
) -> None:
    storage.load(ORDERS, [order(2, tag="x"), order(7)], updated_after=FIRST_PULL)
    ((began_at,),) = storage.query("SELECT _extracted_at FROM commerce.orders WHERE id = 7")
    scope = Scope(ORDERS, None, began_at, only_written=True)

    assert (
        ask(storage, check_queries.id_is_unique_and_present, scope).summary == "2 rows written, each with a unique id"
    )

    storage.execute(
        "INSERT INTO commerce.orders BY NAME (SELECT * REPLACE (TIMESTAMPTZ '2020-01-01' AS created_at, "
        "TIMESTAMPTZ '2020-01-01' AS _extracted_at) FROM commerce.orders WHERE id = 7)"
    )
    finding = ask(storage, check_queries.id_is_unique_and_present, scope)
    assert (finding.passed, finding.evidence["examples"]) == (False, ["7"])


@pytest.mark.parametrize("scope", [ORDERS_SCOPE, PRODUCTS_SCOPE], ids=lambda scope: scope.endpoint.name)
def test_every_check_passes_on_what_a_load_has_stored(storage: World, scope: Scope) -> None:
    found = results(storage, scope)
    assert {name for name, result in found.items() if result.passed} == set(found)
    assert {*found, *VERIFIED, TEXT} == {spec.name for spec in build_check_specs(endpoint=scope.endpoint)}


@pytest.mark.parametrize("window", [days("2024-03-20"), days("1999-01-01", "2030-01-01")], ids=str)
def test_every_check_passes_with_no_rows_and_with_many(storage: World, window: Window) -> None:
    """Fault 57."""
    storage.load(ORDERS, [order(4, f"{window.first_day}T00:00:00Z")] * (window.first_day.year < 2000), window=window)
    began_at = FIRST_PULL + timedelta(hours=2)
    assert all(result.passed for result in results(storage, Scope(ORDERS, window, began_at)).values())


def test_every_check_passes_on_an_empty_table(tmp_path: Path) -> None:
    """Fault 57."""
    storage = World(tmp_path)
    storage.load(ORDERS, [], window=WINDOW)
    storage.load(PRODUCTS, [])
    for scope in (ORDERS_SCOPE, PRODUCTS_SCOPE):
        assert all(result.passed for result in results(storage, scope).values())


@pytest.mark.parametrize(
    ("change", "summary"),
    [
        ("DROP COLUMN tag", "missing: tag"),
        ("ADD COLUMN surprise VARCHAR", "undeclared: surprise"),
        ("RENAME COLUMN tag TO label", "missing: tag; undeclared: label"),
        ("ALTER COLUMN settled_gross TYPE DOUBLE", "settled_gross: DOUBLE instead of DECIMAL(18,4)"),
        ("ALTER COLUMN updated_at TYPE TIMESTAMP", "updated_at: TIMESTAMP instead of TIMESTAMP WITH TIME ZONE"),
        ("ALTER COLUMN cart TYPE VARCHAR", "cart: VARCHAR instead of JSON"),
        ("DROP COLUMN _extracted_at", "missing: _extracted_at"),
    ],
)
def test_a_column_that_is_not_as_declared_is_named(storage: World, change: str, summary: str) -> None:
    """Fault 42. Fault 61."""
    storage.execute(f"ALTER TABLE commerce.orders {change}")
    finding = ask(storage, check_queries.columns_match_schema)
    assert (finding.passed, finding.summary) == (False, summary)


def test_the_evidence_of_the_columns_lists_each_kind_of_fault(storage: World) -> None:
    storage.execute(
        "ALTER TABLE commerce.orders DROP COLUMN tag",
        "ALTER TABLE commerce.orders ADD COLUMN more INTEGER",
        "ALTER TABLE commerce.orders ALTER COLUMN refunded TYPE VARCHAR",
    )
    assert ask(storage, check_queries.columns_match_schema).evidence == {
        "columns": len(ORDERS.stored_columns),
        "missing": ["tag"],
        "unexpected": ["more"],
        "retyped": ["refunded: VARCHAR instead of BOOLEAN"],
    }


@pytest.mark.parametrize(
    ("damage", "evidence"),
    [
        (
            "INSERT INTO commerce.orders FROM commerce.orders WHERE id IN (1, 2)",
            {"rows": 5, "without": 0, "repeated": 2, "examples": ["1", "2"]},
        ),
        (
            "UPDATE commerce.orders SET id = NULL WHERE id < 3",
            {"rows": 3, "without": 2, "repeated": 0, "examples": []},
        ),
        (
            "INSERT INTO commerce.orders SELECT o.* REPLACE (n AS id) FROM commerce.orders o, range(9) r(n) WHERE id=1",
            {"rows": 12, "without": 0, "repeated": 3, "examples": ["1", "2", "3"]},
        ),
    ],
)
def test_missing_or_repeated_ids_are_counted_in_the_whole_table(
    storage: World, damage: str, evidence: dict[str, object]
) -> None:
    """Fault 34. Fault 38."""
    storage.execute(damage)
    finding = ask(storage, check_queries.id_is_unique_and_present, Scope(ORDERS, None, FIRST_PULL))
    assert (finding.passed, finding.evidence) == (False, evidence)


def test_the_ids_of_a_window_are_unique_in_the_whole_table(storage: World) -> None:
    def repeated(*bounds: str) -> tuple[object, object]:
        finding = ask(storage, check_queries.id_is_unique_and_present, Scope(ORDERS, days(*bounds), FIRST_PULL))
        return finding.evidence["repeated"], finding.evidence["examples"]

    storage.execute(
        "INSERT INTO commerce.orders BY NAME "
        "(SELECT * REPLACE (TIMESTAMPTZ '2020-01-01' AS created_at) FROM commerce.orders WHERE id = 1)"
    )
    ((day,),) = storage.query("SELECT max(created_at)::DATE::VARCHAR FROM orders WHERE id = 1")
    assert repeated(day) == repeated("2020-01-01") == (1, ["1"])
    # Another window reads only its own ids.
    assert repeated("2024-03-20") == (0, [])


def test_values_that_do_not_fit_are_counted_by_field(storage: World) -> None:
    """Fault 39. Fault 66."""
    bad = [
        order(1, settled_gross=f"£9 {CANARY}", buyer_email={"address": CANARY}),
        order(2, settled_gross="free"),
        order(3),
    ]
    storage.load(ORDERS, bad, window=WINDOW)
    finding = ask(storage, check_queries.values_fit_their_types)
    assert (finding.passed, finding.summary) == (
        False,
        "values that do not fit their column, stored in _invalid: settled_gross in 2 rows, buyer_email in 1 row",
    )
    assert finding.evidence == {
        "rows_by_field": {"settled_gross": 2, "buyer_email": 1},
        "examples": ["1", "2"],
    }


def test_fields_that_are_not_declared_are_counted_by_name(storage: World) -> None:
    """Fault 41. Fault 66."""
    extra = [order(1, test_mode=True, licence={"key": CANARY}), order(2, test_mode=False), order(3)]
    storage.load(ORDERS, extra, window=WINDOW)
    finding = ask(storage, check_queries.no_undeclared_fields)
    assert (finding.passed, finding.summary) == (
        False,
        "undeclared fields, stored in _extra: test_mode in 2 rows, licence in 1 row",
    )
    assert finding.evidence == {"rows_by_field": {"test_mode": 2, "licence": 1}, "examples": ["1", "2"]}


@pytest.mark.parametrize("question", [check_queries.values_fit_their_types, check_queries.no_undeclared_fields])
def test_a_run_warns_only_of_rows_in_its_partitions(
    storage: World, question: Callable[[duckdb.DuckDBPyConnection, Scope], CheckOutcome]
) -> None:
    storage.load(ORDERS, [order(9, "2024-03-20T00:00:00Z", refunded="maybe", unknown=1)], window=days("2024-03-20"))
    assert ask(storage, question, ORDERS_SCOPE).passed
    assert not ask(storage, question, Scope(ORDERS, days("2024-03-20"), FIRST_PULL)).passed
    assert not ask(storage, question, Scope(ORDERS, None, FIRST_PULL)).passed


@pytest.mark.parametrize(
    ("damage", "outside"),
    [
        ("UPDATE commerce.orders SET created_at = NULL WHERE id = 2", 1),
        ("UPDATE commerce.orders SET created_at = '2024-03-16 00:00+00' WHERE id = 2", 1),
        ("UPDATE commerce.orders SET created_at = '2024-03-14 23:59:59.999999+00' WHERE id = 2", 1),
        ("UPDATE commerce.orders SET created_at = '2024-03-15 00:00+00' WHERE id = 2", 0),
        ("UPDATE commerce.orders SET created_at = '2024-03-15 23:59:59.999999+00' WHERE id = 2", 0),
        # It is outside, but this run did not load it.
        (
            (
                "UPDATE commerce.orders SET created_at = '2020-01-01 00:00+00', "
                "_extracted_at = '2024-12-31 00:00+00' WHERE id = 2"
            ),
            0,
        ),
    ],
)
def test_a_row_of_the_run_must_be_inside_its_partitions(storage: World, damage: str, outside: int) -> None:
    """Fault 44. Fault 46."""
    storage.execute(damage)
    finding = ask(storage, check_queries.created_at_within_partition)
    assert finding.passed == (outside == 0)
    assert finding.evidence == {"outside": outside, "examples": ["2"] * outside}


def test_of_many_rows_ten_are_named(storage: World) -> None:
    storage.load(ORDERS, [order(number, refunded="?", unknown=1) for number in range(50)], window=WINDOW)
    storage.execute("UPDATE commerce.orders SET created_at = NULL")
    for question, scope in (
        (check_queries.values_fit_their_types, Scope(ORDERS, None, FIRST_PULL)),
        (check_queries.no_undeclared_fields, Scope(ORDERS, None, FIRST_PULL)),
        (check_queries.created_at_within_partition, ORDERS_SCOPE),
    ):
        assert ask(storage, question, scope).evidence["examples"] == [str(number) for number in range(10)]


def test_an_endpoint_without_a_cursor_has_no_partition_check(storage: World) -> None:
    with pytest.raises(ValueError, match="products has no cursor"):
        ask(storage, check_queries.created_at_within_partition, PRODUCTS_SCOPE)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_only_checks_that_protect_downstream_assets_block(endpoint: Endpoint) -> None:
    specs = build_check_specs(endpoint=endpoint)
    cursor = {"created_at_within_partition"} if endpoint.is_partitioned else set()
    assert {spec.name for spec in specs if spec.blocking} == BLOCKING | cursor | VERIFIED
    assert {spec.name for spec in specs if not spec.blocking} == WARNING | {TEXT}
    assert all(spec.description for spec in specs)


def test_a_failed_check_has_a_severity_and_no_buyers_data(storage: World) -> None:
    """Fault 66."""
    bad = [order(number, refunded=CANARY, unknown=CANARY, buyer_email=CANARY) for number in (1, 2, 3)]
    storage.load(ORDERS, bad, window=WINDOW)
    storage.execute(
        "ALTER TABLE commerce.orders ADD COLUMN surprise VARCHAR",
        "INSERT INTO commerce.orders FROM commerce.orders WHERE id = 1",
        "UPDATE commerce.orders SET created_at = NULL WHERE id = 2",
    )
    found = results(storage, ORDERS_SCOPE)
    assert not any(result.passed for result in found.values())
    errors = {name for name, result in found.items() if result.severity == AssetCheckSeverity.ERROR}
    assert errors == BLOCKING | {"created_at_within_partition"}
    assert CANARY not in repr(found)
