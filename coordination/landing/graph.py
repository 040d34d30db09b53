"""The todos of a run that lands or reverts a change set, and their graph; pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from coordination.environment import actor
from coordination.landing.order import LandWave
from coordination.models import (
    Atomic,
    Ecosystem,
    Gate,
    LandAction,
    LandCheck,
    LandRules,
    LandStep,
    NoopAction,
    OnFailure,
    QaAction,
    Retry,
    RevertAction,
    RevertStep,
    ShellAction,
    Todo,
    Verdict,
    Via,
    Workspace,
    generated_id,
)
from coordination.planner.checks import CheckGenerator, Needs
from coordination.planner.generated import generated_plan
from coordination.runs.run_kinds import LAND, QA, REVERT

if TYPE_CHECKING:
    from coordination.landing.records import Landing, RepoLanding
    from coordination.planner.graph import PlanGraph


CHECK, LOCKS = "check", "locks"
LANDED, SOAK, LOOK, AFTER, DONE = "landed", "soak", "look", "after", "done"
"""Todos of a wave after those that land."""
OPEN, OUT = "open", "out"
ONCE = Retry(attempts=1)
"""The engine does not retry land todos: they wait for the end of temporary trouble themselves."""
LONGEST_PREFIX = 60


def run_plan_id(change_set: str, what: str) -> str:
    """Return the plan id of a run that lands or reverts. It has a colon, unlike the ids of declared plans."""
    return f"{what}:{change_set}"


def landing_graph(ecosystem: Ecosystem, landing: Landing) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a landing run."""
    todos: list[Todo] = []
    begun: list[LandWave] = []
    for wave in landing.waves or (LandWave(number=0, repos=landing.names),):
        begins = [todos[-1].id] if begun else []
        todos += _wave(ecosystem, landing, wave, begins)
        begun.append(wave)
        if landing.waves:
            todos += end_of_wave(ecosystem, landing, begun)
    on_failure = OnFailure.CONTINUE if landing.atomic is Atomic.REPO else OnFailure.ROLLBACK
    return _graph(ecosystem, landing, LAND, todos, on_failure)


def _wave(ecosystem: Ecosystem, landing: Landing, wave: LandWave, begins: Sequence[str]) -> list[Todo]:
    """Return the todos that land the repositories of a wave, after the todos `begins`."""
    whole, number = landing.atomic is not Atomic.REPO, wave.number
    locks = todo_id(landing.change_set, LOCKS, wave=number)
    first, lands = list[Todo](), list[Todo]()
    for part in landing.within(number):
        looks = [check_todo(part, one, begins if whole else [locks], number) for one in part.repos]
        checks = check_todos_of(ecosystem, landing, part, number, begins) if part.qa else []
        first += [*looks, *checks]
        for one, look in zip(part.repos, looks, strict=True):
            own = [todo for todo in checks if todo.repo == one.repo]
            lands.append(land_todo(part, one, locks if whole else look.id, own))
    barrier = barrier_todo(landing, wave, [todo.id for todo in first] if whole else begins)
    return [*first, barrier, *lands]


def check_todos_of(
    ecosystem: Ecosystem, landing: Landing, part: Landing, wave: int, begins: Sequence[str] = ()
) -> list[Todo]:
    """Return the todos of the checks that must be green before a part of a wave lands. They read the commits
    that it has prepared; of other needed repositories, what an earlier wave has landed, else the base branch.
    """
    needs, names = Needs(ecosystem), part.names
    known = (other for other in landing.parts if other.qa)
    earlier = [repo for other in known for repo in other.names if other.wave_of(repo) < wave]
    after = {
        repo: [
            todo_id(part.change_set, CHECK, one, wave)
            for one in names
            if one == repo or one in needs.of(repo)
        ]
        for repo in names
    }
    prefix = todo_id(part.change_set, QA, wave=wave)
    todos = CheckGenerator(ecosystem=ecosystem, prefix=prefix, after=after, stated=(*names, *earlier)).todos(
        names
    )
    return in_worktrees(ecosystem, todos, begins)


