"""Views of records and repositories: blockers, dependents, and the state of runs at this moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from coordination.models import Issue, Plan, Todo
from coordination.tracker.queries import as_view
from coordination.tracker.records import TodoInView

if TYPE_CHECKING:  # without a running Redis, a view needs no client of it
    from coordination.api.access import EcosystemAccess
    from coordination.breakers.records import Breaker, Reset
    from coordination.runs.views.live import Asked, LiveTodo
    from coordination.tracker.records import EcosystemStatus, RepoStatus
    from coordination.tracker.relations import Chains

R = TypeVar("R", Issue, Plan, TodoInView)


class LiveView:
    """The state of runs at this moment, for operations on the file: an answer at once, or an empty one.
    Starts nothing.
    """

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def todo(self, todo: str) -> LiveTodo | None:
        """Return the todo in the newest run that has it."""
        return self._access.ask_live(lambda live: live.todo(todo, self._access.ecosystem_id), None)

    def asking(self) -> Sequence[Asked]:
        """Return the todos that wait for a person, the longest first."""
        return self._access.live_asking()

    def newest_runs(self) -> Mapping[str, str]:
        """Return run → its plan and status, newest first."""
        return self._access.ask_live(lambda live: live.newest_runs(), {})

    def change_sets(self) -> tuple[str, ...]:
        """Return the ids of all change sets."""
        return self._access.ask_live(lambda live: live.change_sets(), ())

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


@dataclass(frozen=True, kw_only=True)
class RecordView(Generic[R]):
    """A record with its blockers and dependents."""

    record: R
    chains: Chains

    @property
    def more(self) -> Mapping[str, Any]:
        """Return the fields that commands and tools show in addition to those of the record."""
        return dict(self.chains)


@dataclass(frozen=True, kw_only=True)
class TodoRecordView(RecordView[TodoInView]):
    plan: Plan | None
    """The plan of the todo, if the file declares it."""
    read_live: Callable[[], LiveTodo | None]

    @cached_property
    def live(self) -> LiveTodo | None:
        """Return the state of the todo in the newest run that has it, where Redis answers at once."""
        return self.read_live()

    @property
    def more(self) -> Mapping[str, Any]:
        return {**dict(self.chains), "live": self.live}


@dataclass(frozen=True, kw_only=True)
class PlanRecordView(RecordView[Plan]):
    todos: tuple[Todo, ...]

    @property
    def more(self) -> Mapping[str, Any]:
        return {"todos": self.todos, **dict(self.chains)}


@dataclass(frozen=True, kw_only=True)
class RepoView:
    """The status of a repository."""

    status: RepoStatus
    breaker: Breaker | None
    """Its circuit breaker, if that is open or has failures."""


@dataclass(frozen=True, kw_only=True)
class EcosystemView:
    """The status of all repositories."""

    status: EcosystemStatus
    breakers: tuple[Breaker, ...]
    """The circuit breakers that are open or have failures."""


class Records:
    """Records and repositories as pages show them: `coord.records`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access
        self._live = LiveView(access)

    def issue(self, issue: str) -> RecordView[Issue]:
        """Show an issue with its blockers and dependents.

        Raises NotFound.
        """
        manager = self._access.manager
        return RecordView(record=manager.get_issue(issue), chains=manager.chains_of(issue))

    def todo(self, todo: str) -> TodoRecordView:
        """Show a todo with its blockers, its dependents and its state in a run.

        Raises NotFound.
        """
        manager = self._access.manager
        record = as_view(manager.get_todo(todo))
        return TodoRecordView(
            record=record,
            chains=manager.chains_of(todo),
            plan=next((one for one in manager.ecosystem.coordination.plans if one.id == record.plan), None),
            read_live=partial(self._live.todo, todo),
        )

    def plan(self, plan: str) -> PlanRecordView:
        """Show a plan with its milestones, todos, blockers and dependents.

        Raises NotFound.
        """
        manager = self._access.manager
        return PlanRecordView(
            record=manager.get_plan(plan), todos=manager.plan_todos(plan), chains=manager.chains_of(plan)
        )

    def repo_status(self, repo: str) -> RepoView:
        """Summarise a repository: its issues, todos, plans, dependencies and blockers.

        `repo` need not be declared.
        """
        status = self._access.manager.get_repo_status(repo)
        own = (one for one in self._live.breakers() if one.name == f"repo:{repo}")
        return RepoView(status=status, breaker=next(own, None))

    def ecosystem_status(self) -> EcosystemView:
        """Summarise all repositories: work that is overdue, ready or blocked, and the worst blockers."""
        status = self._access.manager.get_ecosystem_status()
        return EcosystemView(status=status, breakers=self._live.breakers())
