"""The shared context of a run or todo: the scope of the todo, then those of its run and the runs that it
retries, of the plan, and of the ecosystem.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from pydantic import validate_call

from coordination.backend.keys import Keys
from coordination.cache.contexts import Cache, Context, Kept
from coordination.cache.local import Local
from coordination.cache.names import Chain, Limits, Scope, chain_of, check_names, check_value
from coordination.errors import NotFound, UsageError
from coordination.runs.records import RunBrief
from coordination.runs.store import RunStore
from coordination.runs.views.run_list import OF_TODOS, ActsOn
from coordination.runs.views.run_view import RunReader
from coordination.settings import Settings
from coordination.text import did_you_mean


def chain_of_todo(brief: RunBrief, todo: str = "") -> Chain:
    """Return the scopes that a todo sees, the innermost first; without a todo, those that the run sees."""
    return chain_of(brief.plan_id, (brief.run_id, *brief.lineage.takes_up), todo)


def context_of(
    cache: Cache,
    plan: str = "",
    run: str = "",
    todo: str = "",
    check_change: Callable[[], object] = lambda: None,
) -> Context:
    """Return the context by the names that people use (`last`); without names, the ecosystem's.
    `check_change`: as in `Context`. Raise NotFound, UsageError, and redis-py's errors.
    """
    if todo and not run:
        raise UsageError(f"{todo} is a todo of a run", "say of which run")
    if run and plan:
        raise UsageError("a run has a plan of its own", "name the plan, or the run")
    return Context(cache, _chain_of_run(cache, run, todo) if run else chain_of(plan), check_change)


def clear_cache(cache: Cache, store: RunStore) -> int:
    """Delete the cached results of todos and the shared values, except those that todos of live runs see.
    Return the number of deleted entries.
    """
    live = store.live_runs()
    kept = {context for run_id in live for context in chain_of_todo(store.brief(run_id))}
    own = tuple(f"{Scope.TODO}/{run_id}/" for run_id in live)
    contexts = store.redis.zrange(store.keys.cache.contexts, 0, -1)
    before = cache.stats().entries
    cache.entries.drop(c for c in contexts if c not in kept and not c.startswith(own))
    cache.local.clear()
    return max(0, before - cache.stats().entries)


class ContextCalls:
    """The calls that a todo's command can make on its context. Values are JSON texts, durations are in
    seconds.

    A worker answers its todos with it; the maintenance leader answers for restricted workers, by the same
    names and arguments.
    """

    def __init__(self, store: RunStore, settings: Settings, brief: Callable[[str], RunBrief]) -> None:
        # Without a cache in this process: a todo must read the value that another one has just set on
        # any host.
        self._cache = Cache(store.redis, store.keys.namespace, Limits.of(settings), Local(max_bytes=0))
        self._brief = brief

    @validate_call
    def context_get(self, run_id: str, todo_id: str, key: str, scope: Scope | None = None) -> list[str]:
        """Return the value of the nearest scope as a list of one; empty where there is none."""
        absent = object()
        found = self._at(run_id, todo_id).get(key, absent, scope=scope)
        return [] if found is absent else [json.dumps(found)]

    @validate_call
    def context_set(
        self,
        run_id: str,
        todo_id: str,
        key: str,
        value: str,
        ttl_s: float | None = None,
        scope: Scope | None = None,
    ) -> None:
        check_value(value.encode(), self._cache.entries.limits.value_bytes)
        self._at(run_id, todo_id).set(key, _parsed(value), _duration(ttl_s), scope=scope)

    @validate_call
    def context_delete(
        self,
        run_id: str,
        todo_id: str,
        names: Sequence[str],
        ttl_s: float | None = None,
        scope: Scope | None = None,
    ) -> int:
        return self._at(run_id, todo_id).delete(*check_names(names), ttl=_duration(ttl_s), scope=scope)

    @validate_call
    def context_list(
        self, run_id: str, todo_id: str, pattern: str = "*", scope: Scope | None = None
    ) -> list[Kept]:
        return list(self._at(run_id, todo_id).list(pattern, scope=scope))

    @validate_call
    def context_compute(
        self,
        run_id: str,
        todo_id: str,
        key: str,
        compute: Callable[[], str],
        ttl_s: float | None = None,
        scope: Scope | None = None,
    ) -> str:
        """Return the value; compute and set it if there is none, as `Context.get_or_compute` does."""
        context = self._at(run_id, todo_id)
        found = context.get_or_compute(key, lambda: _parsed(compute()), _duration(ttl_s), scope=scope)
        return json.dumps(found)

    def close(self) -> None:
        self._cache.close()

    def _at(self, run_id: str, todo_id: str) -> Context:
        return Context(self._cache, chain_of_todo(self._brief(run_id), todo_id))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the value is not JSON: {error}", "keep numbers, texts, lists and objects"
        ) from error


def _duration(seconds: float | None) -> timedelta | None:
    try:
        return None if seconds is None else timedelta(seconds=seconds)
    except (OverflowError, ValueError) as error:
        raise UsageError(f"a ttl of {seconds} s is none", "from 1 ms to a year") from error


def _chain_of_run(cache: Cache, run: str, todo: str) -> Chain:
    run_id = RunReader(cache.redis, Keys(cache.namespace)).resolve(
        run, ActsOn(todo=todo) if todo else OF_TODOS
    )
    brief = RunStore(cache.redis, cache.namespace).brief(run_id)
    if todo and todo not in brief.repo_of:
        near = did_you_mean(todo, brief.repo_of)
        raise NotFound(f"run {run_id} has no todo {todo!r}{near}", f"see: coord show-run {run_id}")
    return chain_of_todo(brief, todo)
