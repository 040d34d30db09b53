"""All runs: approved, started, found, imported, cleaned up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from coordination.api.parameters import (
    AcceptResults,
    Answer,
    AsItWas,
    AskingTodo,
    AtOnce,
    Comment,
    InRun,
    Limit,
    NoCache,
    OnFailureAsInPlan,
    OnFailureAsInRun,
    PlanId,
    RunId,
    TodoId,
)
from coordination.api.planning import DecidedSweep, Planner, Sweep, SweepOptions, SweepPreview, Workplaces
from coordination.api.run import Run
from coordination.declared import Effect, Option, operation
from coordination.errors import Blocked, CoordinationError, NotFound
from coordination.events.records import Event
from coordination.models import Strategy, Verdict
from coordination.planner.graph import PlanGraph, alone, build
from coordination.planner.selection import ALL, Selectors, find_plan
from coordination.runs.export import LARGEST
from coordination.runs.overrides import UNMERGED, accepting
from coordination.runs.records import TodoState
from coordination.runs.views.costs import AgentCosts, CostsBy, read_costs
from coordination.runs.views.progress_reader import read_all
from coordination.runs.views.records import RunView
from coordination.runs.views.run_list import (
    ANY_RUN,
    OF_TODOS,
    STATUSES,
    UNDOABLE,
    ActsOn,
    RunFilters,
    filters_of,
    newest,
    refuse_unknown_plans,
    values_of,
)
from coordination.runs.views.run_view import LAST
from coordination.tracker.kinds import TODO

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.models import Ecosystem
    from coordination.runs.control.approvals import Decision
    from coordination.runs.control.signing import Subject
    from coordination.runs.maintenance.cleaning import Survey
    from coordination.runs.submission.refusals import LeftOut


COSTS_SINCE = timedelta(days=30)


class Runs:
    """`coord.runs`. A run is named by its id, the beginning or end of it, or `last`: the newest run that the
    operation can act on, never one that the health monitor has started.
    """

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    # Decided by people

    def complete(self, todo: str, run: str | None = None) -> Run:
        """Complete a manual todo that a person has done; return its run, which continues."""
        from coordination.runs.control import approvals

        with self._access.reached() as connection:
            named = connection.reader.resolve(run, ActsOn(todo=todo)) if run else None
            self._access.authority.check("complete", lambda: self._repos_of(todo, named))
            run_id = approvals.complete(connection, todo, named)
        self._access.announce("complete", todo, run=run_id)
        return Run(self._access, run_id)

    @operation("run.approve", Effect.ADDS, right="approve", event="approve", tool=False)
    def approve(self, todo: AskingTodo, *, run: InRun = None, comment: Comment = "") -> Run:
        """Approve a todo or milestone that waits at a gate, or a manual todo that a person has done.

        Raises NotFound; Conflict; UsageError where nothing waits for approval, or several runs do and none is
        named.
        """
        return Run(self._access, self.decide(Verdict.APPROVE, todo, run, comment).run_id)

    @operation(
        "run.answer",
        Effect.ADDS,
        right="approve",
        event="approve",
        for_agents="Only with the words of a person who told you to; never answer in their place.",
    )
    def answer(self, todo: AskingTodo, text: Answer, *, run: InRun = None) -> Run:
        """Answer the question of an agent, which goes on in the same session.

        An answer is an approval with a comment, and is signed like one.

        Raises as `approve` does; UsageError where the todo asks nothing, or the answer is empty.
        """
        return Run(self._access, self.decide(Verdict.APPROVE, todo, run, text, is_answer=True).run_id)

    @operation(
        "run.reject",
        Effect.CHANGES,
        right="approve",
        event="reject",
        for_agents="Do it on behalf of a person who told you to. coord_run_retry asks for the approval "
        "again.",
    )
    def reject(self, todo: AskingTodo, *, run: InRun = None, comment: Comment = "") -> Run:
        """Reject a todo or milestone that waits at a gate. It fails without another attempt, and the run
        follows its `on_failure`.

        Raises as `approve` does.
        """
        return Run(self._access, self.decide(Verdict.REJECT, todo, run, comment).run_id)

    def review(self, todo: str, run: str | None = None) -> tuple[str, Subject | None]:
        """Return the run, and what an approval of the todo would sign: task, order and commits, from bytes
        that were verified here; None in a process without an identity. Raises as `approve` does; NotTrusted
        where somebody has changed the run.
        """
        from coordination.runs.control import approvals

        with self._access.reached() as connection:
            self._access.authority.check("read")
            return approvals.review(
                connection, todo, connection.reader.resolve(run, ActsOn(todo=todo)) if run else None
            )

    def decide(
        self,
        verdict: Verdict,
        todo: str,
        run: str | None = None,
        comment: str = "",
        *,
        reviewed: Subject | None = None,
        is_answer: bool = False,
    ) -> Decision:
        """Approve or reject; return who decided what in which run. Raises as `approve` does, and Conflict
        where the todo is not as it was `reviewed` any more.

        `is_answer`: the comment answers the question of an agent.
        """
        from coordination.runs.control import approvals

        with self._access.reached() as connection:
            named = connection.reader.resolve(run, ActsOn(todo=todo)) if run else None
            self._access.authority.check(verdict.value, lambda: self._repos_of(todo, named))
            decision = approvals.decide(
                connection, verdict, todo, named, comment, reviewed=reviewed, is_answer=is_answer
            )
        self._access.announce(verdict.value, todo, run=decision.run_id, data={"comment": comment})
        return decision

    def _repos_of(self, todo: str, run_id: str | None) -> set[str]:
        """Return the repository of a todo in a run, or all of the run for a milestone; empty if unknown."""
        asking = () if run_id else self._access.live_asking()
        names = [run_id] if run_id else [one.run_id for one in asking if one.todo == todo]
        rows = [row for name in names for row in Run(self._access, name).view().todos if row.repo]
        return {row.repo for row in rows if row.id == todo} or {row.repo for row in rows}

    # Started

    @operation(
        "run.sweep",
        Effect.EXECUTES,
        right="sweep",
        event="sweep",
        for_agents="The run continues independently of this session: follow it with coord_run_show(run=…, "
        "wait_s=60) until its status is no longer running. coord_plan_land lands its work. Call "
        "coord_plan_forecast first for a preview.",
    )
    def sweep(
        self,
        plan: PlanId,
        wanted: Selectors = ALL,
        *,
        strategy: Annotated[Strategy | None, Option("Default: as in the plan.")] = None,
        on_failure: OnFailureAsInPlan = None,
        max_parallel: AtOnce = None,
        fresh: Annotated[
            bool,
            Option(
                "Discard the plan's change set before. Its todos are open again, as are completed ones "
                "without work.",
                for_agents="Only if a person told you to.",
            ),
        ] = False,
        failed: Annotated[
            bool, Option("Select the failed and blocked todos of the plan's latest run.")
        ] = False,
        timeout: Limit = None,
        no_cache: NoCache = False,
        accept: AcceptResults = (),
    ) -> Run:
        """Run a plan: its open todos, in dependency order.

        The run begins with what the plan has made and not landed, else at the base branches; its commits go
        to the branch coord/PLAN of each repository. Todos that are blocked from outside the plan are skipped.
        Nothing starts while another run writes the same repositories of the plan. Where another plan of the
        same id has made the work, `accept` must name the plan; where a todo depends on a completed todo of
        another plan whose result is still to land, it must name that todo. The run names the commits that it
        begins with.

        `fresh`: discard its change set before, as `coord.changes.discard` does; without one, completed todos
        whose work is not here are open again. `no_cache`: todos with a
        `cache` run all the same. `timeout`: the run is ended after it. With the embedded server its worker is
        started as well, and stops with the last of its users.

        Raises Blocked where nothing can be started, since all is done or blocked from outside; PlanRefused;
        Conflict; NotLanded where the result of a completed predecessor is not in its base branch, unless
        `accept` names the todo. `accept` needs the right `override`, and is recorded.
        """
        from coordination.api.changes import Changes

        options = SweepOptions(
            strategy=strategy,
            on_failure=on_failure,
            max_parallel=max_parallel,
            no_cache=no_cache,
            timeout=timeout,
        )
        changes = Changes(self._access)
        if fresh and (planned := changes.plan_fresh(plan)):
            changes.discard_planned(planned)
        return self._start(self.prepare_sweep(plan, wanted, options, failed=failed), accept)

    @operation("todo.execute", Effect.EXECUTES, right="execute", event="execute")
    def execute(
        self, todo: TodoId, *, timeout: Limit = None, no_cache: NoCache = False, accept: AcceptResults = ()
    ) -> Run:
        """Run one todo, in a run of its own. It is refused under the same conditions as a sweep.

        `timeout`: the limit of the todo, instead of its own.

        Raises as `sweep` does.
        """
        return self._start(self.prepare_execute(todo, timeout, SweepOptions(no_cache=no_cache)), accept)

    def _start(self, sweep: Sweep, accept: Collection[str]) -> Run:
        graph, plan = sweep.graph, sweep.graph.plan.id
        if not graph.todos:
            whys = (
                [graph.nothing_to_do]
                if graph.nothing_to_do
                else [f"{t}: {why}" for t, why in graph.blocked.items()]
            )
            raise Blocked(
                f"no todo of {plan} can start: {'; '.join(whys)}",
                f"show the whole plan: coord plan graph {plan}",
            )
        return self.start(self.make_ready(sweep), accept)

    def prepare_sweep(
        self, plan: str, wanted: Selectors = ALL, options: SweepOptions | None = None, *, failed: bool = False
    ) -> Sweep:
        """Return the run that a sweep would start. `failed`: only what did not succeed in the plan's latest
        run.

        Raises NotFound; PlanRefused; Conflict where no todo is left and Redis has lost the record of work.
        """
        from coordination.api.changes import refuse_unrecorded

        document = self._access.manager.document
        graph = self._graph(plan, wanted, failed=failed, ecosystem=document.ecosystem)
        if not graph.todos:
            refuse_unrecorded(self._access, plan)
        selected = Sweep(
            graph=self._naming_unlanded(graph), options=options or SweepOptions(), planned=document
        )
        return self._possible(selected)

    def _naming_unlanded(self, graph: PlanGraph) -> PlanGraph:
        """Return the graph; where all todos are completed, with the place of work that has not landed."""
        if not (graph.nothing_to_do and graph.done):
            return graph
        from coordination.api.changes import where_unlanded

        where = where_unlanded(self._access, graph.plan.id)
        return replace(graph, nothing_to_do=f"{graph.nothing_to_do}; {where}") if where else graph

    def prepare_execute(
        self, todo: str, timeout: timedelta | None = None, options: SweepOptions | None = None
    ) -> Sweep:
        """Return the run of one todo. Raises NotFound; PlanRefused."""
        document = self._access.manager.document
        ecosystem = document.ecosystem
        graph = alone(ecosystem, TODO.get(ecosystem, todo), timeout)
        selected = Sweep(
            graph=graph,
            options=options or SweepOptions(),
            operation="execute",
            todo=todo,
            planned=document,
        )
        return self._possible(selected)

    def preview_sweep(
        self,
        plan: str,
        wanted: Selectors = ALL,
        options: SweepOptions | None = None,
        *,
        failed: bool = False,
        accept: Collection[str] = (),
        fresh: bool = False,
    ) -> SweepPreview:
        """Return what a sweep would do; write nothing, start nothing. `fresh`: after a discard of the plan's
        change set. Raises as `sweep` does.
        """
        from coordination.api.changes import Changes

        discarded = Changes(self._access).plan_fresh(plan) if fresh else None
        planner = Planner(self._access, discarded)
        graph = self._graph(plan, wanted, failed=failed, ecosystem=planner.ecosystem)
        graph = self._naming_unlanded(planner.with_durations(graph))
        sweep = self._possible(Sweep(graph=graph, options=options or SweepOptions()))
        return planner.preview(graph, self._decided(sweep).order, accept)

    def make_ready(self, sweep: Sweep) -> DecidedSweep:
        """Start the worker that a sweep needs, and decide how it is executed."""
        from coordination.api.health import unhealthy
        from coordination.backend.server_check import refuse_unfit

        self._check_start(sweep)
        self._access.start_worker(sweep.graph.repos)
        with self._access.reached() as connection:
            refuse_unfit(connection.redis, connection.url)  # a server that is of no use is asked nothing
            for line in unhealthy(
                connection, sweep.graph.repos, remote=bool(self._access.settings.redis_url)
            ):
                self._access.warn(line)
            graph = sweep.graph.with_learned(connection.reader.learned(sweep.graph.unknown))
        return self._decided(replace(sweep, graph=graph))

    def start(self, sweep: DecidedSweep, accept: Collection[str] = ()) -> Run:
        """Start a prepared run. Raises Conflict; NotLanded; NotAllowed."""
        from coordination.api.changes import rebuild_unrecorded
        from coordination.runs.control import starting
        from coordination.runs.submission.writes import change_set_of

        self._check_start(sweep)
        ecosystem = sweep.records or self._access.manager.document.ecosystem
        graph, order = sweep.graph, replace(sweep.order, overrides=accepting(accept))
        if accept:
            builds_on = {todo.repo for todo in ecosystem.coordination.todos if todo.id in accept}
            self._access.authority.check("override", {*graph.repos, *builds_on})
        if own := "" if order.no_change_set else change_set_of(graph.plan.id, graph.todos):
            rebuild_unrecorded(self._access, own, graph.todos.values())
        with self._access.reached() as connection:
            run_id = starting.start_run(
                connection, ecosystem, graph, order, accept, refuse_stale=lambda: self._refuse_stale(sweep)
            )
        name, subject = sweep.operation, sweep.todo or graph.plan.id
        arguments = {**vars(sweep.options), "strategy": order.strategy, "overrides": order.overrides}
        self._access.announce(name, subject, run=run_id, repos=sorted(graph.repos), data=arguments)
        return Run(self._access, run_id)

    def _refuse_stale(self, sweep: Sweep) -> None:
        """Raise Conflict where the file no longer has results as completed that the run would build on."""
        from coordination.ecosystem.document import read_bytes, snapshot
        from coordination.runs.submission.refusals import refuse_reopened

        planned, path = sweep.planned, self._access.path
        if planned is not None and (raw := read_bytes(path)) != planned.text:
            present = snapshot(raw, path).document.ecosystem
            refuse_reopened(planned.ecosystem, present, sweep.graph.plan, sweep.graph.todos)

    def _check_start(self, sweep: Sweep) -> None:
        self._access.authority.check(sweep.operation, sweep.graph.repos)
        self._access.authority.check_reads(sweep.graph.reads)

    def workplaces(self, repos: Collection[str], max_parallel: int | None = None) -> Workplaces:
        """Return where todos of these repositories can run at present."""
        settings = self._access.settings
        with self._access.reached() as connection:
            workers = connection.registry.serving(repos)
        slots = sum(worker.jobs for worker in workers)
        return Workplaces(
            hosts=tuple(sorted({worker.host for worker in workers})),
            here=settings.this_host,
            embedded=not settings.redis_url,
            at_once=min(slots, max_parallel) if slots and max_parallel else max_parallel or slots,
        )

    def left_out(self, sweep: Sweep) -> tuple[LeftOut, ...]:
        """Return the local changes that a run would not contain. Raises GitRefused."""
        from coordination.runs.submission.refusals import left_out

        document = self._access.document
        places = ((repo, document.repo_path(repo)) for repo in document.ecosystem.repos)
        return left_out(sweep.graph.todos.values(), places)

    def _graph(
        self, plan: str, wanted: Selectors, *, failed: bool, ecosystem: Ecosystem | None = None
    ) -> PlanGraph:
        ecosystem = ecosystem or self._access.manager.document.ecosystem
        if failed:
            # A misspelt plan was not swept either: that is not the error to report.
            find_plan(ecosystem, plan)
            wanted = replace(wanted, failed=self._failed_of(plan))
        return build(ecosystem, plan, wanted)

    def _possible(self, sweep: Sweep) -> Sweep:
        """Return the sweep. Raise PlanRefused for a todo that can never be executed."""
        from coordination.runs.submission.order import refuse_impossible

        refuse_impossible(sweep.graph, sweep.options.on_failure, self._access.settings)
        return sweep

    def _decided(self, sweep: Sweep) -> DecidedSweep:
        from coordination.runs.submission.order import decide

        graph, options = sweep.graph, sweep.options
        order = decide(
            graph,
            settings=self._access.settings,
            at_once=self._access.at_once(graph.repos, options.max_parallel or graph.plan.max_parallel),
            operation=sweep.operation,
            no_change_set=sweep.no_change_set,
            **vars(options),
        )
        return DecidedSweep(**vars(sweep), order=order)

    def _failed_of(self, plan: str) -> tuple[str, ...]:
        """Return the todos of the plan's latest run that began and did not succeed."""
        with self._access.reached() as connection:
            for run_id in newest(connection.redis, connection.keys, RunFilters(plans=frozenset({plan})), 1):
                todos = connection.reader.read(run_id).todos
                ended = [todo for todo in todos if todo.attempt and todo.state.ended]
                return tuple(todo.id for todo in ended if todo.state is not TodoState.SUCCEEDED)
        raise NotFound(f"there is no run of {plan} yet", f"run all of it: coord sweep {plan}")

    @operation(
        "run.retry",
        Effect.EXECUTES,
        right="sweep",
        event="retry",
        for_agents="The worktree is .coord/worktrees/<run_id>/<repo> on the worker's machine.",
    )
    def retry(
        self,
        run: RunId = LAST,
        *,
        on_failure: OnFailureAsInRun = None,
        max_parallel: Annotated[
            int | None,
            Option(
                "Run at most this many todos at once (default: as in the run).",
                flag="--jobs",
                metavar="N",
                least=1,
            ),
        ] = None,
        without: Annotated[
            tuple[str, ...], Option("Give the work of a lost host to others.", metavar="HOST")
        ] = (),
        from_todos: Annotated[
            tuple[str, ...],
            Option(
                "Run succeeded todos again, with all that depends on them.",
                flag="--from",
                metavar="TODO",
                completes="todo_ids",
            ),
        ] = (),
        as_it_was: AsItWas = False,
    ) -> Run:
        """Run the failed and blocked todos of a run again, in a new run. Results of succeeded todos are
        carried over.

        Correct the cause first: in the file (a todo's action, timeout or env), on the repository's branch, or
        by a commit on coord/RUN in the worktree that the run has left.

        `without`: hosts that are gone. `from_todos`: succeeded todos that are executed again, with all that
        depends on them. `as_it_was`: keep the order of the run where the file has another by now; else that
        is refused.

        Raises Blocked where nothing is left; PlanRefused; UsageError; Conflict where the run is live, or was
        retried already.
        """
        return self.get(run, OF_TODOS).retry(
            on_failure=on_failure,
            max_parallel=max_parallel,
            without=without,
            from_todos=from_todos,
            as_it_was=as_it_was,
        )

    # Found

    def get(self, run: str = LAST, acts_on: ActsOn = ANY_RUN) -> Run:
        """Return a run. `acts_on`: the runs among which `last` is the newest. Raises NotFound."""
        with self._access.reached() as connection:
            return Run(self._access, connection.reader.resolve(run, acts_on))

    @operation("run.list", Effect.READS)
    def list(
        self,
        *,
        plan: Annotated[
            str | Collection[str] | None,
            Option("Select runs of this plan.", filters=True, completes="plan_ids"),
        ] = None,
        status: Annotated[
            str | Collection[str] | None,
            Option(f"Select any of {', '.join(STATUSES)}.", filters=True, completes="run_statuses"),
        ] = None,
        since: Annotated[
            datetime | None,
            Option(
                "Select runs that started at TIME or later: 2026-01-31, or 7d for 7 days ago.", metavar="TIME"
            ),
        ] = None,
        limit: Annotated[int, Option("List at most so many.", metavar="N", least=1, most=1000)] = 20,
        automatic: Annotated[
            bool, Option("List the recoveries that coord started by itself, too.", flag="--all")
        ] = False,
    ) -> list[RunView]:
        """List the runs, latest first, without their todos. All filters must match.

        `plan` and `status` are one value or several alternatives; `since`: started then or later. Recoveries
        that the health monitor has started are left out, unless `automatic` is set or `plan` names them.

        Raises UsageError; NotFound for an unknown plan.
        """
        filters = filters_of(plan, status, since, automatic=automatic)
        with self._access.reached() as connection:
            if filters.plans and self._access.has_file:
                plans = {plan.id for plan in self._access.document.ecosystem.coordination.plans}
                refuse_unknown_plans(connection.redis, connection.keys, filters.plans, plans)
            return read_all(connection.redis, connection.keys, connection.reader.list(limit, filters))

    @operation("run.costs", Effect.READS)
    def costs(
        self,
        *,
        by: Annotated[CostsBy, Option("Sum it up by plan, repo, agent or day.")] = CostsBy.PLAN,
        plan: Annotated[
            str | Collection[str] | None,
            Option("Select the use for this plan.", filters=True, completes="plan_ids"),
        ] = None,
        repo: Annotated[
            str | Collection[str] | None,
            Option("Select the use in this repository.", filters=True, completes="repo_names"),
        ] = None,
        agent: Annotated[
            str | Collection[str] | None, Option("Select the use by this agent.", filters=True)
        ] = None,
        since: Annotated[
            datetime | None,
            Option("Select the use from this day on: 2026-01-31, or 7d (default: 30d).", metavar="TIME"),
        ] = None,
    ) -> tuple[AgentCosts, ...]:
        """Show what agents have used: rounds, turns, tokens and, where it is known, USD.

        The most expensive come first. Days are those of UTC, and the last 400 are known. `plan`, `repo` and
        `agent` are one value or several alternatives.

        Raises Unreachable.
        """
        first = (since or datetime.now(UTC) - COSTS_SINCE).date()
        wanted = {"plan": values_of(plan), "repo": values_of(repo), "agent": values_of(agent)}
        with self._access.reached() as connection:
            return read_costs(connection.redis, connection.keys, by, first, wanted)

    def events(self, run: str = LAST) -> Iterator[Event]:
        """See `Run.events`."""
        return self.get(run).events()

    def stats(self) -> Mapping[str, Any]:
        """Return live runs by status, their todos by state, messages and workers by repository, and all
        counters.
        """
        from coordination.runs.views.metrics import LiveCountReader

        with self._access.reached() as connection:
            counts = LiveCountReader(connection.redis, connection.keys).read()
        workers: Counter[str] = Counter()
        for (_, repo), number in counts.workers.items():
            workers[repo] += number
        return {
            "live": dict(counts.runs),
            "todos": {state: number for state, number in counts.todos.items() if number},
            "leases": counts.leases,
            "queues": dict(counts.queues),
            "workers": dict(workers),
            "counters": dict(counts.counters),
        }

    # Moved

    def export(self, run: str, file: str | Path, *, look: bool = False) -> Path:
        """Write all that Redis keeps of the run as one JSON document, compressed if the file's name ends in
        .gz.

        Raises Conflict where a todo of it still runs, unless `look`; CoordinationError.
        """
        return self.get(run).export(file, look=look)

    @operation("run.import", Effect.ADDS, right="administer", event="import", tool=False)
    def import_(
        self,
        file: Annotated[str | Path, Option("A file that `coord run export` wrote.")],
        *,
        max_bytes: Annotated[
            int,
            Option(
                "Refuse a document that is larger when unpacked (default: 128MiB).",
                flag="--max-size",
                metavar="SIZE",
                reads="size",
            ),
        ] = LARGEST,
    ) -> Run:
        """Import an exported run, whole or not at all. A paused run continues when it is resumed.

        Raises UsageError where the file is no export, not whole, or unpacked larger than `max_bytes`;
        Conflict where the run is here.
        """
        from coordination.runs.control import starting
        from coordination.runs.export.import_document import load

        self._access.authority.check("import")
        received = load(Path(file), max_bytes)
        with self._access.reached() as connection:
            run_id = starting.import_run(connection, received)
        self._access.announce("import", run_id, run=run_id)
        return Run(self._access, run_id)

    # Undone

    @operation(
        "run.rollback",
        Effect.UNDOES,
        right="sweep",
        event="rollback",
        for_agents="Follow the run with coord_run_show(run=…, wait_s=60).",
    )
    def rollback(
        self,
        run: RunId = LAST,
        *,
        accept: Annotated[
            tuple[str, ...],
            Option(
                "Accept failed compensations: they were undone by hand, or may stay.",
                metavar="TODO",
                completes="todo_ids",
                for_agents="Only if a person told you to.",
            ),
        ] = (),
        reason: Annotated[str, Option("Record the reason of the acceptance.", metavar="TEXT")] = "",
    ) -> Run:
        """Undo a run: stop its running todos, then undo all todos in reverse order.

        Todos with a `compensate` action are compensated; the branches and worktrees of the run are removed,
        for a retry also those of the runs before it. A todo that could not be undone is compensation_failed,
        and the run rollback_failed; called again, it tries those again. With `accept` these count as undone,
        and their predecessors are undone next.

        Return the run, whose `wait` returns when the rollback has ended.

        Raises Conflict where a later run has built on it and was not undone.
        """
        if accept:
            return self.accept(run, accept, reason)
        found = self.get(run, UNDOABLE)
        found.rollback()
        return found

    def accept(self, run: str, todos: str | Collection[str], reason: str) -> Run:
        """Count failed compensations as undone: see `Run.accept`."""
        found = self.get(run, UNDOABLE)
        found.accept(todos, reason)
        return found

    # Cleaned up

    def survey(
        self,
        runs: Sequence[str] = (),
        *,
        merged: bool = False,
        older_than: timedelta | None = None,
        branches: bool = True,
    ) -> Survey:
        """Return what these runs, or all ended ones, have left on the workers' machines. `merged`: only runs
        whose work is all in other branches.

        Starts the embedded server's worker, which is the one that can look. Raises Conflict for a run that
        goes on.
        """
        from coordination.runs.maintenance.cleaning import Cleaning

        if self._access.has_file:
            self._start_worker_to_clean()
        with self._access.reached() as connection:
            return Cleaning(connection.store).survey(
                runs, branches=branches, merged=merged, older_than=older_than
            )

    @operation("run.clean", Effect.CHANGES, right="administer", event="clean", tool=False)
    def clean(self, survey: Survey, *, branches: bool = True) -> Survey:
        """Remove worktrees, branches and logs of ended runs.

        `survey` names them. Return which of them are gone and which stay. The removal of the only copy of
        work needs the right `override`, and is recorded.

        Raises NotAllowed.
        """
        from coordination.runs.maintenance.cleaning import Cleaning

        self._access.authority.check("clean", {artifact.repo for artifact in survey.found})
        copies = [one for one in survey.only_copies if branches or one.changed]
        if copies:
            self._access.authority.check("override", {artifact.repo for artifact in copies})
        with self._access.reached() as connection:
            done = Cleaning(connection.store, connection.signing).remove(survey, branches=branches)
        runs = dict.fromkeys(artifact.run for artifact in survey.found)
        overrides = [UNMERGED] if copies else []
        self._access.announce("clean", data={"runs": runs, "branches": branches, "overrides": overrides})
        return done

    @operation(
        "run.forget_results",
        Effect.CHANGES,
        right="administer",
        event="forget_results",
        command=False,
        tool=False,
    )
    def forget_results(self) -> None:
        """Empty the result cache: todos with a `cache` run again."""
        from coordination.cache.entries import RESULTS, Store

        self._access.authority.check("forget_results")
        with self._access.reached() as connection:
            Store(connection.redis, self._access.settings.namespace, RESULTS).clear()
        self._access.announce("forget_results")

    def _start_worker_to_clean(self) -> None:
        """Start the worker. A full disk is no obstacle where the server is there: cleaning makes room."""
        try:
            self._access.ensure_worker()
        except CoordinationError as error:
            if not isinstance(error.__cause__, OSError):
                raise
