"""Submit a plan's graph as an immutable run in Redis."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

from coordination.backend.steps.run import Reply
from coordination.breakers.records import Policy
from coordination.durations import ms
from coordination.environment import actor
from coordination.errors import PlanRefused
from coordination.models import (
    OWN_BRANCHES,
    AgentAction,
    Ecosystem,
    ManualAction,
    OnFailure,
    Plan,
    QaAction,
    Repo,
    Retry,
    Strategy,
    Todo,
    Via,
)
from coordination.planner.gates import behind_gates, repos_of
from coordination.planner.paths import successors
from coordination.planner.remaining import expected_of
from coordination.planner.schedule import AGEING
from coordination.planner.selection import AD_HOC
from coordination.planner.strategy import choose_strategy
from coordination.runs.change_sets.records import TAKEN_OVER
from coordination.runs.records import BRANCH_PREFIX, Origin, RunBrief, TodoSpec, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.carry import AT_BASE, Facts, StartingPoint, completed, joined, read_carry
from coordination.runs.submission.draft import HOST, RunDraft, Signing, descriptor_of, first_facts, new_run_id
from coordination.runs.submission.lineage import TITLE
from coordination.runs.submission.structure import graph_hash, why_not_undoable
from coordination.runs.submission.writes import NO_WRITES, Writes
from coordination.settings import Settings
from coordination.text import counted, listed
from coordination.trust.orders import StartKind

if TYPE_CHECKING:  # importing it loads networkx; a caller with a graph has loaded it already
    from coordination.planner.graph import PlanGraph


MS_PER_HOUR = 3_600_000
NO_HOSTS: Mapping[str, str] = MappingProxyType({})
FARTHEST_MS = 9e11
"""Greatest lead of a rank in the queue, in ms: more than a hundred years of waiting."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """How a run is executed; `strategy` is resolved, never `auto`."""

    strategy: Strategy
    reason: str
    """The reason for the strategy, as a sentence."""
    on_failure: OnFailure
    max_parallel: int | None
    actor: str
    operation: StartKind = "sweep"
    remaining: Mapping[str, float] = field(default_factory=dict)
    """Hours from each todo to the end, by which ready todos are ranked; if empty, the longest path counts."""
    no_cache: bool = False
    """True if todos with a `cache` are executed regardless of it."""
    timeout: timedelta | None = None
    """Time after which the run is ended."""
    no_change_set: bool = False
    """True if the commits of its todos belong to no change set."""
    lands: tuple[str, ...] = ()
    """The change sets that it lands, if those are several."""
    overrides: tuple[str, ...] = ()
    """Options by which it goes on without a safeguard."""
    optional: Collection[str] = ()
    """Todos whose failure skips only their dependents, where `on_failure` is `rollback`."""


def decide(
    graph: PlanGraph,
    settings: Settings,
    *,
    strategy: Strategy | None = None,
    on_failure: OnFailure | None = None,
    max_parallel: int | None = None,
    at_once: int | None = None,
    no_cache: bool = False,
    timeout: timedelta | None = None,
) -> Order:
    """Return how the run will be executed: by the arguments, else by the plan's fields. `at_once`: how many
    of its todos the workers can execute at once; None: by the settings.

    Raise PlanRefused, before anything is written, for a todo that would fail later.
    """
    limit = max_parallel or graph.plan.max_parallel
    choice = choose_strategy(
        graph,
        max_parallel=at_once or settings.slots_beside(limit),
        margin=settings.levels_margin,
        strategy=strategy,
    )
    order = Order(
        strategy=choice.strategy,
        reason=choice.reason,
        on_failure=on_failure or graph.plan.on_failure,
        max_parallel=limit,
        actor=actor(),
        remaining=choice.remaining if choice.strategy is Strategy.DATAFLOW else {},
        no_cache=no_cache,
        timeout=timeout or graph.plan.timeout,
    )
    _check(graph, order, settings)
    return order


def _check(graph: PlanGraph, order: Order, settings: Settings) -> None:
    refuse_not_undoable(graph.todos.values(), order.on_failure)
    refuse_without_agent(graph.todos.values(), settings)


def refuse_not_undoable(todos: Iterable[Todo], on_failure: OnFailure) -> None:
    """Raise PlanRefused where a failure rolls the run back and one of these todos cannot be undone."""
    helpless = [f"{todo.id} ({why})" for todo in todos if (why := why_not_undoable(todo))]
    if on_failure is OnFailure.ROLLBACK and helpless:
        raise PlanRefused(
            f"on_failure is rollback, but there is no way to undo {listed(helpless)}",
            "give them a `compensate` (`true` where there is nothing to undo); "
            "or sweep with --on-failure halt or continue",
        )


def refuse_without_agent(todos: Iterable[Todo], settings: Settings) -> None:
    needy = [t.id for t in todos if t.action is None or isinstance(t.action, AgentAction)]
    if needy and settings.agent_command is None:
        raise PlanRefused(
            f"no agent is configured for {counted(len(needy), 'todo')} without a command: {listed(needy)}",
            "give them an action (run: …), or set agent_command under settings, or COORD_AGENT_COMMAND",
        )


def by_hand(todos: Iterable[Todo]) -> tuple[str, ...]:
    """Return the todos that a person does."""
    return tuple(todo.id for todo in todos if isinstance(todo.action, ManualAction))


def criteria_of(todos: Iterable[Todo]) -> dict[str, str]:
    """Return quality check → the todo whose acceptance criterion it is."""
    return {
        todo.id: todo.action.criterion_of
        for todo in todos
        if isinstance(todo.action, QaAction) and todo.action.criterion_of
    }


def submit(
    store: RunStore,
    graph: PlanGraph,
    ecosystem: Ecosystem,
    settings: Settings,
    order: Order,
    file: str = "",
    signing: Signing | None = None,
    hosts: Mapping[str, str] = NO_HOSTS,
    writes: Writes = NO_WRITES,
    start_at: StartingPoint = AT_BASE,
) -> tuple[str, Reply]:
    """Write and seal the run; return its id and the reply that the dispatcher must follow. `file`: the digest
    of the file for its results. `signing`: the identity that signs its order, if there is one. `hosts`:
    repository → the only host that may work there. `writes`: the change set, whose completed todos are
    carried over. `start_at`: the commits that a run builds on that writes no change set.
    """
    store.declare(ecosystem.capacities())
    draft = RunDraft(store, new_run_id(), signed=signing is not None)
    done = completed(ecosystem, writes.found, {*graph.todos, *graph.blocked_todos, *graph.left_out})
    work = _Work.of(graph, ecosystem, settings, done)
    carry = read_carry(store, writes.found, {name: todo.repo for name, todo in done.items()}, graph.repos)
    brief = start_at.add_to(writes.add_to(_brief(draft.run_id, work, order, file), tips=carry.tips))
    meta = _meta(brief, graph, order)
    breakers = Policy.of(settings).words(ecosystem.without_breaker())
    pins = {**start_at.hosts, **carry.pins, **hosts}
    pins = {f"{HOST}{repo}": host for repo, host in pins.items() if host}
    if taken := writes.found.taken_over:
        meta = {**meta, "takes_over": TAKEN_OVER.dump_json(taken).decode()}
    draft.meta({**meta, **writes.meta, "breakers": breakers, **pins, **({"file": file} if file else {})})
    draft.levels(graph.levels)
    expected = expected_of(graph)
    for name, todo in graph.todos.items():
        level = graph.depth[name] if graph.levels else 0
        facts = first_facts(todo, expected[name]) | ({"optional": 1} if name in order.optional else {})
        work.write(draft, name, TodoState.WAITING, _ahead(graph, name, order), level, facts)
    for name in done:
        work.write(draft, name, TodoState.SUCCEEDED, 0, 0, carry.facts[name])
    for name, reason in graph.blocked.items():
        _write_blocked(draft, graph.blocked_todos[name], f"blocked by {reason}")
    carry.write(draft, writes.signed)
    start_at.write(draft)
    if signing:
        signing.write(
            draft, brief, str(meta["brief"]), order.operation, order.on_failure,
            two_persons=graph.plan.two_persons, done=by_hand(done.values()),
        )  # fmt: skip
    return draft.run_id, draft.seal(writes.taken)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The todos of a run, including those that are carried over."""

    graph: PlanGraph
    settings: Settings
    repos: Mapping[str, Repo]
    todos: Mapping[str, Todo]
    predecessors: Mapping[str, tuple[str, ...]]
    """Each key after its own predecessors."""
    successors: Mapping[str, tuple[str, ...]]
    behind: Mapping[str, str]
    """Todo → the digest of the gates before it."""

    @classmethod
    def of(
        cls, graph: PlanGraph, ecosystem: Ecosystem, settings: Settings, done: Mapping[str, Todo]
    ) -> _Work:
        predecessors = joined(ecosystem, graph.plan, graph.predecessors, done, _generated(ecosystem, graph))
        todos, behind = {**done, **graph.todos}, dict[str, str]()
        for name, before in predecessors.items():
            behind[name] = behind_gates(todos[name], map(behind.__getitem__, before))
        return cls(
            graph=graph,
            settings=settings,
            repos=repos_of(ecosystem),
            todos=todos,
            behind=behind,
            predecessors=predecessors,
            successors=successors(predecessors, predecessors) if done else graph.successors,
        )

    def write(
        self, draft: RunDraft, name: str, state: TodoState, ahead: str | int, level: int, facts: Facts
    ) -> None:
        todo = self.todos[name]
        spec = spec_of(todo, self.repos[todo.repo], self.settings, self.graph.plan)
        before = {other: self.todos[other] for other in self.predecessors[name]}
        spec = spec.after(before, self.behind[name])
        draft.todo(
            name,
            state,
            descriptor_of(spec, ahead, level),
            facts,
            spec=spec.model_dump_json(exclude_defaults=True),
            children=self.successors[name],
            pending=len(self.graph.predecessors[name]) if state is TodoState.WAITING else 0,
        )


