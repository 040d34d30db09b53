"""All operations on one ecosystem, for every front end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.api.access import EcosystemAccess

if TYPE_CHECKING:  # each of these is imported when it is used: `coord list-todos` needs none of them
    from coordination.api.planning import Planner
    from coordination.api.runs import Runs
    from coordination.api.todos import Completed
    from coordination.breakers.records import Breaker, Reset
    from coordination.cache.contexts import Context
    from coordination.runs.views.live import Asked, LiveTodo


class LiveView:
    """The state of runs at this moment, for operations on the file: an answer at once, or an empty one.
    Starts nothing.
    """

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def todo(self, todo: str) -> LiveTodo | None:
        """Return the todo in the newest run that has it."""
        return self._access.ask_live(lambda live: live.todo(todo), None)

    def in_hand(self) -> Mapping[str, str]:
        """Return todo → its state, for the todos that a live run is busy with."""
        return self._access.ask_live(lambda live: live.in_hand(), {})

    def executing(self) -> Mapping[str, str]:
        """Return todo → the live run that executes it."""
        return self._access.ask_live(lambda live: live.executing(), {})

    def asking(self) -> Sequence[Asked]:
        """Return the todos that wait for a person, the longest first."""
        return self._access.ask_live(lambda live: live.asking(), ())

    def newest_runs(self) -> Mapping[str, str]:
        """Return run → its plan and status, newest first."""
        return self._access.ask_live(lambda live: live.newest_runs(), {})

    def held_locks(self) -> Mapping[str, str]:
        """Return lock → its holder."""
        return self._access.ask_live(lambda live: live.held_locks(), {})

    def breakers(self) -> tuple[Breaker, ...]:
        """Return the circuit breakers that are not at rest."""
        return self._access.ask_live(lambda live: live.breakers(), ())

    def breaker_resets(self, limit: int) -> tuple[Reset, ...]:
        """Return the circuit breakers that were closed by hand, latest first."""
        return self._access.ask_live(lambda live: live.breaker_resets(limit), ())

    def messages_for(self, repo: str) -> int:
        """Return the number of messages that wait for the repository."""
        return self._access.ask_live(lambda live: live.messages_for(repo), 0)


class Facade(EcosystemAccess):
    """`runs` and `run` steer runs, `manager` edits the file, `planner` looks ahead, `live` looks at this
    moment.

    Locks, messages, breakers and shared values are those of `connection`.
    """

    @cached_property
    def runs(self) -> Runs:
        from coordination.api.runs import Runs

        return Runs(self)

    @cached_property
    def planner(self) -> Planner:
        from coordination.api.planning import Planner

        return Planner(self)

    @cached_property
    def live(self) -> LiveView:

        return LiveView(self)

    def complete_todo(self, todo: str, hours: float | None = None) -> Completed:
        """Complete a todo: in the run that waits for it, else in the file. Starts no server to ask.

        Raises Conflict while a run executes it, or where it is completed already.
        """
        from coordination.api.todos import complete_todo

        return complete_todo(self, todo, hours)

    def context(self, *, plan: str = "", run: str = "", todo: str = "") -> Context:
        """Return the values of a todo of a run, of a run (or `last`), a plan, or the ecosystem:
        `coord.context(run="last").get("version")`.
        """
        from coordination.runs.shared import context_of

        with self.reached() as connection:
            return context_of(connection.cache, plan, run, todo)

    def export_context(self, file: str | Path) -> int:
        """Write all contexts to a file, as `coord context export` does; return the number of values."""
        from coordination.cache.document import export

        with self.reached() as connection:
            return export(connection.cache.entries, connection.cache.namespace, Path(file))

    def import_context(self, file: str | Path, *, keep: bool = False) -> int:
        """Put back an export; with `keep`, existing values stay. Return the number of values. Raises
        UsageError.
        """
        from coordination.cache.document import restore

        with self.reached() as connection:
            return restore(connection.cache.entries, Path(file), only_new=keep)