def in_worktrees(ecosystem: Ecosystem, todos: Sequence[Todo], begins: Sequence[str]) -> list[Todo]:
    """Return the checks in the form for a landing: in worktrees, and after the todos `begins`."""
    repos = {repo.name: repo for repo in ecosystem.repos}
    ours = (
        todo.model_copy(
            update={"workspace": Workspace.WORKTREE, "blocked_by": todo.blocked_by or tuple(begins)}
        )
        for todo in todos
    )
    return [todo.working_in(repos[todo.repo]) for todo in ours]


def end_of_wave(ecosystem: Ecosystem, landing: Landing, begun: Sequence[LandWave]) -> list[Todo]:
    """Return the todos that end the last of these waves. They free its locks, let it soak, run the checks of
    all landed waves on the base branches, and then keep the wave from being reverted.
    """
    wave, whole = begun[-1], landing.atomic is not Atomic.REPO
    before = [todo_id(landing.change_set, LOCKS, wave=wave.number)]
    for part in landing.within(wave.number):
        before += [todo_id(part.change_set, LAND, repo, wave.number) for repo in part.names]
        if not whole:
            before += [todo_id(part.change_set, CHECK, repo, wave.number) for repo in part.names]
            checked = check_todos_of(ecosystem, landing, part, wave.number) if part.qa else []
            before += [todo.id for todo in checked]
    freed = wave_todo(
        landing, wave, LANDED, before, frees=True, tolerates=None if whole else landing.max_failures
    )
    last = freed
    if wave.soak:
        gate = Gate(timeout=wave.soak, on_timeout=Verdict.APPROVE)
        last = wave_todo(landing, wave, SOAK, [freed.id], gate=gate, soak=True)
    checks = _checks_after(ecosystem, landing, begun, last.id)
    done = wave_todo(
        landing,
        wave,
        DONE,
        [last.id, *(todo.id for todo in checks)],
        keeps=landing.atomic is Atomic.WAVE,
        tolerates=None if whole else 0,
    )
    return [freed, *([last] if wave.soak else []), *checks, done]


def _checks_after(
    ecosystem: Ecosystem, landing: Landing, begun: Sequence[LandWave], after: str
) -> list[Todo]:
    """Return the todos that read the landed repositories, and run the checks of all waves."""
    number = begun[-1].number
    parts = [part for wave in begun for part in landing.within(wave.number)]
    commands = [(repo, wave.check) for wave in begun for repo in wave.repos if wave.check]
    tested = list(dict.fromkeys(repo for part in parts if part.qa for repo in part.names))
    if not commands and not tested:
        return []
    needs = Needs(ecosystem)
    looks = [look_todo(part, one, number, after) for part in parts for one in part.repos]
    names = dict.fromkeys(look.repo for look in looks)
    after_looks = {
        repo: [look.id for look in looks if look.repo == repo or look.repo in needs.of(repo)]
        for repo in names
    }
    checks: list[Todo] = []
    if tested:
        prefix = todo_id(landing.change_set, f"{AFTER}.{QA}", wave=number)
        todos = CheckGenerator(
            ecosystem=ecosystem, prefix=prefix, after=after_looks, stated=tuple(names)
        ).todos(tested)
        checks = in_worktrees(ecosystem, todos, [after])
    for repo, command in dict.fromkeys(commands):
        others = sum(todo.repo == repo and isinstance(todo.action, ShellAction) for todo in checks)
        checks.append(
            Todo(
                id=todo_id(
                    landing.change_set, f"{AFTER}.{CHECK}", f"{repo}.{others}" if others else repo, number
                ),
                task=f"check {repo} after wave {number} of {landing.change_set}",
                repo=repo,
                blocked_by=tuple(after_looks[repo]),
                action=ShellAction(type="shell", run=command, read_only=True),
                workspace=Workspace.WORKTREE,
                retry=ONCE,
            )
        )
    return [*looks, *checks]


