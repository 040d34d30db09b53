"""Retry an ended run: a new run of its failed todos and their dependents; succeeded todos are carried over.

A carried-over todo has its end state in the new run, with its output and commit, and the run that executed it
as its fact `run`. So readers of a run (the steps, a todo's context, a view) need no special case for it, and
a retry can be retried. The order is that of the ended run; actions are those of the file *now*, because many
failures are corrected there. `rerun_selection.py` selects the succeeded todos that are executed again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from coordination.backend.keys import RunKeys, tip_field
from coordination.breakers.records import Policy
from coordination.environment import actor
from coordination.errors import NotFound, PlanRefused
from coordination.models import Ecosystem, OnFailure, Plan, Repo, Todo, TodoStatus
from coordination.planner.gates import MILESTONE_REPO, gates_of, repos_of
from coordination.planner.resources import shortfalls
from coordination.runs.brief import RunBrief, TodoSpec
from coordination.runs.records import Descriptor, TodoState
from coordination.runs.replies import Reply
from coordination.runs.retrying.ended import EndedRun
from coordination.runs.retrying.named_checkpoints import FIELD
from coordination.runs.retrying.rerun_selection import Carried, RerunSelection, select_reruns
from coordination.runs.signed_orders import operation_field
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import HOST, Draft, descriptor, first_facts, new_run_id
from coordination.runs.submission.landed import Base, bases
from coordination.runs.submission.signing import Signing
from coordination.runs.submission.structure import graph_hash, refuse_changed
from coordination.runs.submission.submit import (
    by_hand,
    refuse_without_agent,
    refuse_without_way_back,
    spec_of,
    timeout_of,
)
from coordination.settings import Settings
from coordination.text import counted
from coordination.trust.orders import OperationKind

MANUAL = "manual"
"""Kind of a milestone or manual todo in its descriptor."""
BY_HAND: Mapping[str, str | int] = {"attempt": 0, "worker": "completed in the file"}


@dataclass(frozen=True, kw_only=True)
class RetryPlan:
    """The todos that a retry would execute, and those that it would carry over."""

    ended: EndedRun
    again: Mapping[str, TodoSpec]
    """The todos to execute, predecessors first."""
    by_hand: frozenset[str]
    """Todos that had not succeeded but are completed in the file."""
    set_back: RerunSelection
    """The todos of `again` that had succeeded."""
    pins: Mapping[str, str]
    capacities: Mapping[str, int]
    """Capacities of the resources that the file declares."""
    unbroken: tuple[str, ...]
    """Resources without a circuit breaker."""
    timeout: timedelta | None = None
    """Timeout in the plan as it is now; None: the run's own."""
    two_persons: bool = False
    """True if nobody who orders the retry may approve its gates."""
    bases: Sequence[Base] = ()
    """Todos that were completed outside the run, on which a todo of `again` builds."""

    @property
    def carried(self) -> tuple[str, ...]:
        return tuple(todo for todo in self.ended.spec if todo not in self.again)

    @property
    def tips(self) -> Mapping[str, str]:
        return self.set_back.tips

    @property
    def lost(self) -> tuple[str, ...]:
        """Return the todos that had succeeded and whose commits were lost with their host."""
        return tuple(todo for todo in self.again if todo in self.set_back.lost)

    @property
    def repos(self) -> tuple[str, ...]:
        """Return the repositories in which a todo is executed again."""
        return tuple(sorted({spec.todo.repo for spec in self.again.values()} - {MILESTONE_REPO}))

    @property
    def unfinished(self) -> frozenset[str]:
        """Return the todos of `again` that had not succeeded: they continue from their checkpoints."""
        return frozenset(self.again) - self.set_back.todos

    @property
    def blocked(self) -> int:
        """Return the number of todos that were blocked from outside the plan."""
        return len(self.ended.state) - len(self.ended.spec)

    @property
    def nothing_to_do(self) -> str:
        """Return why there is nothing to do, as text; empty if there is something."""
        if self.again:
            return ""
        if self.blocked:
            return (
                f"nothing failed in run {self.ended.run_id}; "
                f"{counted(self.blocked, 'todo')} blocked from outside the plan"
            )
        return f"all todos of run {self.ended.run_id} are done"


