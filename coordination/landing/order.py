"""Order repositories by what must land before each of them; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from coordination.models import Ecosystem, Todo
from coordination.planner.checks import Needs

Edges = Mapping[str, Collection[str]]
"""Repository → those that must land before it."""


def edges_between(
    ecosystem: Ecosystem, todos: Iterable[Todo], repos: Collection[str]
) -> Mapping[str, tuple[str, ...]]:
    """Return the repositories that must land before each of these: by the order of the plan's todos, and by
    the file's dependencies between repositories.
    """
    place = {todo.id: todo.repo for todo in todos}
    found: dict[str, dict[str, None]] = {repo: {} for repo in repos}

    def add(before: str, after: str) -> None:
        if before != after and before in found and after in found:
            found[after][before] = None

    for todo in todos:
        for name in todo.blocked_by:
            add(place.get(name, ""), todo.repo)
        for name in todo.blocking:
            add(todo.repo, place.get(name, ""))
    for dependency in ecosystem.coordination.dependencies:
        add(dependency.provider, dependency.consumer)
    return {repo: tuple(before) for repo, before in found.items()}


def with_needs(
    edges: Mapping[str, Collection[str]], needs: Needs, repos: Collection[str]
) -> Mapping[str, tuple[str, ...]]:
    """Add the repositories that the checks of each read: they land before it."""
    return {
        repo: tuple(dict.fromkeys((*edges.get(repo, ()), *sorted(needs.of(repo).intersection(repos)))))
        for repo in repos
    }


def in_order(repos: Collection[str], edges: Mapping[str, Collection[str]]) -> list[str]:
    """Return the repositories so that each comes behind those it depends on; where they depend on each other,
    in the order of their names.
    """
    done: list[str] = []
    left = sorted(repos)
    while left:
        ready = (repo for repo in left if not set(edges.get(repo, ())) & set(left) - {repo})
        done.append(next(ready, left[0]))
        left.remove(done[-1])
    return done


def all_before(repo: str, edges: Mapping[str, Collection[str]]) -> Iterator[str]:
    seen, ahead = {repo}, [repo]
    while ahead:
        for before in edges.get(ahead.pop(), ()):
            if before not in seen:
                seen.add(before)
                ahead.append(before)
                yield before
