"""The meaning of states for people: a tone, words and a mark. Front ends map tones to colours.

A state is given by its value: the status of a record, a run, a check or a service, a priority, the severity
of a finding. Where another thing has a state of the same value, the noun stands before it: `breaker open`,
`pull request closed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Tone(StrEnum):
    """How good a state is. The value is its class in pages and pictures."""

    NEUTRAL = "neutral"
    ACTIVE = "active"
    GOOD = "good"
    GIVEN = "given"
    """Good, by a result of before."""
    BAD = "bad"
    HELD = "held"
    """It waits for something, or deserves a look."""
    BACK = "back"
    """It is being undone, or was."""
    LEFT = "left"
    """Nobody works on it, and nobody needs to."""


_STATES: Mapping[Tone, tuple[str, ...]] = {
    Tone.NEUTRAL: ("pending", "waiting", "ready", "medium", "valid"),
    Tone.ACTIVE: ("in_progress", "active", "running", "dispatched", "starting", "pull request open"),
    Tone.GOOD: (
        *("succeeded", "completed", "resolved", "closed", "satisfied", "green", "healthy", "landed"),
        *("breaker closed", "pull request merged"),
    ),
    Tone.GIVEN: ("cached",),
    Tone.BAD: (
        *("failed", "compensation_failed", "rollback_failed", "lost", "unsatisfied", "critical", "wrong"),
        *("red", "timed_out", "could_not_run", "degraded", "unreachable", "expired"),
        *("breaker open", "pull request closed"),
    ),
    Tone.HELD: (
        *("parked", "retrying", "blocked", "paused", "on_hold", "high", "warning", "unknown", "deprecated"),
        *("stale", "recovering", "flapping", "expires soon", "breaker half-open"),
    ),
    Tone.BACK: ("rolling_back", "rolled_back", "compensating", "compensated", "reverted"),
    Tone.LEFT: (
        *("draft", "cancelled", "skipped", "low", "shutting_down", "stopped", "disconnected"),
        "pull request draft",
    ),
}
TONES: Mapping[str, Tone] = {state: tone for tone, states in _STATES.items() for state in states}
MARKS: Mapping[Tone, str] = {
    Tone.NEUTRAL: "·",
    Tone.ACTIVE: "▶",
    Tone.GOOD: "✓",
    Tone.GIVEN: "✓",
    Tone.BAD: "✗",
    Tone.HELD: "!",
    Tone.BACK: "↶",
    Tone.LEFT: "-",
}
_MARKS = {"pending": "○", "retrying": "↻"}
_WORDS = {
    "order": "ready to land",
    "person": "needs a person",
    "request": "pull request",
    "run": "run continues",
    "todos": "todos open",
}
WAITED_FOR: Mapping[str, str] = {
    "repository": "its repository",
    "slot": "a slot",
    "resource": "a resource",
    "timer": "the next attempt",
    "person": "a person",
    "breaker": "a circuit breaker",
    "paused": "the paused run",
    "worker": "a worker",
    "trouble": "its machine to recover",
    "base": "its base branch",
    "request": "its pull request",
    "disconnected": "its repository to be connected",
    "service": "its service to come up",
    "budget": "the budget of its agents",
    "limit": "a limit of its agent",
}
"""Reason of a wait → its object, for which a todo waited."""


def tone_of(state: str | None) -> Tone:
    """Return the tone of a state; of an unknown one, NEUTRAL."""
    return TONES.get(state or "", Tone.NEUTRAL)


def mark_of(state: str) -> str:
    """Return the symbol of a state."""
    return _MARKS.get(state, MARKS[tone_of(state)])


def mark_of_check(met: bool | None) -> tuple[str, Tone]:
    """Return the mark of a criterion with its tone. None: nobody knows."""
    if met is None:
        return "?", Tone.NEUTRAL
    tone = Tone.GOOD if met else Tone.BAD
    return MARKS[tone], tone


def words_of(state: str | None) -> str:
    """Return a state, or the reason of a wait, as words."""
    return _WORDS.get(state or "", spaced(state))


def spaced(name: str | None) -> str:
    """Return the name of a field, an action or a state with blanks: `on hold`."""
    return (name or "").replace("_", " ")
