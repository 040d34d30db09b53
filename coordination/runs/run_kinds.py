"""Runs that coord generates, of landings, reverts, checks, services and recoveries; their plan ids are
`KIND:SUBJECT`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from coordination.models.values import RUN_ID

LAND: Literal["land"] = "land"
REVERT: Literal["revert"] = "revert"
QA: Literal["qa"] = "qa"
SERVICE: Literal["service"] = "service"
RECOVER: Literal["recover"] = "recover"
QUEUEING = "queueing"
"""Field of the record of a todo that lands: the page of its request, which may stand in a merge queue."""


def landings_of(plan_id: str, todos: Iterable[str] = ()) -> set[str]:
    """Return the plan ids of the runs that land or revert the change sets of a plan, or of todos without
    one.
    """
    return {f"{kind}:{name}" for kind in (LAND, REVERT) for name in (plan_id, *todos)}


def start_again(plan_id: str) -> str:
    """Return the command that starts a run like one of this plan: a landing has a plan id of its own."""
    kind, colon, change_set = plan_id.partition(":")
    if is_of_checks(plan_id):
        return _check_again(change_set)
    if is_of_services(plan_id):
        return f"coord service {change_set}"
    return f"coord {kind} {change_set}" if colon and kind in (LAND, REVERT) else f"coord sweep {plan_id}"


def is_landing(plan_id: str) -> bool:
    """Return whether a run of this plan id lands or reverts a change set."""
    kind, colon, _ = plan_id.partition(":")
    return bool(colon) and kind in (LAND, REVERT)


def only_looks(plan_id: str, todo: str) -> bool:
    """Return whether a todo of a run that lands or reverts changes no base branch."""
    return is_landing(plan_id) and not any(f".{kind}." in todo for kind in (LAND, REVERT))


def runs_command(todo: str) -> bool:
    """Return whether a todo of a run that lands runs a check, whose output explains its failure."""
    return f".{QA}." in todo or ".after.check." in todo


def is_of_checks(plan_id: str) -> bool:
    """Return whether a run of this plan id runs checks alone."""
    return plan_id.startswith(f"{QA}:")


def is_of_services(plan_id: str) -> bool:
    """Return whether a run of this plan id starts, stops or restarts services."""
    return plan_id.startswith(f"{SERVICE}:")


def is_automatic(plan_id: str) -> bool:
    """Return whether the health monitor started a run of this plan id, and no person."""
    return plan_id.startswith(f"{RECOVER}:")


def is_of_todos(plan_id: str) -> bool:
    """Return whether a run of this plan id executes todos of a plan, or a command in many repositories."""
    generated = is_landing(plan_id) or is_of_checks(plan_id) or is_of_services(plan_id)
    return not generated and not is_automatic(plan_id)


def _check_again(subject: str) -> str:
    if subject == "base":
        return "coord qa run"
    if subject == "head":
        return "coord qa ci"
    return f"coord qa run --{'run' if RUN_ID.fullmatch(subject) else 'plan'} {subject}"
