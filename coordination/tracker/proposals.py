"""Creates the plan that an agent proposes, and shows its difference to the file.

The records are validated as those of every edit, and the graph is built as a sweep would build it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from typing import Any

from coordination.ecosystem.document import Document
from coordination.ecosystem.presentable import presentable_text
from coordination.models import CheckKind, Repo
from coordination.planner.graph import build
from coordination.planner.proposal import (
    Proposal,
    ProposedTodo,
    in_order,
    order_warnings,
    refuse_wrong,
)
from coordination.tracker import mutations
from coordination.tracker.kinds import PLAN, TODO
from coordination.tracker.records import ProposedPlan
from coordination.tracker.templates import refuse_same_title
from coordination.tracker.transaction import Transaction


def create(
    transaction: Transaction, proposal: Proposal, repos: Sequence[Repo], *, written: bool
) -> ProposedPlan:
    """Create the plan, a draft, and its todos, each of which an agent executes. `repos`: those that the
    proposal may name.

    Raises PlanRefused; Conflict where an open plan has the title.
    """
    refuse_wrong(proposal, repos)
    todos = in_order(proposal.todos)
    refuse_same_title(transaction.before, proposal.title)
    concerned = [repo.name for repo in repos if repo.name in {todo.repo for todo in todos}]
    (created,) = mutations.create_records(transaction, PLAN, [{"title": proposal.title, "repos": concerned}])
    plan = created.record.id
    ids: dict[str, str] = {}
    for todo in todos:
        ids[todo.key] = transaction.create(TODO, _fields(todo, plan, ids)).id
    graph = build(transaction.ecosystem, plan)
    dependencies = transaction.before.coordination.dependencies
    return ProposedPlan(
        plan=transaction.get(PLAN, plan),
        todos=tuple(transaction.get(TODO, name) for name in ids.values()),
        written=written,
        work_hours=graph.work_hours,
        critical_hours=graph.critical_hours,
        warnings=(*order_warnings(todos, dependencies, ids), *_unverified(todos, repos, ids)),
    )


def _fields(todo: ProposedTodo, plan: str, ids: Mapping[str, str]) -> dict[str, Any]:
    fields = todo.model_dump(mode="json", exclude_defaults=True, exclude={"key"})
    own = {name: fields.pop(name) for name in ("verify", "paths", "reads") if name in fields}
    if todo.blocked_by:
        fields["blocked_by"] = [ids[key] for key in dict.fromkeys(todo.blocked_by)]
    return {**fields, "plan": plan, "action": {"type": "agent", **own}}


def _unverified(
    todos: Sequence[ProposedTodo], repos: Sequence[Repo], ids: Mapping[str, str]
) -> Iterator[str]:
    """Yield a sentence for each repository whose todos no command verifies."""
    for repo in repos:
        bare = [ids[todo.key] for todo in todos if todo.repo == repo.name and not todo.verify]
        if bare and not any(check.kind is CheckKind.UNIT for check in repo.qa):
            yield f"no command verifies {', '.join(bare)}: {repo.name} declares no check of kind unit"


def difference(before: Document, after: Document) -> str:
    """Return the unified difference of two texts of the file, without secrets."""
    name = before.path.name
    old, new = (presentable_text(one.text.decode()).splitlines(keepends=True) for one in (before, after))
    return "".join(unified_diff(old, new, name, name))
