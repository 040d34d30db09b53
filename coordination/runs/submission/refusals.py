"""Refuse to start a run that builds on unmerged results, or whose todos another run executes; report work of
this machine that a run would not contain.

A run begins at its change set and the base branches. If a todo of another plan is completed in the file and
its commit was never merged, its dependents would lack that commit, and succeed or fail for the wrong reason.
The hash `commits` in Redis names the commit of each todo's last success, or says that it has none; the steps
write it, and a rollback removes it. Without an entry (Redis was lost, or the todo was done by an older
version) the branches `coord/*` are searched for the todo's trailers. A todo that was completed by hand has
neither, and is not checked.

Only workers reach the repositories, so every worker that serves one of them is asked by a cleanup job: any of
them may be given the next todo. The worker's part is `workers/cleanup/completed.py`.

Uncommitted changes and unmerged commits in the checkouts of this machine are no part of a run either.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType

from coordination.durations import ms
from coordination.errors import Conflict, NotFound, Unreadable, UsageError
from coordination.files import is_there
from coordination.git import ask_git
from coordination.models import Ecosystem, Plan, Repo, Todo, TodoStatus, Workspace
from coordination.planner.blockers import Register
from coordination.planner.gates import MILESTONE_REPO, gates_of
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.change_sets.store import plans_of
from coordination.runs.cleanup_jobs import BEGIN_WITHIN, CleanupJob, CleanupQueue, ask_workers
from coordination.runs.landed_results import ExpectedResult, ResultFinding
from coordination.runs.records import Descriptor, RunStatus, TodoState
from coordination.runs.store import RunStore
from coordination.runs.views.run_view import RunReader
from coordination.runs.worker_registry import WorkerRegistry
from coordination.text import counted, listed, quoted

ACCEPTED, NO_COMMIT = "accepted", "none"
"""Values in `commits` instead of a commit."""
SHOWN = 3

Sets = Mapping[str, ChangeSet]
NO_SETS: Sets = MappingProxyType({})


class NotLanded(Conflict):
    """The result of a completed predecessor is not in its base branch."""

    def __init__(self, message: str, hint: str, findings: Collection[ResultFinding] = ()) -> None:
        self.findings = tuple(findings)
        super().__init__(message, hint)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A completed todo on which a run builds, and the branch that must contain its result."""

    todo: str
    repo: str
    branch: str
    dependent: str
    """A todo of the run that depends on it, directly or indirectly."""
    change_set: str = ""
    """The change set that has its result, or would have; empty if unknown."""


def bases(
    ecosystem: Ecosystem,
    plan: Plan | None,
    todos: Collection[str],
    sets: Sets = NO_SETS,
    own: str = "",
    known: Collection[str] = (),
) -> list[Base]:
    """Return the completed todos on which these todos build and whose results may be missing: not those in
    the run's own change set, nor those that coord has landed.

    `sets`: all change sets; `own`: the id of the run's change set; `known`: todos whose results the run has.
    """
    register = Register(
        ecosystem, plan, gates_of(plan) if plan else {}, {name: one.source for name, one in sets.items()}
    )
    declared = {todo.id: todo for todo in ecosystem.coordination.todos}
    branches = {repo.name: repo.branch for repo in ecosystem.repos}
    present = {*known, *todos, *_settled(sets, own)}
    holders = {todo: one.id for one in sets.values() for todo in one.todos}
    return [
        Base(
            todo=name,
            repo=declared[name].repo,
            branch=branches.get(declared[name].repo, "main"),
            dependent=dependent,
            change_set=holders.get(name) or declared[name].plan or "",
        )
        for name, dependent in register.completed_before(todos).items()
        if name in declared and name not in present and declared[name].repo != MILESTONE_REPO
    ]


def refuse_reopened(planned: Ecosystem, present: Ecosystem, plan: Plan, todos: Collection[str]) -> None:
    """Raise Conflict where one of these todos builds on a result that the file had as completed when the run
    was planned, and no longer has: somebody has discarded it meanwhile.
    """
    register = Register(planned, plan, gates_of(plan))
    is_open = {todo.id for todo in present.coordination.todos if todo.status is not TodoStatus.COMPLETED}
    for name, dependent in register.completed_before(todos).items():
        if name in is_open:
            raise Conflict(
                f"{dependent} builds on {name}, which was opened again in the meantime",
                f"plan the run again: coord sweep {quoted(plan.id)}",
            )


def _settled(sets: Sets, own: str) -> set[str]:
    """Return the todos whose results are in the own change set, or were landed by coord."""
    found = set(sets[own].source) if own in sets else set()
    for one in sets.values():
        found.update(todo for change in one.repos.values() if change.landed for todo in change.todos)
    return found


