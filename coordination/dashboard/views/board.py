"""The page Board: the records of the file, joined with the states of runs; the page of one record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from coordination.api import EcosystemStatus
from coordination.api.coord import Coord
from coordination.api.planning import draw_repositories
from coordination.dashboard.pages import DRAWN, LONGEST, Page, PageRequest, inline
from coordination.dashboard.views.actions import EDITABLE, edited
from coordination.errors import CoordinationError, NotFound
from coordination.models import IssueStatus, Level, PlanStatus, TodoStatus

ROWS = 200
STATUSES = {"todo": TodoStatus, "issue": IssueStatus, "plan": PlanStatus}
ENDED = ("completed", "cancelled", "resolved", "closed")
"""Statuses of finished records, which are listed last."""
ONLY = ("overdue", "blocked")
FILTERS = ("status", "repo", "assignee", "plan", "priority", "label")


async def board(request: PageRequest) -> Page:
    """List issues, plans or todos by filters, with the overdue and blocked records."""
    kind = request.get("kind") if request.get("kind") in STATUSES else "todo"
    wanted = {name: request.get(name) for name in FILTERS if request.get(name)}
    found = await request.read(
        ("board", kind, *wanted.items()), lambda coord: _records(coord, kind, wanted), live=False
    )
    status = await request.read("status", _status, live=False)
    only = request.get("only") if request.get("only") in ONLY else ""
    records = [one for one in found.value["records"] if not only or one.id in _ids(status.value, only)]
    records.sort(key=lambda one: one.status in ENDED)
    start = min(request.number("from"), max(0, len(records) - 1)) // ROWS * ROWS
    return Page(
        template="board.html",
        title="Board",
        data={
            **found.value,
            "records": records[start : start + ROWS],
            "number": len(records),
            "start": start,
            "rows": ROWS,
            "kind": kind,
            "wanted": wanted,
            "only": only,
            "kinds": tuple(STATUSES),
            "statuses": [one.value for one in STATUSES[kind]],
            "priorities": [one.value for one in Level],
            "overview": status.value,
        },
        seen=(found, status),
    )


def _ids(status: EcosystemStatus, only: str) -> set[str]:
    """Return the ids of the overdue or blocked records; an overdue milestone counts as its plan."""
    if only == "blocked":
        return {one.todo.id for one in status.blocked}
    return {one.plan or one.id for one in status.overdue}


def _status(coord: Coord) -> EcosystemStatus:
    return coord.manager.get_ecosystem_status()


def _records(coord: Coord, kind: str, wanted: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the matching records; for an invalid filter, the error as `refused`."""
    manager, refused = coord.manager, ""
    lists: Mapping[str, Callable[..., Collection[Any]]] = {
        "todo": manager.list_todos,
        "issue": manager.list_issues,
        "plan": manager.list_plans,
    }
    takes = {
        "todo": FILTERS,
        "issue": ("status", "repo", "assignee", "priority", "label"),
        "plan": ("status", "repo"),
    }
    filters = {name: value for name, value in wanted.items() if name in takes[kind]}
    records: Collection[Any] = ()
    try:
        records = lists[kind](**filters)
    except CoordinationError as error:
        refused = str(error)
    return {
        "records": records,
        "refused": refused,
        "takes": takes[kind],
        "repos": [repo.name for repo in manager.list_repos()],
        "plans": [plan.id for plan in manager.list_plans()],
        "runs_known": manager.runs_known,
    }


async def record(
    request: PageRequest, entered: Mapping[str, str | None] = MappingProxyType({}), problem: str = ""
) -> Page:
    """Show an issue, a plan or a todo, with its blockers and dependents. `entered`: the fields of a form that
    were not written because of the `problem`.
    """
    name = request.get("id")
    found = await request.read(("record", name), lambda coord: _record(coord, name), live=False)
    return Page(
        template="record.html",
        title=name,
        data={**found.value, "entered": entered, "problem": problem},
        seen=(found,),
        status=409 if problem else 200,
    )


def _record(coord: Coord, name: str) -> Mapping[str, Any]:
    manager = coord.manager
    declared = manager.ecosystem.coordination
    kinds: Mapping[str, Sequence[Any]] = {
        "todo": declared.todos,
        "issue": declared.issues,
        "plan": declared.plans,
    }
    for kind, records in kinds.items():
        for one in records:
            if one.id == name:
                return {
                    "kind": kind,
                    "record": one,
                    "editable": {
                        field: text
                        for field in EDITABLE[kind]
                        # A longer text is cut, and the form would write the cut text.
                        if len(text := edited(getattr(one, field))) <= LONGEST
                    },
                    "levels": [level.value for level in Level],
                    "chains": manager.chains_of(name),
                    "statuses": [status.value for status in STATUSES[kind]],
                    "todos": manager.plan_todos(name) if kind == "plan" else (),
                    "fields": one.model_dump(mode="json", exclude_defaults=True),
                }
    raise NotFound(f"there is no record {name!r:.100}", "list them: coord todo list")


async def repositories(request: PageRequest) -> Page:
    """Show the graph of repositories and their dependencies, and the dependencies as a table."""
    found = await request.read("repositories", _repositories, live=False)
    return Page(template="repositories.html", title="Repositories", data=found.value, seen=(found,))


def _repositories(coord: Coord) -> Mapping[str, Any]:
    ecosystem = coord.document.ecosystem
    return {
        "number": len(ecosystem.repos),
        "dependencies": ecosystem.coordination.dependencies,
        "graph": inline(draw_repositories(ecosystem)) if len(ecosystem.repos) <= DRAWN else None,
    }
