"""A commit that was made on one host is found on another: two state folders, two clones, one Redis over TCP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from coordination.models import Repo
from coordination.planner.graph import build
from coordination.runs.records import Result, TodoState
from coordination.runs.submit import submit
from coordination.settings import Settings
from coordination.wire.connection import Profile, connect
from coordination.wire.embedded import EmbeddedServer
from coordination.wire.keys import Keys
from tests.plans import PLAN, Todos, ecosystem, order
from tests.stage import git
from tests.waiting import until
from workers.app import Charge, WorkerParts
from workers.arrivals import Arrivals, Sought, carried
from workers.parcels import NotCarried, Parcels, Remote
from workers.verdict import Kind

WRITES = 'echo "$COORD_TODO_ID" >> work; echo made > "made-by-$COORD_TODO_ID"'
READS = 'cp "$COORD_CONTEXT" "$COORD_OUTPUT"'


@pytest.fixture(autouse=True)
def _plain_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free()
    server = EmbeddedServer(tmp_path_factory.mktemp("server") / ".coord", Settings(server_port=port))
    password = urlsplit(server.start()).password
    yield f"redis://:{password}@127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def tcp(address: str) -> str:
    with connect(address, Profile.COMMAND) as client:
        client.flushall()
    return address


class Host:
    """A worker's parts, as on a machine of its own."""

    def __init__(self, folder: Path, url: str, repos: Mapping[str, Path], settings: Settings) -> None:
        settings = settings.model_copy(update={"host": "host-" + str(len(folder.name))})
        charge = Charge(redis_url=url, settings=settings, places=dict(repos), jobs=1, state=folder / "state")
        self.state = charge.state
        self.parts = WorkerParts(charge)

    def do(self, run: str, todo: str, repo: str, attempt: int = 1) -> None:
        assert self.parts.attempts.carry_out(run, todo, attempt, repo).kind is Kind.DONE

    def told(self, run: str, todo: str) -> dict[str, dict[str, Any]]:
        """COORD_CONTEXT of a todo that handed it on: predecessor → what stands there."""
        output = self.parts.store.redis.hget(self.parts.keys.run(run).output, todo)
        return {one["todo"]: one for one in json.loads(output)["predecessors"]}

    def log(self, run: str, todo: str) -> str:
        return (self.state / "logs" / run / f"{todo}.log").read_text()


class World:
    """Where hosts and repositories are made, and a run of both."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.settings = Settings()
        self.hosts: list[Host] = []
        self.remotes: dict[str, str] = {}

    def host(self, name: str, **repos: Path) -> Host:
        self.hosts.append(Host(self.folder / name, self.url, repos, self.settings))
        return self.hosts[-1]

    def repo(self, place: str) -> Path:
        path = self.folder / place
        path.mkdir(parents=True)
        git(path, "init", "-q", "-b", "main")
        (path / "first").write_text("first\n")
        git(path, "add", "first")
        git(path, "commit", "-q", "-m", "first")
        return path

    def run(self, todos: Todos, **more: Mapping[str, Any]) -> str:
        # A person's todo keeps the run open: with its end, what was carried goes.
        declared = ecosystem({**todos, "OPEN": "up"}, OPEN={"action": {"type": "manual"}}, **more)
        repos = tuple(Repo(name=repo.name, url=self.remotes.get(repo.name)) for repo in declared.repos)
        declared = declared.model_copy(update={"repos": repos})
        run, _ = submit(self.hosts[0].parts.store, build(declared, PLAN), declared, self.settings, order())
        return run


@pytest.fixture
def world(tmp_path: Path, tcp: str) -> Iterator[World]:
    made = World(tmp_path, tcp)
    yield made
    for host in made.hosts:
        host.parts.close()


def works(*names: str) -> dict[str, Mapping[str, Any]]:
    return {name: {"action": WRITES} for name in names}


def tip(checkout: Path, run: str) -> str:
    return git(checkout, "rev-parse", f"coord/{run}")


def test_a_dependent_on_another_host_finds_exactly_the_commit_of_its_predecessor(world: World):
    mine, theirs = world.repo("a/up"), world.repo("bb/down")
    a, b = world.host("a", up=mine), world.host("bb", down=theirs)
    run = world.run({"T1": "up", "T2": ("down", ["T1"])}, **works("T1"), T2={"action": READS})
    a.do(run, "T1", "up")
    b.do(run, "T2", "down")

    told = b.told(run, "T2")["T1"]
    path = Path(told["path"])
    assert told == {
        "todo": "T1", "repo": "up", "output": None, "branch": f"coord/{run}", "commit": tip(mine, run),
        "path": str(carried(b.state, run) / "up" / tip(mine, run)),
    }  # fmt: skip
    assert git(path, "rev-parse", "HEAD") == told["commit"] == git(path, "rev-parse", told["branch"])
    assert git(path, "status", "--porcelain", "--branch") == "## HEAD (no branch)"
    assert (path / "work").read_text() == "T1\n"
    assert git(path, "log", "--format=%s") == "T1: do T1\nfirst"
    assert not (path / ".git" / "hooks").exists()
