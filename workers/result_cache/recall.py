"""What an attempt asks of the results of earlier ones: one that was made from the same, and what becomes of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis

from coordination.backend.keys import member
from coordination.cache.entries import NoRoom
from coordination.errors import CoordinationError, GitRefused, LockTimeout, Unreachable
from coordination.locks import Lock
from coordination.models import Cache, Command
from coordination.runs.records import Grant
from coordination.text import format_hours
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.result_cache.key import NotKnown, NotRestored, found, key_of, patch, restore, tree_of, trees_behind
from workers.result_cache.results import Kept, Results
from workers.workspace.files import scratch
from workers.workspace.interface import Workspace
from workers.workspace.lock import WorkspaceUnusable
from workers.workspace.worktree import Worktree

TROUBLE = (redis.RedisError, Unreachable, NoRoom, GitRefused, NotKnown, WorkspaceUnusable, OSError)
"""None of it is a reason for the todo to fail: it runs."""

LOOK_AGAIN = timedelta(seconds=2)
"""Whether who computes the same is done. A look keeps a worker's slot for 25 to 56 ms (measured, on 2 shared cores)."""

logger = logging.getLogger(__name__)


class Recall:
    """Of one attempt. `look` may be asked twice, before `prepare` and after it."""

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
        say: Callable[[str], None],
    ) -> None:
        self._grant = grant
        self._cache = cache
        self._results = results
        self._context = context
        self._agent_command = agent_command
        self._no_cache = no_cache
        self._state = state
        self._say = say
        self._looked = False
        self._key = ""
        self._lock: Lock | None = None
        self._kept: Kept | None = None

    def look(self, workspace: Workspace, since: str) -> AttemptOutcome | None:
        """What an earlier attempt came to, restored in the workspace; or that another one is at it; None where this one is to run.

        Raises Superseded.
        """
        if self._looked or (self._cache.inputs and workspace.needs_prepare):
            return None
        self._looked = True
        if not isinstance(workspace, Worktree):
            self._say(f"cache: {workspace.path} is worked in as it is, so nobody knows what this starts from: it runs")
            return None
        try:
            self._key = self._key_in(workspace, since)
            if self._no_cache:
                self._say("cache: not looked at, as was asked for; it runs")
                return None
            return self._found(workspace, since) or self._alone() or self._found(workspace, since)
        except TROUBLE as error:
            self._say(f"cache: cannot be used: {_words(error)}; it runs")
            return None

    def note(self, attempt_outcome: AttemptOutcome, at: Workspace) -> None:
        """What this attempt came to in the workspace, to be kept if that counts."""
        if not self._key or attempt_outcome.cached or not isinstance(at, Worktree):
            return
        try:
            kept = self._made(attempt_outcome, at)
        except TROUBLE as error:
            self._say(f"cache: its result is not kept: {_words(error)}")
            return
        if why := self._results.too_large(kept):
            self._say(f"cache: its result is not kept: {why}")
        else:
            self._kept = kept

    def keep(self) -> None:
        """It counts."""
        if self._kept is None:
            return
        try:
            self._results.save(self._key, self._kept, self._cache.ttl)
        except TROUBLE as error:
            logger.warning("the result of %s is not kept: %s", member(*self._who), _words(error))

    def close(self) -> None:
        """Whoever waits for the result looks again."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(CoordinationError):  # it was lost before, or is by itself soon
                lock.release()

    @property
    def _who(self) -> tuple[str, str]:
        return self._grant.run_id, self._grant.todo_id

    def _key_in(self, workspace: Worktree, since: str) -> str:
        inputs = found(self._cache.inputs, workspace, self._say)
        tree = tree_of(since, workspace)
        context = self._context()
        trees = trees_behind(context.get("predecessors", ()))
        return key_of(self._grant.spec, self._agent_command, tree, inputs, context, trees)

    def _found(self, workspace: Worktree, since: str) -> AttemptOutcome | None:
        now = time.time()
        kept = self._results.load(self._key, self._cache.ttl, now)
        if kept is None:
            return None
        tip = self._restored(workspace, kept)
        if tip is None:
            return None
        self._say(f"cached: from {kept.todo} of run {kept.run} ({format_hours(max(0.0, now - kept.at) / 3600)} ago)")
        source = member(kept.run, kept.todo)
        return AttemptOutcome(word=OutcomeKind.SUCCEEDED, output=kept.output, tip=tip, since=since, cached=source)

    def _restored(self, workspace: Worktree, kept: Kept) -> str | None:
        todo = self._grant.spec.todo
        source = f"{kept.run}/{kept.todo}"
        with scratch(self._state) as folder:
            try:
                return restore(workspace, kept.changes, folder / "changes", kept.tree, todo.id, todo.task, source)
            except NotRestored as why:
                self._results.drop(self._key)
                self._say(f"cache: the result of {kept.todo} of run {kept.run} is dropped: {why.message}")
                return None

    def _alone(self) -> AttemptOutcome | None:
        """BUSY where another attempt is at the same. Once it is ours, that one's result may be there."""
        run, todo = self._who
        try:
            self._lock = self._results.alone(self._key, f"{todo} of run {run}")
        except LockTimeout as taken:
            who = ", ".join(taken.holders) or "another attempt"
            return AttemptOutcome(word=OutcomeKind.BUSY, why=f"{who}, which computes the same", again=LOOK_AGAIN)
        return None

    def _made(self, attempt_outcome: AttemptOutcome, at: Worktree) -> Kept:
        run, todo = self._who
        with scratch(self._state) as folder:
            changes = patch(attempt_outcome.since, attempt_outcome.tip, at, folder / "changes")
        tree = tree_of(attempt_outcome.tip, at)
        return Kept(run=run, todo=todo, at=time.time(), tree=tree, output=attempt_outcome.output, changes=changes)


def _words(error: Exception) -> str:
    return error.message if isinstance(error, CoordinationError) else str(error)
