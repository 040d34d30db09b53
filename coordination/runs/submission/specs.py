"""The spec of a todo: what a worker needs to execute it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from coordination.models import Agent, AgentAction, Plan, QaAction, Repo, Retry, Todo, reads_of
from coordination.runs.records import ReadRepo, TodoSpec
from coordination.settings import Settings


def spec_of(
    todo: Todo,
    repo: Repo,
    settings: Settings,
    plan: Plan | None,
    declared: Mapping[str, Repo] = MappingProxyType({}),
) -> TodoSpec:
    """Return the spec from which a worker executes a todo. `plan`: the todo's plan, None where the file no
    longer has it; `declared`: the repositories that it may read.
    """
    todo, agents = with_agents(todo.working_in(repo), settings)
    # the plan's rules are for its work: a check has rules of its own
    rules = plan.retry if plan and not isinstance(todo.action, QaAction) else None
    # Absolute paths are never sent: a worker knows its own.
    return TodoSpec(
        todo=todo,
        repo=repo.model_copy(update={"path": None, "qa": ()}),
        timeout=todo.timeout or settings.todo_timeout,
        retry=_policy(settings, rules, todo.retry),
        agents=agents,
        reads=tuple(
            ReadRepo(repo=name, branch=declared[name].branch, url=declared[name].url or "")
            for name in reads_of(todo)
            if name in declared
        ),
    )


def with_agents(todo: Todo, settings: Settings) -> tuple[Todo, tuple[Agent, ...]]:
    """Return the todo with the names of its agents, and these agents, as far as the settings declare them."""
    default = (settings.default_agent,) if settings.default_agent else ()
    names, update = list[str](), dict[str, AgentAction]()
    for field, action in (("action", todo.action), ("compensate", todo.compensate)):
        if action is None and field == "action":
            action = AgentAction(type="agent")
        if isinstance(action, AgentAction):
            update[field] = action.model_copy(update={"agent": action.agent or default})
            names += update[field].agent
    agents = tuple(settings.presets[name] for name in dict.fromkeys(names) if name in settings.presets)
    return (todo.model_copy(update=update) if update else todo), agents


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
