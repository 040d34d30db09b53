"""Change sets as front ends show them: branch, size and todos in each repository, and why it has not landed.

All figures were recorded by the steps that moved the change set: nothing here asks git.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from coordination.errors import NotFound, Unreadable
from coordination.frozen import FrozenModel
from coordination.landing.graph import todo_id
from coordination.landing.plan_waves import planned_waves
from coordination.landing.rules import plan_of
from coordination.models import OPEN_TODO, Ecosystem
from coordination.planner.checks import is_check
from coordination.runs.change_sets.records import (
    ChangeSet,
    CheckVerdict,
    Landed,
    RepoChange,
    RequestRef,
    Reverted,
)
from coordination.runs.change_sets.store import ChangeSets, PlanOfRun, plans_of
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.run_kinds import LAND
from coordination.runs.views.records import RunView, WaveView
from coordination.runs.views.run_list import newest_of_each
from coordination.runs.views.todos_in_runs import asking
from coordination.text import did_you_mean, listed

if TYPE_CHECKING:
    from coordination.runs.connection import Connection

SHOWN = 3
STALE = "stale"
"""The verdict of a check on another commit than the tip."""
LANDS, REVERTS = "lands it", "reverts it"
DOES = {"land": LANDS, "revert": REVERTS}
WORKS = "works on it"
LOOKED_INTO = 20
"""Live runs whose parked todos are read; of more runs only the id is shown."""
ENDED_BADLY = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.ROLLED_BACK)


class ChangeWait(StrEnum):
    """Reasons why a repository's change has not landed; `waits_for` says the same as text."""

    RUN = "run"
    """A run works on the change set, or lands it."""
    PERSON = "person"
    """A run of it waits for an approval, or for a person's work."""
    REVERT = "revert"
    """A landing could not be reverted here: a person must resolve it."""
    TODOS = "todos"
    """Todos of the plan are open or failed."""
    CHECKS = "checks"
    """A quality check is not green."""
    PLAN = "plan"
    """The file no longer declares the plan."""
    REQUEST = "request"
    """Its pull request was merged or closed, is a draft, has red checks, or somebody requested changes."""
    ORDER = "order"
    """Nothing but the order to land it."""


class ChangeCheck(FrozenModel):
    """A quality check of the change, by its newest result."""

    name: str
    verdict: str
    run: str


class ChangeView(FrozenModel):
    """The change of a plan in one repository."""

    plan: str
    """The plan, or the todo that belongs to no plan."""
    repo: str
    branch: str
    base: str
    """The commit of the base branch at which the change begins; empty if unknown."""
    tip: str
    host: str
    """The host that has the commits."""
    run: str
    """The newest run that moved it."""
    runs: tuple[str, ...]
    commits: int | None
    """None, as are the other figures, where git could not measure the change in time."""
    files: int | None
    added: int | None
    """Lines."""
    removed: int | None
    todos: tuple[str, ...]
    """The todos whose results it has."""
    checks: tuple[ChangeCheck, ...] = ()
    landed: Landed | None = None
    reverted: Reverted | None = None
    """How it was taken out of the base branch again; None for one that has landed anew, or never."""
    request: RequestRef | None = None
    """Its pull request, as coord saw it last."""
    wave: int | None = None
    """The number of the wave in which it lands, or has landed; None without waves."""
    wait_reason: ChangeWait | None = None
    """Reason why it has not landed; None once it has."""
    waits_for: str | None = None


