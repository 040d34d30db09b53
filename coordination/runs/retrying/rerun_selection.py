"""What had succeeded in an ended run and is done again all the same.

Todos of one repository build on each other, one at a time, in the order of the fences by which they were done;
so work is taken back from its end, up to a commit that is kept.

* From a todo on (`coord retry --from`): it, whatever waits for it, and what was committed in its repository after it; of each of
  those the same, until nothing is added.
* Where a host is gone for good: what was committed there after the last commit that can be had without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from coordination.errors import NotFound, UsageError
from coordination.runs.records import TodoState
from coordination.runs.retrying.ended import EndedRun
from coordination.text import did_you_mean, listed

Carried = Callable[[str, str], bool]
"""Whether a repository's commit can be had without the host that made it."""

BEGUN = (TodoState.SUCCEEDED, TodoState.FAILED)


@dataclass(frozen=True, kw_only=True)
class RerunSelection:
    """Todos that are done again although they had succeeded, and where that leaves their repositories."""

    again: frozenset[str]
    """Because that was asked for."""
    lost: frozenset[str]
    """Because their commits went with their host."""
    repos: frozenset[str]
    """In which something of `again` was committed."""
    tips: Mapping[str, str]
    """Repository → the commit that it goes on from."""

    @property
    def todos(self) -> frozenset[str]:
        return self.again | self.lost


def select_reruns(ended: EndedRun, start: Collection[str], gone: Collection[str], carried: Carried) -> RerunSelection:
    """`start`: todos from which on all is done again; `gone`: repositories whose host is. Raises NotFound or UsageError."""
    for todo in start:
        _refuse(ended, todo)
    again = _built_on(ended, start)
    tips, repos = dict(ended.tips), set[str]()
    for repo, todos in _committed(ended).items():
        if first := next((todo for todo in todos if todo in again), None):
            repos.add(repo)
            _stand(tips, repo, _before(ended, todos, first))
    lost = set[str]()
    for repo in gone & ended.tips.keys():
        left = [todo for todo in _committed(ended).get(repo, ()) if todo not in again]
        kept = next((todo for todo in reversed(left) if carried(repo, ended.commit(todo) or "")), None)
        lost.update(left[left.index(kept) + 1 :] if kept else left)
        _stand(tips, repo, ended.commit(kept) if kept else None)
    return RerunSelection(again=again, lost=frozenset(lost), repos=frozenset(repos), tips=tips)


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
        raise UsageError(f"{todo} was no part of what run {run} did: {why}", hint)
    if state not in BEGUN and "started_at" not in ended.facts[todo]:
        hint = f"what is left is done again anyway: coord retry {run}"
        raise UsageError(f"run {run} never came to {todo}, which was {state}: nothing of it was done", hint)


def _built_on(ended: EndedRun, start: Iterable[str]) -> frozenset[str]:
    """These todos and all that stands on them, as far as it had succeeded."""
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
    """Repository → the todos that left a commit there, oldest first."""
    done = [todo for todo in ended.succeeded if ended.commit(todo)]
    committed: dict[str, list[str]] = {}
    for todo in sorted(done, key=ended.fence):
        committed.setdefault(ended.repo_of(todo), []).append(todo)
    return committed


def _before(ended: EndedRun, todos: list[str], first: str) -> str | None:
    """The commit that `first` began with."""
    former = todos[: todos.index(first)]
    return ended.facts[first].get("began") or (ended.commit(former[-1]) if former else None)


def _stand(tips: dict[str, str], repo: str, commit: str | None) -> None:
    tips.pop(repo, None)
    if commit:
        tips[repo] = commit
