"""Read an ended run from Redis, whole and at one moment, and select the succeeded todos that its retry
executes again.

Todos of one repository build on each other, one at a time, in the order of the fences by which they were
done. So work is taken back from the end of a repository's history, up to a commit that is kept.

* From a todo on (`coord retry --from`): the todo, its dependents, and the todos that committed in its
  repository after it; the same for each of those, until no todo is added.
* For a host that is gone for good: the todos that committed there after the last commit that is available
  without the host.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from coordination.errors import Conflict, NotFound, UsageError
from coordination.runs.records import Descriptor, RunBrief, RunStatus, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import HOST
from coordination.runs.submission.structure import refuse_damaged
from coordination.text import did_you_mean, listed


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    run_id: str
    meta: Mapping[str, str]
    spec: Mapping[str, str]
    place: Mapping[str, str]
    children: Mapping[str, str]
    levels: Mapping[str, str]
    state: Mapping[str, str]
    tips: Mapping[str, str]
    output: Mapping[str, str]
    checkpoint: Mapping[str, str]
    facts: Mapping[str, Mapping[str, str]]
    """Todo → fact → value."""

    @cached_property
    def brief(self) -> RunBrief:
        return RunBrief.model_validate_json(self.meta["brief"])

    @property
    def pins(self) -> Mapping[str, str]:
        """Return repository → the host on which the run worked on it."""
        return {name.removeprefix(HOST): host for name, host in self.meta.items() if name.startswith(HOST)}

    @cached_property
    def succeeded(self) -> frozenset[str]:
        return frozenset(todo for todo, state in self.state.items() if state == TodoState.SUCCEEDED)

    @cached_property
    def undone(self) -> frozenset[str]:
        """Return the todos that had succeeded and were undone when a checkpoint was restored."""
        return frozenset(
            todo
            for todo, state in self.state.items()
            if state == TodoState.COMPENSATED and self.facts[todo].get("was") == TodoState.SUCCEEDED
        )

    def commit(self, todo: str) -> str | None:
        return self.facts[todo].get("commit")

    def fence(self, todo: str) -> int:
        """Return the fence of the claim by which it was done, not of one by which it was undone."""
        facts = self.facts[todo]
        return int(facts.get("was_fence") or facts["fence"])

    def repo_of(self, todo: str) -> str:
        return Descriptor.parse(self.place[todo]).repo


def read(store: RunStore, run_id: str) -> EndedRun:
    """Return the ended run. Raise Conflict if it has not ended, was retried, or is not what was submitted."""
    keys = store.keys.run(run_id)
    names = ("meta", "spec", "place", "children", "levels", "state", "tips", "output", "checkpoint", "facts")
    with store.redis.pipeline(transaction=True) as pipeline:
        for name in names:
            pipeline.hgetall(getattr(keys, name))
        found = dict(zip(names, pipeline.execute(), strict=True))
    facts: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, value in found.pop("facts").items():
        todo, _, fact = name.rpartition(" ")
        facts[todo][fact] = value
    if not found["meta"]:
        raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
    ended = EndedRun(run_id=run_id, facts=facts, **found)
    refuse_again(store, ended)
    refuse_damaged(run_id, ended.meta, ended.place, ended.children, ended.spec)
    return ended


def refuse_again(store: RunStore, run: EndedRun) -> None:
    """Raise Conflict where the run goes on, was undone, or was retried, by its current records, not those
    that were read.
    """
    status = RunStatus(store.status(run.run_id) or run.meta["status"])
    if status is RunStatus.ROLLED_BACK:
        raise Conflict(f"run {run.run_id} was rolled back: there is nothing to retry", _anew(run))
    if status in (RunStatus.ROLLING_BACK, RunStatus.ROLLBACK_FAILED):
        raise Conflict(
            f"run {run.run_id} is {status}: its todos must be undone, not retried",
            f"see its progress: coord show-run {run.run_id}; continue the rollback: "
            f"coord rollback {run.run_id}",
        )
    if not status.ended:
        hint = f"follow it: coord watch {run.run_id}; or end it: coord cancel {run.run_id}"
        raise Conflict(f"run {run.run_id} is {status}: there is nothing to retry before it has ended", hint)
    refuse_taken_up(store, run)


def _anew(run: EndedRun) -> str:
    return f"start a new run: coord sweep {run.meta['plan_id']}"


def refuse_taken_up(store: RunStore, run: EndedRun) -> None:
    """Raise Conflict where the run has a retry."""
    for retry_id, status in reversed(store.retries_of(run.run_id)):
        what = f"run {run.run_id} has a retry already, run {retry_id}"
        if status == RunStatus.ROLLED_BACK:
            raise Conflict(f"{what}, which was rolled back together with this run", _anew(run))
        hint = f"see the retry: coord show-run {retry_id}; retry its unfinished todos: coord retry {retry_id}"
        raise Conflict(what, hint)


def restorable(store: RunStore, ended: EndedRun) -> Callable[[str, str], bool]:
    """Return a function that returns whether a commit is available without the host that made it, by the
    run's bundles (workers/transfer/bundles.py).
    """

    def carried(repo: str, commit: str) -> bool:
        key = store.keys.run(ended.run_id).bundle(repo)
        with store.redis.pipeline(transaction=False) as pipeline:
            pipeline.hexists(key, commit)
            pipeline.hmget(key, f"{commit} since", f"{commit} elsewhere")
            bundled, (since, elsewhere) = pipeline.execute()
        if (elsewhere or "").startswith("remote "):
            return True
        made_here = since is not None and any(ended.commit(t) == since for t in ended.succeeded)
        return bool(bundled) and (not made_here or carried(repo, since))

    return carried


Carried = Callable[[str, str], bool]
"""True if a repository's commit is available without the host that made it."""

