"""Hosts as far as a worker can tell: a name, a state folder and clones each, and one Redis that all reach
over TCP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordination.backend.keys import Keys
from coordination.models import Repo
from coordination.planner.graph import build
from coordination.runs.submission.draft import Signing
from coordination.runs.submission.writes import NO_WRITES, read_change_set, writes_of
from coordination.settings import Settings
from tests.engine import submit
from tests.plans import PLAN, Todos, ecosystem, order
from tests.testbed import git
from workers.config import WorkerConfig
from workers.container import Container
from workers.task_result import TaskResultKind
from workers.transfer.routes import BundleStore

WRITES = 'echo "$COORD_TODO_ID" >> work; echo made > "made-by-$COORD_TODO_ID"'
READS = 'cp "$COORD_CONTEXT" "$COORD_OUTPUT"'


@dataclass(frozen=True)
class TcpRedis:
    """A server that listens on loopback, too."""

    port: int
    password: str
    socket: Path

    def url(self, port: int) -> str:
        return f"redis://:{self.password}@127.0.0.1:{port}"


class Host:
    """A worker's parts, as on a machine of its own."""

    def __init__(self, folder: Path, url: str, repos: Mapping[str, Path], settings: Settings) -> None:
        settings = settings.model_copy(update={"host": f"host-{folder.name.encode().hex()}"})
        config = WorkerConfig(
            redis_url=url, settings=settings, places=dict(repos), jobs=1, state=folder / "state"
        )
        self.state = config.state
        self.parts = Container(config)

    def do(self, run: str, todo: str, repo: str, attempt: int = 1) -> None:
        assert self.parts.deliveries.handle(run, todo, attempt, repo).kind is TaskResultKind.DONE

    def told(self, run: str, todo: str) -> dict[str, dict[str, Any]]:
        """Return the COORD_CONTEXT of a todo that handed it on: predecessor → the entry of it."""
        output = self.parts.store.redis.hget(self.parts.keys.run(run).output, todo)
        return {one["todo"]: one for one in json.loads(output)["predecessors"]}

    def path(self, run: str, todo: str, predecessor: str) -> Path:
        told = self.told(run, todo)[predecessor]
        assert told["path"], told.get("why")
        return Path(told["path"])

    def log(self, run: str, todo: str) -> str:
        return (self.state / "logs" / run / f"{todo}.log").read_text()


class World:
    """Where hosts and repositories are made, and a run of both."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.settings = Settings(disk_min=0)
        self.signing: Signing | None = None
        """The identity that orders runs."""
        self.with_change_set = False
        """True if the next runs are those of a change set."""
        self.hosts: list[Host] = []
        self.remotes: dict[str, str] = {}

    def limit(self, limit_bytes: int) -> None:
        """From here on, for the hosts that are made."""
        self.settings = self.settings.model_copy(update={"bundle_limit_bytes": limit_bytes})

    def remote(self, name: str) -> Path:
        """The repository's url in the file."""
        path = self.folder / f"{name}.git"
        git(self.folder, "init", "-q", "--bare", str(path))
        self.remotes[name] = str(path)
        return path

    def clone(self, source: Path, place: str, *options: str) -> Path:
        path = self.folder / place
        git(self.folder, "clone", "-q", *options, f"file://{source}", str(path))
        return path

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

    @property
    def bundles(self) -> BundleStore:
        return self.hosts[0].parts.execution.bundles

    def carry_over(self, first: str, second: str) -> None:
        """As a retry does it: where the one stood, the other begins."""
        keys, client = Keys(self.settings.namespace), self.hosts[0].parts.bundle_redis
        client.copy(keys.run(first).bundle("up"), keys.run(second).bundle("up"))
        client.hset(keys.run(second).tips, mapping=client.hgetall(keys.run(first).tips))

    def run(self, todos: Todos, **more: Mapping[str, Any]) -> str:
        # A person's todo keeps the run open: with its end, what was carried goes.
        manual = {"OPEN": {"action": {"type": "manual"}}}
        declared = ecosystem({**todos, "OPEN": "up"}, **{**manual, **more})
        repos = tuple(Repo(name=repo.name, url=self.remotes.get(repo.name)) for repo in declared.repos)
        declared = declared.model_copy(update={"repos": repos})
        store, graph = self.hosts[0].parts.store, build(declared, PLAN)
        found = read_change_set(store, PLAN if self.with_change_set else "")
        writes = writes_of(found, graph.todos) if self.with_change_set else NO_WRITES
        run, reply = submit(
            store, graph, declared, self.settings, order(), signing=self.signing, writes=writes
        )
        assert reply.word == "sealed"
        return run


def works(*names: str) -> dict[str, Mapping[str, Any]]:
    return {name: {"action": WRITES} for name in names}


def reads(*names: str, **more: Any) -> dict[str, Mapping[str, Any]]:
    return {name: {"action": READS, **more} for name in names}


def tip(checkout: Path, run: str) -> str:
    return git(checkout, "rev-parse", f"coord/{run}")
