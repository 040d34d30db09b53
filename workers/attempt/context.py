"""Make COORD_CONTEXT of a todo: its predecessors' results, where their work is on this host, shared values.

The brief that all todos of a run share is read and parsed once in this process, however many of its threads
begin at the same time. The brief of a run with 50,000 todos has megabytes, and each of 500 threads would
otherwise parse it again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from coordination.branches import run_branch
from coordination.cache.names import Chain
from coordination.errors import Conflict, CoordinationError
from coordination.models import LandAction, QaAction, Workspace
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.attempt_store import AttemptStore, Grant, PredecessorOutput, TodoInputs
from coordination.runs.records import RunBrief
from coordination.runs.run_contexts import chain_of_todo
from coordination.trust.results import ResultRecord
from workers.process.trouble import GitInterrupted, WorkspaceUnusable
from workers.transfer.fetcher import CommitFetcher, CommitRef
from workers.transfer.routes import sentence
from workers.trust.signed_results import SignedResults
from workers.workspace.git_worktree import ways_out
from workers.workspace.repository import has_commit, inspect
from workers.workspace.worktree import folder_of

BRIEFS_KEPT = 16
"""Runs whose brief is kept: the ones used last."""


@dataclass(frozen=True)
class ParsedBrief:
    """The brief of a run, and facts that are computed from it once."""

    brief: RunBrief

    @cached_property
    def rank(self) -> Mapping[str, int]:
        """Return the position of each todo in the order of the run, which is topological."""
        return {todo: rank for rank, todo in enumerate(self.brief.predecessors)}

    def ancestors(self, todo: str) -> list[str]:
        """Return every transitive predecessor, in the order of the run. Todos that are no ancestors cost no
        time.
        """
        return sorted(self.brief.ancestors(todo), key=self.rank.__getitem__)


class Briefs:
    def __init__(self, read: Callable[[str], RunBrief]) -> None:
        self._read = read
        self._known: OrderedDict[str, ParsedBrief] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, run_id: str) -> ParsedBrief:
        """Return the brief of a run. Raises the errors of reading it; the next call then reads again."""
        with self._guard:
            if run_id not in self._known:
                self._known[run_id] = ParsedBrief(self._read(run_id))
            self._known.move_to_end(run_id)
            while len(self._known) > BRIEFS_KEPT:
                self._known.popitem(last=False)
            return self._known[run_id]


class LeaseLost(Conflict):
    """The claim is no longer in Redis, so the outputs of predecessors there may be incomplete."""


@dataclass(frozen=True, kw_only=True)
class PathLookup:
    path: Path | None = None
    why: str = ""
    """The reason for a commit without a path."""

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields for COORD_CONTEXT."""
        path = None if self.path is None else str(self.path)
        return {"path": path} | ({"why": self.why} if self.why else {})


class PathMissing(CoordinationError):
    """The work of a predecessor is not on this host."""


class WorkLost(CoordinationError):
    """The work of a predecessor is no longer on the host that has made it."""


class PredecessorPaths:
    """Find the commits of predecessors: in the own worktree, or in a checkout of another repository's commit.

    The run's worktree of another repository is no place for a reader: other todos work in it, or have left
    uncommitted changes. A reader may write into the checkout, too, so a todo that judges gets one of its own,
    made anew, and todos behind a gate share none with those before it.
    """

    def __init__(
        self, fetcher: CommitFetcher, state: Path, home: Callable[[str, str], Path | None] = lambda *_: None
    ) -> None:
        """`home`: (run, repository) → its checkout, if the run's work there is made on this host."""
        self._fetcher = fetcher
        self._state = state
        self._home = home

    def of(self, grant: Grant, brief: RunBrief, repo: str, newest: PredecessorOutput | None) -> PathLookup:
        """Return the path at which the newest commit of a repository is checked out, or why there is none.

        Raises PathMissing where the todo needs a path and there is none, WorkLost where there will be none;
        WorkspaceUnusable and GitInterrupted for trouble of this host.
        """
        todo = grant.spec.todo
        judges = grant.undo is None and grant.spec.judges
        worktree = folder_of(self._state, grant.run_id, repo, judges=judges)
        is_own = repo == grant.spec.repo.name and todo.workspace is not Workspace.IN_PLACE
        if is_own and worktree.is_dir():
            return PathLookup(path=worktree)
        if newest is None or newest.commit is None or not _is_read(repo, todo.action):
            return PathLookup()
        commit_ref = CommitRef(
            run_id=grant.run_id,
            repo=repo,
            branch=run_branch(newest.run, brief.branch_prefix),
            commit=newest.commit,
            origin=brief.origins.get(repo),
            runs=brief.lineage.runs,
        )
        try:
            if judges or isinstance(todo.action, LandAction):
                own = ("checks", grant.spec.repo.name)
                return PathLookup(path=self._fetcher.folder(commit_ref, own, anew=True))
            shared = ("gates", grant.spec.behind) if grant.spec.behind else ()
            return PathLookup(path=self._fetcher.folder(commit_ref, shared))
        except (GitInterrupted, WorkspaceUnusable):
            raise
        except CoordinationError as missing:
            why = sentence(missing.message)
            if todo.needs_paths and grant.undo is None:
                self._refuse_lost(grant.run_id, brief, repo, newest)
                raise PathMissing(f"{newest.todo}, whose work is not on this host: {why}") from missing
            return PathLookup(why=why)

    def _refuse_lost(self, run: str, brief: RunBrief, repo: str, newest: PredecessorOutput) -> None:
        """Raise WorkLost if this host has the checkout that had the commit, and the commit is gone: a wait
        for it would never end.
        """
        place, commit = self._home(run, repo), newest.commit or ""
        if place is None or not place.is_dir() or inspect(place)[0] or has_commit(place, commit):
            return
        raise WorkLost(
            f"the work of {newest.todo} is lost: its commit {commit[:12]} is not in {place} any more",
            ways_out(repo, commit, place, run, brief.change_set),
        )


