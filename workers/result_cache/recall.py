"""Look up the result of an attempt in the cache, and keep the attempt's own."""

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
from coordination.errors import CoordinationError, GitRefused, LockTimeout, NotAllowed, Unreachable
from coordination.locks import Lock
from coordination.models import Cache, Command
from coordination.runs.replies import Grant
from coordination.sandbox import Bounds
from coordination.text import format_hours
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.trouble import WorkspaceUnusable
from workers.result_cache.key import (
    NotKnown,
    NotRestored,
    input_files,
    key_of,
    patch,
    restore,
    tree_of,
    trees_behind,
)
from workers.result_cache.results import Kept, Results
from workers.workspace.base import Workspace
from workers.workspace.files import scratch
from workers.workspace.worktree import Worktree

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
"""Errors of the cache; the todo runs in spite of them."""

LOOK_AGAIN = timedelta(seconds=2)
"""How long until the next look whether another attempt has the result.

A look keeps a slot for 25 to 56 ms (2 cores).
"""

logger = logging.getLogger(__name__)


class Recall:
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
        say: Callable[[str], None],
    ) -> None:
        self._grant = grant
        self._cache = cache
        self._results = results
        self._context = context
        self._agent_command = agent_command
        self._no_cache = no_cache
        self._state = state
        self._bounds = bounds
        self._say = say
        self._looked = False
        self._key = ""
        self._lock: Lock | None = None
        self._kept: Kept | None = None

    def look(self, workspace: Workspace, since: str) -> AttemptOutcome | None:
        """Return an earlier result, restored in the workspace, or BUSY if another attempt computes it.

        None: run the todo.

        Raises Superseded.
        """
        if self._looked or (self._cache.inputs and workspace.needs_prepare):
            return None
        self._looked = True
        if not isinstance(workspace, Worktree):
            self._say(f"cache: {workspace.path} is used in place, so its key is not known: the todo runs")
            return None
        try:
            self._key = self._key_in(workspace, since)
            if self._no_cache:
                self._say("cache: not used, as the run asked for; the todo runs")
                return None
            return self._found(workspace, since) or self._alone() or self._found(workspace, since)
        except TROUBLE as error:
            self._say(f"cache: cannot be used: {_words(error)}; the todo runs")
            return None

    def note(self, outcome: AttemptOutcome, at: Workspace) -> None:
        """Remember the result of this attempt in the workspace, for `keep`."""
        if not self._key or outcome.cached or not isinstance(at, Worktree):
            return
        try:
            kept = self._made(outcome, at)
        except TROUBLE as error:
            self._say(f"cache: its result is not kept: {_words(error)}")
            return
        if why := self._results.too_large(kept):
            self._say(f"cache: its result is not kept: {why}")
        else:
            self._kept = kept

    def keep(self) -> None:
        """Keep the result: its settle was accepted."""
        if self._kept is None:
            return
        try:
            self._results.save(self._key, self._kept, self._cache.ttl)
        except TROUBLE as error:
            logger.warning("the result of %s is not kept: %s", member(*self._who), _words(error))

    def close(self) -> None:
        """Release the lock, so that attempts that wait for the result look again."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with suppress(CoordinationError):  # it was lost before, or ends by its ttl
                lock.release()

    @property
    def _who(self) -> tuple[str, str]:
        return self._grant.run_id, self._grant.todo_id

    def _key_in(self, workspace: Worktree, since: str) -> str:
        inputs = input_files(self._cache.inputs, workspace, self._say)
        tree = tree_of(since, workspace)
        context = self._context()
        trees = trees_behind(context.get("predecessors", ()))
        return key_of(self._grant.spec, self._agent_command, tree, inputs, context, trees, self._bounds())

    def _found(self, workspace: Worktree, since: str) -> AttemptOutcome | None:
        now = time.time()
        kept = self._results.load(self._grant, self._key, self._cache.ttl, now)
        if kept is None:
            return None
        tip = self._restored(workspace, kept)
        if tip is None:
            return None
        self._say(
            f"cached: from {kept.todo} of run {kept.run} ({format_hours(max(0.0, now - kept.at) / 3600)} ago)"
        )
        source = member(kept.run, kept.todo)
        return AttemptOutcome(
            kind=OutcomeKind.SUCCEEDED, output=kept.output, tip=tip, since=since, cached=source
        )

    def _restored(self, workspace: Worktree, kept: Kept) -> str | None:
        todo = self._grant.spec.todo
        source = f"{kept.run}/{kept.todo}"
        with scratch(self._state) as folder:
            try:
                return restore(
                    workspace, kept.changes, folder / "changes", kept.tree, todo.id, todo.task, source
                )
            except NotRestored as why:
                self._results.drop(self._key)
                self._say(f"cache: the result of {kept.todo} of run {kept.run} is dropped: {why.message}")
                return None

    def _alone(self) -> AttemptOutcome | None:
        """Take the lock, after which the result may be there; return BUSY if another attempt has it."""
        run, todo = self._who
        try:
            self._lock = self._results.alone(self._key, f"{todo} of run {run}")
        except LockTimeout as taken:
            who = ", ".join(taken.holders) or "another attempt"
            return AttemptOutcome(
                kind=OutcomeKind.BUSY, why=f"{who}, which computes the same result", again=LOOK_AGAIN
            )
        return None

    def _made(self, outcome: AttemptOutcome, at: Worktree) -> Kept:
        run, todo = self._who
        with scratch(self._state) as folder:
            changes = patch(outcome.since, outcome.tip, at, folder / "changes")
        tree = tree_of(outcome.tip, at)
        kept = Kept(run=run, todo=todo, at=time.time(), tree=tree, output=outcome.output, changes=changes)
        return self._results.sign(kept, self._key, self._grant.spec.repo.name)


def _words(error: Exception) -> str:
    return error.message if isinstance(error, CoordinationError) else str(error)
