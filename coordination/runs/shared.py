"""The context of a todo in a run: from its own outward over its run and those that this one carries on, its plan, the ecosystem."""

from __future__ import annotations

from coordination.cache.names import Chain, chain_of
from coordination.runs.records import RunBrief


def chain_of_todo(brief: RunBrief, todo: str) -> Chain:
    return chain_of(brief.plan_id, (brief.run_id, *brief.carried_from), todo)
