from collections.abc import Iterator
from pathlib import Path

import pytest

from commerce_assets_tests.support.project import Project, running_project
from sample_store.shop import Shop
from sample_store.store import SampleStore


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project whose store is empty until the test fills it."""
    with running_project(SampleStore(Shop()), tmp_path, monkeypatch) as running:
        yield running
