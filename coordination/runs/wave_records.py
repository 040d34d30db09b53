"""Records of the waves of a landing run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel


class WaveState(StrEnum):
    """How far a wave is."""

    WAITING = "waiting"
    """None of its todos has begun."""
    RUNNING = "running"
    """It lands, soaks, or is checked."""
    LANDED = "landed"
    """It has landed, and its checks are green."""
    FAILED = "failed"
    REVERTED = "reverted"
    """It had landed, and was taken out again."""
    SKIPPED = "skipped"
    """It never began."""


class WaveFailure(BaseModel):
    """A todo of a wave that has failed."""

    todo: str
    error: str | None


class WaveView(BaseModel):
    """A wave of a landing run."""

    number: int
    state: WaveState
    repos: Mapping[str, str]
    """Repository → the state of the todo that lands it."""
    waits_for: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    checks: Mapping[str, int] = {}
    """State → number of quality checks, before and behind it."""
    work_s: float = 0.0
    """Durations of its todos that have ended, added up."""
    expected_s: float | None = None
    """The same as it was expected at the submission, of todos with an estimate or experience."""
    failures: tuple[WaveFailure, ...] = ()
    carried_over: tuple[str, ...] = ()
    """Repositories that the run, which has ended, has not landed: `coord land` lands them later."""
    todos: tuple[str, ...]
