"""Milestones that need an approval. In the graph of their plan each is a node of its own: a person decides, in no repository.

A milestone without a gate is none: it holds up from outside what waits for it, until the file says that it is completed.
"""

from __future__ import annotations

from collections.abc import Mapping

from coordination.models import OPEN_TODO, Ecosystem, Gate, ManualAction, Plan, Repo, Todo, Verdict
from coordination.text import format_hours

MILESTONE_REPO = "-"
"""Stands for the repository of what is done in none."""
DONE = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected"}


def when_nobody_comes(gate: Gate) -> str:
    """`rejected after 24 h`; empty where it is waited for as long as it takes."""
    if gate.timeout is None:
        return ""
    return f"{DONE[gate.on_timeout]} after {format_hours(gate.timeout.total_seconds() / 3600)}"


def repos_of(ecosystem: Ecosystem) -> dict[str, Repo]:
    """By name, with the one that stands for none."""
    return {repo.name: repo for repo in (*ecosystem.repos, Repo(name=MILESTONE_REPO))}


def gates_of(plan: Plan) -> dict[str, Todo]:
    """Every milestone of the plan that has a gate, as what a run does: whatever its status."""
    return {
        milestone.id: Todo(
            id=milestone.id,
            task=milestone.name,
            description=milestone.description,
            repo=MILESTONE_REPO,
            status=milestone.status,
            blocked_by=milestone.dependencies,
            plan=plan.id,
            action=ManualAction(type="manual"),
            gate=milestone.gate,
        )
        for milestone in plan.milestones
        if milestone.gate is not None
    }


def is_milestone(todo: Todo) -> bool:
    return todo.repo == MILESTONE_REPO


def asks(todo: Todo) -> bool:
    """Whether an approval is needed: whoever does a manual todo needs none, and its gate says only what happens in time."""
    return todo.gate is not None and (is_milestone(todo) or not isinstance(todo.action, ManualAction))


def joining(
    gates: Mapping[str, Todo], todos: Mapping[str, Todo], waits: Mapping[str, tuple[str, ...]]
) -> dict[str, Todo]:
    """The open ones that these todos wait for, directly or behind one another."""
    joined: dict[str, Todo] = {}
    ahead = list(todos)
    while ahead:
        found = [name for name in waits[ahead.pop()] if name in gates and name not in joined]
        joined |= {name: gates[name] for name in found}
        ahead += found
    return joined


def open_ones(gates: Mapping[str, Todo]) -> dict[str, Todo]:
    return {name: gate for name, gate in gates.items() if gate.status in OPEN_TODO}
