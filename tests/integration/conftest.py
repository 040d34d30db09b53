"""Fixtures of workers, stores and hosts."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.broker.celery_app import make_app
from coordination.operations.local import Local
from coordination.operations.state import state_folder
from coordination.operations.supervision import FILE
from coordination.processes import start_time
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance.cleaning import Cleaning
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.cleanup_host import Machine
from tests.commands import Started
from tests.engine import Engine
from tests.fork_client import PipedFork
from tests.hosts import TcpRedis, World
from tests.local_users import WORKER, Make, begin_user
from tests.plans import Todos, ecosystem, graph, order
from tests.ports import free_port
from tests.restricted_workers import Site
from tests.waiting import until
from tests.worktrees import Run, make_checkout
from workers.config import WorkerConfig
from workers.container import Container

MakeWorker = Callable[..., Container]


def submitted(store: RunStore, todos: Todos, *how: object, **more: Mapping[str, object]) -> Engine:
    """A run of these todos; `how` as for `order`."""
    run = Engine(store)
    run.submit(graph(todos, **more), ecosystem(todos, **more), order(*how))  # type: ignore[arg-type]
    return run


@pytest.fixture
def store(redis_url: str) -> Iterator[RunStore]:
    """In a namespace of its own, `test`."""
    with closing(connect(redis_url, Profile.COMMAND)) as client:
        yield RunStore(client, "test")


@pytest.fixture
def dispatcher(redis_url: str, store: RunStore) -> Dispatcher:
    return Dispatcher(make_app(redis_url, store.keys, Settings(namespace="test")), store)


@pytest.fixture
def make_worker(redis_url: str, tmp_path: Path) -> Iterator[MakeWorker]:
    """Makes a worker's parts, serving plain folders by their names and repositories by their paths."""
    with ExitStack() as ends:

        def make(
            *folders: str, state: str = ".coord", settings: Settings | None = None, **repos: Path
        ) -> Container:
            for name in folders:
                (tmp_path / name).mkdir()
            places = {**{name: tmp_path / name for name in folders}, **repos}
            config = WorkerConfig(
                redis_url=redis_url,
                settings=settings or Settings(),
                places=places,
                jobs=1,
                state=tmp_path / state,
            )
            made = Container(config)
            ends.callback(made.close)
            return made

        yield make


@pytest.fixture
def start() -> Iterator[type[Started]]:
    """`Started`; whatever a test has started ends with it."""
    everything: list[Started] = []

    class Recorded(Started):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            everything.append(self)

    yield Recorded
    for one in everything:
        one.child.kill("the test is over")
        one.end()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, under a HOME without configuration."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "home").mkdir()
    return make_checkout(tmp_path / "checkouts" / "widgets")


@pytest.fixture
def run(tmp_path: Path, checkout: Path) -> Iterator[Run]:
    """Attempts in the worktree of one run."""
    it = Run(tmp_path, checkout)
    yield it
    it.tree.leave()


@pytest.fixture
def machine(tmp_path: Path, store: RunStore, redis_url: str) -> Iterator[Machine]:
    made = Machine(tmp_path, store, redis_url)
    made.work()
    yield made
    made.stop()


@pytest.fixture
def cleaning(store: RunStore) -> Cleaning:
    return Cleaning(store)


@pytest.fixture(scope="module")
def tcp_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpRedis]:
    port = free_port()
    server = EmbeddedServer(tmp_path_factory.mktemp("server") / ".coord", Settings(server_port=port))
    address = urlsplit(server.start())
    yield TcpRedis(port, address.password or "", Path(address.path))
    server.stop()


@pytest.fixture
def tcp(tcp_redis: TcpRedis) -> str:
    url = tcp_redis.url(tcp_redis.port)
    with connect(url, Profile.COMMAND) as client:
        client.flushall()
    return url


@pytest.fixture
def world(tmp_path: Path, tcp: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    made = World(tmp_path, tcp)
    yield made
    for host in made.hosts:
        host.parts.close()


@pytest.fixture(scope="module")
def serving(server: EmbeddedServer) -> Iterator[Site]:
    made = Site(server.start())
    made.serving.start()
    until(lambda: made.client.pubsub_numpat() == 1)
    yield made
    made.close()


@pytest.fixture
def site(serving: Site, redis_url: str) -> Site:
    """With an empty Redis."""
    return serving


@pytest.fixture
def fleet_file(tmp_path: Path) -> Iterator[Path]:
    """An ecosystem file; whatever was started for it is ended, by its records."""
    path = tmp_path / "eco" / "ecosystem.yaml"
    path.parent.mkdir()
    path.write_text("repos: []\n")
    (tmp_path / "worker.py").write_text(WORKER)
    yield path
    for found in sorted(path.parent.rglob("*.json"), key=lambda found: found.stem != "supervisor"):
        if found.name == FILE:
            continue
        facts = json.loads(found.read_text())
        if start_time(facts["pid"]) == facts["started"]:
            os.kill(facts["pid"], signal.SIGKILL)


@pytest.fixture
def user(fleet_file: Path, tmp_path: Path) -> Iterator[Make]:
    def make(mode: str = "prompt", **settings: object) -> Local:
        return Local(
            fleet_file,
            Settings(**settings),  # type: ignore[arg-type]
            ready=lambda _, pid: (state_folder(fleet_file) / f"ready-{pid}").exists(),
            worker_command=(sys.executable, str(tmp_path / "worker.py"), mode),
        )

    yield make
    make().down()


@pytest.fixture
def other(fleet_file: Path, tmp_path: Path) -> Iterator[Callable[[str], PipedFork]]:
    """A user in a process of its own; returns when it has what it needs."""
    started: list[PipedFork] = []

    def begin(need: str) -> PipedFork:
        process = begin_user(fleet_file, tmp_path, need)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline().startswith("unix://")
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.close()
