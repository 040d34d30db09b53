"""Read change sets with what they wait for: a few round trips, however many there are, and no git."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from coordination.changes.view import ChangeView, LiveRun, PlanFacts, view_of
from coordination.errors import NotFound, Unreadable
from coordination.landing.plan_waves import planned_waves
from coordination.landing.rules import plan_of
from coordination.landing.todos import todo_id
from coordination.models import OPEN_TODO, Ecosystem
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.change_sets.store import ChangeSets, PlanOfRun, plans_of
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.run_kinds import LAND
from coordination.runs.views.records import RunView, WaveView
from coordination.runs.views.run_list import newest_of_each
from coordination.runs.views.todo_view import asking
from coordination.text import did_you_mean

if TYPE_CHECKING:
    from coordination.runs.connection import Connection

DOES = {"land": "lands it", "revert": "reverts it"}
WORKS = "works on it"
LOOKED_INTO = 20
"""Live runs whose parked todos are read: the others are named without what they wait for."""
ENDED_BADLY = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.ROLLED_BACK)


class ChangeReader:
    """Reads views of change sets. `ecosystem`: the file; None where there is none, or it is broken."""

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
        approvals = {one.run: todo for todo, one in asking(connection.redis, connection.keys)}
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
        """Return change set → the landing run that could not take back all that it had landed."""
        plans = plans_of(self._connection.store, self._connection.reader.half_undone())
        return {name: run for run, plan in plans.items() for name in plan.lands}


def _waits(view: RunView) -> Mapping[str, str]:
    """Return repository → what its first parked todo of a run waits for."""
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
