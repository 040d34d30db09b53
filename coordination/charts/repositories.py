"""The graph of repositories and their dependencies as a picture. Pure.

An arrow leads from a repository to one that needs it. Repositories that need each other in a circle are drawn
in the order of their names, without the arrow back; a repository without dependencies is drawn apart.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from coordination.charts.graph_picture import Box, Picture, draw
from coordination.models import Dependency, DependencyStatus, Ecosystem, TodoStatus
from coordination.text import counted

ACTIVE = (TodoStatus.IN_PROGRESS, TodoStatus.BLOCKED)


def svg(ecosystem: Ecosystem) -> str:
    """Return the picture as an SVG file."""
    return draw(picture(ecosystem))


def picture(ecosystem: Ecosystem) -> Picture:
    """Return the picture; the state of a repository is that of its todos and dependencies."""
    names = [repo.name for repo in ecosystem.repos]
    dependencies = [
        one
        for one in ecosystem.coordination.dependencies
        if {one.consumer, one.provider} <= {*names} and one.consumer != one.provider
    ]
    before: dict[str, list[str]] = {}
    for one in dependencies:
        before.setdefault(one.consumer, []).append(one.provider)
    joined = {name for one in dependencies for name in (one.consumer, one.provider)}
    levels = _levels({name: {*before.get(name, ())} for name in names if name in joined})
    depth = {name: i for i, level in enumerate(levels) for name in level}
    todos: dict[str, list[TodoStatus]] = {}
    for todo in ecosystem.coordination.todos:
        todos.setdefault(todo.repo, []).append(todo.status)
    return Picture(
        title="Repositories",
        subtitle=f"{counted(len(names), 'repository')}, {counted(len(dependencies), 'dependency')}",
        boxes={name: _box(name, dependencies, todos.get(name, ())) for name in names},
        levels=levels,
        predecessors={
            name: sorted(other for other in {*others} if depth[other] < depth[name])
            for name, others in before.items()
        },
        critical=(),
        apart=[name for name in names if name not in joined],
        apart_words="without dependencies",
    )


def _levels(needs: Mapping[str, Collection[str]]) -> Sequence[Sequence[str]]:
    left, levels = {name: {*others} for name, others in needs.items()}, []
    while left:
        level = sorted(name for name, others in left.items() if not others & left.keys()) or [min(left)]
        levels.append(level)
        for name in level:
            del left[name]
    return levels


def _box(name: str, dependencies: Collection[Dependency], todos: Collection[TodoStatus]) -> Box:
    unsatisfied = [
        one.provider
        for one in dependencies
        if one.consumer == name and one.status is DependencyStatus.UNSATISFIED
    ]
    open_ = [one for one in todos if one in (TodoStatus.PENDING, *ACTIVE)]
    summary = f"{len(open_)} of {counted(len(todos), 'todo')} open" if todos else "no todo"
    if unsatisfied:
        state, summary = "blocked", f"lacks {', '.join(unsatisfied)}"
    elif any(one in ACTIVE for one in open_):
        state = next(one.value for one in ACTIVE if one in open_)
    else:
        state = "pending" if open_ or not todos else "completed"
    return Box(state=state, first=name, right="", second=summary, hover=f"{name}\n{summary}")