def plan_retry_of(
    ended: EndedRun,
    ecosystem: Ecosystem | None,
    settings: Settings,
    *,
    without: Collection[str] = (),
    start: Collection[str] = (),
    as_it_was: bool = False,
    carried: Carried,
) -> RetryPlan:
    """Return what a retry would execute, and how. Raise NotFound, UsageError or PlanRefused.

    `without`: hosts that are gone for good; `start`: todos from which on all is done again; `as_it_was`: keep
    the run's own order where the file has another now.
    """
    if strange := sorted(set(without) - set(ended.pins.values())):
        known = ", ".join(sorted(set(ended.pins.values()))) or "none"
        raise NotFound(
            f"run {ended.run_id} has not worked on host {', '.join(strange)}",
            f"hosts that it worked on: {known}",
        )
    gone = {repo for repo, host in ended.pins.items() if host in without}
    undone = ended.undone
    if undone:  # their commits are left out, like those of todos that are executed again
        ended = replace(ended, state={**ended.state, **dict.fromkeys(undone, TodoState.SUCCEEDED)})
    back = select_reruns(ended, {*start, *undone}, gone, carried)
    repos = repos_of(ecosystem) if ecosystem else {}
    plans = ecosystem.coordination.plans if ecosystem else ()
    plan = next((plan for plan in plans if plan.id == ended.meta["plan_id"]), None)
    declared = gates_of(plan) if plan else {}
    declared |= {todo.id: todo for todo in ecosystem.coordination.todos} if ecosystem else {}
    left = [todo for todo in ended.brief.predecessors if todo not in ended.succeeded or todo in back.todos]
    by_hand = _by_hand(plan, declared, left) - back.todos
    if ecosystem and not as_it_was:
        refuse_changed(ended.brief, ecosystem, set(left) - by_hand, f"retry {ended.run_id}")
    again = {
        name: _declared(declared[name], repos, ended, settings, plan)
        if name in declared
        else TodoSpec.model_validate_json(ended.spec[name])
        for name in left
        if name not in by_hand
    }
    refuse_without_agent((spec.todo for spec in again.values()), settings)
    if ecosystem:
        _refuse_shortfalls(ended, again, ecosystem)
    return RetryPlan(
        ended=ended,
        again=again,
        by_hand=by_hand,
        set_back=back,
        pins={repo: host for repo, host in ended.pins.items() if repo not in gone},
        capacities=ecosystem.capacities() if ecosystem else {},
        unbroken=ecosystem.without_breaker() if ecosystem else (),
        timeout=plan.timeout if plan else None,
        two_persons=plan.two_persons if plan else False,
        bases=bases(ecosystem, plan, again, ended.succeeded) if ecosystem else (),
    )


def _by_hand(plan: Plan | None, declared: Mapping[str, Todo], left: Iterable[str]) -> frozenset[str]:
    """Return the todos completed in the file since; none for a recurring plan, whose todos are executed in
    every run.
    """
    if plan and plan.recurring:
        return frozenset()
    return frozenset(t for t in left if t in declared and declared[t].status is TodoStatus.COMPLETED)


def _refuse_shortfalls(ended: EndedRun, again: Mapping[str, TodoSpec], ecosystem: Ecosystem) -> None:
    if problems := list(shortfalls((spec.todo for spec in again.values()), ecosystem.capacities())):
        hint = "correct ecosystem.yaml, then: coord validate"
        raise PlanRefused(f"run {ended.run_id} cannot be retried: {'; '.join(problems)}", hint)


def _declared(
    todo: Todo, repos: Mapping[str, Repo], ended: EndedRun, settings: Settings, plan: Plan | None
) -> TodoSpec:
    if todo.status is TodoStatus.CANCELLED:
        hint = f"reopen it; or start a run without it: coord sweep {ended.meta['plan_id']}"
        raise PlanRefused(
            f"{todo.id} is cancelled in the file, but run {ended.run_id} has to execute it", hint
        )
    place = ended.repo_of(todo.id)
    if todo.repo != place:  # continues in the repository where it was
        repo = repos.get(place) or TodoSpec.model_validate_json(ended.spec[todo.id]).repo
        return spec_of(todo.model_copy(update={"repo": place}), repo, settings, plan)
    if place not in repos:
        raise PlanRefused(f"{todo.id}: its repo {place!r} is not declared", "declare it, or correct the name")
    return spec_of(todo, repos[place], settings, plan)


def submit_retry(
    store: RunStore,
    left: RetryPlan,
    settings: Settings,
    *,
    on_failure: OnFailure | None,
    max_parallel: int | None,
    file: str = "",
    signing: Signing | None = None,
) -> tuple[str, Reply]:
    """Write and seal the new run; return its id and the reply that the dispatcher must follow. `file`: the
    digest of the file for its results. `signing`: the identity that signs its order, if the order of the
    ended run was verified.
    """
    policy = on_failure or OnFailure(left.ended.meta["on_failure"])
    refuse_without_way_back((spec.todo for spec in left.again.values()), policy)
    store.declare(left.capacities)
    draft = Draft(store, new_run_id(), signed=signing is not None)
    meta = _meta(draft.run_id, left, settings) | {
        "on_failure": policy,
        "max_parallel": max_parallel or int(left.ended.meta["max_parallel"]),
        "breakers": Policy.of(settings).words(left.unbroken),
        **({"file": file} if file else {}),
    }
    draft.meta(meta)
    draft.levels(left.ended.levels[str(level)].split() for level in range(int(left.ended.meta["levels"])))
    for todo in left.ended.state:
        _write(draft, left, todo)
    draft.set(draft.keys.tips, left.tips)
    draft.set(draft.keys.output, {t: json for t, json in left.ended.output.items() if t not in left.again})
    draft.set(
        draft.keys.checkpoint, {t: json for t, json in left.ended.checkpoint.items() if t in left.unfinished}
    )
    if signing:
        brief_json = str(meta["brief"])
        brief = RunBrief.model_validate_json(brief_json)
        signing.write(
            draft, brief, brief_json, "retry", policy, two_persons=left.two_persons, done=left.by_hand
        )
        draft.set(draft.keys.order, _decisions(store, left))
    _copy_bundles(draft, store.keys.run(left.ended.run_id), set(left.ended.brief.repo_of.values()))
    _copy_results(draft, store, left)
    return draft.run_id, draft.seal()


