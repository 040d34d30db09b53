"""Join the landings of several plans into one that goes wave by wave; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from coordination.errors import CoordinationError, PlanRefused
from coordination.landing.graph import todo_id
from coordination.landing.order import (
    Edges,
    LandWave,
    decide_waves,
    edges_between,
    in_order,
    refuse_order,
    with_needs,
)
from coordination.landing.records import Landing, LandOptions, RepoLanding
from coordination.landing.rules import up_to
from coordination.models import Atomic, Ecosystem, Plan, PlanWaves, Todo
from coordination.planner.checks import Needs
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.run_kinds import LAND
from coordination.text import listed


def waves_named(ecosystem: Ecosystem, name: str) -> PlanWaves | None:
    return next((one for one in ecosystem.coordination.waves if one.id == name), None)


def decide_plan_waves(
    ecosystem: Ecosystem,
    waves: PlanWaves,
    options: LandOptions,
    decide: Callable[[str, LandOptions], Landing],
    *,
    patience: timedelta,
) -> Landing:
    """Return the landing of all plans of `waves`, or of those up to the wave that the options name. `decide`
    returns the landing of a plan, or raises as `decide_landing` does.

    Raises PlanRefused for a plan that has its own waves or waits for a plan of the same or a later wave, and
    for a repository that two plans of a wave change or that depends on a later wave.
    """
    if options.repos:
        raise PlanRefused(
            f"{waves.id} lands whole plans, and --repo names {listed(options.repos)}",
            f"leave --repo out; or land a plan alone: coord land {waves.plans[0]}",
        )
    refuse_plans(ecosystem, waves)
    parts = list[Landing]()
    for number, wave in enumerate(waves.order, 1):
        if options.wave is None or number <= options.wave:
            decided = [_decided(waves, plan, number, options, decide) for plan in wave.names]
            parts += _joined(ecosystem, waves, number, [one for one in decided if one.repos])
    refuse_hosts(waves.id, LAND, parts)
    found = tuple(_waves(waves, parts))
    every = tuple(dict.fromkeys(repo for part in parts for repo in part.names))
    todos = [todo for part in parts for todo in todos_of_plan(ecosystem, part.change_set)]
    refuse_order(waves.id, found, edges_between(ecosystem, todos, every))
    landing = Landing(
        change_set=waves.id,
        title=waves.title,
        atomic=Atomic.WAVE,
        two_persons=any(part.two_persons for part in parts),
        when_ready=options.when_ready,
        patience=patience,
        repos=tuple(one for part in parts for one in part.repos),
        in_place=tuple(todo for part in parts for todo in part.in_place),
        qa=any(part.qa for part in parts),
        unchecked=tuple(dict.fromkeys(repo for part in parts for repo in part.unchecked)),
        qa_skipped="; ".join(dict.fromkeys(part.qa_skipped for part in parts if part.qa_skipped)),
        overrides=tuple(dict.fromkeys(option for part in parts for option in part.overrides)),
        waves=found,
        plans=tuple(parts),
    )
    return landing if options.wave is None or not parts else up_to(landing, options.wave)


def planned_waves(ecosystem: Ecosystem, change_set: ChangeSet) -> Mapping[str, int]:
    """Return repository → the number of the wave in which its open change would land by the file; empty
    without waves, or if the waves cannot land.
    """
    for waves in ecosystem.coordination.waves:
        for number, wave in enumerate(waves.order, 1):
            if change_set.id in wave.names:
                return dict.fromkeys(change_set.open, number)
    plan = next((one for one in ecosystem.coordination.plans if one.id == change_set.id), None)
    try:
        found = _waves_of(ecosystem, plan, change_set.open) if plan else ()
    except PlanRefused:
        return {}
    return {repo: wave.number for wave in found for repo in wave.repos}


def wave_problems(ecosystem: Ecosystem) -> Iterator[tuple[str, str]]:
    """Yield each plan whose waves cannot land, and the reason, for changes in the repositories of all its
    todos; then the same for the items of `coordination.waves`.
    """
    for plan in ecosystem.coordination.plans:
        try:
            _waves_of(ecosystem, plan, {todo.repo for todo in ecosystem.todos_of(plan)})
        except PlanRefused as error:
            yield plan.id, error.message
    for waves in ecosystem.coordination.waves:
        try:
            refuse_plans(ecosystem, waves)
        except PlanRefused as error:
            yield waves.id, error.message


def _waves_of(ecosystem: Ecosystem, plan: Plan, repos: Collection[str]) -> Sequence[LandWave]:
    if plan.land is None or plan.land.waves is None:
        return ()
    edges: Edges = edges_between(ecosystem, ecosystem.todos_of(plan), repos)
    if plan.land.qa is not False:
        edges = with_needs(edges, Needs(ecosystem), repos)
    return decide_waves(plan.id, plan.land.waves, in_order(repos, edges), edges, ecosystem)


def refuse_plans(ecosystem: Ecosystem, waves: PlanWaves) -> None:
    """Raise PlanRefused for plans that can never land in these waves, whatever they change."""
    number_of = {plan: number for number, wave in enumerate(waves.order, 1) for plan in wave.names}
    declared = {plan.id: plan for plan in ecosystem.coordination.plans}
    todos = {plan: todos_of_plan(ecosystem, plan) for plan in number_of}
    owner = {todo.id: plan for plan, its in todos.items() for todo in its} | {plan: plan for plan in todos}
    for plan, own in todos.items():
        if plan not in declared:
            raise _refused(waves, f"there is no plan {plan!r}", "list the plans: coord plan list")
        rules = declared[plan].land
        if rules and (rules.waves or rules.unit is Atomic.REPO):
            own_rule = "waves" if rules.waves else "atomic: repo"
            raise _refused(
                waves,
                f"land of {plan} has {own_rule}, and here a wave lands whole or not at all",
                f"remove it; or take {plan} out, and land it alone: coord land {plan}",
            )
        for before, after in _waits(own, owner):
            if before != after and number_of[before] >= number_of[after]:
                raise _refused(
                    waves,
                    f"{after} of wave {number_of[after]} waits for {before} of wave {number_of[before]}",
                    f"put {before} into an earlier wave than {after}",
                )


def _waits(todos: Sequence[Todo], owner: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of plans; the first must land before the second can be swept."""
    for todo in todos:
        for name in todo.blocked_by:
            if name in owner:
                yield owner[name], owner[todo.id]
        for name in todo.blocking:
            if name in owner:
                yield owner[todo.id], owner[name]


