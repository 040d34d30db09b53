"""Decide the revert of a plan, of the plans of `coordination.waves`, or of a run; pure.

The order is the reverse of the landing's. Each repository is reverted in the way in which it has landed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from coordination.errors import Conflict, NotFound, PlanRefused
from coordination.landing.graph import todo_id
from coordination.landing.order import Edges, LandWave, edges_between, in_order
from coordination.landing.plan_waves import refuse_hosts, todos_of_plan, waves_named
from coordination.landing.records import Landing, RepoLanding
from coordination.landing.rules import plan_of, refuse_damaged, refuse_writer, strangers
from coordination.models import Ecosystem, Via
from coordination.runs.change_sets.records import ChangeSet, RepoChange
from coordination.runs.run_kinds import REVERT
from coordination.text import listed, quoted


def landed_changes(change_set: ChangeSet | None, run: str = "") -> list[RepoChange]:
    """Return the landed changes of a change set; with `run`, only those that this run has landed."""
    found = change_set.repos.values() if change_set else ()
    return [one for one in found if one.landed and run in ("", one.landed.run)]


def decide_revert(
    ecosystem: Ecosystem, change_set: ChangeSet | None, name: str, *, run: str = "", patience: timedelta
) -> Landing:
    """Return the revert of the landed changes of a change set; with `run`, only of those that this run has
    landed. The order is the reverse of the landing's.

    Raises NotFound if nothing has landed; without `run`, Conflict for a repository that no todo names.
    """
    found = change_set.repos if change_set else {}
    landed = landed_changes(change_set, run)
    if not landed or change_set is None:
        of_run = f" of run {run}" if run else ""
        if change_set is None:
            raise NotFound(
                f"Redis has no record of work of {name}{of_run} that has landed: it has not, or Redis was "
                "emptied",
                f"list its commits: git log --grep {quoted(f'Coord-Plan: {name}')}; take them out by hand: "
                "git revert",
            )
        raise NotFound(f"{name} has no landed work{of_run} to revert", f"see: coord changes {name}")
    refuse_writer(change_set)
    refuse_damaged(name, landed)
    plan, todos = plan_of(ecosystem, name)
    edges = edges_between(ecosystem, todos, found)
    branches = {repo.name: repo for repo in ecosystem.repos}
    names = [one.repo for one in landed]
    if unknown := [name for name in names if name not in branches]:
        raise PlanRefused(f"the file no longer declares {listed(unknown)}", "declare it, with its branch")
    if not run and (other := strangers(plan, todos, names)):
        runs = dict.fromkeys(one.landed.run for one in landed if one.landed)
        raise Conflict(
            f"{name} has landed in {listed(other)}, which no todo of it names",
            f"revert what one run has landed: {'; or '.join(f'coord revert {one}' for one in runs)}",
        )
    order = in_order(names, edges)[::-1]
    return Landing(
        change_set=name,
        title=plan.title if plan else (todos[0].task if todos else name),
        patience=patience,
        repos=tuple(
            RepoLanding(
                repo=repo,
                branch=branches[repo].branch,
                via=Via(found[repo].landed.via),  # type: ignore[union-attr]
                change=found[repo],
                after=tuple(later for later in order[: order.index(repo)] if repo in edges.get(later, ())),
            )
            for repo in order
        ),
    )


def decide_plan_reverts(
    ecosystem: Ecosystem,
    name: str,
    sets: Mapping[str, ChangeSet],
    wave_of: Mapping[str, int],
    *,
    run: str = "",
    patience: timedelta,
) -> Landing:
    """Return the revert of the landed changes of several plans, the last wave first; with `run`, only of
    those that this run has landed. `sets`: plan → its change set; `wave_of`: plan → the number of its wave.

    Raises NotFound if nothing has landed, and as `decide_revert` does; then nothing is reverted.
    """
    parts = list[Landing]()
    for number in sorted(set(wave_of.values()), reverse=True):
        own = [plan for plan, its in wave_of.items() if its == number and landed_changes(sets.get(plan), run)]
        decided = [decide_revert(ecosystem, sets[plan], plan, run=run, patience=patience) for plan in own]
        parts += _backwards(ecosystem, number, decided)
    if not parts:
        raise NotFound(f"{f'run {run}' if run else name} has no landed work to revert", "see: coord changes")
    refuse_hosts(name, REVERT, parts)
    waves = waves_named(ecosystem, name)
    return Landing(
        change_set=name,
        title=waves.title if waves else name,
        patience=patience,
        repos=tuple(one for part in parts for one in part.repos),
        plans=tuple(parts),
    )


def _backwards(ecosystem: Ecosystem, number: int, parts: Sequence[Landing]) -> Iterator[Landing]:
    """Yield the reverts of a wave; each repository comes after its dependents in all plans. If two plans have
    landed in one repository, the later landing is reverted first.
    """
    todos = [todo for part in parts for todo in todos_of_plan(ecosystem, part.change_set)]
    names = tuple(dict.fromkeys(repo for part in parts for repo in part.names))
    edges: Edges = edges_between(ecosystem, todos, names)
    order = in_order(names, edges)[::-1]
    every = [(part.change_set, one) for part in parts for one in part.repos]
    every.sort(key=lambda found: (found[1].landed.at, found[0]), reverse=True)
    every.sort(key=lambda found: order.index(found[1].repo))
    for part in parts:
        repos = list[RepoLanding]()
        for place, (plan, one) in enumerate(every):
            if plan == part.change_set:
                first = [
                    (other, before.repo)
                    for other, before in every[:place]
                    if before.repo == one.repo or one.repo in edges.get(before.repo, ())
                ]
                repos.append(
                    replace(
                        one,
                        after=tuple(repo for other, repo in first if other == plan),
                        after_todos=tuple(
                            todo_id(other, REVERT, repo) for other, repo in first if other != plan
                        ),
                    )
                )
        yield replace(part, repos=tuple(repos), waves=(LandWave(number=number, repos=part.names),))
