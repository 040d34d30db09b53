"""What runs do at present, for commands that came for the file: in passing, or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from coordination.cli.context import CliContext
from coordination.errors import CoordinationError

if TYPE_CHECKING:
    from coordination.breakers.records import Breaker, Reset
    from coordination.runs.views.live import Asked, Live, LiveTodo

A = TypeVar("A")


def live_todo(call: CliContext, todo: str) -> LiveTodo | None:
    """The todo in the newest run that has it."""
    return _seen(call, lambda live: live.todo(todo), None)


def in_hand(call: CliContext) -> Mapping[str, str]:
    """Todo → what a run is doing with it. For people: what a pipe reads does not depend on what a server says."""
    return _seen(call, lambda live: live.in_hand(), {}) if sys.stdout.isatty() else {}


def executing(call: CliContext) -> Mapping[str, str]:
    """Todo → the live run that executes it."""
    return _seen(call, lambda live: live.executing(), {})


def asking(call: CliContext) -> Sequence[Asked]:
    """What waits for a person, the longest first."""
    return _seen(call, lambda live: live.asking(), ())


def newest_runs(call: CliContext) -> Mapping[str, str]:
    """Run → what it is, in a few words."""
    return _seen(call, lambda live: live.newest_runs(), {})


def held_locks(call: CliContext) -> Mapping[str, str]:
    """Lock → who holds it."""
    return _seen(call, lambda live: live.held_locks(), {})


def breakers(call: CliContext) -> tuple[Breaker, ...]:
    """Those that are not at rest."""
    return _seen(call, lambda live: live.breakers(), ())


def breaker_resets(call: CliContext, limit: int) -> tuple[Reset, ...]:
    """Those that were closed by hand, latest first."""
    return _seen(call, lambda live: live.breaker_resets(limit), ())


def messages_for(call: CliContext, repo: str) -> int:
    """How many wait for the repository."""
    return _seen(call, lambda live: live.messages_for(repo), 0)


def _seen(call: CliContext, question: Callable[[Live], A], nothing: A) -> A:
    from coordination.operations.glance import glance

    try:
        seen = glance(call.path, call.settings, question)
    except (CoordinationError, OSError):  # of the settings: it says so where they are needed
        return nothing
    return seen.answer if seen else nothing
