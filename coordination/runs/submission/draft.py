"""Write a run to Redis in chunks that expire, until one last step seals it; it is invisible before.

Each chunk is atomic and sets its own expiry, because the writing process may die between any two of them.
`Signing` adds the signed order of the run: the header, the blocks of its todos, the parts of its brief.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from coordination.backend.keys import landing, repo_slot, resource
from coordination.backend.steps.run import Reply
from coordination.durations import ms
from coordination.models import AgentAction, Level, NoopAction, OnFailure, ServiceAction, Workspace
from coordination.planner.hours import kind_of
from coordination.planner.remaining import Expected
from coordination.runs.records import (
    Descriptor,
    RunBrief,
    RunStatus,
    TodoSpec,
    TodoState,
    common_part,
    parts_of,
)
from coordination.runs.signed.orders import HEADER, PART, block_field, part_field
from coordination.runs.store import RunStore
from coordination.trust.break_glass import current_emergency
from coordination.trust.envelope import seal
from coordination.trust.keys import Signer
from coordination.trust.orders import ORDER, RunOrder, StartKind, blocks_of, digest, times

CHUNK = 500
HOST = "host."
"""Prefix of a repository's name in `meta`; the field's value is the host on which the run works on it."""
DRAFT_TTL = timedelta(hours=1)
PRIORITY = {Level.CRITICAL: 2, Level.HIGH: 1, Level.MEDIUM: 0, Level.LOW: -1}
"""Priority → its number in the queues for shared resources: see backend/lua/lock/_lock.lua."""
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def hosts_of(meta: Mapping[str, str]) -> dict[str, str]:
    """Return repository → the host on which the run works on it."""
    return {name.removeprefix(HOST): host for name, host in meta.items() if name.startswith(HOST)}


def new_run_id() -> str:
    """Return a new id that sorts by time; four random letters distinguish runs of the same second."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + "".join(
        secrets.choice(_ALPHABET) for _ in range(4)
    )


def descriptor_of(spec: TodoSpec, order: int | str, level: int) -> str:
    """Return the descriptor of a todo as it is stored."""
    todo = spec.todo
    return str(
        Descriptor(
            order=str(order), level=level, repo=todo.repo, kind=kind_of(todo),
            priority=str(PRIORITY[todo.priority]), locks=_locks_of(spec),
        )
    )  # fmt: skip


def first_facts(spec: TodoSpec, expected: object = "") -> dict[str, str | int]:
    """Return the facts of a todo before it is ready. `expected`: its expected duration, if known."""
    todo = spec.todo
    facts: dict[str, str | int] = {"attempt": 1}
    if isinstance(todo.action, AgentAction):
        found = (spec.agent(todo.action, n) for n in range(max(1, len(todo.action.agent))))
        facts["agents"] = " ".join(f"{agent.name}/{agent.parallel or 0}" for agent in found if agent)
    if expected:
        facts["expected"] = str(expected)
    if gate := todo.gate:
        facts["gate"] = f"{ms(gate.timeout) if gate.timeout else 0} {gate.on_timeout}"
    return facts | _facts_of_wave(todo.action)


def _facts_of_wave(action: object) -> dict[str, str | int]:
    """Return the facts by which the steps recognise a noop of a wave (lua/run/_waves.lua)."""
    if not isinstance(action, NoopAction):
        return {}
    facts = {"frees": action.frees, "keeps": action.keeps, "soak": action.soak}
    found: dict[str, str | int] = {name: 1 for name, is_so in facts.items() if is_so}
    return found if action.tolerates is None else found | {"tolerates": action.tolerates}


def _locks_of(spec: TodoSpec) -> str:
    """Return the locks that a todo holds while it runs: its repository's slot and its resources, one per
    line, each with the amount and the capacity. The barrier of a landing takes no slot: while it waits for
    another landing, it would block other todos. A service writes nothing in its repository, and takes none.
    """
    if isinstance(spec.todo.action, ServiceAction):
        return ""
    if isinstance(spec.todo.action, NoopAction) and spec.todo.action.holds:
        return "\n".join(f"1/1 {landing(repo)}" for repo in sorted(spec.todo.action.holds))
    in_place = spec.todo.workspace is Workspace.IN_PLACE
    slots = 1 if in_place else spec.repo.slots
    needs = (f"{need.amount}/0 {resource(need.name)}" for need in spec.todo.resources)
    return "\n".join((f"1/{slots} {repo_slot(spec.todo.repo, in_place=in_place)}", *needs))


