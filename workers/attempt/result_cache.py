"""Results of todos that other todos reuse: their keys, and their storage in Redis.

A todo with a `cache` that would repeat an earlier success gets its result instead (`attempt_cache.py`). Redis
keeps a result for all hosts and runs until its ttl ends or it is evicted.

**The key** is one digest of everything that decides a result, as far as coord knows it: the action as a
worker would run it, in its repository, from a git tree (not a commit: that has a date); for a todo that
judges, the tree on which `prepare` ran; the files that its `inputs` name; the outputs of all predecessors, by
their names, and the git tree at which each left its repository, because COORD_CONTEXT has them; and the
shared context of the todo. Not covered: its own id and text where no agent gets these, timeouts, retries,
resources, gates, the run.

**A stored result** is an output, and the change from its tree to another, as a patch. The value is the
SHA-256 of its rest; a line of JSON (run, todo, time, tree, output, signed record); and the patch, packed. It
is written whole, once. One with a wrong digest counts as none, and so does one that no trusted worker signed,
where `signatures` is `require`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from coordination.cache import Store
from coordination.cache.names import LONGEST_TTL, Limits
from coordination.errors import CoordinationError
from coordination.locks import Lock, LockManager
from coordination.locks.request import RESULT
from coordination.models import AgentAction, QaAction, text_of
from coordination.runs.attempt_store import Grant
from coordination.runs.records import TodoSpec
from coordination.sandbox import Bounds
from coordination.trust.results import CachedRecord, digest
from workers.trust.signed_results import SignedResults

FORMAT = 3
"""The format of keys and results: results of another format are not found."""
LARGEST_CHANGES = 256 * 1024 * 1024
"""Bytes of an unpacked patch."""
NO_WAIT = timedelta(0)
TTL = timedelta(seconds=5)
"""How long after a worker's death its keys stay locked.

A lock that is lost too early costs a command that runs twice.
"""
InputFiles = list[tuple[str, list[tuple[str, str]]]]
"""Pattern → file → digest."""


class NotKnown(CoordinationError):
    """An input of the cached todo cannot be read as files."""


def key_of(
    spec: TodoSpec,
    tree: str,
    inputs: InputFiles,
    context: Mapping[str, Any],
    trees: Mapping[str, str],
    bounds: Bounds | None = None,
    origin: Sequence[str] = (),
    reads: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return SHA-256 over canonical JSON.

    `context`: as COORD_CONTEXT has it. `trees`: of each predecessor with a commit. `bounds`: the sandbox; a
    command may do other things without files, network or memory. `origin`: where the files come from that no
    commit has (`Worktree.origin`), so that what an earlier todo has left decides no check. `reads`: the tree
    of each other repository that the agent sees.
    """
    parts = {
        "format": FORMAT,
        "repo": spec.repo.name,
        "prepare": spec.repo.prepare,
        "action": _action(spec),
        "env": {name: str(value) for name, value in spec.todo.env.items()},
        **({"secrets": spec.todo.secrets} if spec.todo.secrets else {}),
        "tree": tree,
        "origin": [*origin],
        "inputs": inputs,
        "predecessors": _predecessors(spec, context, trees),
        **({"reads": {**reads}} if reads else {}),
        "context": [context.get("context"), context.get("context_omitted")],
        **({"sandbox": asdict(bounds)} if bounds else {}),
    }
    return sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _predecessors(spec: TodoSpec, context: Mapping[str, Any], trees: Mapping[str, str]) -> list[list[object]]:
    """Return the inputs of the result from other todos: the outputs and trees of the predecessors; for a
    check, the trees of the repositories that it needs, whichever todos have left them.

    Raises NotKnown for a check that needs a repository without commits.
    """
    before, action = context.get("predecessors", ()), spec.todo.action
    if not isinstance(action, QaAction):
        return [[one["todo"], one["output"], trees.get(one["todo"])] for one in before]
    needed = {one["repo"] for one in before if action.needs is None or one["repo"] in action.needs}
    commits, found = context.get("commits", {}), list[list[object]]()
    for repo in sorted(needed - {spec.repo.name}):
        names = [one["todo"] for one in before if one["repo"] == repo and one["commit"] == commits.get(repo)]
        if repo not in commits or not names:
            raise NotKnown(f"it needs {repo}, of which no commit is known", "work there in worktrees")
        found.append([repo, trees[names[0]]])
    return found


