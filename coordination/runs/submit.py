"""A plan's graph → an immutable run in Redis, written in chunks under a draft and sealed by a last flip.

A draft that is never sealed expires; nobody sees it before.
"""

from __future__ import annotations

import getpass
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

from redis.client import Pipeline

from coordination.errors import NotYetSupported, PlanRefused
from coordination.models import AgentAction, Ecosystem, ManualAction, OnFailure, Repo, Retry, Strategy, Todo, Workspace
from coordination.planner.forecast import forecast
from coordination.runs.records import Reply, RunBrief, RunStatus, TodoSpec, TodoState
from coordination.runs.store import RunStore
from coordination.settings import Settings
from coordination.wire.keys import RunKeys

if TYPE_CHECKING:  # costs networkx, and whoever has a graph has paid for it
    from coordination.planner.graph import PlanGraph

CHUNK = 500
DRAFT_TTL = timedelta(hours=1)
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, kw_only=True)
class Order:
    """How a run is to be carried out; `strategy` is decided, not `auto`."""

    strategy: Strategy
    reason: str
    """Why this strategy, in a sentence."""
    on_failure: OnFailure
    max_parallel: int | None
    actor: str


def actor() -> str:
    """Who asks, as far as this machine can tell."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def new_run_id() -> str:
    """Sorts by time; four letters keep two of one second apart."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + "".join(secrets.choice(_ALPHABET) for _ in range(4))


def decide(
    graph: PlanGraph,
    settings: Settings,
    *,
    strategy: Strategy | None = None,
    on_failure: OnFailure | None = None,
    max_parallel: int | None = None,
) -> Order:
    """How the run will be carried out: what the call says, else the plan. Refuses before anything is written what would
    fail later: raises PlanRefused or NotYetSupported.
    """
    limit = max_parallel or graph.plan.max_parallel
    foreseen = forecast(graph, max_parallel=limit, margin=settings.levels_margin, strategy=strategy)
    order = Order(
        strategy=foreseen.strategy,
        reason=foreseen.reason,
        on_failure=on_failure or graph.plan.on_failure,
        max_parallel=limit,
        actor=actor(),
    )
    _check(graph, order, settings)
    return order


def _check(graph: PlanGraph, order: Order, settings: Settings) -> None:
    if order.on_failure is OnFailure.ROLLBACK:
        raise NotYetSupported("on_failure: rollback is not yet supported", "use halt or continue")
    if settings.agent_command is None:
        needy = [t.id for t in graph.todos.values() if t.action is None or isinstance(t.action, AgentAction)]
        if needy:
            raise PlanRefused(
                f"no agent is configured, and {len(needy)} of the todos need one: {', '.join(needy[:5])}"
                + (" …" if len(needy) > 5 else ""),
                "give them an action (run: …), or set agent_command under settings, or COORD_AGENT_COMMAND",
            )


def submit(
    store: RunStore, graph: PlanGraph, ecosystem: Ecosystem, settings: Settings, order: Order
) -> tuple[str, Reply]:
    """Writes and seals the run; returns its id and the reply that the dispatcher has to follow."""
    run_id = new_run_id()
    keys = store.keys.run(run_id)
    repos = {repo.name: repo for repo in ecosystem.repos}
    # Each chunk is whole or not at all and brings its own expiry: a submitter may die between any two of them.
    with store.redis.pipeline(transaction=True) as pipeline:
        pipeline.hset(keys.meta, mapping=_meta(run_id, graph, settings, order))
        for level, todos in enumerate(graph.levels):
            pipeline.hset(keys.levels, str(level), " ".join(todos))
        _expire_and_execute(pipeline, keys)
        for chunk in _chunks(graph.todos.values()):
            for todo in chunk:
                _write(pipeline, keys, graph, todo, _spec(todo, repos[todo.repo], settings))
            _expire_and_execute(pipeline, keys)
        for name, reason in graph.blocked.items():
            _write_blocked(pipeline, keys, graph.blocked_todos[name], f"blocked by {reason}")
        _expire_and_execute(pipeline, keys)
    return run_id, store.seal(run_id)


def _expire_and_execute(pipeline: Pipeline, keys: RunKeys) -> None:
    for key in keys.own:
        pipeline.expire(key, DRAFT_TTL)
    pipeline.execute()


def _meta(run_id: str, graph: PlanGraph, settings: Settings, order: Order) -> Mapping[str, str | int]:
    brief = RunBrief(
        run_id=run_id,
        plan_id=graph.plan.id,
        agent_command=settings.agent_command,
        kill_grace=settings.kill_grace,
        predecessors=dict(graph.predecessors),
        repo_of={name: todo.repo for name, todo in graph.todos.items()},
    )
    return {
        "status": RunStatus.DRAFT,
        "plan_id": graph.plan.id,
        "strategy": order.strategy,
        "on_failure": order.on_failure,
        "max_parallel": order.max_parallel or 0,
        "actor": order.actor,
        "brief": brief.model_dump_json(),
        "open": len(graph.todos),
        "active": 0,
        "level": -1,
        "levels": len(graph.levels),
        f"n.{TodoState.WAITING}": len(graph.todos),
        f"n.{TodoState.SKIPPED}": len(graph.blocked),
    }


def _spec(todo: Todo, repo: Repo, settings: Settings) -> TodoSpec:
    policy = Retry(
        attempts=settings.retry_attempts,
        delay=settings.retry_delay,
        factor=settings.retry_factor,
        max_delay=settings.retry_max_delay,
    )
    if todo.retry is not None:  # what the todo says, over what the settings say
        policy = policy.model_copy(update={name: getattr(todo.retry, name) for name in todo.retry.model_fields_set})
    # Absolute paths never travel: a worker knows its own.
    return TodoSpec(
        todo=todo,
        repo=repo.model_copy(update={"path": None}),
        timeout=todo.timeout or settings.todo_timeout,
        retry=policy,
    )


def _write(pipeline: Pipeline, keys: RunKeys, graph: PlanGraph, todo: Todo, spec: TodoSpec) -> None:
    name = todo.id
    kind = "manual" if isinstance(todo.action, ManualAction) else todo.workspace
    slots = 1 if todo.workspace is Workspace.IN_PLACE else spec.repo.slots
    level = graph.depth[name] if graph.levels else 0
    pipeline.hset(keys.spec, name, spec.model_dump_json(exclude_defaults=True))
    pipeline.hset(keys.place, name, f"{graph.order[name]} {level} {todo.repo} {kind} {slots}")
    pipeline.hset(keys.state, name, TodoState.WAITING)
    pipeline.hset(keys.facts, mapping={f"{name} attempt": 1})
    pipeline.hset(keys.pending, name, len(graph.predecessors[name]))
    if graph.successors[name]:
        pipeline.hset(keys.children, name, " ".join(graph.successors[name]))


def _write_blocked(pipeline: Pipeline, keys: RunKeys, todo: Todo, reason: str) -> None:
    pipeline.hset(keys.place, todo.id, f"0 0 {todo.repo} {todo.workspace} 1")
    pipeline.hset(keys.state, todo.id, TodoState.SKIPPED)
    pipeline.hset(keys.facts, mapping={f"{todo.id} attempt": 0, f"{todo.id} error": reason})


def _chunks(todos: Iterable[Todo]) -> Iterable[list[Todo]]:
    rest = iter(todos)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
