"""The suites of what is stored, on DuckDB 1.5 with 2.0's file format, and on a lake."""

import pytest

from commerce_assets_tests.integration.test_analytics import *  # noqa: F403
from commerce_assets_tests.integration.test_load import *  # noqa: F403
from commerce_assets_tests.integration.test_own_assets import *  # noqa: F403
from commerce_assets_tests.integration.test_privacy import *  # noqa: F403
from commerce_assets_tests.integration.test_row_history import *  # noqa: F403
from commerce_assets_tests.support.lake import LakeWorld
from commerce_assets_tests.support.servers import PostgresServer
from commerce_assets_tests.support.world import MakeWorld, World


@pytest.fixture(scope="session", params=["file", "lake"])
def make_world(request: pytest.FixtureRequest, postgres: PostgresServer) -> MakeWorld:
    if request.param == "file":
        return World
    # A database for each world of the session.
    return lambda folder, **options: LakeWorld(folder, url=postgres.new_database(), **options)
