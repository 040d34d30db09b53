"""The context of a todo in a run: from its own outward over its run and those that this one carries on, its plan, the ecosystem."""

from __future__ import annotations

from coordination.cache.contexts import Cache, Context
from coordination.cache.names import Chain, chain_of
from coordination.errors import NotFound, UsageError
from coordination.nearest import did_you_mean
from coordination.runs.records import RunBrief
from coordination.runs.store import RunStore
from coordination.runs.view import RunReader
from coordination.wire.keys import Keys


def chain_of_todo(brief: RunBrief, todo: str = "") -> Chain:
    return chain_of(brief.plan_id, (brief.run_id, *brief.carried_from), todo)


def context_of(cache: Cache, plan: str = "", run: str = "", todo: str = "") -> Context:
    """As people name them (`last`); with nothing said, the ecosystem's. Raises NotFound, UsageError, and what redis-py raises."""
    if todo and not run:
        raise UsageError(f"{todo} is a todo of a run", "say of which run")
    if run and plan:
        raise UsageError("a run has a plan of its own", "name the plan, or the run")
    return Context(cache, _chain_of_run(cache, run, todo) if run else chain_of(plan))


def _chain_of_run(cache: Cache, run: str, todo: str) -> Chain:
    run_id = RunReader(cache.redis, Keys(cache.namespace)).resolve(run)
    brief = RunStore(cache.redis, cache.namespace).brief(run_id)
    if todo and todo not in brief.repo_of:
        near = did_you_mean(todo, brief.repo_of)
        raise NotFound(f"run {run_id} has no todo {todo!r}{near}", f"see: coord show-run {run_id}")
    return chain_of_todo(brief, todo)