def _generated(ecosystem: Ecosystem, graph: PlanGraph) -> dict[str, Todo]:
    declared = {todo.id for todo in ecosystem.coordination.todos}
    return {name: todo for name, todo in graph.todos.items() if name not in declared}


def _brief(run_id: str, work: _Work, order: Order, file: str) -> RunBrief:
    settings, plan, used = work.settings, work.graph.plan, {todo.repo for todo in work.todos.values()}
    return RunBrief(
        run_id=run_id,
        plan_id=plan.id,
        agent_command=settings.agent_command,
        kill_grace=settings.kill_grace,
        commit_message=settings.commit_message,
        commit_hooks=settings.commit_hooks,
        branch_prefix=settings.branch_prefix,
        predecessors=dict(work.predecessors),
        repo_of={name: work.todos[name].repo for name in work.predecessors},
        origins={
            name: Origin(url=repo.url, branch=repo.branch)
            for name, repo in work.repos.items()
            if repo.url and name in used
        },
        by_hand=by_hand(work.todos.values()),
        criteria=criteria_of(work.todos.values()),
        recurring=plan.recurring,
        file=file,
        no_cache=order.no_cache,
        lands_locally=plan.land is not None and plan.land.via is Via.LOCAL,
    )


def _meta(brief: RunBrief, graph: PlanGraph, order: Order) -> Mapping[str, str | int]:
    return {
        "plan_id": graph.plan.id,
        TITLE: "" if graph.plan.id == AD_HOC else graph.plan.title,
        "strategy": order.strategy,
        "on_failure": order.on_failure,
        "max_parallel": order.max_parallel or 0,
        "actor": order.actor,
        "brief": brief.model_dump_json(),
        **({BRANCH_PREFIX: brief.branch_prefix} if brief.branch_prefix != OWN_BRANCHES else {}),
        "levels": len(graph.levels),
        "graph": graph_hash(brief.repo_of, brief.predecessors),
        **({"two_persons": 1} if graph.plan.two_persons else {}),
        **({"lands": " ".join(order.lands)} if order.lands else {}),
        **({"overrides": " ".join(order.overrides)} if order.overrides else {}),
        **timeout_of(order.timeout),
    }


