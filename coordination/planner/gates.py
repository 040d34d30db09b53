"""Milestones with a gate, as nodes of their plan's graph: a person approves them, in no repository.

A milestone without a gate is not a node: it blocks its dependents from outside until the file says that it is
completed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from coordination.models import OPEN_TODO, Ecosystem, Gate, ManualAction, Plan, Repo, Todo, Verdict
from coordination.text import format_hours

MILESTONE_REPO = "-"
"""Repository of todos that work in none."""
DONE = {Verdict.APPROVE: "approved", Verdict.REJECT: "rejected"}


def effect_of_timeout(gate: Gate) -> str:
    """Return the effect of a missing approval, as `rejected after 24 h`; "" if the gate has no timeout."""
    if gate.timeout is None:
        return ""
    return f"{DONE[gate.on_timeout]} after {format_hours(gate.timeout.total_seconds() / 3600)}"


def repos_of(ecosystem: Ecosystem) -> dict[str, Repo]:
    """Return the repositories by name, including MILESTONE_REPO."""
    return {repo.name: repo for repo in (*ecosystem.repos, Repo(name=MILESTONE_REPO))}


def gates_of(plan: Plan) -> dict[str, Todo]:
    """Return a todo for each milestone of the plan with a gate, whatever its status."""
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


def needs_approval(todo: Todo) -> bool:
    """Return whether the todo needs an approval. A manual todo needs none; its gate only sets a timeout."""
    return todo.gate is not None and (is_milestone(todo) or not isinstance(todo.action, ManualAction))


def behind_gates(todo: Todo, predecessors: Iterable[str]) -> str:
    """Return the digest of the gates behind which a todo starts: its own, and those of its predecessors, of
    which these are the digests. Empty without a gate.
    """
    before = sorted(set(filter(None, predecessors)))
    own = todo.id if needs_approval(todo) else ""
    if not own and len(before) < 2:
        return "".join(before)
    return sha256("\0".join((own, *before)).encode()).hexdigest()


def gates_before(
    gates: Mapping[str, Todo], todos: Mapping[str, Todo], waits: Mapping[str, tuple[str, ...]]
) -> dict[str, Todo]:
    """Return the open gates that these todos wait for, directly or through other gates."""
    before: dict[str, Todo] = {}
    ahead = list(todos)
    while ahead:
        found = [name for name in waits[ahead.pop()] if name in gates and name not in before]
        before |= {name: gates[name] for name in found}
        ahead += found
    return before


def open_gates(gates: Mapping[str, Todo]) -> dict[str, Todo]:
    return {name: gate for name, gate in gates.items() if gate.status in OPEN_TODO}
