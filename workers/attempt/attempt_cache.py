"""Reuse of results in an attempt: a todo with a `cache` that would repeat an earlier success gets its result.

`result_cache.py` has the keys and the stored results.

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

The files that `inputs` name are read as git sees them: tracked, untracked and ignored ones alike. A pattern
is a pathspec of git with its `glob` rules: `*` stays within a folder, `**` does not, a folder stands for all
that is in it. So it follows no link out of the repository; a link counts by its target.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import redis

from coordination.backend.keys import member
from coordination.cache.entries import NoRoom
from coordination.errors import CoordinationError, GitRefused, LockTimeout, NotAllowed, Unreachable
from coordination.git import is_commit
from coordination.locks import Lock
from coordination.models import Cache
from coordination.runs.attempt_store import Grant
from coordination.sandbox import Bounds
from coordination.text import format_hours
from workers.attempt.result_cache import LARGEST_CHANGES, CachedResult, InputFiles, NotKnown, Results, key_of
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.process.trouble import WorkspaceUnusable
from workers.workspace.base import Workspace
from workers.workspace.files import scratch
from workers.workspace.git import ask, git
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
        reads: Callable[[], Mapping[str, Path]],
        no_cache: bool,
        state: Path,
        bounds: Callable[[], Bounds | None],
        log: Callable[[str], None],
    ) -> None:
        self._grant = grant
        self._cache = cache
        self._results = results
        self._context = context
        self._reads = reads
        self._no_cache = no_cache
        self._state = state
        self._bounds = bounds
        self._log = log
        self._has_looked = False
        self._key = ""
        self._lock: Lock | None = None
        self._kept: CachedResult | None = None

    def look(self, workspace: Workspace, start: str) -> AttemptOutcome | None:
        """Return an earlier result, restored in the workspace, or BUSY if another attempt computes it; None:
        run the todo. Raises Superseded.
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
        spec, origin = self._grant.spec, workspace.origin
        reads = {repo: git("rev-parse", "HEAD^{tree}", cwd=place) for repo, place in self._reads().items()}
        return key_of(spec, tree, inputs, context, trees, self._bounds(), origin, reads)

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
            holders = ", ".join(taken.holders) or "another attempt"
            return AttemptOutcome(
                kind=OutcomeKind.BUSY, error=f"{holders}, which computes the same result", again=LOOK_AGAIN
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


def input_files(patterns: Iterable[str], workspace: Worktree, log_line: Callable[[str], None]) -> InputFiles:
    """Return the files of each pattern in the worktree, in order. A pattern without files is logged. Raises
    NotKnown, OSError.
    """
    return [(pattern, _files(pattern, workspace, log_line)) for pattern in patterns]


def _files(pattern: str, workspace: Worktree, log_line: Callable[[str], None]) -> list[tuple[str, str]]:
    options = ("-z", "--cached", "--others", "--deduplicate")
    listed = workspace.git("ls-files", *options, "--", f":(top,glob){pattern}")
    files = [(name, digest) for name in sorted(_names(listed)) if (digest := _digest(workspace.path, name))]
    if not files:
        log_line(f"cache: its input {pattern} names no file; the key contains that")
    return files


def _names(listed: str) -> Iterator[str]:
    return (name for name in listed.split("\0") if name)


def _digest(root: Path, name: str) -> str:
    """Return the digest of a file; empty if it is gone, though git knows of it."""
    path = root / name
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISLNK(mode):
        return "link " + sha256(os.fsencode(path.readlink())).hexdigest()
    if stat.S_ISREG(mode):
        with path.open("rb") as file:
            kind = "program" if mode & stat.S_IXUSR else "file"
            return f"{kind} {file_digest(file, 'sha256').hexdigest()}"
    raise NotKnown(
        f"its input {name} is a repository of its own, or no file at all", "name files in the repository"
    )


class NotRestored(CoordinationError):
    """The cached patch does not produce its recorded tree."""


def tree_of(commit: str, at: Worktree) -> str:
    return at.git("rev-parse", "--verify", f"{commit}^{{tree}}")


def trees_behind(predecessors: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return predecessor → the tree of its commit, for entries as COORD_CONTEXT has them.

    A commit that this machine does not have stands for itself: no earlier run has left the same one, so
    nothing is found for it.
    """
    committed = [one for one in predecessors if one["commit"]]
    found = {one["todo"]: one["commit"] for one in committed}
    for path in {one["path"] for one in committed if one["path"]}:
        here = [one for one in committed if one["path"] == path and is_commit(one["commit"])]
        answer = ask("rev-parse", *(f"{one['commit']}^{{tree}}" for one in here), cwd=Path(path))
        if answer.returncode == 0:
            found |= dict(zip((one["todo"] for one in here), answer.stdout.split(), strict=True))
    return found


def patch(since: str, tip: str, at: Worktree, file: Path) -> bytes:
    """Return the patch from commit to commit; empty if the tree is the same. `file`: where git may write
    it.
    """
    options = (
        "-r",
        "-p",
        "--binary",
        "--full-index",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
    )
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/", "--submodule=short")
    at.git("diff-tree", *options, *prefixes, f"--output={file}", since, tip)
    if file.stat().st_size > LARGEST_CHANGES:
        raise NotKnown(f"its changes have more than {LARGEST_CHANGES:,} bytes", "leave its cache out")
    return file.read_bytes()


def restore(
    workspace: Worktree, changes: bytes, file: Path, tree: str, todo: str, task: str, source: str
) -> str:
    """Commit the changes in the workspace, which is clean; return the tip. `source`: `<run>/<todo>` that made
    them. Raises Superseded, and NotRestored with the workspace clean as before.
    """
    try:
        if changes:
            file.write_bytes(changes)
            _check(workspace.apply(file), tree)
        tip = workspace.commit(todo, task, source)
        _check(tree_of(tip, workspace), tree)
    except (GitRefused, NotRestored) as refused:
        workspace.reset()
        raise NotRestored(
            f"it could not be restored: {refused.message}", "the todo runs instead"
        ) from refused
    return tip


def _check(state: str, tree: str) -> None:
    if state != tree:
        raise NotRestored(f"it leads to tree {state[:12]} instead of {tree[:12]}", "the todo runs instead")
