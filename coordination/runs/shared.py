"""The context of a todo in a run: from its own outward over its run and those that this one carries on, its plan, the ecosystem."""

from __future__ import annotations

from redis import Redis

from coordination.cache.names import Chain, chain_of
from coordination.errors import NotFound
from coordination.nearest import did_you_mean
from coordination.runs.records import RunBrief
from coordination.runs.store import RunStore
from coordination.runs.view import RunReader
from coordination.wire.keys import Keys


def chain_of_todo(brief: RunBrief, todo: str = "") -> Chain:
    return chain_of(brief.plan_id, (brief.run_id, *brief.carried_from), todo)


def chain_of_run(redis: Redis, namespace: str, run: str, todo: str = "") -> Chain:
    """`run`: as people name one. Raises NotFound."""
    run_id = RunReader(redis, Keys(namespace)).resolve(run)
    brief = RunStore(redis, namespace).brief(run_id)
    if todo and todo not in brief.repo_of:
        raise NotFound(
            f"run {run_id} has no todo {todo!r}{did_you_mean(todo, brief.repo_of)}", f"see: coord show-run {run_id}"
        )
    return chain_of_todo(brief, todo)