def timeout_of(timeout: timedelta | None) -> dict[str, int]:
    """Return the fields of `meta` for a run's timeout."""
    return {"timeout_ms": max(1, ms(timeout))} if timeout else {}


def spec_of(todo: Todo, repo: Repo, settings: Settings, plan: Plan | None) -> TodoSpec:
    """Return the spec from which a worker executes a todo. `plan`: the todo's plan, None where the file no
    longer has it.
    """
    todo = todo.working_in(repo)
    # the plan's rules are for its work: a check has rules of its own
    rules = plan.retry if plan and not isinstance(todo.action, QaAction) else None
    # Absolute paths are never sent: a worker knows its own.
    return TodoSpec(
        todo=todo,
        repo=repo.model_copy(update={"path": None, "qa": ()}),
        timeout=todo.timeout or settings.todo_timeout,
        retry=_policy(settings, rules, todo.retry),
    )


def _policy(settings: Settings, *written: Retry | None) -> Retry:
    """Return the settings' retry policy with the `written` ones merged over it field by field, later ones
    over earlier ones.

    A `retry` without a number of attempts means more than one attempt.
    """
    has_retry = any(retry is not None for retry in written)
    policy = Retry(
        attempts=max(settings.retry_attempts, Retry().attempts) if has_retry else settings.retry_attempts,
        strategy=settings.retry_strategy,
        delay=settings.retry_delay,
        factor=settings.retry_factor,
        max_delay=settings.retry_max_delay,
        jitter=settings.retry_jitter,
    )
    for retry in filter(None, written):
        policy = policy.model_copy(update={name: getattr(retry, name) for name in retry.model_fields_set})
    return policy


def _ahead(graph: PlanGraph, name: str, order: Order) -> str:
    """Return the rank of a todo in its queue, in ms (see backend/lua/run/_run_dispatch.lua); the fraction
    orders todos of equal rank.
    """
    remaining = order.remaining or graph.rank
    ahead_ms = min(AGEING * remaining[name] * MS_PER_HOUR, FARTHEST_MS)
    return f"{graph.order[name] / (len(graph.todos) + 1) - ahead_ms:.5f}"


def _write_blocked(draft: RunDraft, todo: Todo, reason: str) -> None:
    place = f"0 0 {todo.repo} {todo.workspace} 0"  # never used: the todo is skipped
    draft.todo(todo.id, TodoState.SKIPPED, place, {"attempt": 0, "error": reason})
