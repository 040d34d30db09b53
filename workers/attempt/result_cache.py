"""Reuse results of todos: one with a `cache` that would repeat an earlier success gets its result instead.

Two attempts are the same if their keys are (`cache_key.py`): the action as it would run, the git tree that it
starts from, the files that its `inputs` name, and the outputs and commits of its predecessors. A result is an
output, and the change from that tree to another, as a patch. Redis keeps it for all hosts and runs until its
ttl ends or it is evicted. `Results` stores results; `AttemptCache` looks up and stores the result of one
attempt.

A stored value is the SHA-256 of its rest; a line of JSON (run, todo, time, tree, output, signed record); and
the patch, packed. It is written whole, once; one with a wrong digest counts as none, and so does one that no
trusted worker signed, where `signatures` is `require`.

    enter the workspace ──► look ──hit──► apply, check the tree, commit ──► settled with the run of the result
                             │ miss
                             ├─ another attempt computes the same ──► parked without a slot, looks again
                             └─ none does ──► lock, look again ──► prepare, run, settle ──► keep ──► unlock

Promises, and what happens when something fails

1. Only accepted results are kept: one is written after the settle was accepted, by its own worker. A worker
   that is killed before keeps nothing; one value is written whole or not at all.
2. A result is used only if it leads to exactly its recorded tree. One that does not (damaged, or applied by a
   git with other filters) is dropped, the workspace is set back, and the todo runs.
3. An attempt that computes holds the lock `cache:<key>` until its result is kept, has failed, or its worker
   has died (5 s). A lock that is lost meanwhile costs a command that runs twice, no wrong result.
4. The cache fails no todo: where Redis, the disk or git refuse, the todo runs, and its log says so.

A key does not cover the files that git ignores, also in the `path` of a predecessor; the effects of a
predecessor in place, or of a person by hand; the machine. Where one of them matters, a todo gets it as the
output of a predecessor, or names it among its `inputs`.

A hit restores neither files that git ignores nor effects of a command outside of its repository, also in the
shared context. Therefore `cache` and `compensate` exclude each other (models),
and the rollback of a todo with a cached result needs no command: its branch goes. A folder without git has no
tree to start from; the todo runs there.

A todo with `inputs` is looked up after `prepare`, which may make some of them; one without is looked up
before, and needs none.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import redis

from coordination.backend.keys import member
from coordination.cache import Store
from coordination.cache.entries import NoRoom
from coordination.cache.names import LONGEST_TTL, Limits
from coordination.errors import CoordinationError, GitRefused, LockTimeout, NotAllowed, Unreachable
from coordination.locks import Lock, LockManager
from coordination.locks.request import RESULT
from coordination.models import Cache, Command
from coordination.runs.attempt_store import Grant
from coordination.sandbox import Bounds
from coordination.text import format_hours
from coordination.trust.results import CachedRecord, digest
from workers.attempt.cache_key import (
    NotKnown,
    NotRestored,
    input_files,
    key_of,
    patch,
    restore,
    tree_of,
    trees_behind,
)
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.trouble import WorkspaceUnusable
from workers.trust.signed_results import SignedResults
from workers.workspace.base import Workspace
from workers.workspace.files import scratch
from workers.workspace.worktree import Worktree

NO_WAIT = timedelta(0)
TTL = timedelta(seconds=5)
"""How long after a worker's death its keys stay locked.

