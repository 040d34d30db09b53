"""Ecosystems for the planner's tests: small ones written out, and random ones made by hypothesis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from coordination.models import Coordination, Ecosystem, Issue, Level, Plan, Repo, Todo, TodoStatus

PLAN = "PLAN-001"
REPOS = ("core", "parser", "web")


def todo(name: str, *blocked_by: str, **fields: Any) -> Todo:
    return Todo(
        **{"id": name, "task": f"Do {name}", "repo": "core", "plan": PLAN, "blocked_by": blocked_by} | fields
    )


def ecosystem(*todos: Todo, plan: Mapping[str, Any] | None = None, **sections: Any) -> Ecosystem:
    mine = Plan(**{"id": PLAN, "title": "The plan"} | dict(plan or {}))
    others = sections.pop("plans", ())
    return Ecosystem(
        repos=tuple(Repo(name=name) for name in REPOS),
        coordination=Coordination(plans=(mine, *others), todos=todos, **sections),
    )


@dataclass(frozen=True, kw_only=True)
class Drawn:
    ecosystem: Ecosystem
    edges: frozenset[tuple[str, str]]
    """Between todos, in either spelling, whatever their status."""
    open_issues: Mapping[str, frozenset[str]]
    """The todos that an unfinished issue blocks directly."""


@st.composite
def acyclic(draw: st.DrawFn, *, max_todos: int = 9, issues: bool = False, finished: bool = False) -> Drawn:
    """A plan whose edges all follow one hidden order, which is not the file's, spelled from either side or
    from both.
    """
    count = draw(st.integers(1, max_todos))
    names = [f"TODO-{i:03}" for i in range(count)]
    hidden = draw(st.permutations(names))
    pairs = [(a, b) for i, a in enumerate(hidden) for b in hidden[i + 1 :]]
    edges = draw(st.sets(st.sampled_from(pairs), max_size=3 * count)) if pairs else set()
    spelling = {edge: draw(st.sampled_from(("blocked_by", "blocking", "both"))) for edge in sorted(edges)}
    status = (
        st.sampled_from((TodoStatus.PENDING, TodoStatus.COMPLETED))
        if finished
        else st.just(TodoStatus.PENDING)
    )
    held = {
        f"ISSUE-{i}": draw(st.sets(st.sampled_from(names)))
        for i in range(draw(st.integers(0, 2)) if issues else 0)
    }
    hours = st.none() | st.floats(0.01, 40, allow_nan=False)
    todos = [
        todo(
            name,
            *(a for (a, b), how in spelling.items() if b == name and how != "blocking"),
            *(issue for issue, those in held.items() if name in those),
            blocking=tuple(b for (a, b), how in spelling.items() if a == name and how != "blocked_by"),
            repo=draw(st.sampled_from(REPOS)),
            status=draw(status),
            priority=draw(st.sampled_from(list(Level))),
            estimated_hours=draw(hours),
        )
        for name in names
    ]
    records = tuple(Issue(id=name, title=f"About {name}") for name in held)
    return Drawn(
        ecosystem=ecosystem(*todos, issues=records),
        edges=frozenset(edges),
        open_issues={name: frozenset(those) for name, those in held.items()},
    )
