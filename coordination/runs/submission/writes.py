"""The repositories of a change set that a run writes, as they were when the run was created.

The seal reserves these repositories for the run until it ends. It refuses a run with `busy` while another
live run writes one of them, and with `moved` if a tip is no longer the one from which the run was created.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from coordination.backend.steps.run import Reply
from coordination.branches import set_branch
from coordination.errors import Conflict
from coordination.models import OWN_BRANCHES, InWorker, ManualAction, Todo, Workspace
from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.selection import AD_HOC
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.change_sets.store import BEFORE, ChangeSets
from coordination.runs.records import RunBrief
from coordination.runs.run_kinds import is_landing
from coordination.runs.store import RunStore
from coordination.text import listed

TRIES = 3
BUSY, MOVED = "busy", "moved"


@dataclass(frozen=True, kw_only=True)
class Writes:
    """The repositories of a change set that a run writes."""

    found: ChangeSet = field(default_factory=lambda: ChangeSet(id="", repos={}))
    """The change set before the run."""
    repos: tuple[str, ...] = ()
    redoes: frozenset[str] = frozenset()
    """Todos whose results in the change set the run replaces."""
    before: Mapping[str, str] = field(default_factory=dict)
    """Repository → the tip before the run and those that it retries."""
    signed: Mapping[str, str] = field(default_factory=dict)
    """Repository → the signed result that states the tip of `before`."""
    prefix: str = OWN_BRANCHES
    """Beginning of the name of a branch that is none yet."""
    taken_back: Collection[str] = ()
    """The repositories in which the run begins before commits of the change set."""

    @property
    def change_set(self) -> str:
        """Return the id of the change set; empty for a run that writes none."""
        return self.found.id if self.repos else ""

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the runs whose results are in the change set, newest first."""
        return self.found.runs

    def branch(self, repo: str) -> str:
        known = self.found.repos.get(repo)
        return (known.branch if known else "") or set_branch(self.found.id, self.prefix)

    @property
    def taken(self) -> list[tuple[str, str, str]]:
        """Return the arguments of the seal: repository, branch, and the tip at the creation of the run."""
        return [(repo, self.branch(repo), self.found.tip(repo)) for repo in self.repos]

    @property
    def meta(self) -> dict[str, str]:
        """Return the fields of `meta` that the steps read (backend/lua/run/_changes.lua)."""
        if not self.repos:
            return {}
        lists = {"writes": self.repos, "redoes": sorted(self.redoes)}
        return {
            "change_set": self.change_set,
            **{name: " ".join(some) for name, some in lists.items() if some},
            **{f"{BEFORE}{repo}": tip for repo, tip in self.before.items() if tip},
        }

    def add_to(self, brief: RunBrief) -> RunBrief:
        """Return the brief with the facts of the change set that workers need."""
        lineage = brief.lineage
        builds_on = tuple(run for run in self.runs if run not in lineage.takes_up)
        last = next(iter((*lineage.takes_up, *builds_on)), "")
        again = dict.fromkeys(self.redoes, last) if last else {}
        requests = {name: one.request for name, one in self.found.open.items() if name in self.taken_back}
        published = {repo: ref.head for repo, ref in requests.items() if ref} | dict(self.found.set_back)
        starts = {
            repo: lineage.within(repo).model_copy(
                update={"branch": self.branch(repo), "published": published.get(repo, "")}
            )
            for repo in self.repos
        }
        lineage = lineage.model_copy(
            update={
                "builds_on": builds_on,
                "redone": lineage.redone | again,
                "repos": lineage.repos | starts,
            }
        )
        change_set = self.found.id if self.repos or builds_on else ""
        return brief.model_copy(update={"change_set": change_set, "lineage": lineage})


NO_WRITES = Writes()


def change_set_of(plan_id: str, todos: Iterable[str]) -> str:
    """Return the id of the change set of a run: its plan's id, or that of its todo, which has no plan; empty
    for a landing.
    """
    if is_landing(plan_id):
        return ""
    return next(iter(todos), "") if plan_id == AD_HOC else plan_id


def repos_written(todos: Iterable[Todo]) -> tuple[str, ...]:
    """Return the repositories in which these todos may commit. In-place work belongs to no change set."""
    without_worktree = ManualAction | InWorker
    return tuple(
        sorted(
            {
                todo.repo
                for todo in todos
                if todo.workspace is Workspace.WORKTREE and not isinstance(todo.action, without_worktree)
            }
            - {MILESTONE_REPO}
        )
    )


def writes_of(found: ChangeSet, todos: Mapping[str, Todo], prefix: str = OWN_BRANCHES) -> Writes:
    """Return the repositories that a new run of these todos writes. `found`: their change set; `prefix`: of a
    new branch.
    """
    repos = repos_written(todos.values())
    changes = {repo: found.open[repo] for repo in repos if repo in found.open}
    return Writes(
        found=found,
        repos=repos,
        prefix=prefix,
        redoes=frozenset(todos).intersection(found.source),
        before={repo: change.tip for repo, change in changes.items()},
        signed={repo: change.signed for repo, change in changes.items()},
    )


def read_change_set(store: RunStore, change_set: str) -> ChangeSet:
    """Return the change set of this id; one without repositories if there is none. Raises Unreadable."""
    found = ChangeSets(store).read(change_set) if change_set else None
    return found or ChangeSet(id=change_set, repos={})


def seal_of(store: RunStore, change_set: str, submit: Callable[[], tuple[str, Reply]]) -> tuple[str, Reply]:
    """Submit a run, again if its change set has moved; return its id and the reply of the seal. `submit`
    reads the change set, writes the run and seals it.

    Raises Conflict where another live run writes the change set.
    """
    for _ in range(TRIES):
        run_id, reply = submit()
        if reply.word == BUSY:
            raise _busy(store, change_set)
        if reply.word != MOVED:
            return run_id, reply
    raise Conflict(
        f"change set {change_set} has moved {TRIES} times while a run of it was written",
        f"look at it: coord changes {change_set}; then try again",
    )


def _busy(store: RunStore, change_set: str) -> Conflict:
    live, found = set(store.live_runs()), read_change_set(store, change_set)
    writers = {run: repo for repo, run in sorted(found.writers.items()) if run in live}
    if not writers:
        return Conflict(f"another run wrote change set {change_set}, and has just ended", "try again")
    run, repos = next(iter(writers)), [repo for repo, run in sorted(found.writers.items()) if run in writers]
    return Conflict(
        f"run {run} writes change set {change_set} in {listed(repos)}, and one run at a time does",
        f"follow it: coord watch {run}; or end it: coord cancel {run}",
    )
