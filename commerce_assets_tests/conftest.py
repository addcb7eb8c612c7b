from collections.abc import Iterator
from pathlib import Path

import pytest

from commerce_assets_tests.support.world import World, running
from sample_store.shop import Shop
from sample_store.store import SampleStore


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A project whose store is empty until the test fills it."""
    with running(SampleStore(Shop()), tmp_path, monkeypatch) as world:
        yield world