class ToLand(FrozenModel):
    """A change set that is ready to land, or lands now."""

    plan: str
    """The plan, or the todo that belongs to no plan."""
    repos: tuple[str, ...]
    """The repositories in which it has not landed."""
    run: str = ""
    """The run that lands it; empty where an order is missing."""
    waits_for: str = ""
    """The reason for which that run waits; empty if it does not."""


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """A live run that writes the change set, or lands it."""

    run: str
    does: str
    """Its work in two words: `works on it`, `lands it`."""
    asks: str = ""
    """A todo of it that waits for a person."""
    parked: str = ""
    """The reason for which its first parked todo waits."""
    waits: Mapping[str, str] = field(default_factory=dict)
    """Repository → the reason for which its first parked todo waits."""
    wave_of: Mapping[str, int] = field(default_factory=dict)
    """Repository → the wave of a landing in waves."""


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """Facts about a plan that decide the wait of its change set."""

    declared: bool = True
    live: LiveRun | None = None
    failed_run: str = ""
    """Its newest run, if that failed or was cancelled."""
    open: Collection[str] = ()
    """Todos of the plan that are not done, by the file and the change set."""
    unreverted: str = ""
    """The landing run whose rollback failed."""
    declared_todos: Collection[str] = frozenset()
    """Todos of the file."""
    planned: Mapping[str, int] = field(default_factory=dict)
    """Repository → the wave in which it would land, by the file."""

    def wave_of(self, change: RepoChange) -> int | None:
        """Return the wave in which a repository has landed, lands, or would land; None without waves."""
        if change.landed:
            return change.landed.wave
        if self.live and self.live.wave_of:
            return self.live.wave_of.get(change.repo)
        return self.planned.get(change.repo)


def view_of(plan: str, change: RepoChange, facts: PlanFacts) -> ChangeView:
    """Return the view of a change set in one repository."""
    checks = tuple(
        ChangeCheck(name=one.name, verdict=one.verdict if one.tip == change.tip else STALE, run=one.run)
        for one in change.checks
    )
    reason, waits_for = _wait(plan, change, checks, facts)
    kept = (set(ChangeView.model_fields) & set(RepoChange.model_fields)) - {"checks", "todos"}
    return ChangeView(
        plan=plan,
        todos=tuple(
            name for name in change.todos if name in facts.declared_todos or not is_check(plan, name)
        ),
        checks=checks,
        wave=facts.wave_of(change),
        wait_reason=reason,
        waits_for=waits_for,
        **{name: getattr(change, name) for name in kept},
    )


def _wait(
    plan: str, change: RepoChange, checks: Iterable[ChangeCheck], facts: PlanFacts
) -> tuple[ChangeWait | None, str | None]:
    live = facts.live
    if change.landed and change.landed.revert and live is None:
        what = f"a merge of its revert: {change.landed.revert}"
        return ChangeWait.REVERT, f"{what}; then: coord revert {plan}"
    if change.landed:
        return None, None
    if live and not live.asks and change.repo in live.waits:
        facts = replace(facts, live=replace(live, parked=live.waits[change.repo]))
    reason, text = wait_of(plan, checks, facts)
    if reason is ChangeWait.ORDER and change.request and not change.reverted:
        return _wait_for_request(plan, change.request) or (reason, text)
    return reason, text


def _wait_for_request(plan: str, request: RequestRef) -> tuple[ChangeWait, str] | None:
    """Return what the request lacks, as coord saw it last; None if it lacks nothing."""
    seen, name = request.seen, request.name
    if seen is None or seen.head != request.head:
        return None
    if seen.state == "merged":
        return ChangeWait.REQUEST, f"the record that {name} is merged: coord land {plan}"
    if seen.state == "closed":
        return ChangeWait.REQUEST, f"{name}, which was closed: coord pr create {plan} --reopen"
    if seen.refused_by:
        people = f"{listed(seen.refused_by[:SHOWN])}{_more(seen.refused_by)}"
        return ChangeWait.REQUEST, f"{name}: changes requested by {people}: coord pr list {plan}"
    if seen.red:
        return ChangeWait.REQUEST, (
            f"{name}: red checks {listed(seen.red[:SHOWN])}{_more(seen.red)}: coord pr list {plan}"
        )
    if seen.state == "draft":
        return ChangeWait.REQUEST, f"{name}, which is a draft: coord pr create {plan} --ready"
    return None


