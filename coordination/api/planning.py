"""Plans ahead of a run: the order of a plan, its duration, the preview of a sweep."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from coordination.api.parameters import PlanId
from coordination.declared import Effect, Option, operation
from coordination.errors import CoordinationError, Unreachable
from coordination.files import is_folder, is_there
from coordination.git import base_tip, why_unusable
from coordination.models import OnFailure, RewriteAction, Strategy, TodoStatus
from coordination.planner.forecast import Forecast, forecast
from coordination.planner.graph import PlanGraph, build, with_finished
from coordination.planner.selection import ALL, Selectors, find_plan
from coordination.runs.records import TodoState

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.changes.discard import Discarded
    from coordination.ecosystem.document import Document
    from coordination.models import Ecosystem
    from coordination.rewrites import Matches
    from coordination.runs.change_sets.records import TakenOver
    from coordination.runs.connection import Connection
    from coordination.runs.submission.dry_run import DryRun, Places
    from coordination.runs.submission.order import Order
    from coordination.runs.worker_registry import Worker

logger = logging.getLogger(__name__)


class Planner:
    """`coord.planner`."""

    def __init__(self, access: EcosystemAccess, discarded: Discarded | None = None) -> None:
        """`discarded`: a change set that counts as discarded."""
        self._access = access
        self._discarded = discarded

    @property
    def ecosystem(self) -> Ecosystem:
        """Return the records, with the todos open whose results are discarded."""
        ecosystem: Ecosystem = self._access.manager.document.ecosystem
        if self._discarded is None:
            return ecosystem
        again = {"status": TodoStatus.PENDING, "actual_hours": None}
        todos = tuple(
            todo.model_copy(update=again)
            if todo.id in self._discarded.todos and todo.status is TodoStatus.COMPLETED
            else todo
            for todo in ecosystem.coordination.todos
        )
        coordination = ecosystem.coordination.model_copy(update={"todos": todos})
        return ecosystem.model_copy(update={"coordination": coordination})

    @operation("plan.graph", Effect.READS, tool=False)
    def graph(self, plan: PlanId, wanted: Selectors = ALL) -> PlanGraph:
        """Show the dependency graph of a plan: levels, critical path, blocked todos and their blockers.

        `wanted`: only a part of the plan. Durations of earlier runs count where a Redis answers at once.

        Raises NotFound and PlanRefused.
        """
        return self.with_durations(build(self._access.document.ecosystem, plan, wanted))

    def with_finished(self, graph: PlanGraph, wanted: Selectors = ALL) -> PlanGraph:
        """Return the graph to be drawn: with the todos that are finished, also in a live run; the others of a
        live run are in progress.
        """
        in_runs = self._access.executing() or {}
        executing = {todo for todo, one in in_runs.items() if one.in_progress}
        succeeded = {todo for todo in executing if in_runs[todo].state == TodoState.SUCCEEDED}
        return with_finished(graph, self._access.document.ecosystem, wanted, executing, succeeded)

    def progress(self, plan: str) -> PlanProgress:
        """Return the finished part of a plan, its hours and its last run."""
        ecosystem = self._access.document.ecosystem
        todos = ecosystem.todos_of(find_plan(ecosystem, plan))
        hours = [todo.actual_hours for todo in todos if todo.actual_hours is not None]
        run = self._access.ask_live(lambda live: live.last_run_of(plan), None)
        return PlanProgress(
            todos=len(todos),
            completed=sum(todo.status is TodoStatus.COMPLETED for todo in todos),
            cancelled=sum(todo.status is TodoStatus.CANCELLED for todo in todos),
            actual_hours=sum(hours) if hours else None,
            run_id=run.run_id if run else None,
            run_status=run.status if run else None,
            run_s=run.duration_s if run else None,
        )

    def with_durations(self, graph: PlanGraph) -> PlanGraph:
        """Return the graph with hours learned from earlier runs: of Redis, or else of the history."""
        from coordination.operations.quick_queries import learned_durations
        from coordination.planner.hours import LearnedFrom

        if not graph.unknown:
            return graph
        if learned := learned_durations(self._access.path, self._access.settings, graph.unknown):
            return graph.with_learned(learned)
        try:
            return graph.with_learned(self._access.memory.learned(graph.unknown), LearnedFrom.HISTORY)
        except CoordinationError as error:  # a forecast does without
            logger.info("no durations of the history: %s", error)
            return graph

    @operation("plan.forecast", Effect.READS, for_agents="Nothing is started.")
    def forecast(
        self,
        plan: PlanId,
        wanted: Selectors = ALL,
        *,
        max_parallel: Annotated[
            int | None,
            Option(
                "Assume at most N todos at once (default: the workers' slots; without any, one per "
                "repository).",
                flag="--jobs",
                metavar="N",
                least=1,
            ),
        ] = None,
    ) -> PlanForecast:
        """Forecast a sweep of a plan. It names the hours under each strategy, the strategy that it would take
        and why, and the bottlenecks. Todos without an estimate count with the past durations of similar
        todos. A plan that is finished, wholly or in part, is shown with the hours it took and those that
        remain.

        `wanted`: only a part of the plan. `max_parallel`: how many todos at once.
        """
        graph = self.graph(plan, wanted)
        foreseen = self.forecast_graph(graph, max_parallel=max_parallel)
        return PlanForecast(**vars(foreseen), progress=self.progress(plan), graph=graph)

    def forecast_graph(self, graph: PlanGraph, *, max_parallel: int | None = None) -> Forecast:
        slots = self._access.at_once(graph.repos, max_parallel or graph.plan.max_parallel)
        return forecast(graph, max_parallel=slots, margin=self._access.settings.levels_margin)

    def preview(self, graph: PlanGraph, order: Order, accepted: Collection[str] = ()) -> SweepPreview:
        """Return what a sweep would do. Writes nothing, starts nothing.

        Raises Conflict and NotLanded where the sweep would be refused.
        """
        from coordination.operations.executable import not_transferable
        from coordination.runs.submission.dry_run import dry_run

        access = self._access
        if not access.settings.redis_url:
            access.manager.check_paths(graph.repos)
        places, takes_over, error = self._places(graph, accepted)
        found = dry_run(graph, order, self.ecosystem, access.settings, places, self._matches(graph))
        return SweepPreview(
            dry_run=replace(found, takes_over=takes_over),
            unreachable=error,
            blocked=bool(graph.blocked),
            too_large=not_transferable(access.document, access.settings, _needed_elsewhere(graph)),
            without_base=tuple(self._without_base(graph)),
        )

    def _without_base(self, graph: PlanGraph) -> Iterator[str]:
        """Yield why todos would not start in checkouts of this machine that have no base branch."""
        from coordination.operations.executable import why_no_start, works_in_place

        document, concerned = self._access.document, {todo.repo for todo in graph.todos.values()}
        for repo in document.ecosystem.repos:
            place = document.repo_path(repo)
            if repo.name not in concerned or place is None or not is_folder(place):
                continue
            if not works_in_place(document, repo) and (why := why_unusable(place)):
                yield f"{repo.name} waits: {why}"
            if not is_there(place / ".git"):
                continue
            if not base_tip(place, repo.branch, remote=bool(repo.url)):
                yield f"{repo.name}: {why_no_start(place, repo)}"

    def _matches(self, graph: PlanGraph) -> Mapping[str, Matches]:
        """Return todo → the matches of its rewrite in the base branch, if this machine has that.
        Raises PlanRefused for a pattern that is no code.
        """
        from coordination.rewrites import Matches, find_matches

        document, found = self._access.document, {}
        repos = {repo.name: repo for repo in document.ecosystem.repos}
        for todo in graph.todos.values():
            if not isinstance(todo.action, RewriteAction):
                continue
            repo = repos[todo.repo]
            place = document.repo_path(repo)
            base = base_tip(place, repo.branch, remote=bool(repo.url)) if place and is_folder(place) else ""
            if place is None or not base:
                found[todo.id] = Matches(unknown=f"this machine has no {repo.branch} of {repo.name}")
            else:
                found[todo.id] = find_matches(todo.action, place, base)
        return found

    def _places(
        self, graph: PlanGraph, accepted: Collection[str]
    ) -> tuple[Places, tuple[TakenOver, ...], Unreachable | None]:
        """Return where the workers are, and the commits with which the run would begin. With the embedded
        server this machine is the place, once a sweep has started the worker.
        """
        from coordination.runs.submission.dry_run import Workplace, places_of

        access = self._access
        configured = access.settings.redis_url
        takes_over = self._rebuilt(graph, None) if not (configured or access.local.server.has_data) else ()
        error = None
        if url := configured or access.local.server.url:
            try:
                workers, takes_over = self._workers(url, graph, accepted)
            except Unreachable as unreachable:
                error = unreachable
            else:
                if configured:
                    return places_of(graph.repos, workers), takes_over, None
        if configured:
            unknown = "Redis, which does not answer" if error else "a worker"
            return dict.fromkeys(graph.repos, unknown), takes_over, error
        host = access.settings.this_host
        paths = {repo.name: access.document.repo_path(repo) for repo in access.document.ecosystem.repos}
        places = {repo: (Workplace(host=host, path=str(paths[repo])),) for repo in graph.repos}
        return places, takes_over, error

    def _workers(
        self, url: str, graph: PlanGraph, accepted: Collection[str]
    ) -> tuple[Sequence[Worker], tuple[TakenOver, ...]]:
        """Return the workers that are there, and the commits with which the run would begin. Raises as
        `preview` does.
        """
        from coordination.backend.client import reaching
        from coordination.runs.change_sets.store import ChangeSets
        from coordination.runs.connection import Connection
        from coordination.runs.control.starting import check_landed, refuse_conflicts
        from coordination.runs.submission.other_plan import refuse_of_sweep
        from coordination.runs.submission.writes import change_set_of

        connection = Connection(url, self._access.settings)
        with reaching(url):
            refuse_conflicts(connection, graph.todos)
            sets = ChangeSets(connection.store).read_all()
            if self._discarded and (found := sets.get(self._discarded.plan)):
                sets[found.id] = found.without_open()
            own = sets.get(change_set_of(graph.plan.id, graph.todos))
            if own is not None:
                refuse_of_sweep(connection.store, self.ecosystem, own, accepted)
            rebuilt = self._rebuilt(graph, connection)
            workers = connection.registry.workers()
            if workers:
                known = {todo for one in rebuilt for todo in one.todos}
                check_landed(connection, self.ecosystem, graph, sets, accepted, known=known, record=False)
        return workers, (*(own.taken_over if own else ()), *rebuilt)

    def _rebuilt(self, graph: PlanGraph, connection: Connection | None) -> tuple[TakenOver, ...]:
        """Return the commits that the run would take up from branches of which Redis has lost the record.
        Raises Conflict where it would be refused.
        """
        from coordination.api.changes import plan_rebuild
        from coordination.runs.change_sets.records import TakenOver
        from coordination.runs.submission.writes import change_set_of

        name = change_set_of(graph.plan.id, graph.todos)
        if not name or self._discarded:
            return ()
        return tuple(
            TakenOver(
                repo=one.repo, branch=one.branch, tip=one.tip, commits=one.commits,
                todos=tuple(sorted(one.todos)), is_rebuilt=True,
            )
            for one in plan_rebuild(self._access, name, graph.todos.values(), connection)
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of a run; None: as in the plan."""

    strategy: Strategy | None = None
    on_failure: OnFailure | None = None
    max_parallel: int | None = None
    no_cache: bool = False
    """Todos with a `cache` run all the same."""
    timeout: timedelta | None = None
    """Limit after which the run is ended."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The selected todos of a run that is to be decided and started."""

    graph: PlanGraph
    options: SweepOptions
    operation: Literal["sweep", "execute"] = "sweep"
    no_change_set: bool = False
    """True if the commits of its todos belong to no change set."""
    todo: str = ""
    """The todo that `execute` runs; empty for a sweep of the plan."""
    records: Ecosystem | None = None
    """The records of a plan that is not in the file."""
    planned: Document | None = None
    """The file by which it was planned; None for a plan that is not in the file."""


