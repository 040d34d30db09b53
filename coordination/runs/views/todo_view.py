"""Make the view of one todo from its facts: its state as views show it, its times, and the reason of its
wait.
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from coordination.backend.keys import split_member
from coordination.runs.records import Descriptor, Source, TodoState, TodoView, WaitReason
from coordination.runs.run_kinds import SERVICE, TOOK_S

LONGEST_S = 86_400.0
UNDO = frozenset({TodoState.COMPENSATING, TodoState.COMPENSATED, TodoState.COMPENSATION_FAILED})


def iso(at_ms: str | int | None) -> str | None:
    """Return milliseconds since 1970 as ISO 8601 in UTC."""
    return (
        None
        if at_ms is None
        else datetime.fromtimestamp(int(at_ms) / 1000, UTC).isoformat(timespec="milliseconds")
    )


def seconds(start_ms: str | None, end_ms: str | int | None) -> float | None:
    return None if start_ms is None or end_ms is None else round((int(end_ms) - int(start_ms)) / 1000, 3)


class Facts:
    """The facts of one todo."""

    def __init__(self, todo: str, facts: Mapping[str, str]) -> None:
        self._todo = todo
        self._facts = facts

    def shown(self, state: TodoState) -> TodoState:
        """Return the state as views show it: a compensation goes through the states of a todo."""
        return TodoState.COMPENSATING if self["undo"] and not state.ended else state

    def __getitem__(self, name: str) -> str | None:
        return self._facts.get(f"{self._todo} {name}")


def view_of_todo(
    name: str,
    state: TodoState,
    place: Descriptor,
    facts: Facts,
    output: str | None,
    held_up: Mapping[str, str] = MappingProxyType({}),
    now_ms: int | None = None,
) -> TodoView:
    shown = facts.shown(state)
    undone = shown in UNDO
    last = "undo_" if undone and shown is not TodoState.COMPENSATED and facts["undo_error"] else ""
    exit_code = facts[f"{last}exit_code"]
    finished_at = facts["finished_at"] if state.ended or undone else None
    waits_for, wait_reason = _wait(state, facts, place.repo, held_up)
    parsed = _parsed(output)
    return TodoView(
        id=name,
        repo=place.repo,
        level=place.level,
        state=shown,
        attempt=int(facts["attempt"] or 0),
        worker=facts["worker"],
        started_at=iso(facts["started_at"]),
        finished_at=iso(finished_at),
        duration_s=_took_s(name, parsed)
        or seconds(facts["started_at"], now_ms if shown is TodoState.RUNNING else finished_at),
        exit_code=None if exit_code is None else int(exit_code),
        error=facts[f"{last}error"],
        run=facts["run"],
        cached=_source(facts["cached"]),
        was=TodoState(facts["was"] or state) if undone else None,
        undo_s=seconds(facts["undo_started_at"], facts["undo_finished_at"])
        if undone and state.ended
        else None,
        approved_by=facts["approved_by"],
        comment=facts["comment"],
        accepted=facts["accepted"],
        accepted_by=facts["accepted_by"],
        waits_for=waits_for,
        wait_reason=wait_reason,
        since=iso(facts["since"]),
        output=parsed,
    )


def _wait(
    state: TodoState, facts: Facts, repo: str, held_up: Mapping[str, str]
) -> tuple[str | None, WaitReason | None]:
    """Return the text and the reason of a todo's wait, both None if it does not wait."""
    if text := facts["waits_for"]:
        return text, WaitReason(facts["wait_reason"] or "")
    if state is TodoState.DISPATCHED:
        return (
            (held_up[repo], WaitReason.WORKER)
            if repo in held_up
            else ("a worker that is free", WaitReason.SLOT)
        )
    lost = held_up.get(facts["worker"] or "") if state is TodoState.RUNNING else None
    return lost, WaitReason.WORKER if lost else None


def _took_s(name: str, output: Any) -> float | None:
    """Return the time that a service took from its order until it was up: its todo is parked meanwhile, so
    its last attempt is short.
    """
    found = output.get(TOOK_S) if name.startswith(f"{SERVICE}.") and isinstance(output, dict) else None
    return found if isinstance(found, float) and 0 < found < LONGEST_S else None


def _source(cached: str | None) -> Source | None:
    if cached is None:
        return None
    run, todo = split_member(cached)
    return Source(run=run, todo=todo)


def _parsed(output: str | None) -> Any:
    return None if output is None else json.loads(output)
