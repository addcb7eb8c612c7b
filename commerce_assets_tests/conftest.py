from collections.abc import Iterator
from pathlib import Path

import pytest

from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.crashing import Scene, scene_in
from commerce_assets_tests.support.world import World, running
from sample_store.shop import Shop
from sample_store.store import SampleStore


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A project whose store is empty until the test fills it."""
    with running(SampleStore(Shop()), tmp_path, monkeypatch) as world:
        yield world


@pytest.fixture
def storage(tmp_path: Path) -> World:
    """An empty warehouse without a store."""
    return World(tmp_path)


@pytest.fixture
def database(tmp_path: Path) -> DatabaseFile:
    return DatabaseFile(path=tmp_path / "shop.duckdb", lock_timeout=0)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_in(tmp_path) as scene:
        yield scene