def _action(spec: TodoSpec) -> object:
    todo = spec.todo
    if isinstance(todo.action, QaAction):
        return todo.action.model_dump(mode="json", include={"type", "check", "kind", "run", "report"})
    if todo.action is not None and not isinstance(todo.action, AgentAction):
        return todo.action.model_dump(mode="json")
    action = todo.action or AgentAction(type="agent")
    told = [action.prompt] if action.prompt else _task_fields(spec)
    ordered = action.model_dump(mode="json", exclude={"prompt"}, exclude_defaults=True)
    return {**ordered, "agents": [agent.model_dump(mode="json") for agent in spec.agents], "told": told}


def _task_fields(spec: TodoSpec) -> list[object]:
    """Return the fields from which the prompt of a todo without one is made."""
    todo = spec.todo
    return [todo.id, todo.task, todo.description, [*map(text_of, todo.acceptance_criteria)], spec.repo.role]


@dataclass(frozen=True, kw_only=True)
class CachedResult:
    run: str
    todo: str
    at: float
    """Seconds since 1970, by the clock of the host that made it."""
    tree: str
    """The tree to which its changes lead."""
    output: str
    """JSON; empty without an output."""
    changes: bytes
    """A patch; empty if it changed nothing."""
    signed: str = ""
    """The signed statement of the worker that made it (trust/results.py)."""

    @cached_property
    def packed(self) -> bytes:
        names = ("run", "todo", "at", "tree", "output", "signed")
        head = {name: getattr(self, name) for name in names}
        rest = json.dumps(head).encode() + b"\n" + zlib.compress(self.changes)
        return sha256(rest).hexdigest().encode() + b"\n" + rest

    @staticmethod
    def unpacked(value: bytes) -> CachedResult | None:
        """Return the record; None if it is damaged, or of another version."""
        digest, _, rest = value.partition(b"\n")
        if digest != sha256(rest).hexdigest().encode():
            return None
        head, _, changes = rest.partition(b"\n")
        try:
            unpacking = zlib.decompressobj()
            unpacked = unpacking.decompress(changes, LARGEST_CHANGES)
            if not unpacking.eof:
                return None
            return CachedResult(**json.loads(head), changes=unpacked)
        except (ValueError, TypeError, zlib.error):
            return None


class Results:
    """The results of all hosts and runs. Each method raises Unreachable."""

    def __init__(
        self, store: Store, locks: LockManager, limits: Limits, ttl: timedelta, signed_results: SignedResults
    ) -> None:
        self._signed_results = signed_results
        self._store = store
        self._locks = locks
        self._limits = limits
        self._ttl = ttl

    def load(self, grant: Grant, key: str, ttl: timedelta | None, now: float) -> CachedResult | None:
        """Return an undamaged result younger than the ttl (None: the setting); None if there is none. Raises
        NotAllowed where it is not signed as this worker requires.
        """
        value = self._store.get(key)
        kept = CachedResult.unpacked(value) if value else None
        if value and kept is None:
            self.drop(key)
        if kept is None or now - kept.at >= (ttl or self._ttl).total_seconds():
            return None
        self._signed_results.check_cached(
            grant,
            kept.signed,
            key=key,
            at=kept.at,
            tree=kept.tree,
            output=kept.output,
            changes=kept.changes,
        )
        return kept

    def sign(self, kept: CachedResult, key: str, repo: str) -> CachedResult:
        """Return the result with this worker's statement of it."""
        if (origin := self._signed_results.origin) is None:
            return kept
        record = CachedRecord(
            **origin,
            run=kept.run,
            todo=kept.todo,
            repo=repo,
            key=key,
            at=kept.at,
            tree=kept.tree,
            output=digest(kept.output),
            changes=digest(kept.changes),
        )
        return replace(kept, signed=self._signed_results.seal_cached(record))

    def too_large(self, kept: CachedResult) -> str:
        """Return why a result cannot be kept; empty if it can."""
        size, most = len(kept.packed), self._limits.value_bytes
        return f"it has {size:,} bytes, more than cache_value_bytes ({most:,})" if size > most else ""

    def save(self, key: str, kept: CachedResult, ttl: timedelta | None) -> None:
        """Keep a result. Raises NoRoom, too."""
        self._store.put(key, kept.packed, min(ttl or self._ttl, LONGEST_TTL))

    def drop(self, key: str) -> None:
        self._store.delete(key)

    def lock(self, key: str, owner: str) -> Lock:
        """Lock the key until the lock is released or its worker dies. Raises LockTimeout with the holder."""
        return self._locks.acquire(f"{RESULT}{key}", ttl=TTL, wait=NO_WAIT, owner=owner)

    def close(self) -> None:
        self._locks.close()
        self._store.close()
