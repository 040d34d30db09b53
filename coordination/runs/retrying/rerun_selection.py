"""Select the succeeded todos of an ended run that a retry executes again.

Todos of one repository build on each other, one at a time, in the order of the fences by which they were
done. So work is taken back from the end of a repository's history, up to a commit that is kept.

* From a todo on (`coord retry --from`): the todo, its dependents, and what was committed in its repository
  after it; the same for each of those, until nothing is added.
* For a host that is gone for good: what was committed there after the last commit that is available without
  it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from coordination.errors import NotFound, UsageError
from coordination.runs.records import TodoState
from coordination.runs.retrying.ended import EndedRun
from coordination.text import did_you_mean, listed

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
    """Return the todos to execute again. `start`: todos from which on all is done again; `gone`: repositories
    whose host is gone. Raise NotFound or UsageError.
    """
    for todo in start:
        _refuse(ended, todo)
    again = _built_on(ended, start)
    tips, repos, sources = dict(ended.tips), set[str](), dict[str, str]()
    for repo, todos in _committed(ended).items():
        if first := next((todo for todo in todos if todo in again), None):
            repos.add(repo)
            commit, sources[repo] = _before(ended, todos, first)
            _stand(tips, repo, commit)
    lost = set[str]()
    for repo in gone & ended.tips.keys():
        left = [todo for todo in _committed(ended).get(repo, ()) if todo not in again]
        kept = next((todo for todo in reversed(left) if carried(repo, ended.commit(todo) or "")), None)
        lost.update(left[left.index(kept) + 1 :] if kept else left)
        _stand(tips, repo, ended.commit(kept) if kept else None)
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


def _stand(tips: dict[str, str], repo: str, commit: str | None) -> None:
    tips.pop(repo, None)
    if commit:
        tips[repo] = commit