def refuse_not_landed(
    store: RunStore,
    registry: WorkerRegistry,
    required: Collection[Base],
    accepted: Collection[str] = (),
    *,
    sets: Sets = NO_SETS,
    record: bool = True,
) -> None:
    """Raise NotLanded where a result is missing in its base branch, or cannot be checked.

    `accepted`: todos whose results a person declares to be landed; the declaration is recorded. Raise
    UsageError where no todo of the run builds on one of them.
    """
    if unknown := sorted(set(accepted) - {base.todo for base in required}):
        raise UsageError(
            f"{listed(unknown)}: not a completed predecessor of this run", "leave it out of --accept"
        )
    if record:
        record_accepted(store, accepted)
    if expected := _expected_results(store, [base for base in required if base.todo not in accepted]):
        findings, unasked = ask_for_results(store, registry, expected)
        by_todo = {base.todo: base for base in required}
        if missing := [finding for finding in findings if finding.why]:
            raise _refusal(store, missing, by_todo, sets)
        if recorded := [one for one in expected if one.commit and one.repo in unasked]:
            first = recorded[0]
            dependent = by_todo[first.todo].dependent
            raise NotLanded(
                f"{dependent} waits for {first.todo}, but no worker of {first.repo} reports "
                f"whether the result of {first.todo} is in {first.branch}",
                f"start one: coord worker --repo {first.repo}; "
                f"or, if {first.branch} has it: --accept {first.todo}",
            )


def record_accepted(store: RunStore, todos: Collection[str]) -> None:
    """Record that a person declares the results of these todos to be landed."""
    if todos:
        store.redis.hset(store.keys.commits, mapping=dict.fromkeys(todos, ACCEPTED))


def _expected_results(store: RunStore, required: Collection[Base]) -> list[ExpectedResult]:
    if not required:
        return []
    records = store.redis.hmget(store.keys.commits, [base.todo for base in required])
    tips_in = cache(partial(_tips, store, cache(partial(_later, store))))
    found = []
    for base, record in zip(required, records, strict=True):
        commit, run, repo = [*str(record or "").split(" "), "", "", ""][:3]
        if commit not in (ACCEPTED, NO_COMMIT):
            tips = tips_in(run, repo) if run else ()
            # the todo may have moved to another repository since
            branch, where = base.branch, repo or base.repo
            found.append(
                ExpectedResult(todo=base.todo, repo=where, branch=branch, commit=commit, run=run, tips=tips)
            )
    return found


def _tips(store: RunStore, later: Callable[[str], list[str]], run: str, repo: str) -> tuple[str, ...]:
    """Return the commits at which the run and its retries left the repository, if Redis still has them."""
    found = (store.redis.hget(store.keys.run(run_id).tips, repo) for run_id in (run, *later(run)))
    return tuple(filter(None, found))


def _later(store: RunStore, run: str) -> list[str]:
    """Return the chain of retries of this run, in order."""
    chain: list[str] = []
    while found := [
        retry for retry, _ in store.retries_of(chain[-1] if chain else run) if retry not in chain
    ]:
        chain.append(found[-1])
    return chain


def ask_for_results(
    store: RunStore, registry: WorkerRegistry, expected: Collection[ExpectedResult]
) -> tuple[list[ResultFinding], set[str]]:
    """Return the findings of the workers, and the repositories for which none has answered. Raises NotLanded
    where a worker of one of the repositories does not answer.
    """
    repos = {one.repo for one in expected}
    if not any(repos & set(worker.repos) for worker in registry.workers()):
        return [], repos
    until = store.now_ms() + ms(2 * BEGIN_WITHIN)
    job = CleanupJob(id=uuid.uuid4().hex, until_ms=until, runs=(), sought=tuple(expected))
    answers, silent = ask_workers(CleanupQueue(store.redis, store.keys), registry, job, repos)
    if silent:
        raise NotLanded(
            f"no answer from {', '.join(silent)}: unknown whether completed work is in the base branches",
            "see the log of that worker, then try again",
        )
    # a worker may only report on the todos that it was asked about
    asked = {(one.todo, one.repo) for one in expected}
    findings = [
        finding.model_copy(update={"host": answer.host})
        for answer in answers
        for finding in answer.landed
        if (finding.todo, finding.repo) in asked
    ]
    return findings, repos - {finding.repo for finding in findings}


def _refusal(
    store: RunStore, missing: list[ResultFinding], by_todo: Mapping[str, Base], sets: Sets
) -> NotLanded:
    first = missing[0]
    base = by_todo[first.todo]
    sentences = [
        f"{by_todo[f.todo].dependent} waits for {f.todo}, which is completed, and {f.why}"
        for f in missing[:SHOWN]
    ]
    more = f"; and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    accept = f"where {first.branch} of {first.repo} has the work in another form: --accept {first.todo}"
    ways = [f"merge it into {first.branch}", accept]
    if base.change_set in sets and first.repo in sets[base.change_set].open:
        ways[0] = f"land it: coord land {base.change_set}"
    elif base.change_set:
        ways.insert(0, f"take it up from its branch: coord plan adopt {base.change_set}")
    if first.run and (newest := _takes_up(store, first.run, base.dependent)):
        ways.insert(0, f"build on its work: coord retry {newest}")
    return NotLanded("; ".join(sentences) + more, "; or ".join(ways), missing)


