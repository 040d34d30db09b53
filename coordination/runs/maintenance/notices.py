"""Decide which events people must know, and what the user's `notify_command` receives. Pure.

A burst of notices becomes one call: a thousand failed runs must not start a thousand programs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from coordination.events.kinds import GAP
from coordination.events.records import Event
from coordination.runs.records import RunStatus, TodoState, WaitReason
from coordination.terminal import spelled

SUMMARY = "summary"
SINGLE = 5
"""Number of notices up to which each has a call of its own."""
NAMED = 20
"""Number of notices that a summary contains."""
LONGEST = 500
"""Characters of a text that is passed on."""

KINDS: Mapping[str, str] = {
    "run.failed": "A run ended as failed.",
    "run.timed_out": "A run exceeded its time limit and is ended.",
    "run.rolling_back": "A run is undone because a todo failed.",
    "run.rollback_failed": "A rollback ended, and something could not be undone.",
    "run.stuck": "Nothing will ever move a run: a fault of coord.",
    "todo.waiting": "A todo or milestone waits for a person: an approval, or a manual todo.",
    "todo.compensation_failed": "A todo could not be undone.",
    "access.break_glass": "A person declared an emergency, and has most rights for one hour.",
    "access.expiring": "A key, credential or certificate expires soon, or cannot be used any more.",
    "health.given_up": "Something has failed, and five recoveries were in vain.",
    "events.gap": "Events were deleted before they were read: notices may be missing.",
}
"""All kinds of notices."""
BREAK_GLASS = "access.break_glass"
NEXT = {
    GAP: "coord history",
    BREAK_GLASS: "coord events --kind 'access.*'",
    "access.expiring": "coord doctor",
    "health.given_up": "coord health",
}
"""The next command of notices that are about no run."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    event: str
    """One of KINDS."""
    id: str
    """Place of its event in the stream: the same for a call that is repeated."""
    at: str
    run: str = ""
    plan: str = ""
    todo: str = ""
    status: str = ""
    title: str = ""
    """The reason as text: of people and programs, without control characters."""
    next: str = ""
    """The next command."""


Call = Mapping[str, Any]
"""The JSON object that a call of the command reads."""


def notice_of(event: Event) -> Notice | None:
    """Return the notice of an event; None if nobody has to know of it."""
    kind = _kind(event)
    if kind is None:
        return None
    return Notice(
        event=kind,
        id=event.id,
        at=event.at.isoformat(timespec="milliseconds"),
        run=_text(event.run),
        plan=_text(event.data.get("plan", "")),
        todo=_text(event.todo),
        status=_text(event.data.get("status", "")),
        title=_text(_title(event)),
        next=NEXT.get(kind) or f"coord show-run {_text(event.run)}",
    )


def _kind(event: Event) -> str | None:
    data = event.data
    match event.kind:
        case "run.ended" if data.get("status") == RunStatus.FAILED:
            return "run.failed"
        case "run.ended" if data.get("status") == RunStatus.ROLLBACK_FAILED:
            return "run.rollback_failed"
        case "run.rolling_back" if not event.actor:  # nobody has asked for it
            return "run.rolling_back"
        case "run.timed_out" | "run.stuck" | "access.break_glass" | "access.expiring" | "health.given_up":
            return event.kind
        case "todo.parked" if data.get("reason") == WaitReason.PERSON:
            return "todo.waiting"
        case "todo.settled" if data.get("state") == TodoState.COMPENSATION_FAILED:
            return "todo.compensation_failed"
        case "events.gap":
            return GAP
    return None


def _title(event: Event) -> str:
    if event.kind == BREAK_GLASS:
        return f"{event.actor} until {event.data.get('until', '?')}: {event.title}"
    return event.title or event.data.get("why", "") or _counts(event)


def _counts(event: Event) -> str:
    """Return `2 failed, 3 skipped` for the end of a run."""
    ends = (TodoState.FAILED, TodoState.SKIPPED, TodoState.CANCELLED, TodoState.COMPENSATION_FAILED)
    return ", ".join(f"{n} {state}" for state in ends if (n := event.data.get(state, "0")) != "0")


def _text(text: str) -> str:
    return spelled(text[:LONGEST])


def calls_of(notices: Sequence[Notice]) -> list[Call]:
    """Return the calls of the command: one for each notice, or a single one for a burst."""
    if len(notices) <= SINGLE:
        return [asdict(notice) for notice in notices]
    return [
        {
            "event": SUMMARY,
            "id": notices[-1].id,
            "at": notices[-1].at,
            "count": len(notices),
            "events": dict(Counter(notice.event for notice in notices)),
            "notices": [asdict(notice) for notice in notices[:NAMED]],
            "title": _in_words(notices),
            "next": "coord list-runs",
        }
    ]


def _in_words(notices: Iterable[Notice]) -> str:
    counts = Counter(notice.event for notice in notices)
    return ", ".join(f"{n} {kind}" for kind, n in counts.most_common())


def environment_of(call: Call) -> dict[str, str]:
    """Return the main facts as environment variables. Values never contain control characters."""
    names = ("event", "run", "plan", "todo", "status", "title", "next", "at", "id", "count")
    return {f"COORD_{name.upper()}": str(call[name])[:LONGEST] for name in names if call.get(name)}


def line_of(call: Call) -> bytes:
    return json.dumps(call, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n"
