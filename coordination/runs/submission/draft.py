"""A run while it is being written: in chunks that expire, sealed by a last flip. Nobody sees it before.

Each chunk is whole or not at all and brings its own expiry: whoever writes may die between any two of them.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta

from coordination.backend.keys import resource, seat
from coordination.models import Level, Todo, Workspace
from coordination.planner.hours import kind_of
from coordination.runs.records import Descriptor, Reply, RunStatus, TodoSpec, TodoState
from coordination.runs.store import RunStore, ms

CHUNK = 500
DRAFT_TTL = timedelta(hours=1)
PRIORITY = {Level.CRITICAL: 2, Level.HIGH: 1, Level.MEDIUM: 0, Level.LOW: -1}
"""In steps of the queues for what todos share: see backend/lua/lock/_lock.lua."""
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def new_run_id() -> str:
    """Sorts by time; four letters keep two of one second apart."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + "".join(secrets.choice(_ALPHABET) for _ in range(4))


def descriptor(spec: TodoSpec, order: int | str, level: int) -> str:
    """Return the descriptor of a todo as it is stored."""
    todo = spec.todo
    return str(
        Descriptor(
            order=str(order), level=level, repo=todo.repo, kind=kind_of(todo),
            priority=str(PRIORITY[todo.priority]), wants=_wants_of(spec),
        )
    )  # fmt: skip


def first_facts(todo: Todo) -> dict[str, str | int]:
    """What is known of a todo before its turn has come."""
    gate = todo.gate
    if gate is None:
        return {"attempt": 1}
    return {"attempt": 1, "gate": f"{ms(gate.timeout) if gate.timeout else 0} {gate.on_timeout}"}


def _wants_of(spec: TodoSpec) -> str:
    """What it holds while it runs: the seat in its repository, and its resources. A line each, with the amount and of how many."""
    in_place = spec.todo.workspace is Workspace.IN_PLACE
    slots = 1 if in_place else spec.repo.slots
    needs = (f"{need.amount}/0 {resource(need.name)}" for need in spec.todo.resources)
    return "\n".join((f"1/{slots} {seat(spec.todo.repo, in_place=in_place)}", *needs))


class Draft:
    def __init__(self, store: RunStore, run_id: str) -> None:
        self.run_id = run_id
        self.keys = store.keys.run(run_id)
        self._store = store
        self._pipeline = store.redis.pipeline(transaction=True)
        # Key → what is put there with the next flush: by a command for each todo a run takes twice as long to write.
        self._fields: defaultdict[str, dict[str, str | int]] = defaultdict(dict)
        self._further: list[str] = []
        self._states: Counter[TodoState] = Counter()

    def meta(self, facts: Mapping[str, str | int]) -> None:
        self._pipeline.hset(self.keys.meta, mapping={"status": RunStatus.DRAFT, "active": 0, "level": -1, **facts})

    def levels(self, levels: Iterable[Iterable[str]]) -> None:
        for level, todos in enumerate(levels):
            self._put(self.keys.levels, str(level), " ".join(todos))

    def todo(
        self,
        name: str,
        state: TodoState,
        place: str,
        facts: Mapping[str, str | int],
        *,
        spec: str = "",
        children: Iterable[str] = (),
        pending: int = 0,
    ) -> None:
        keys = self.keys
        self._put(keys.state, name, state)
        self._put(keys.place, name, place)
        for fact, value in facts.items():
            self._put(keys.facts, f"{name} {fact}", value)
        if spec:  # it may be carried out
            self._put(keys.spec, name, spec)
            self._put(keys.pending, name, pending)
        if words := " ".join(children):
            self._put(keys.children, name, words)
        self._states[state] += 1
        if self._states.total() % CHUNK == 0:
            self.flush()

    def set(self, key: str, fields: Mapping[str, str]) -> None:
        for field, value in fields.items():
            self._put(key, field, value)

    def _put(self, key: str, field: str, value: str | int) -> None:
        self._fields[key][field] = value

    def copy(self, source: str, target: str) -> None:
        """A further key of the run from another run's, without its content travelling to us."""
        self._pipeline.copy(source, target, replace=True)
        self._further.append(target)

    def flush(self) -> None:
        for key, fields in self._fields.items():
            self._pipeline.hset(key, mapping=fields)
        self._fields.clear()
        for key in (*self.keys.own, *self._further):
            self._pipeline.expire(key, DRAFT_TTL)
        self._pipeline.execute()

    def seal(self) -> Reply:
        """The run starts; the reply must be followed."""
        counts = {f"n.{state}": n for state, n in self._states.items()}
        self._pipeline.hset(self.keys.meta, mapping={"open": self._states[TodoState.WAITING], **counts})
        self.flush()
        return self._store.seal(self.run_id, self._further)