def wait_of(plan: str, checks: Iterable[ChangeCheck], facts: PlanFacts) -> tuple[ChangeWait, str]:
    """Return why the change of a repository has not landed, as reason and text with the next command."""
    if facts.live:
        return _wait_for_run(facts.live)
    if facts.unreverted:
        what = f"a person, because run {facts.unreverted} could not revert all that it had landed"
        return ChangeWait.REVERT, f"{what}: coord show-run {facts.unreverted}"
    if not facts.declared:
        return ChangeWait.PLAN, f"{plan}, which is not in the file"
    if facts.open:
        words = f"open todos: {listed(list(facts.open)[:SHOWN])}{_more(facts.open)}"
        if facts.failed_run:
            return ChangeWait.TODOS, f"{words}; run {facts.failed_run} failed: coord retry {facts.failed_run}"
        return ChangeWait.TODOS, f"{words}: coord sweep {plan}"
    if red := [check.name for check in checks if check.verdict not in (STALE, CheckVerdict.GREEN)]:
        names = f"{listed(list(red)[:SHOWN])}{_more(red)}"
        return ChangeWait.CHECKS, f"checks: {names}: coord qa run --plan {plan}"
    return ChangeWait.ORDER, f"an order to land: coord land {plan}"


def _wait_for_run(live: LiveRun) -> tuple[ChangeWait, str]:
    if live.asks:
        return ChangeWait.PERSON, f"an approval of {live.asks} in run {live.run}: coord approve {live.asks}"
    parked = f"; it waits for {live.parked}" if live.parked else ""
    return ChangeWait.RUN, f"run {live.run}, which {live.does}{parked}: coord watch {live.run}"


def _more(names: Collection[str]) -> str:
    return f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""


