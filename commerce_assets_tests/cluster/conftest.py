from collections.abc import Iterator

import pytest

from commerce_assets_tests.support.servers import PostgresServer, running_postgres


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and take those out that are about a file where a lake is meant."""
    for item in [item for item in items if "/cluster/" in item.path.as_posix()]:
        item.add_marker(pytest.mark.cluster)
        if item.get_closest_marker("file") and "lake" in item.name:
            items.remove(item)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    """The URL of a new database."""
    return postgres.new_database()
