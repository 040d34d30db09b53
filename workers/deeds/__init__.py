"""What an attempt is there for: a family of two, a todo and what undoes it. All else is the same for both: the workspace, the
command under its guard, timeout, log, lease and fence (`workers/attempt.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from coordination.runs.records import Grant
from workers.deeds.doing import Doing
from workers.deeds.seam import Deed
from workers.deeds.undoing import Undoing
from workers.removal import Removal
from workers.reuse import Recall
from workers.surroundings import Surroundings


def deed_of(grant: Grant, here: Surroundings, say: Callable[[str], None]) -> Deed:
    """`say`: a line for the todo's log."""
    if grant.undo is None:
        return Doing(grant=grant, output_limit_bytes=here.output_limit_bytes, recall=_recall(grant, here, say))
    repo = grant.spec.repo.name
    removal = Removal(
        state=here.state,
        repo=repo,
        checkout=here.checkout,
        run=grant.run_id,
        tip=grant.tip,
        had_ended=grant.undo.had_ended,
        carried=here.carried(repo),
    )
    return Undoing(grant=grant, undo=grant.undo, removal=removal, withdraw=here.withdraw, say=say)


def _recall(grant: Grant, here: Surroundings, say: Callable[[str], None]) -> Recall | None:
    cache = grant.spec.todo.cache
    if cache is None:
        return None
    if here.results is None:
        say("cache: not used by this worker (cache_todos is off, or it is restricted); it runs")
        return None
    return Recall(
        grant,
        cache,
        here.results,
        context=here.context,
        agent_command=here.brief.agent_command,
        no_cache=here.brief.no_cache,
        state=here.state,
        say=say,
    )


__all__ = ["Deed", "deed_of"]