def _decided(
    waves: PlanWaves,
    plan: str,
    number: int,
    options: LandOptions,
    decide: Callable[[str, LandOptions], Landing],
) -> Landing:
    try:
        landing = decide(plan, replace(options, wave=None))
    except CoordinationError as error:
        if number > 1:
            before = f"land the waves before it: coord land {waves.id} --wave {number - 1}"
            error.hint = f"{error.hint}; or {before}" if error.hint else before
        raise
    own = (LandWave(number=number, repos=landing.names),)
    return replace(landing, atomic=Atomic.WAVE, waves=own)


def _joined(
    ecosystem: Ecosystem, waves: PlanWaves, number: int, parts: Sequence[Landing]
) -> Iterator[Landing]:
    """Yield the landings of a wave; each repository comes after its dependencies in other plans."""
    plan_of: dict[str, str] = {}
    for part in parts:
        for repo in part.names:
            if (other := plan_of.setdefault(repo, part.change_set)) != part.change_set:
                raise _refused(
                    waves,
                    f"{other} and {part.change_set} of wave {number} both change {repo}",
                    "put one of them into a later wave",
                )
    todos = [todo for part in parts for todo in todos_of_plan(ecosystem, part.change_set)]
    edges: Edges = edges_between(ecosystem, todos, plan_of.keys())
    if any(part.qa for part in parts):
        edges = with_needs(edges, Needs(ecosystem), plan_of.keys())
    order = in_order(plan_of.keys(), edges)
    for part in parts:
        repos = (_after_others(one, part, order, edges, plan_of, number) for one in part.repos)
        yield replace(part, repos=tuple(sorted(repos, key=lambda one: order.index(one.repo))))


def _after_others(
    one: RepoLanding,
    part: Landing,
    order: Sequence[str],
    edges: Edges,
    plan_of: dict[str, str],
    number: int,
) -> RepoLanding:
    before = [repo for repo in order[: order.index(one.repo)] if repo in edges.get(one.repo, ())]
    return replace(
        one,
        after=tuple(repo for repo in before if plan_of[repo] == part.change_set),
        after_todos=tuple(
            todo_id(plan_of[repo], LAND, repo, number) for repo in before if plan_of[repo] != part.change_set
        ),
    )


def _waves(waves: PlanWaves, parts: Sequence[Landing]) -> Iterator[LandWave]:
    for number, wave in enumerate(waves.order, 1):
        repos = tuple(repo for part in parts for repo in part.names if part.waves[0].number == number)
        if repos:
            yield LandWave(
                number=number,
                repos=repos,
                soak=wave.soak or waves.soak,
                check=wave.check or waves.check,
                gate=wave.gate or waves.gate,
            )


def refuse_hosts(name: str, operation: str, parts: Sequence[Landing]) -> None:
    """Raise PlanRefused if two plans have their commits of a repository on different hosts: a run uses one
    host for a repository. `operation`: `land` or `revert`.
    """
    host_of: dict[str, tuple[str, str]] = {}
    for part in parts:
        for one in part.repos:
            plan, host = host_of.setdefault(one.repo, (part.change_set, one.change.host))
            if host != one.change.host:
                raise PlanRefused(
                    f"{name} cannot {operation}: {one.repo} has the work of {plan} on {host}, and that of "
                    f"{part.change_set} on {one.change.host}",
                    f"{operation} one of them alone: coord {operation} {plan}",
                )


def todos_of_plan(ecosystem: Ecosystem, plan: str) -> tuple[Todo, ...]:
    found = (one for one in ecosystem.coordination.plans if one.id == plan)
    return next((ecosystem.todos_of(one) for one in found), ())


def _refused(waves: PlanWaves, why: str, hint: str) -> PlanRefused:
    return PlanRefused(f"{waves.id} cannot land: {why}", hint)
