"""The memory that a load of many files needs."""

from datetime import UTC, datetime

import pytest

from commerce_assets.ingest import staging
from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets.warehouse.load import load
from commerce_assets_tests.support.items import ORDERS, Item, days
from commerce_assets_tests.support.world import World
from sample_store.shop import build_orders

WINDOW = days("2024-03-15")


@pytest.mark.slow
def test_the_memory_of_a_load_does_not_grow_with_its_files(storage: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is of 32 MiB, so that a hundred of them are two million orders; here each is a page."""
    monkeypatch.setattr(staging, "_SEGMENT_BYTES", 1)
    items: list[Item] = list(build_orders(start=datetime(2024, 3, 15, tzinfo=UTC), days=1, per_day=5_000))
    staged = storage.stage(ORDERS, items, window=WINDOW)

    with DatabaseFile(path=storage.path, memory_limit="100MB").write() as connection:
        result = load(connection, staged)
        held = connection.execute("SELECT sum(memory_usage_bytes + temporary_storage_bytes) FROM duckdb_memory()")
        ((held_bytes,),) = held.fetchall()

    assert len(staged.segments) == 100
    assert result.inserted == 5_000
    # As temporary tables of the transaction, the typed rows would still be there: a megabyte a file, and more on disk.
    assert held_bytes < 20 << 20