BEGUN = (TodoState.SUCCEEDED, TodoState.FAILED)


@dataclass(frozen=True, kw_only=True)
class RerunSelection:
    """Todos that are executed again although they had succeeded, and the commits from which their
    repositories continue.
    """

    again: frozenset[str]
    """Todos that the caller asked for, and what builds on them."""
    lost: frozenset[str]
    """Todos whose commits were lost with their host."""
    repos: frozenset[str]
    """Repositories in which a todo of `again` has committed."""
    tips: Mapping[str, str]
    """Repository → the commit from which it continues."""
    sources: Mapping[str, str]
    """Repository that was taken back → the todo that left that commit, or that began with it."""

    @property
    def todos(self) -> frozenset[str]:
        return self.again | self.lost


def select_reruns(
    ended: EndedRun, start: Collection[str], gone: Collection[str], carried: Carried
) -> RerunSelection:
    """Return the todos to execute again. `start`: todos that are executed again with everything that builds
    on them; `gone`: repositories whose host is gone. Raise NotFound or UsageError.
    """
    for todo in start:
        _refuse(ended, todo)
    again = _built_on(ended, start)
    tips, repos, sources = dict(ended.tips), set[str](), dict[str, str]()
    for repo, todos in _committed(ended).items():
        if first := next((todo for todo in todos if todo in again), None):
            repos.add(repo)
            commit, sources[repo] = _before(ended, todos, first)
            _set_tip(tips, repo, commit)
    lost = set[str]()
    for repo in gone & ended.tips.keys():
        left = [todo for todo in _committed(ended).get(repo, ()) if todo not in again]
        kept = next((todo for todo in reversed(left) if carried(repo, ended.commit(todo) or "")), None)
        lost.update(left[left.index(kept) + 1 :] if kept else left)
        _set_tip(tips, repo, ended.commit(kept) if kept else None)
        sources |= {repo: kept} if kept else {}
    return RerunSelection(
        again=again, lost=frozenset(lost), repos=frozenset(repos), tips=tips, sources=sources
    )


def _refuse(ended: EndedRun, todo: str) -> None:
    run, state = ended.run_id, ended.state.get(todo)
    if state is None:
        raise NotFound(
            f"run {run} has no todo {todo!r}{did_you_mean(todo, ended.state)}",
            f"its todos: {listed(list(ended.state))}",
        )
    if todo not in ended.spec:
        why = ended.facts[todo].get("error", "blocked from outside of the plan")
        hint = f"when that is done: coord sweep {ended.meta['plan_id']}"
        raise UsageError(f"{todo} was not executed in run {run}: {why}", hint)
    if state not in BEGUN and "started_at" not in ended.facts[todo]:
        hint = f"a retry executes it anyway: coord retry {run}"
        raise UsageError(f"run {run} never began {todo}, which was {state}", hint)


def _built_on(ended: EndedRun, start: Iterable[str]) -> frozenset[str]:
    """Return these todos and all that build on them, if they had succeeded."""
    committed = _committed(ended)
    at = {todo: i for todos in committed.values() for i, todo in enumerate(todos)}
    kept = {repo: len(todos) for repo, todos in committed.items()}
    found, ahead = set[str](), list(start)
    while ahead:
        todo = ahead.pop()
        if todo in found:
            continue
        found.add(todo)
        ahead += ended.children.get(todo, "").split()
        repo = ended.repo_of(todo)
        if todo in at and at[todo] < kept[repo]:
            ahead += committed[repo][at[todo] : kept[repo]]
            kept[repo] = at[todo]
    return frozenset(found & ended.succeeded)


def _committed(ended: EndedRun) -> dict[str, list[str]]:
    """Return repository → the todos that left a commit there, oldest first."""
    done = [todo for todo in ended.succeeded if ended.commit(todo)]
    committed: dict[str, list[str]] = {}
    for todo in sorted(done, key=ended.fence):
        committed.setdefault(ended.repo_of(todo), []).append(todo)
    return committed


def _before(ended: EndedRun, todos: list[str], first: str) -> tuple[str | None, str]:
    """Return the commit with which `first` began, and the todo whose record has it."""
    former = todos[: todos.index(first)]
    if (began := ended.facts[first].get("began")) or not former:
        return began, first
    return ended.commit(former[-1]), former[-1]


def _set_tip(tips: dict[str, str], repo: str, commit: str | None) -> None:
    tips.pop(repo, None)
    if commit:
        tips[repo] = commit
