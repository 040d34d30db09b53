"""The spec of a todo: what a worker needs to execute it."""

from __future__ import annotations

from coordination.models import Plan, QaAction, Repo, Retry, Todo
from coordination.runs.records import TodoSpec
from coordination.settings import Settings


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