class ChangeReader:
    """Reads views of change sets. `ecosystem`: the file; None if it is missing or broken."""

    def __init__(self, connection: Connection, ecosystem: Ecosystem | None) -> None:
        self._connection = connection
        self._ecosystem = ecosystem

    def read(self, plan: str | None = None) -> list[ChangeView]:
        """Return the views of a plan's change set, or of all, by plan and repository.

        Raises NotFound without the change set; Unreadable where it is damaged (of all, it is left out).
        """
        sets = self._sets(plan)
        facts = self._facts(sets)
        return [
            view_of(name, change_set.repos[repo], facts[name])
            for name, change_set in sets.items()
            for repo in sorted(change_set.repos)
        ]

    def to_land(self) -> tuple[ToLand, ...]:
        """Return the change sets that land now, and then those that are ready to land."""
        sets = self._sets(None)
        facts = self._facts(sets)
        now, ready = list[ToLand](), list[ToLand]()
        for name, change_set in sets.items():
            views = [view_of(name, change, facts[name]) for change in change_set.repos.values()]
            left = [one for one in views if one.landed is None]
            repos, live = tuple(sorted(one.repo for one in left)), facts[name].live
            if live and live.does == LANDS:
                now.append(ToLand(plan=name, repos=repos, run=live.run, waits_for=live.asks or live.parked))
            elif left and all(one.wait_reason is ChangeWait.ORDER for one in left):
                ready.append(ToLand(plan=name, repos=repos))
        return *now, *ready

    def live_run(self, change_set: ChangeSet) -> str:
        """Return the live run that writes or lands a change set; empty if there is none."""
        found = self._live({change_set.id: change_set}).get(change_set.id)
        return found.run if found else ""

    def _sets(self, plan: str | None) -> Mapping[str, ChangeSet]:
        known = ChangeSets(self._connection.store)
        if plan is None:
            return known.read_all()
        if (found := known.read(plan)) is None:
            raise self._none(plan, known.list())
        return {plan: found}

    def _none(self, plan: str, there: Iterable[str]) -> NotFound:
        if self._ecosystem is not None:
            try:
                plan_of(self._ecosystem, plan)
            except NotFound:
                near = did_you_mean(plan, there)
                return NotFound(f"there is no plan {plan!r}{near}", "list the change sets: coord changes")
        return NotFound(f"{plan} has no change set", f"make one: coord sweep {plan}")

    def _facts(self, sets: Mapping[str, ChangeSet]) -> Mapping[str, PlanFacts]:
        live, unreverted = self._live(sets), self._unreverted()
        newest = newest_of_each(self._connection.redis, self._connection.keys, set(sets))
        file = self._ecosystem.coordination.todos if self._ecosystem else ()
        declared = frozenset(todo.id for todo in file)
        found = {}
        for name, change_set in sets.items():
            open_ = self._open(change_set)
            run, status = newest.get(name, ("", ""))
            found[name] = PlanFacts(
                declared=open_ is not None,
                live=live.get(name),
                failed_run=run if status in ENDED_BADLY else "",
                open=open_ or (),
                unreverted=unreverted.get(name, ""),
                declared_todos=declared,
                planned=planned_waves(self._ecosystem, change_set) if self._ecosystem else {},
            )
        return found

    def _open(self, change_set: ChangeSet) -> Collection[str] | None:
        """Return the todos that are not done; None where the file does not declare the plan."""
        if self._ecosystem is None:
            return ()
        try:
            _, todos = plan_of(self._ecosystem, change_set.id)
        except NotFound:
            return None
        return [todo.id for todo in todos if todo.status in OPEN_TODO and todo.id not in change_set.source]

    def _live(self, sets: Mapping[str, ChangeSet]) -> Mapping[str, LiveRun]:
        """Return change set → the live run that writes or lands it."""
        connection = self._connection
        runs = connection.store.live_runs()
        plan_of_run = plans_of(connection.store, runs)
        works = {
            run: name for name, one in sets.items() for run in one.writers.values() if run in plan_of_run
        }
        lands = {run: plan for run, plan in plan_of_run.items() if plan.lands}
        approvals = {asked.run_id: asked.todo for asked in asking(connection.redis, connection.keys)}
        found: dict[str, LiveRun] = {}
        for number, run in enumerate((*works, *lands)):
            plan = lands.get(run, PlanOfRun(id=""))
            is_read = number < LOOKED_INTO and (bool(plan.lands) or run not in approvals)
            view = self._read(run, whole=bool(plan.lands)) if is_read else None
            waits = _waits(view) if view and run not in approvals else {}
            for name in plan.lands or (works[run],):
                found[name] = LiveRun(
                    run=run,
                    does=DOES.get(plan.id.partition(":")[0], WORKS),
                    asks=approvals.get(run, ""),
                    parked=next(iter(waits.values()), ""),
                    waits=waits,
                    wave_of=_wave_of(name, view.waves) if view and plan.lands else {},
                )
        return found

    def _read(self, run: str, *, whole: bool) -> RunView | None:
        """Return a live run; with its todos where some are parked, or if `whole`. None for a run that was
        forgotten meanwhile, or is damaged.
        """
        reader = self._connection.reader
        try:
            if not whole and not (view := reader.read(run, todos=False)).counts.get(TodoState.PARKED):
                return view
            return reader.read(run)
        except (NotFound, Unreadable):
            return None

    def _unreverted(self) -> Mapping[str, str]:
        """Return change set → the landing run that could not revert everything that it had landed."""
        plans = plans_of(self._connection.store, self._connection.reader.half_undone())
        return {name: run for run, plan in plans.items() for name in plan.lands}


def _waits(view: RunView) -> Mapping[str, str]:
    """Return repository → the wait of its first parked todo in a run."""
    found: dict[str, str] = {}
    for todo in view.only([TodoState.PARKED]).todos:
        if todo.waits_for:
            found.setdefault(todo.repo, todo.waits_for.partition("\n")[0])
    return found


def _wave_of(change_set: str, waves: Iterable[WaveView]) -> Mapping[str, int]:
    """Return repository → the wave in which a landing run lands its part of a change set."""
    return {
        repo: wave.number
        for wave in waves
        for repo in wave.repos
        if todo_id(change_set, LAND, repo, wave.number) in wave.todos
    }
