"""Choose the action of an attempt, with what it needs, and the style of its commits."""

from __future__ import annotations

from collections.abc import Callable

from coordination.models import QaAction
from coordination.runs.brief import RunBrief
from coordination.runs.replies import Grant
from coordination.sandbox.rules import Bounds
from workers.attempt.actions import AttemptAction, Compensate, RunTodo
from workers.attempt.check import RunCheck
from workers.attempt.environment import AttemptEnvironment
from workers.attempt.logs import Log
from workers.cleanup.rollback_cleanup import RollbackCleanup
from workers.result_cache import Recall
from workers.workspace.commit import CommitStyle


def action_of(
    grant: Grant, here: AttemptEnvironment, log: Log, bounds: Callable[[], Bounds | None] = lambda: None
) -> AttemptAction:
    """Return the action of an attempt, which writes into the todo's log; `bounds` tells its sandbox."""
    if grant.undo is None:
        recall = _recall(grant, here, log.say, bounds)
        limit = here.output_limit_bytes
        if isinstance(grant.spec.todo.action, QaAction):
            return RunCheck(
                grant=grant, output_limit_bytes=limit, log=log, recall=recall, context=here.context
            )
        return RunTodo(grant=grant, output_limit_bytes=limit, log=log, recall=recall)
    repo = grant.spec.repo.name
    removal = RollbackCleanup(
        state=here.state,
        repo=repo,
        checkout=here.checkout,
        run_id=grant.run_id,
        tip=grant.tip,
        had_ended=grant.undo.had_ended,
        carried=here.carried(repo),
    )
    return Compensate(
        grant=grant,
        undo=grant.undo,
        removal=removal,
        withdraw=here.withdraw,
        set_back=here.set_back,
        say=log.say,
    )


def style_of(grant: Grant, brief: RunBrief) -> CommitStyle:
    return CommitStyle(
        plan=brief.plan_id,
        message=brief.commit_message,
        hooks=brief.commit_hooks == "run",
        read_only=getattr(grant.spec.todo.action, "read_only", False),
    )


def _recall(
    grant: Grant, here: AttemptEnvironment, say: Callable[[str], None], bounds: Callable[[], Bounds | None]
) -> Recall | None:
    cache = grant.spec.todo.cache
    if cache is None:
        return None
    if here.results is None:
        say("cache: not used by this worker (cache_todos is off, or it is restricted); the todo runs")
        return None
    return Recall(
        grant,
        cache,
        here.results,
        context=here.context,
        agent_command=here.brief.agent_command,
        no_cache=here.brief.no_cache,
        state=here.state,
        bounds=bounds,
        say=say,
    )