@dataclass(frozen=True, kw_only=True)
class DecidedSweep(Sweep):
    """A run with the durations of earlier runs, and how it is executed."""

    order: Order


@dataclass(frozen=True, kw_only=True)
class PlanProgress:
    """The finished part of a plan."""

    todos: int
    """All todos of the plan."""
    completed: int
    cancelled: int
    actual_hours: float | None
    """Sum of the actual hours in the file; None where no todo has any."""
    run_id: str | None
    """The plan's latest run, where a Redis answers at once."""
    run_status: str | None
    run_s: float | None

    @property
    def remaining(self) -> int:
        """Return the number of todos that are not finished."""
        return self.todos - self.completed - self.cancelled


@dataclass(frozen=True, kw_only=True)
class PlanForecast(Forecast):
    """The forecast of what remains of a plan."""

    progress: PlanProgress
    graph: PlanGraph

    def data(self) -> dict[str, Any]:
        """Return the figures, without the graph."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "graph"}


@dataclass(frozen=True, kw_only=True)
class SweepPreview:
    dry_run: DryRun
    unreachable: Unreachable | None
    """Redis does not answer, so that it is not known where the todos would run."""
    blocked: bool
    """Some of the todos are blocked from outside the plan."""
    too_large: tuple[str, ...]
    """Repositories whose history is too large to be carried to another host, where a todo needs it."""
    without_base: tuple[str, ...]
    """Reasons for which repositories of this machine have no base branch to begin at."""


@dataclass(frozen=True, kw_only=True)
class Workplaces:
    """The machines on which the todos of a run are executed."""

    hosts: tuple[str, ...]
    """Hosts with a worker for one of the repositories, sorted; empty while there is none."""
    here: str
    """Name of this host."""
    embedded: bool
    """True for the embedded server, which serves this host alone."""
    at_once: int
    """Number of todos that can run at once: the slots of these workers, or fewer by `max_parallel`."""


def draw(graph: PlanGraph, form: str, paint: Callable[[str, str], str] | None = None) -> str:
    """Return the graph as `tree`, `mermaid`, `dot` or `svg`. `paint` colours a line of the tree by the status
    of its todo.
    """
    from coordination.charts import pictures, plan

    if form == "tree" and paint is not None:
        return plan.tree(graph, paint)
    texts = {"tree": plan.tree, "mermaid": plan.mermaid, "dot": plan.dot, "svg": pictures.plan_svg}
    return texts[form](graph)


def draw_repositories(ecosystem: Ecosystem) -> str:
    """Return the repositories of a file and their dependencies as an SVG file."""
    from coordination.charts.pictures import repositories_svg

    return repositories_svg(ecosystem)


def as_data(graph: PlanGraph, drawn: PlanGraph | None = None) -> Any:
    """Return the graph as plain values for JSON. `drawn`: the graph with its finished todos."""
    from coordination.charts.plan import plan_data

    return plan_data(graph, drawn)


def _needed_elsewhere(graph: PlanGraph) -> set[str]:
    """Return the repositories whose files a todo of another repository reads."""
    todos = graph.todos
    return {
        todos[before].repo
        for name, todo in todos.items()
        if todo.needs_paths
        for before in graph.predecessors[name]
        if before in todos and todos[before].repo != todo.repo
    }