def _takes_up(store: RunStore, run: str, todo: str) -> str:
    """Return the run whose retry would execute the todo on top of the result; empty if there is none."""
    newest = (run, *_later(store, run))[-1]
    state = store.redis.hget(store.keys.run(newest).state, todo)
    return newest if state and state != TodoState.SUCCEEDED else ""


logger = logging.getLogger(__name__)


def refuse_conflicts_of(store: RunStore, reader: RunReader, todos: Collection[str]) -> None:
    """Raise Conflict where a live run executes one of these todos."""
    for run_id in store.live_runs():
        try:
            run = reader.read(run_id, only=())
        except (NotFound, Unreadable) as error:  # such a run cannot continue, so it blocks no other
            logger.warning("skipped in the search for conflicting runs: %s", error.message)
            continue
        shared = next(_unfinished_in(store, run_id, run.status, list(todos)), None)
        if shared is not None:
            end = "" if run.status is RunStatus.ROLLING_BACK else f"; or end it: coord cancel {run_id}"
            raise Conflict(
                f"run {run_id} of {run.plan_id} is {run.status} and executes {shared}",
                f"follow it: coord watch {run_id}{end}",
            )


def refuse_runs_of(store: RunStore, plan_ids: Collection[str]) -> None:
    """Raise Conflict where a live run has one of these plan ids, or lands that plan with others: a change set
    is not written while it lands.

    Callers hold the start lock, so that no other run starts in between.
    """
    for run_id, plan in plans_of(store, store.live_runs()).items():
        kind = plan.id.partition(":")[0]
        if plan.id in plan_ids or any(f"{kind}:{name}" in plan_ids for name in plan.lands):
            what = f"run {run_id} of {plan.id} goes on"
            raise Conflict(what, f"wait for its end: coord watch {run_id}; or end it: coord cancel {run_id}")


def _unfinished_in(store: RunStore, run_id: str, status: RunStatus, todos: list[str]) -> Iterator[str]:
    """Yield the todos that the run has not finished; in a rollback, those that are not undone yet.

    A milestone never conflicts: each run needs an approval of its own, and another plan may have a milestone
    of the same name.
    """
    if not todos:
        return
    keys = store.keys.run(run_id)
    states, descriptors = store.redis.hmget(keys.state, todos), store.redis.hmget(keys.descriptor, todos)
    for todo, state, descriptor in zip(todos, states, descriptors, strict=True):
        if state is None or Descriptor.parse(descriptor).repo == MILESTONE_REPO:
            continue
        if state != TodoState.COMPENSATED if status is RunStatus.ROLLING_BACK else not TodoState(state).ended:
            yield todo


AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Local work in one repository that the run would not contain."""

    repo: str
    uncommitted: int
    """Number of files with uncommitted changes, including untracked files."""
    branch: str
    """The checked-out branch; empty for a detached HEAD."""
    commits: int
    """Number of commits of HEAD that `base` does not have."""
    base: str

    def __str__(self) -> str:
        changes = f"{counted(self.uncommitted, 'file')} with uncommitted changes" if self.uncommitted else ""
        commits = (
            f"{counted(self.commits, 'commit')} of {self.branch or 'a detached HEAD'}" if self.commits else ""
        )
        work = " and ".join(filter(None, (changes, commits)))
        return f"{self.repo}: {work} not part of the run, which begins at {self.base}"


def left_out(todos: Iterable[Todo], places: Iterable[tuple[Repo, Path | None]]) -> tuple[LeftOut, ...]:
    """Return the local work that a run of these todos would not contain. `places`: each repository with its
    checkout on this machine; None without one.

    Checkouts are only read. Raise GitRefused if git is not available.
    """
    concerned = {todo.repo for todo in todos if todo.workspace is Workspace.WORKTREE}
    checkouts = [
        (repo, path) for repo, path in places if repo.name in concerned and path and is_there(path / ".git")
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return tuple(found for found in pool.map(lambda place: _left_out(*place), checkouts) if found)


def _left_out(repo: Repo, path: Path) -> LeftOut | None:
    entries = list(_entries(ask_git(path, "status", "--porcelain=v2", "--branch", "-z", "--no-ahead-behind")))
    facts = dict(line[2:].partition(" ")[::2] for line in entries if line.startswith("# "))
    branch = facts.get("branch.head", "").replace("(detached)", "")
    uncommitted = sum(not line.startswith("# ") for line in entries)
    ahead = (
        ""
        if branch == repo.branch
        else ask_git(path, "rev-list", "--count", f"refs/heads/{repo.branch}..HEAD")
    )
    commits = int(ahead or 0)
    if not uncommitted and not commits:
        return None
    return LeftOut(repo=repo.name, uncommitted=uncommitted, branch=branch, commits=commits, base=repo.branch)


def _entries(status: str) -> Iterator[str]:
    """Yield one entry per file; a renamed file takes two fields, the second of which is its old name."""
    fields = iter(status.split("\0"))
    for field in fields:
        if field.startswith("2 "):
            next(fields, None)
        if field:
            yield field
