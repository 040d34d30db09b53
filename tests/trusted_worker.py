"""A worker that requires signatures, the persons that it knows, and somebody with a raw Redis client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from redis import Redis

from coordination.models import OnFailure
from coordination.planner.graph import build
from coordination.runs.connection import Connection
from coordination.runs.submission.draft import RunDraft, Signing
from coordination.runs.views.records import TodoView
from coordination.settings import Settings
from coordination.trust.keys import Signer, new_key
from tests.engine import submit, view_of
from tests.plans import PLAN, Todos, ecosystem, order
from workers.container import Container
from workers.task_result import TaskResult

TTL = timedelta(days=1)


class Persons:
    """Persons by name, each with a key, and the trust file that has some of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "keys"
        self.file = folder / "trust" / "trust.yaml"
        self.file.parent.mkdir(mode=0o700)
        self._signers: dict[str, Signer] = {}

    def key(self, name: str) -> Path:
        self.signer(name)
        return self._folder / name

    def signer(self, name: str) -> Signer:
        if name not in self._signers:
            self._signers[name] = new_key(self._folder / name, comment=name)
        return self._signers[name]

    def signing(self, name: str, ttl: timedelta = TTL) -> Signing:
        return Signing(signer=self.signer(name), ttl=ttl)

    def trust(self, **roles: str | Mapping[str, Iterable[str]]) -> None:
        """Write the trust file. `roles`: name → role for all repositories, or role → repositories."""
        rows = [
            {
                "name": name,
                "keys": [{"key": self.signer(name).public_key}],
                "grants": [{"role": given}]
                if isinstance(given, str)
                else [{"role": role, "repos": list(repos)} for role, repos in given.items()],
            }
            for name, given in roles.items()
        ]
        self.file.write_text(yaml.safe_dump({"principals": rows}))
        self.file.chmod(0o600)


class Trusting:
    """A worker in this process that serves `r1` and `r2`, and the runs that it gets."""

    def __init__(self, worker: Container, persons: Persons, ledger: Path) -> None:
        self.worker = worker
        self.persons = persons
        self.store = worker.store
        self.redis: Redis = worker.store.redis
        self.ledger = ledger
        self.run_id = ""

    def more(self, todos: Todos, **fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Fields by which each todo writes its name into the ledger."""
        command = f'echo "$COORD_TODO_ID" >> {self.ledger}'
        return {name: {"action": command, "workspace": "in-place", **fields.get(name, {})} for name in todos}

    def sweep(
        self,
        todos: Todos,
        by: str | None = "ann",
        *,
        ttl: timedelta = TTL,
        on_failure: OnFailure = OnFailure.HALT,
        draft: type[RunDraft] | None = None,
        capacities: Mapping[str, int] | None = None,
        file: str = "",
        ecosystem_id: str = "",
        **fields: Mapping[str, Any],
    ) -> str:
        """Submit a run, signed by that person."""
        more = self.more(todos, **fields)
        signing = replace(self.persons.signing(by, ttl), ecosystem=ecosystem_id) if by else None
        how = order(on_failure=on_failure)
        declared = ecosystem(todos, capacities=capacities, **more)
        self.run_id, _ = submit(self.store, build(declared, PLAN), declared, Settings(), how, file, signing)
        return self.run_id

    def deliver(self, todo: str, repo: str = "r1", run: str = "", attempt: int = 1) -> TaskResult:
        return self.worker.deliveries.handle(run or self.run_id, todo, attempt, repo)

    def todo(self, name: str, run: str = "") -> TodoView:
        view = view_of(self.store, run or self.run_id)
        return next(todo for todo in view.todos if todo.id == name)

    def connected(self, by: str | None) -> Connection:
        """Return the connection of a person."""
        connection = Connection(self.worker.config.redis_url, Settings())
        connection.identity = self.persons.signing(by) if by else None
        connection.registry.meet = lambda *_: None  # no worker has signed on
        return connection

    @property
    def executed(self) -> list[str]:
        return self.ledger.read_text().split() if self.ledger.exists() else []

    @property
    def refusals(self) -> list[str]:
        """The titles of the events of refusals."""
        entries = self.redis.xrange(self.store.keys.events.lasting)
        return [fields.get("title", "") for _, fields in entries if fields["kind"] == "trust.refused"]
