"""The real server that tests talk to: one for the session, ended by id with it."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from compileall import compile_dir
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
from hypothesis import settings

import coordination
import workers
from coordination.backend.client import DRIVER
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings
from tests import disks, ports
from tests.examples import examples
from tests.forge.server import TestForge
from tests.testbed import FORKS, Testbed

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

LONGEST_FIRST = ("chaos", "acceptance", "integration", "contracts", "unit")
"""By folder: what takes long is begun first, so that with several processes none is left alone with it in the
end.
"""
LONGEST_MODULES = ("test_documentation.py", "test_mcp_stdio.py", "test_machines.py", "test_terminals.py")
"""Begun before the others of their folder."""


gc.disable()  # thousands of tests are collected, and nothing of them is garbage
# A slow example is no failure: machines are shared.
settings.register_profile("coord", deadline=None, max_examples=examples(100))
settings.load_profile("coord")


IN_MEMORY, LEAST_BYTES = Path("/dev/shm"), 4 << 30


def pytest_configure(config: pytest.Config) -> None:
    """Keep the folders of tests in memory where there is room: tests of git then take a sixth less processor
    time, and do not wait for the disk. TMPDIR or PYTEST_DEBUG_TEMPROOT select another place.

    `python3` of todos is our interpreter: a version manager's script of that name takes 0.05 s to find one.
    """
    os.environ["PATH"] = f"{Path(sys.base_prefix, 'bin')}:{os.environ['PATH']}"
    selected = os.environ.keys() & {"TMPDIR", "PYTEST_DEBUG_TEMPROOT"}
    if not selected and IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= LEAST_BYTES:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(IN_MEMORY)
    if folder := getattr(config, "workerinput", {}).get("forks"):
        FORKS.join(Path(folder))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Let the processes that execute tests share the fork server of the process that distributes them."""
    node.workerinput["forks"] = str(FORKS.share())


def pytest_unconfigure() -> None:
    FORKS.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew-golden", action="store_true", help="write tests/golden anew instead of comparing with it"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Other modules, and tests in each, keep the order that chance gave them."""
    items.sort(key=lambda item: _place(item.path))


@cache
def _place(module: Path) -> tuple[int, bool]:
    folder = module.relative_to(Path(__file__).parent).parts[0]
    return LONGEST_FIRST.index(folder), module.name not in LONGEST_MODULES


def pytest_collection_finish() -> None:
    gc.freeze()  # what was collected and imported lasts as long as the session
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    """Hundreds of processes begin in these tests; where nothing may keep bytecode, each would compile coord
    anew.
    """
    for package in (coordination, workers):
        compile_dir(Path(package.__file__).parent, rx=re.compile("demo/packages"), quiet=2)


@pytest.fixture(scope="session", autouse=True)
def _no_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the identity and the trust file of the user who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("home") / "config"))
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    embedded = EmbeddedServer(tmp_path_factory.mktemp("ecosystem") / ".coord", Settings())
    embedded.start()
    yield embedded
    embedded.stop()


@pytest.fixture
def redis_url(server: EmbeddedServer) -> str:
    """The session's server, emptied."""
    url = server.start()
    with redis.Redis.from_url(url, driver_info=DRIVER) as client:
        client.flushall()
    return url


@pytest.fixture
def free_port() -> int:
    return ports.free_port()


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[Testbed]:
    made = Testbed(tmp_path)
    yield made
    made.end()


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path], Path]]:
    yield from disks.small_disks()


@pytest.fixture(scope="module")
def new_testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Testbed]]:
    """Makes testbeds that live as long as the module's tests, which look at them together."""
    with ExitStack() as ends:

        def make() -> Testbed:
            made = Testbed(tmp_path_factory.mktemp("testbed"))
            ends.callback(made.end)
            return made

        yield make


@pytest.fixture
def forge(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestForge]:
    """A forge of GitHub's dialect, or of the one given by `indirect`. It fails the test where a request of
    coord or an answer is not of the official description.
    """
    with TestForge(tmp_path / "forge", getattr(request, "param", "github")) as made:
        yield made
    assert made.violations == []