def _meta(run_id: str, left: RetryPlan, settings: Settings) -> dict[str, str | int]:
    old = left.ended
    brief = old.brief.model_copy(
        update={
            "run_id": run_id,
            "agent_command": settings.agent_command,
            "kill_grace": settings.kill_grace,
            "carried_from": (old.run_id, *old.brief.carried_from),
            "carried_tips": dict(left.tips),
            "redone": old.brief.redone | dict.fromkeys(left.set_back.todos, old.run_id),
            "by_hand": (
                *(todo for todo in old.brief.by_hand if todo not in left.again),
                *by_hand(spec.todo for spec in left.again.values()),
                *left.by_hand,
            ),
            "set_back": old.brief.set_back | dict.fromkeys(left.set_back.repos, old.run_id),
        }
    )
    graph = graph_hash(brief.repo_of, brief.predecessors)
    kept = {
        name: old.meta[name]
        for name in ("plan_id", "strategy", "levels", "recurring", "two_persons", "timeout_ms")
        if name in old.meta
    }
    kept |= {name: value for name, value in old.meta.items() if name.startswith(FIELD)}
    pins = {f"{HOST}{repo}": host for repo, host in left.pins.items()}
    return {
        **kept,
        **timeout_of(left.timeout),
        **pins,
        "actor": actor(),
        "brief": brief.model_dump_json(),
        "graph": graph,
        "carried_from": old.run_id,
    }


def _write(draft: Draft, left: RetryPlan, todo: str) -> None:
    old = left.ended
    state, place = TodoState(old.state[todo]), old.place[todo]
    facts: Mapping[str, str | int] = old.facts[todo]
    spec = old.spec.get(todo, "")  # empty for a todo that was blocked from outside the plan: it stays blocked
    if todo in left.again:
        before = Descriptor.parse(place)
        state, facts = (
            TodoState.WAITING,
            {**first_facts(left.again[todo].todo, facts.get("expected", "")), **_begun(old, todo)},
        )
        place, spec = (
            descriptor(left.again[todo], before.order, before.level),
            left.again[todo].after(_before(left, todo)).model_dump_json(exclude_defaults=True),
        )
    elif todo in left.by_hand:
        state, facts = TodoState.SUCCEEDED, {**BY_HAND, **_begun(old, todo)}
    elif spec:
        # a todo carried over by an earlier retry has the fact already
        facts = {"run": old.run_id} | dict(facts)
    draft.todo(
        todo,
        state,
        place,
        facts,
        spec=spec,
        children=old.children.get(todo, "").split(),
        pending=sum(before in left.again for before in old.brief.predecessors.get(todo, ())),
    )


def _before(left: RetryPlan, todo: str) -> Mapping[str, Todo]:
    """Return the predecessors of a todo."""
    names = left.ended.brief.predecessors.get(todo, ())
    return {
        name: (left.again.get(name) or TodoSpec.model_validate_json(left.ended.spec[name])).todo
        for name in names
    }


def _decisions(store: RunStore, left: RetryPlan) -> dict[str, str]:
    """Return the signed operations by which persons settled todos that are carried over."""
    old = left.ended
    by_hand = [todo for todo in left.carried if Descriptor.parse(old.place[todo]).kind == MANUAL]
    kinds = (OperationKind.APPROVE, OperationKind.COMPLETE)
    fields = [operation_field(kind, todo) for todo in by_hand for kind in kinds]
    texts = store.signed(old.run_id, fields) if fields else []
    return {field: text for field, text in zip(fields, texts, strict=True) if text is not None}


def _begun(old: EndedRun, todo: str) -> Mapping[str, str]:
    """Return the facts of a todo's intent, so that a rollback of the new run undoes it, even if it never
    begins there.
    """
    facts = old.facts[todo]
    if "intent" not in facts:
        return {}
    return {"intent": facts["intent"], "begun_in": facts.get("begun_in") or facts.get("run") or old.run_id}


def _copy_bundles(draft: Draft, old: RunKeys, repos: Iterable[str]) -> None:
    for repo in repos:
        draft.copy(old.bundle(repo), draft.keys.bundle(repo))


def _copy_results(draft: Draft, store: RunStore, left: RetryPlan) -> None:
    """Copy the signed results of the ended run, and name the one that each tip comes from."""
    old, moved = store.keys.run(left.ended.run_id), left.set_back.sources
    draft.copy(old.results, draft.keys.results)
    if moved:
        results = store.redis.hmget(old.results, list(moved.values()))
        draft.set(
            draft.keys.results,
            {tip_field(repo): result or "" for repo, result in zip(moved, results, strict=True)},
        )