class RunDraft:
    """A run that is being written; it expires unless it is sealed."""

    def __init__(self, store: RunStore, run_id: str, *, signed: bool = False) -> None:
        """`signed`: whether the digests of the specs are kept for the signature."""
        self.run_id = run_id
        self.audience = store.audience
        self.keys = store.keys.run(run_id)
        self._signed = signed
        self._leaves: dict[str, str] = {}
        self._specs: list[tuple[str, str]] = []  # not digested yet; one at a time takes four times as long
        self._store = store
        self._pipeline = store.redis.pipeline(transaction=True)
        # Key → fields that the next flush writes: one command per todo would take twice as long.
        self._fields: defaultdict[str, dict[str, str | int]] = defaultdict(dict)
        self._further: list[str] = []
        self._states: Counter[TodoState] = Counter()
        self._expected_s = 0.0

    @property
    def leaves(self) -> Mapping[str, str]:
        """Return todo → digest of its spec."""
        self._leaves.update((name, sha256(spec.encode()).hexdigest()) for name, spec in self._specs)
        self._specs.clear()
        return self._leaves

    def meta(self, facts: Mapping[str, str | int]) -> None:
        self._pipeline.hset(
            self.keys.meta, mapping={"status": RunStatus.DRAFT, "active": 0, "level": -1, **facts}
        )

    def levels(self, levels: Iterable[Iterable[str]]) -> None:
        for level, todos in enumerate(levels):
            self._put(self.keys.levels, str(level), " ".join(todos))

    def todo(
        self,
        name: str,
        state: TodoState,
        descriptor: str,
        facts: Mapping[str, str | int],
        *,
        spec: str = "",
        children: Iterable[str] = (),
        pending: int = 0,
    ) -> None:
        keys = self.keys
        self._put(keys.state, name, state)
        self._put(keys.descriptor, name, descriptor)
        for fact, value in facts.items():
            self._put(keys.facts, f"{name} {fact}", value)
        if spec:  # it may be executed
            self._put(keys.spec, name, spec)
            if self._signed:
                self._specs.append((name, spec))
            self._put(keys.pending, name, pending)
        if names := " ".join(children):
            self._put(keys.children, name, names)
        self._states[state] += 1
        if state is TodoState.WAITING and (expected := Expected.parse(str(facts.get("expected", "")))):
            self._expected_s += expected.seconds
        if self._states.total() % CHUNK == 0:
            self.flush()

    def set(self, key: str, fields: Mapping[str, str]) -> None:
        for field, value in fields.items():
            self._put(key, field, value)

    def _put(self, key: str, field: str, value: str | int) -> None:
        self._fields[key][field] = value

    def copy(self, source: str, target: str) -> None:
        """Copy a key of another run into this one inside Redis, without transferring its content."""
        self._pipeline.copy(source, target, replace=True)
        self._further.append(target)

    def copy_bundles(self, bundles: Mapping[str, str]) -> None:
        """Copy bundles of commits. `bundles`: repository → their key."""
        for repo, key in bundles.items():
            self.copy(key, self.keys.bundle(repo))

    def flush(self) -> None:
        for key, fields in self._fields.items():
            self._pipeline.hset(key, mapping=fields)
        self._fields.clear()
        for key in (*self.keys.own, *self._further):
            self._pipeline.expire(key, DRAFT_TTL)
        self._pipeline.execute()

    def seal(self, writes: Collection[tuple[str, str, str]] = ()) -> Reply:
        """Start the run; return the reply, which the caller must follow. `writes`: as in RunStore.seal."""
        counts = {f"n.{state}": n for state, n in self._states.items()}
        figures = {"open": self._states[TodoState.WAITING], "expected_ms": round(1000 * self._expected_s)}
        self._pipeline.hset(self.keys.meta, mapping={**figures, **counts})
        self.flush()
        return self._store.seal(self.run_id, self._further, writes)


@dataclass(frozen=True, kw_only=True)
class Signing:
    """The identity that signs the orders of this process, and how long they are valid."""

    signer: Signer
    ttl: timedelta
    ecosystem: str = ""
    """`coordination.id` of the file; empty without one."""

    def write(
        self,
        draft: RunDraft,
        brief: RunBrief,
        brief_json: str,
        operation: StartKind,
        on_failure: OnFailure,
        *,
        two_persons: bool,
        done: Collection[str],
    ) -> None:
        """Add the signed order of a written draft. `done`: todos that were completed in the file. Raises
        CoordinationError where the key cannot be used.
        """
        blocks = list(blocks_of(draft.leaves))
        fields = {block_field(i): text for i, (_, text) in enumerate(blocks)} | dict(_parts(brief))
        envelope, emergency = current_emergency(self.signer)
        if emergency is not None:  # for views; workers read the order
            draft.set(draft.keys.meta, {"break_glass": emergency.reason})
        order = RunOrder(
            **draft.audience(self.ecosystem).fields(),
            run=draft.run_id,
            operation=operation,
            plan=brief.plan_id,
            on_failure=on_failure.value,
            two_persons=two_persons,
            brief=digest(brief_json),
            parts=tuple(digest(text) for name, text in fields.items() if name.startswith(PART)),
            done=tuple(sorted(done)),
            blocks=tuple((first, digest(text)) for first, text in blocks),
            break_glass=envelope,
            **times(self.ttl),
        )
        header = seal(ORDER, order.model_dump_json().encode(), self.signer)
        draft.set(draft.keys.order, {HEADER: header.decode(), **fields})


def _parts(brief: RunBrief) -> Iterator[tuple[str, str]]:
    yield PART, common_part(brief).model_dump_json()
    for part in parts_of(brief):
        yield part_field(part.repo), part.model_dump_json()
