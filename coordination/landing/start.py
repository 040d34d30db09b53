"""Read a change set, decide its landing or revert, and submit the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from coordination.environment import actor
from coordination.errors import NotFound
from coordination.forges.connect import with_token
from coordination.landing.generate import landing_graph, revert_graph
from coordination.landing.rules import Landing, LandOptions, decide_landing, decide_revert
from coordination.landing.todos import todo_id
from coordination.models import Ecosystem, Strategy, generated_id
from coordination.runs.change_sets import ChangeSets
from coordination.runs.check_results import CheckResult, read_result
from coordination.runs.run_kinds import LAND, QA, REVERT
from coordination.runs.submission.submit import Order
from coordination.runs.transactions import start_generated

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph
    from coordination.runs.connection import Connection


@dataclass(frozen=True, kw_only=True)
class PreparedLanding:
    """A landing or revert that is decided and not started; `graph` is None where there is nothing to do."""

    kind: Literal["land", "revert"]
    landing: Landing
    records: Ecosystem | None = None
    graph: PlanGraph | None = None
    results: Mapping[str, CheckResult] = field(default_factory=dict)
    """Todo of a check → the last result on the tip that lands."""

    @property
    def repos(self) -> tuple[str, ...]:
        """Return the repositories in which the run works: those that land, and those that checks need."""
        return self.graph.repos if self.graph else self.landing.names


def prepare_landing(
    connection: Connection, ecosystem: Ecosystem, name: str, options: LandOptions
) -> PreparedLanding:
    """Return the landing of a change set; it is looked up now and frozen when it starts.

    Raises NotFound, PlanRefused, Conflict as `decide_landing` does.
    """
    landing = decide_landing(
        ecosystem,
        ChangeSets(connection.store).read(name),
        name,
        options,
        patience=connection.settings.land_patience,
        hosts=_hosts(connection),
        forges=with_token(ecosystem.repos),
    )
    if not landing.repos:
        return PreparedLanding(kind=LAND, landing=landing)
    records, graph = landing_graph(ecosystem, landing)
    results = _last_results(connection, landing) if landing.qa else {}
    return PreparedLanding(kind=LAND, landing=landing, records=records, graph=graph, results=results)


def _last_results(connection: Connection, landing: Landing) -> dict[str, CheckResult]:
    """Return the last results on the tips that land: of a sweep, a landing, or `coord qa --plan`."""
    found = {}
    for one in landing.repos:
        for check in one.change.checks:
            names = [
                todo_id(landing.change_set, QA, f"{one.repo}.{check.name}", landing.wave_of(one.repo)),
                *(
                    generated_id(f"{prefix}.{one.repo}.{check.name}")
                    for prefix in (f"{landing.change_set}.{QA}", f"{QA}.{landing.change_set}")
                ),
            ]
            outputs = connection.store.handed_over(check.run, names).todos
            known = filter(None, (read_result(output.json) for output in outputs if output.json))
            if check.tip == one.change.tip and (result := next(known, None)) is not None:
                found[names[0]] = result
    return found


def prepare_revert(connection: Connection, ecosystem: Ecosystem, name: str) -> PreparedLanding:
    """Return the revert of what has landed of a plan, or of what a run has landed. Raises as `decide_revert`
    does.
    """
    change_set, run = _landed_by(connection, ecosystem, name)
    landing = decide_revert(
        ecosystem,
        ChangeSets(connection.store).read(change_set),
        change_set,
        run=run,
        patience=connection.settings.land_patience,
    )
    records, graph = revert_graph(ecosystem, landing)
    return PreparedLanding(kind=REVERT, landing=landing, records=records, graph=graph)


def start(connection: Connection, prepared: PreparedLanding) -> str:
    """Start the run of a prepared landing or revert; return its id.

    Raises Conflict where a run writes the change set by now, or another landing of it goes on.
    """
    assert prepared.graph is not None
    assert prepared.records is not None
    order = Order(
        strategy=Strategy.DATAFLOW,
        reason="dataflow, as in every landing",
        on_failure=prepared.graph.plan.on_failure,
        max_parallel=None,
        actor=actor(),
        operation=prepared.kind,
    )
    hosts = {one.repo: one.change.host for one in prepared.landing.repos}
    change_set = prepared.landing.change_set
    return start_generated(
        connection, prepared.records, prepared.graph, order, hosts=hosts, change_set=change_set
    )


def _landed_by(connection: Connection, ecosystem: Ecosystem, name: str) -> tuple[str, str]:
    """Return the change set of a plan, todo or run, and the run that landed; empty for any."""
    declared = {plan.id for plan in ecosystem.coordination.plans}
    declared |= {todo.id for todo in ecosystem.coordination.todos}
    if name in declared:
        return name, ""
    try:
        run_id = connection.reader.resolve(name)
    except NotFound as error:
        raise NotFound(
            f"there is neither a plan nor a run {name!r}", "list them: coord list-plans; coord list-runs"
        ) from error
    plan = connection.store.brief(run_id).plan_id
    kind, colon, change_set = plan.partition(":")
    if not colon or kind != LAND:
        raise NotFound(
            f"run {run_id} has landed nothing: it is a run of {plan}",
            f"undo its work: coord rollback {run_id}",
        )
    return change_set, run_id


def _hosts(connection: Connection) -> Mapping[str, tuple[str, ...]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for worker in connection.presence.workers():
        for repo in worker.fit:
            found[repo].add(worker.host)
    return {repo: tuple(sorted(hosts)) for repo, hosts in found.items()}
