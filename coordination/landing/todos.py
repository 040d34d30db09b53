"""Make the todos of runs that land or revert change sets; pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from coordination.landing.order import LandWave
from coordination.models import (
    Atomic,
    Gate,
    LandAction,
    LandCheck,
    LandStep,
    NoopAction,
    QaAction,
    Retry,
    RevertAction,
    Todo,
    Workspace,
    generated_id,
)
from coordination.runs.run_kinds import LAND, REVERT

if TYPE_CHECKING:
    from coordination.landing.rules import Landing, RepoLanding

CHECK, LOCKS = "check", "locks"
LANDED, SOAK, LOOK, AFTER, DONE = "landed", "soak", "look", "after", "done"
"""Todos of a wave after those that land."""
OUT = "out"
ONCE = Retry(attempts=1)
"""Land todos wait out passing trouble by themselves."""
LONGEST_PREFIX = 60


def todo_id(change_set: str, what: str, repo: str = "", wave: int = 0) -> str:
    """Return the name of a todo of a landing: `PLAN-001.land.api`, `PLAN-001.wave-2.land.api`, shortened by a
    digest where it is long.
    """
    if wave:
        change_set = f"{_short(change_set)}.wave-{wave}"
    return generated_id(".".join(filter(None, (change_set, what, repo))))


def _short(change_set: str) -> str:
    """Return the change set as the beginning of an id that keeps the number of its wave."""
    if len(change_set) <= LONGEST_PREFIX:
        return change_set
    return f"{change_set[:LONGEST_PREFIX]}.{sha256(change_set.encode()).hexdigest()[:12]}"


def barrier_todo(landing: Landing, wave: LandWave, after: Sequence[str]) -> Todo:
    asks = any(part.has_gate and part.begins(wave.number) for part in landing.parts)
    return Todo(
        id=todo_id(landing.change_set, LOCKS, wave=wave.number),
        task=f"take the landing locks of {', '.join(wave.repos)}",
        repo=wave.repos[0],
        blocked_by=tuple(after),
        action=NoopAction(type="noop", holds=wave.repos),
        gate=wave.gate or (Gate() if asks else None),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def check_todo(landing: Landing, one: RepoLanding, after: Sequence[str], wave: int) -> Todo:
    return Todo(
        id=todo_id(landing.change_set, CHECK, one.repo, wave),
        task=f"try whether {landing.change_set} can land in {one.branch} of {one.repo}",
        repo=one.repo,
        blocked_by=tuple(after),
        action=_land_action(landing, one, LandStep.CHECK, ()),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def land_todo(landing: Landing, one: RepoLanding, after: str, checks: Sequence[Todo]) -> Todo:
    before = [todo_id(landing.change_set, LAND, repo, landing.wave_of(repo)) for repo in one.after]
    resources = {need.name: need for todo in checks for need in todo.resources}
    return Todo(
        id=todo_id(landing.change_set, LAND, one.repo, landing.wave_of(one.repo)),
        task=f"land {landing.change_set} in {one.branch} of {one.repo}",
        repo=one.repo,
        blocked_by=(after, *(todo.id for todo in checks), *before, *one.after_todos),
        resources=tuple(resources.values()),
        action=_land_action(landing, one, LandStep.LAND, checks),
        compensate=RevertAction(
            type="revert",
            change_set=landing.change_set,
            via=one.via,
            tip=one.change.tip,
            title=_title("Revert", landing),
            patience=landing.patience,
        ),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def _land_action(landing: Landing, one: RepoLanding, step: LandStep, checks: Sequence[Todo]) -> LandAction:
    return LandAction(
        type="land",
        step=step,
        change_set=landing.change_set,
        tip=one.change.tip,
        via=one.via,
        method=landing.method,
        title=_title("Land", landing),
        patience=landing.patience,
        stated=landing.qa,
        approvals=landing.approvals if one.request else 0,
        after_upstream=landing.after_upstream if one.request else (),
        when_ready=landing.when_ready and one.request is not None,
        request=one.request,
        wave=landing.wave_of(one.repo) or None,
        checks=tuple(
            LandCheck(todo=todo.id, action=todo.action, timeout=todo.timeout)
            for todo in checks
            if isinstance(todo.action, QaAction)
        ),
    )


def revert_todo(revert: Landing, one: RepoLanding, barrier: str) -> Todo:
    before = [todo_id(revert.change_set, REVERT, repo) for repo in one.after]
    return Todo(
        id=todo_id(revert.change_set, REVERT, one.repo),
        task=f"take {revert.change_set} out of {one.branch} of {one.repo}",
        repo=one.repo,
        blocked_by=(barrier, *before, *one.after_todos),
        action=RevertAction(
            type="revert",
            change_set=revert.change_set,
            via=one.via,
            tip=one.change.tip,
            commit=one.landed.commit,
            before=one.landed.tree_before,
            title=_title("Revert", revert),
            patience=revert.patience,
        ),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def out_todo(revert: Landing, number: int, reverts: Sequence[Todo]) -> Todo:
    """Return the todo that ends when a wave is taken out, which the wave before it waits for."""
    return Todo(
        id=todo_id(revert.change_set, OUT, str(number)),
        task=f"end the revert of wave {number}",
        repo=reverts[0].repo,
        blocked_by=tuple(todo.id for todo in reverts),
        action=NoopAction(type="noop"),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def _title(verb: str, landing: Landing) -> str:
    title = "".join(character for character in " ".join(landing.title.split()) if character.isprintable())
    words = f"{verb} {landing.change_set}: {title}"
    return words if len(words) <= 72 else f"{words[:71]}…"


def look_todo(landing: Landing, one: RepoLanding, number: int, after: str) -> Todo:
    before = [after]
    if landing.atomic is Atomic.REPO:  # one that has not landed is not looked at
        before.append(todo_id(landing.change_set, LAND, one.repo, landing.wave_of(one.repo)))
    return Todo(
        id=todo_id(landing.change_set, LOOK, one.repo, number),
        task=f"look whether {one.branch} of {one.repo} still has {landing.change_set}",
        repo=one.repo,
        blocked_by=tuple(before),
        action=_land_action(landing, one, LandStep.LANDED, ()).model_copy(update={"stated": True}),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def wave_todo(
    landing: Landing,
    wave: LandWave,
    what: str,
    after: Sequence[str],
    *,
    gate: Gate | None = None,
    **does: object,
) -> Todo:
    tasks = {
        LANDED: f"give back the landing locks of wave {wave.number}",
        SOAK: f"let wave {wave.number} soak",
        DONE: f"end wave {wave.number}",
    }
    return Todo(
        id=todo_id(landing.change_set, what, wave=wave.number),
        task=tasks[what],
        repo=wave.repos[0],
        blocked_by=tuple(after),
        action=NoopAction.model_validate({"type": "noop", **does}),
        gate=gate,
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )
