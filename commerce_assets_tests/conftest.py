import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from commerce_assets.warehouse.file import DatabaseFile
from commerce_assets_tests.support.crashing import Scene, scene_in
from commerce_assets_tests.support.world import MakeWorld, World, running
from sample_store.shop import Shop
from sample_store.store import SampleStore

_ROOM_FOR_TESTS = 2 << 30


def pytest_configure() -> None:
    # As in an activated environment: texts call the program by its name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # A shell without job control lets background jobs ignore Ctrl-C, nohup lets them ignore the end of the terminal.
    # A process that a test starts inherits that.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    # Databases wait for the disk at each commit. Files in memory, where it has room, make the tests a third faster.
    memory = Path("/dev/shm")  # noqa: S108 - pytest creates its folder in it
    # Some tests start programs of their folder, which containers may not allow there.
    is_usable = memory.is_dir() and not os.statvfs(memory).f_flag & os.ST_NOEXEC
    if is_usable and shutil.disk_usage(memory).free > _ROOM_FOR_TESTS:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


@pytest.fixture(scope="session")
def make_world() -> MakeWorld:
    """What makes the worlds of the tests: a DuckDB file, unless a module has lakes."""
    return World


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_world: MakeWorld) -> Iterator[World]:
    """A project whose store is empty until the test fills it."""
    with running(SampleStore(Shop()), tmp_path, monkeypatch, make_world) as world:
        yield world


@pytest.fixture
def storage(tmp_path: Path, make_world: MakeWorld) -> World:
    """An empty warehouse without a store."""
    return make_world(tmp_path)


@pytest.fixture
def database(tmp_path: Path) -> DatabaseFile:
    return DatabaseFile(path=tmp_path / "shop.duckdb", lock_timeout=0)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_in(tmp_path) as scene:
        yield scene
