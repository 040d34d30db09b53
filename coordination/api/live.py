"""The state of runs at this moment, for operations on the file: an answer at once, or an empty one. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from coordination.errors import CoordinationError

if TYPE_CHECKING:
    from coordination.api.facade import Facade
    from coordination.breakers.records import Breaker, Reset
    from coordination.runs.views.live import Asked, Live, LiveTodo

A = TypeVar("A")


class LiveView:
    def __init__(self, facade: Facade) -> None:
        self._facade = facade

    def todo(self, todo: str) -> LiveTodo | None:
        """Return the todo in the newest run that has it."""
        return self._ask(lambda live: live.todo(todo), None)

    def in_hand(self) -> Mapping[str, str]:
        """Return todo → its state, for the todos that a live run is busy with."""
        return self._ask(lambda live: live.in_hand(), {})

    def executing(self) -> Mapping[str, str]:
        """Return todo → the live run that executes it."""
        return self._ask(lambda live: live.executing(), {})

    def asking(self) -> Sequence[Asked]:
        """Return the todos that wait for a person, the longest first."""
        return self._ask(lambda live: live.asking(), ())

    def newest_runs(self) -> Mapping[str, str]:
        """Return run → its plan and status, newest first."""
        return self._ask(lambda live: live.newest_runs(), {})

    def held_locks(self) -> Mapping[str, str]:
        """Return lock → its holder."""
        return self._ask(lambda live: live.held_locks(), {})

    def breakers(self) -> tuple[Breaker, ...]:
        """Return the circuit breakers that are not at rest."""
        return self._ask(lambda live: live.breakers(), ())

    def breaker_resets(self, limit: int) -> tuple[Reset, ...]:
        """Return the circuit breakers that were closed by hand, latest first."""
        return self._ask(lambda live: live.breaker_resets(limit), ())

    def messages_for(self, repo: str) -> int:
        """Return the number of messages that wait for the repository."""
        return self._ask(lambda live: live.messages_for(repo), 0)

    def _ask(self, question: Callable[[Live], A], nothing: A) -> A:
        from coordination.operations.glance import glance

        try:
            seen = glance(self._facade.path, self._facade.settings, question)
        except (CoordinationError, OSError):  # wrong settings are reported by the commands that need them
            return nothing
        return seen.answer if seen else nothing