class Context:
    """Read a run's brief once; read the predecessors' outputs and the shared context of a todo in one round
    trip.
    """

    def __init__(
        self,
        store: AttemptStore,
        predecessor_paths: PredecessorPaths,
        limit_bytes: int,
        signed_results: SignedResults,
        brief: Callable[[str], RunBrief],
    ) -> None:
        """`limit_bytes`: the most of the shared context that a todo gets at its start. `brief` reads the
        brief of a run, verified where signatures are required.
        """
        self._store = store
        self._signed_results = signed_results
        self._limit_bytes = limit_bytes
        self._predecessor_paths = predecessor_paths
        self._briefs = Briefs(brief)

    def brief(self, run_id: str) -> RunBrief:
        return self._briefs.of(run_id).brief

    def results(self, grant: Grant) -> list[PredecessorOutput]:
        """Return the verified results of all todos before this one, without their files."""
        return self._handed_over(grant, self._names(grant)).todos

    def _names(self, grant: Grant) -> list[str]:
        known = self._briefs.of(grant.run_id)
        ancestors = known.ancestors(grant.todo_id)
        return [todo for todo in ancestors if known.brief.repo_of[todo] != MILESTONE_REPO]

    def of(self, grant: Grant) -> dict[str, Any]:
        brief, names = self.brief(grant.run_id), self._names(grant)
        inputs = self._handed_over(grant, names)
        handed = inputs.todos
        newest = _newest(handed, brief.repo_of)
        places = {
            repo: self._predecessor_paths.of(grant, brief, repo, newest.get(repo))
            for repo in dict.fromkeys(brief.repo_of[name] for name in names)
        }
        predecessors = [
            _fields(one, repo := brief.repo_of[one.todo], brief.branch_prefix) | places[repo].fields
            for one in handed
        ]
        identity = {"run_id": grant.run_id, "todo_id": grant.todo_id, "predecessors": predecessors}
        commits = {repo: one.commit for repo, one in newest.items()}
        return {**identity, "commits": commits, "context": inputs.context, "context_omitted": inputs.omitted}

    def _handed_over(self, grant: Grant, predecessors: list[str]) -> TodoInputs:
        chain = chain_of_todo(self.brief(grant.run_id), grant.todo_id) if grant.shared else ()
        known = self._signed_results.verified(grant.run_id, predecessors)
        inputs = self._read(grant, predecessors, chain, known or {})
        if known is not None:
            self._signed_results.check_inputs(grant, self.brief(grant.run_id), inputs, known)
        return inputs

    def _read(
        self,
        grant: Grant,
        predecessors: list[str],
        chain: Chain,
        known: Mapping[str, ResultRecord | None],
    ) -> TodoInputs:
        """Read the inputs of a todo, and the signed results of predecessors that are not known yet."""
        if not predecessors and not chain:
            return TodoInputs(todos=[], context={}, omitted=0)
        inputs = self._store.handed_over(
            grant.run_id,
            predecessors,
            chain,
            self._limit_bytes,
            to=grant.todo_id,
            signed=[todo for todo, record in known.items() if record is None],
        )
        if inputs.claimed_by != grant.fence:
            raise LeaseLost(
                f"Redis does not know the claim of {grant.todo_id} (fence {grant.fence}): "
                "its data is older, or newer",
                "nothing to do: the todo is dispatched again when its predecessors have succeeded",
            )
        return inputs


def _is_read(repo: str, action: object) -> bool:
    """Return whether a todo may read the files of a repository: a check, of those only that decide it."""
    return not isinstance(action, QaAction) or action.needs is None or repo in action.needs


def _fields(handed: PredecessorOutput, repo: str, prefix: str) -> dict[str, Any]:
    branch = run_branch(handed.run, prefix) if handed.commit else None
    return {
        "todo": handed.todo,
        "repo": repo,
        "output": handed.output,
        "branch": branch,
        "began": handed.began,
        "commit": handed.commit,
    }


def _newest(handed: Iterable[PredecessorOutput], repo_of: Mapping[str, str]) -> dict[str, PredecessorOutput]:
    """Return the output that was settled last of each repository: it contains the others, wherever the plan
    has it.
    """
    settled = sorted((one for one in handed if one.commit), key=lambda one: one.fence)
    return {repo_of[one.todo]: one for one in settled}