def revert_graph(ecosystem: Ecosystem, revert: Landing) -> tuple[Ecosystem, PlanGraph]:
    """Return the records and the graph of a run that reverts. A failure does not stop the other repositories
    of its wave. A wave is reverted only when all later waves are. All pull requests are opened at once. A run
    that waits until they are ready takes no landing locks.
    """
    numbers = [*dict.fromkeys(part.wave_of(part.names[0]) for part in revert.parts)]
    every = [(part, one) for number in numbers for part in revert.within(number) for one in part.repos]
    opened = dict[str, Todo]()
    for part, one in every:
        if one.via is Via.PR and one.repo not in {other.repo for other in opened.values()}:
            todo = open_todo(part, one)
            opened[todo.id] = todo
    todos, after = [*opened.values()], list[str]()
    if not revert.when_ready:
        todos.append(barrier_todo(revert, LandWave(number=0, repos=revert.names), []))
        after = [todos[-1].id]
    for number in numbers:
        own = list[Todo]()
        for part in revert.within(number):
            for one in part.repos:
                begins = [name for name in [todo_id(part.change_set, OPEN, one.repo)] if name in opened]
                own.append(revert_todo(part, one, [*after, *begins], when_ready=revert.when_ready))
        todos += own
        if number != numbers[-1]:
            todos.append(out_todo(revert, number, own))
            after = [todos[-1].id]
    return _graph(ecosystem, revert, REVERT, todos, OnFailure.CONTINUE)


def _graph(
    ecosystem: Ecosystem, landing: Landing, what: str, todos: Sequence[Todo], on_failure: OnFailure
) -> tuple[Ecosystem, PlanGraph]:
    return generated_plan(
        ecosystem,
        run_plan_id(landing.change_set, what),
        f"{what} {landing.change_set}: {landing.title}",
        todos,
        repos=tuple(dict.fromkeys((*landing.names, *(todo.repo for todo in todos)))),
        on_failure=on_failure,
        two_persons=landing.two_persons,
        land=LandRules(via=Via.LOCAL) if all(one.via is Via.LOCAL for one in landing.repos) else None,
    )


def todo_id(change_set: str, what: str, repo: str = "", wave: int = 0) -> str:
    """Return the id of a todo of a landing, such as `PLAN-001.land.api` or `PLAN-001.wave-2.land.api`. A
    digest shortens a long id.
    """
    if wave:
        change_set = f"{_short(change_set)}.wave-{wave}"
    return generated_id(".".join(filter(None, (change_set, what, repo))))


def _short(change_set: str) -> str:
    """Return the prefix of an id for a change set, short enough to keep the number of the wave."""
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
            branch_prefix=landing.branch_prefix,
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
        repair=landing.repair if one.request and step is LandStep.CHECK else 0,
        request=one.request,
        branch_prefix=landing.branch_prefix,
        overrides=landing.overrides,
        overridden_by=actor() if landing.overrides else None,
        wave=landing.wave_of(one.repo) or None,
        checks=tuple(
            LandCheck(todo=todo.id, action=todo.action, timeout=todo.timeout)
            for todo in checks
            if isinstance(todo.action, QaAction)
        ),
    )


def open_todo(revert: Landing, one: RepoLanding) -> Todo:
    """Return the todo that opens the pull request of a revert. It waits for no other repository."""
    return Todo(
        id=todo_id(revert.change_set, OPEN, one.repo),
        task=f"open the pull request that takes {revert.change_set} out of {one.branch} of {one.repo}",
        repo=one.repo,
        action=_revert_action(revert, one, step=RevertStep.OPEN),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def revert_todo(revert: Landing, one: RepoLanding, after: Sequence[str], *, when_ready: bool) -> Todo:
    before = [todo_id(revert.change_set, REVERT, repo) for repo in one.after]
    return Todo(
        id=todo_id(revert.change_set, REVERT, one.repo),
        task=f"take {revert.change_set} out of {one.branch} of {one.repo}",
        repo=one.repo,
        blocked_by=(*after, *before, *one.after_todos),
        action=_revert_action(revert, one, when_ready=when_ready and one.via is Via.PR),
        workspace=Workspace.WORKTREE,
        retry=ONCE,
    )


def _revert_action(
    revert: Landing, one: RepoLanding, *, step: RevertStep = RevertStep.REVERT, when_ready: bool = False
) -> RevertAction:
    return RevertAction(
        type="revert",
        change_set=revert.change_set,
        via=one.via,
        tip=one.change.tip,
        commit=one.landed.commit,
        before=one.landed.tree_before,
        title=_title("Revert", revert),
        patience=revert.patience,
        step=step,
        branch_prefix=revert.branch_prefix,
        when_ready=when_ready,
    )


def out_todo(revert: Landing, number: int, reverts: Sequence[Todo]) -> Todo:
    """Return the todo that ends when a wave is reverted; the revert of the wave before waits for it."""
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
    if landing.atomic is Atomic.REPO:  # repositories that have not landed are not inspected
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
