"""Read a change set, decide its landing or revert, and submit the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from coordination.errors import NotFound
from coordination.forges.connect import with_token
from coordination.landing.completed import (
    ByHand,
    Unrecorded,
    accepted_todos,
    command_of,
    refuse_lost,
    unrecorded,
)
from coordination.landing.graph import landing_graph, revert_graph, todo_id
from coordination.landing.plan_waves import decide_plan_waves, waves_named
from coordination.landing.records import Landing, LandOptions
from coordination.landing.revert import decide_plan_reverts, decide_revert, landed_changes
from coordination.landing.rules import decide_landing, repo_options
from coordination.landing.ways import Feature, refuse_unsupported
from coordination.models import Ecosystem, generated_id
from coordination.runs.change_sets.records import ChangeSet, CheckResult, read_result
from coordination.runs.change_sets.store import ChangeSets, plans_of
from coordination.runs.control.starting import start_generated
from coordination.runs.overrides import accepting, naming
from coordination.runs.run_kinds import LAND, QA, REVERT
from coordination.runs.submission.order import order_of_generated
from coordination.runs.submission.other_plan import refuse_other_plan, work_of_another

if TYPE_CHECKING:
    from coordination.planner.graph import PlanGraph
    from coordination.runs.connection import Connection


@dataclass(frozen=True, kw_only=True)
class PreparedLanding:
    """A landing or revert that is decided but not started; `graph` is None if there is nothing to do."""

    kind: Literal["land", "revert"]
    landing: Landing
    records: Ecosystem | None = None
    graph: PlanGraph | None = None
    compared: tuple[Unrecorded, ...] = ()
    """For each plan, the completed todos that are compared before a landing starts."""
    accepted: Mapping[str, str] = field(default_factory=dict)
    """Todo that a person has accepted unseen → its repository."""
    options: LandOptions = field(default_factory=LandOptions)
    """Those of a landing; a revert has none."""
    command: str = ""
    """The command of a landing, with its options."""
    results: Mapping[str, CheckResult] = field(default_factory=dict)
    """Todo of a check → its last result for the tip that lands."""

    @property
    def event_data(self) -> Mapping[str, object]:
        """Return the data of its event: the options, the ways, and for each repository its base branch and
        the commit that lands or is reverted.
        """
        repos = self.landing.repos
        given = {**vars(self.options), "method": self.landing.method} if self.kind == LAND else {}
        return {
            **given,
            "via": sorted({one.via.value for one in repos}),
            "overrides": self.overrides,
            "bases": [f"{one.repo}:{one.branch}" for one in repos],
            "branches": [f"{one.repo}:{one.change.branch}" for one in repos],
            "commits": [f"{one.repo}:{one.commit}" for one in repos],
        }

    @property
    def repos(self) -> tuple[str, ...]:
        """Return the repositories of the run: those that land, and those that checks need."""
        return self.graph.repos if self.graph else self.landing.names

    @property
    def overrides(self) -> tuple[str, ...]:
        """Return the options by which it lands without a safeguard."""
        return tuple(dict.fromkeys((*self.landing.overrides, *accepting(self.accepted))))

    @property
    def overridden(self) -> frozenset[str]:
        """Return the repositories in which it needs the right `override`."""
        parts = (part for part in self.landing.parts if part.overrides)
        return frozenset(one.repo for part in parts for one in part.repos) | {*self.accepted.values()}


def prepare_landing(
    connection: Connection, ecosystem: Ecosystem, name: str, options: LandOptions, repairs: int = 0
) -> PreparedLanding:
    """Return the landing of a change set, or of the plans of `coordination.waves`. The change sets are read
    now and frozen when the landing starts. `repairs`: the most repairs that the caller lets follow.

    Raises NotFound, PlanRefused, Conflict as `decide_landing` and `decide_plan_waves` do.
    """
    patience, hosts, forges = (
        connection.settings.land_patience,
        _hosts(connection),
        with_token(ecosystem.repos),
    )

    compared, waves = list[Unrecorded](), waves_named(ecosystem, name)

    def decide(plan: str, options: LandOptions) -> Landing:
        change_set = ChangeSets(connection.store).read(plan)
        decided = decide_landing(
            ecosystem, change_set, plan, options, patience=patience, hosts=hosts, forges=forges
        )
        most = 0 if waves else min(decided.repair, repairs)
        decided = replace(decided, branch_prefix=connection.settings.branch_prefix, repair=most)
        if change_set is not None and not options.repos:
            way = f"land it nevertheless: coord land {plan} {repo_options(decided.names)}"
            refuse_other_plan(connection.store, ecosystem, change_set, [way])
        elif change_set is not None and work_of_another(connection.store, ecosystem, change_set):
            whole = dict.fromkeys((*decided.overrides, *naming(decided.names)))
            decided = replace(decided, overrides=tuple(whole))
        ways = dict.fromkeys((repo.name for repo in ecosystem.repos), options.via) if options.via else {}
        ways |= {one.repo: one.via for one in decided.repos}
        compared.append(unrecorded(ecosystem, change_set, plan, ways, options.repos))
        return decided

    landing = (
        decide_plan_waves(ecosystem, waves, options, decide, patience=patience)
        if waves
        else decide(name, options)
    )
    accepted = accepted_todos(ecosystem, [one.plan for one in compared], options.accept)
    prepared = PreparedLanding(
        kind=LAND,
        landing=landing,
        compared=tuple(one for one in compared if one.todos),
        accepted=accepted,
        options=options,
        command=command_of(name, options),
    )
    if not landing.repos:
        return prepared
    records, graph = landing_graph(ecosystem, landing)
    results = _last_results(connection, landing) if landing.qa else {}
    return replace(prepared, records=records, graph=graph, results=results)


def check_completed(connection: Connection, prepared: PreparedLanding, by_hand: ByHand) -> None:
    """Raise NotLanded where a landing would leave out the work of a completed todo, or where nothing is known
    of one that nobody has accepted.
    """
    refuse_lost(connection, prepared.compared, prepared.command, prepared.accepted, by_hand)


def _last_results(connection: Connection, landing: Landing) -> dict[str, CheckResult]:
    """Return the last results for the tips that land, from a sweep, a landing, or `coord qa run --plan`."""
    found = {}
    every = [(part, one) for part in landing.parts for one in part.repos]
    for part, one in every:
        for check in one.change.checks:
            names = [
                todo_id(part.change_set, QA, f"{one.repo}.{check.name}", part.wave_of(one.repo)),
                *(
                    generated_id(f"{prefix}.{one.repo}.{check.name}")
                    for prefix in (f"{part.change_set}.{QA}", f"{QA}.{part.change_set}")
                ),
            ]
            outputs = connection.store.handed_over(check.run, names).todos
            known = filter(None, (read_result(output.json) for output in outputs if output.json))
            if check.tip == one.change.tip and (result := next(known, None)) is not None:
                found[names[0]] = result
    return found


def prepare_revert(
    connection: Connection, ecosystem: Ecosystem, name: str, *, when_ready: bool = False
) -> PreparedLanding:
    """Return the revert of the landed changes of a plan, of the plans of `coordination.waves`, or of a run.
    Raises as `decide_revert` and `decide_plan_reverts` do; PlanRefused for `when_ready` without requests.
    """
    sets, patience = ChangeSets(connection.store), connection.settings.land_patience
    whole, plans, run = _landed_by(connection, ecosystem, name)
    if plans == (whole,):
        landing = decide_revert(ecosystem, sets.read(whole), whole, run=run, patience=patience)
    else:
        found = {plan: one for plan in plans if (one := sets.read(plan)) is not None}
        wave_of = {plan: _wave_of(ecosystem, whole, one, run) for plan, one in found.items()}
        landing = decide_plan_reverts(ecosystem, whole, found, wave_of, run=run, patience=patience)
    prefix = connection.settings.branch_prefix
    plans_of_it = tuple(replace(one, branch_prefix=prefix) for one in landing.plans)
    landing = replace(landing, branch_prefix=prefix, plans=plans_of_it)
    if when_ready:
        refuse_unsupported(whole, [Feature.WHEN_READY], {one.via for one in landing.repos}, REVERT)
        landing = replace(landing, when_ready=True)
    records, graph = revert_graph(ecosystem, landing)
    return PreparedLanding(kind=REVERT, landing=landing, records=records, graph=graph)


def start(connection: Connection, prepared: PreparedLanding) -> str:
    """Start the run of a prepared landing or revert; return its id.

    Raises Conflict if a run has begun to write the change set, or another landing of it is running.
    """
    assert prepared.graph is not None
    assert prepared.records is not None
    order = order_of_generated(
        prepared.graph.plan,
        prepared.kind,
        overrides=prepared.overrides,
        lands=prepared.landing.change_sets if prepared.landing.plans else (),
    )
    hosts = {one.repo: one.change.host for one in prepared.landing.repos}
    return start_generated(
        connection,
        prepared.records,
        prepared.graph,
        order,
        hosts=hosts,
        change_sets=prepared.landing.change_sets,
    )


def _wave_of(ecosystem: Ecosystem, name: str, change_set: ChangeSet, run: str) -> int:
    """Return the number of the wave in which a run has landed a change set; without a run, the number of its
    wave in the item `name` of `coordination.waves`.
    """
    if run:
        return max((one.landed.wave or 0 for one in landed_changes(change_set, run) if one.landed), default=0)
    waves = waves_named(ecosystem, name)
    order = waves.order if waves else ()
    return next((number for number, wave in enumerate(order, 1) if change_set.id in wave.names), 0)


def _landed_by(connection: Connection, ecosystem: Ecosystem, name: str) -> tuple[str, tuple[str, ...], str]:
    """Return the name of a plan, a todo or an item of `coordination.waves`; its change sets; and the run if
    `name` is a run, else an empty text.
    """
    if waves := waves_named(ecosystem, name):
        return name, waves.plans, ""
    declared = {plan.id for plan in ecosystem.coordination.plans}
    declared |= {todo.id for todo in ecosystem.coordination.todos}
    if name in declared:
        return name, (name,), ""
    try:
        run_id = connection.reader.resolve(name)
    except NotFound as error:
        raise NotFound(
            f"there is neither a plan nor a run {name!r}", "list them: coord plan list; coord list-runs"
        ) from error
    plan = plans_of(connection.store, [run_id])[run_id]
    if not plan.id.startswith(f"{LAND}:"):
        raise NotFound(
            f"run {run_id} has landed nothing: it is a run of {plan.id}",
            f"undo its work: coord rollback {run_id}",
        )
    whole = plan.lands[0] if len(plan.lands) == 1 else plan.id.partition(":")[2]
    return whole, plan.lands, run_id


def _hosts(connection: Connection) -> Mapping[str, tuple[str, ...]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for worker in connection.registry.workers():
        for repo in worker.fit:
            found[repo].add(worker.host)
    return {repo: tuple(sorted(hosts)) for repo, hosts in found.items()}
