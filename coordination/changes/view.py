"""Show the change set of a plan: per repository its branch, size, todos, and what it waits for.

All figures were recorded by the steps that moved the change set: nothing here asks git.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from coordination.planner.checks import is_check
from coordination.runs.change_sets.records import CheckVerdict, Landed, RepoChange, RequestRef
from coordination.text import listed

SHOWN = 3
STALE = "stale"
"""The verdict of a check on another commit than the tip."""


class ChangeWait(StrEnum):
    """Reasons why a repository's change has not landed; `waits_for` says the same as text."""

    RUN = "run"
    """A run works on the change set, or lands it."""
    PERSON = "person"
    """A run of it waits for an approval, or for a person's work."""
    REVERT = "revert"
    """A landing was to be taken back here, and could not be: a person answers for it."""
    TODOS = "todos"
    """Todos of the plan are open or failed."""
    CHECKS = "checks"
    """A quality check is not green."""
    PLAN = "plan"
    """The file no longer declares the plan."""
    ORDER = "order"
    """Nothing but the order to land it."""


class ChangeCheck(BaseModel):
    """A quality check of the change, by its newest result."""

    model_config = ConfigDict(frozen=True)

    name: str
    verdict: str
    run: str


class ChangeView(BaseModel):
    """The change of a plan in one repository."""

    model_config = ConfigDict(frozen=True)

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
    request: RequestRef | None = None
    """Its pull request, as coord saw it last."""
    wave: int | None = None
    """The number of the wave in which it lands, or has landed; None without waves."""
    wait_reason: ChangeWait | None = None
    """Why it has not landed; None once it has."""
    waits_for: str | None = None


@dataclass(frozen=True, kw_only=True)
class LiveRun:
    """A live run that writes the change set, or lands it."""

    run: str
    does: str
    """Its work in a word: `works on it`, `lands it`."""
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
    """Facts about a plan that decide what its change set waits for."""

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
    return wait_of(plan, checks, facts)


def wait_of(plan: str, checks: Iterable[ChangeCheck], facts: PlanFacts) -> tuple[ChangeWait, str]:
    """Return why the change of a repository has not landed, as reason and text with the next command."""
    if facts.live:
        return _wait_for_run(facts.live)
    if facts.unreverted:
        what = f"a person, for run {facts.unreverted} could not take back all that it had landed"
        return ChangeWait.REVERT, f"{what}: coord show-run {facts.unreverted}"
    if not facts.declared:
        return ChangeWait.PLAN, f"{plan}, which is not in the file"
    if facts.open:
        words = f"open todos: {listed(list(facts.open)[:SHOWN])}{_more(facts.open)}"
        if facts.failed_run:
            return ChangeWait.TODOS, f"{words}; run {facts.failed_run} failed: coord retry {facts.failed_run}"
        return ChangeWait.TODOS, f"{words}: coord sweep {plan}"
    if red := [check.name for check in checks if check.verdict not in (STALE, CheckVerdict.GREEN)]:
        return ChangeWait.CHECKS, f"checks: {listed(list(red)[:SHOWN])}{_more(red)}: coord qa --plan {plan}"
    return ChangeWait.ORDER, f"the command: coord land {plan}"


def _wait_for_run(live: LiveRun) -> tuple[ChangeWait, str]:
    if live.asks:
        return ChangeWait.PERSON, f"an approval of {live.asks} in run {live.run}: coord approve {live.asks}"
    parked = f"; it waits for {live.parked}" if live.parked else ""
    return ChangeWait.RUN, f"run {live.run}, which {live.does}{parked}: coord watch {live.run}"


def _more(names: Collection[str]) -> str:
    return f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