A lock that is lost too early costs a command that runs twice.
"""


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
            return CachedResult(**json.loads(head), changes=zlib.decompress(changes))
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
        """Return a sound result younger than the ttl (None: the usual one); None if there is none.

        Raises NotAllowed where it is not signed as this worker requires.
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
        record = CachedRecord(
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

    def lock(self, key: str, who: str) -> Lock:
        """Lock the key until the lock is released or its worker dies. Raises LockTimeout with the holder."""
        return self._locks.acquire(f"{RESULT}{key}", ttl=TTL, wait=NO_WAIT, owner=who)

    def close(self) -> None:
        self._locks.close()
        self._store.close()


TROUBLE = (
    redis.RedisError,
    Unreachable,
    NoRoom,
    NotAllowed,
    GitRefused,
    NotKnown,
    WorkspaceUnusable,
    OSError,
)
"""Errors of the cache, after which the todo runs."""

LOOK_AGAIN = timedelta(seconds=2)
"""How long until the next look whether another attempt has the result.

A look keeps a slot for 25 to 56 ms (2 cores).
"""

logger = logging.getLogger(__name__)


class AttemptCache:
    """The cache for one attempt. `look` may be called twice, before `prepare` and after it."""

    def __init__(
        self,
        grant: Grant,
        cache: Cache,
        results: Results,
        *,
        context: Callable[[], Mapping[str, Any]],
        agent_command: Command | None,
        no_cache: bool,
        state: Path,
        bounds: Callable[[], Bounds | None],
        log: Callable[[str], None],
    ) -> None:
        self._grant = grant
        self._cache = cache
        self._results = results
        self._context = context
        self._agent_command = agent_command
        self._no_cache = no_cache
        self._state = state
        self._bounds = bounds
        self._log = log
        self._has_looked = False
        self._key = ""
        self._lock: Lock | None = None
        self._kept: CachedResult | None = None

    def look(self, workspace: Workspace, start: str) -> AttemptOutcome | None:
        """Return an earlier result, restored in the workspace, or BUSY if another attempt computes it.

        None: run the todo.

        Raises Superseded.
        """
        if self._has_looked or (self._cache.inputs and workspace.needs_prepare):
            return None
        self._has_looked = True
        if not isinstance(workspace, Worktree):
            self._log(f"cache: {workspace.path} is used in place, so its key is not known: the todo runs")
            return None
        try:
            self._key = self._key_in(workspace, start)
            if self._no_cache:
                self._log("cache: not used, as the run asked for; the todo runs")
                return None
            return self._hit(workspace, start) or self._lock_or_wait() or self._hit(workspace, start)
        except TROUBLE as error:
            self._log(f"cache: cannot be used: {_message_of(error)}; the todo runs")
            return None

    def note(self, outcome: AttemptOutcome, workspace: Workspace) -> None:
        """Remember the result of this attempt in the workspace, for `keep`."""
        if not self._key or outcome.cached or not isinstance(workspace, Worktree):
            return
        try:
            kept = self._result_of(outcome, workspace)
        except TROUBLE as error:
            self._log(f"cache: its result is not kept: {_message_of(error)}")
            return
        if why := self._results.too_large(kept):
            self._log(f"cache: its result is not kept: {why}")
        else:
            self._kept = kept

    def keep(self) -> None:
        """Keep the result: its settle was accepted."""
        if self._kept is None:
            return
        try:
            self._results.save(self._key, self._kept, self._cache.ttl)
        except TROUBLE as error:
            logger.warning("the result of %s is not kept: %s", member(*self._ids), _message_of(error))

    def close(self) -> None:
        """Release the lock, so that attempts that wait for the result look again."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(CoordinationError):  # it was lost before, or ends by its ttl
                lock.release()

    @property
    def _ids(self) -> tuple[str, str]:
        return self._grant.run_id, self._grant.todo_id

    def _key_in(self, workspace: Worktree, start: str) -> str:
        inputs = input_files(self._cache.inputs, workspace, self._log)
        tree = tree_of(start, workspace)
        context = self._context()
        trees = trees_behind(context.get("predecessors", ()))
        return key_of(self._grant.spec, self._agent_command, tree, inputs, context, trees, self._bounds())

    def _hit(self, workspace: Worktree, start: str) -> AttemptOutcome | None:
        now = time.time()
        kept = self._results.load(self._grant, self._key, self._cache.ttl, now)
        if kept is None:
            return None
        tip = self._restored(workspace, kept)
        if tip is None:
            return None
        self._log(
            f"cached: from {kept.todo} of run {kept.run} ({format_hours(max(0.0, now - kept.at) / 3600)} ago)"
        )
        source = member(kept.run, kept.todo)
        return AttemptOutcome(
            kind=OutcomeKind.SUCCEEDED, output=kept.output, tip=tip, began=start, cached=source
        )

    def _restored(self, workspace: Worktree, kept: CachedResult) -> str | None:
        todo = self._grant.spec.todo
        source = f"{kept.run}/{kept.todo}"
        with scratch(self._state) as folder:
            try:
                return restore(
                    workspace, kept.changes, folder / "changes", kept.tree, todo.id, todo.task, source
                )
            except NotRestored as why:
                self._results.drop(self._key)
                self._log(f"cache: the result of {kept.todo} of run {kept.run} is dropped: {why.message}")
                return None

    def _lock_or_wait(self) -> AttemptOutcome | None:
        """Take the lock, after which the result may be there; return BUSY if another attempt has it."""
        run, todo = self._ids
        try:
            self._lock = self._results.lock(self._key, f"{todo} of run {run}")
        except LockTimeout as taken:
            who = ", ".join(taken.holders) or "another attempt"
            return AttemptOutcome(
                kind=OutcomeKind.BUSY, error=f"{who}, which computes the same result", again=LOOK_AGAIN
            )
        return None

    def _result_of(self, outcome: AttemptOutcome, workspace: Worktree) -> CachedResult:
        run, todo = self._ids
        with scratch(self._state) as folder:
            changes = patch(outcome.began, outcome.tip, workspace, folder / "changes")
        tree = tree_of(outcome.tip, workspace)
        kept = CachedResult(
            run=run, todo=todo, at=time.time(), tree=tree, output=outcome.output, changes=changes
        )
        return self._results.sign(kept, self._key, self._grant.spec.repo.name)


def _message_of(error: Exception) -> str:
    return error.message if isinstance(error, CoordinationError) else str(error)
