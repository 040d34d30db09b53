"""Repositories that a person has disconnected: no todo is granted there, and running ones are handed back.

The step `claim` reads the hash and parks todos with the wait reason `disconnected`: so nothing starts from
the moment in which the hash is written. A running todo is handed back by its fence, as its worker would do
it; the worker's next heartbeat finds the lease lost and ends the command. The hash is Redis' own data, and
survives its restart as runs do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from coordination.backend.keys import split_member
from coordination.errors import NotFound
from coordination.runs.dispatch import Dispatcher
from coordination.runs.records import Descriptor
from coordination.runs.replies import Grant
from coordination.runs.store import RunStore


class Disconnection(BaseModel):
    """The person who disconnected a repository, and why."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    by: str = ""
    why: str = ""


class Disconnections:
    """The disconnected repositories of a namespace."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def all(self) -> Mapping[str, Disconnection]:
        """Return repository → its disconnection. A disconnection whose record cannot be read still counts."""
        rows = self._store.redis.hgetall(self._store.keys.disconnected)
        return {repo: _read(row) for repo, row in sorted(rows.items())}

    def disconnect(
        self, repo: str, dispatcher: Dispatcher, *, by: str, why: str = ""
    ) -> tuple[tuple[str, str], ...]:
        """Let nothing start in the repository any more; return the todos that are handed back, each with its
        run. Doing it twice changes nothing.
        """
        found = Disconnection(at=datetime.now(UTC), by=by, why=why)
        self._store.redis.hsetnx(self._store.keys.disconnected, repo, found.model_dump_json())
        handed_back = []
        for run_id, todo_id, fence in self._running_in(repo):
            grant = Grant(
                run_id=run_id, todo_id=todo_id, attempt=0, fence=fence, spec_json="", tip=None, tries=0
            )
            reply = self._store.hand_back(grant)
            dispatcher.follow(reply)
            if reply.word != "stale":
                handed_back.append((run_id, todo_id))
        return tuple(handed_back)

    def connect(self, repo: str) -> Disconnection:
        """Let todos start again, at the latest after five seconds; return the former disconnection. Raises
        NotFound.
        """
        row = self._store.redis.hget(self._store.keys.disconnected, repo)
        if row is None or not self._store.redis.hdel(self._store.keys.disconnected, repo):
            raise NotFound(f"repository {repo} is not disconnected", "list the states: coord health")
        return _read(row)

    def _running_in(self, repo: str) -> Iterator[tuple[str, str, int]]:
        """Yield run, todo and fence of the todos that run in the repository."""
        for member, fence in self._store.redis.hgetall(self._store.keys.holders).items():
            run_id, todo_id = split_member(member)
            descriptor = self._store.redis.hget(self._store.keys.run(run_id).place, todo_id)
            if descriptor is not None and Descriptor.parse(descriptor).repo == repo:
                yield run_id, todo_id, int(fence)


def _read(row: str) -> Disconnection:
    try:
        return Disconnection.model_validate_json(row)
    except ValidationError:
        return Disconnection(at=datetime.fromtimestamp(0, UTC), why="its record cannot be read")
