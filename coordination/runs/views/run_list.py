"""Find the newest runs of given plans and statuses, without reading the records of more runs than needed.

The index of runs is ordered by their start, so a time and a limit cost nothing per older run. Of plans and
statuses there is no index: two fields of each run are read, newest first, until the limit is reached.
Measured on a busy machine with 10,000 runs: the newest 20 in 1 ms, 20 of a plan in 17 ms, a plan without
any in 0.25 s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from redis import Redis
from redis.exceptions import ResponseError

from coordination.backend.keys import Keys
from coordination.errors import NotFound, UsageError
from coordination.runs.records import LIVE, Descriptor, RunStatus
from coordination.runs.run_kinds import is_automatic, is_of_todos
from coordination.text import did_you_mean, nearest

AT_ONCE = 500
"""Runs whose fields are read in one round trip."""
FIRST_READ = 20
"""Newest runs that are read at first for `last`, which is nearly always among them."""
RUNS_SEARCHED = 2000
"""Number of runs that are searched for the newest of each plan: 50 ms."""
STATUSES = tuple(status for status in RunStatus if status is not RunStatus.DRAFT)


@dataclass(frozen=True, kw_only=True)
class RunFilters:
    """Conditions that a run must meet; empty: any."""

    plans: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    since_ms: int = 0
    """It started at this time or later."""
    automatic: bool = False
    """Also runs that the health monitor has started; they are there as well where a plan is named."""


def filters_of(
    plan: str | Collection[str] | None,
    status: str | Collection[str] | None,
    since: datetime | None,
    *,
    automatic: bool = False,
) -> RunFilters:
    """Return the filters. Raises UsageError for a status that no run has."""
    statuses = frozenset(word.lower() for word in values_of(status))
    for word in sorted(statuses - set(STATUSES)):
        close = nearest(word, STATUSES)
        hint = f"did you mean {close}?" if close else "use one of these, or omit the filter to see all"
        raise UsageError(f"status must be one of {', '.join(STATUSES)}, got {word!r}", hint)
    return RunFilters(
        plans=values_of(plan), statuses=statuses, since_ms=_since_ms(since), automatic=automatic
    )


def _since_ms(since: datetime | None) -> int:
    """Return milliseconds since 1970. Without a zone it is local time."""
    try:
        return 0 if since is None else int(since.timestamp() * 1000)
    except (OverflowError, ValueError, OSError) as error:
        raise UsageError(f"{since} is out of range", "write it like 2026-01-31T12:00:00Z") from error


def values_of(wanted: str | Collection[str] | None) -> frozenset[str]:
    """Return the alternatives of a filter; none where it is not set."""
    return frozenset([wanted] if isinstance(wanted, str) else wanted or ())


def newest(redis: Redis, keys: Keys, filters: RunFilters, limit: int) -> list[str]:
    """Return the ids of the newest runs that meet the filters. Raises UsageError for a limit below 1."""
    if limit < 1:
        raise UsageError(f"{limit} runs cannot be listed", "choose a limit of at least 1")
    if filters.automatic and not filters.plans and not filters.statuses:
        return list(redis.zrevrangebyscore(keys.runs, "+inf", filters.since_ms, 0, limit))
    found: list[str] = []
    for batch in _batches(redis, keys, filters, limit):
        for run_id, plan, status in _plans_and_statuses(redis, keys, batch):
            if _fits(filters, plan or "", status):
                found.append(run_id)
                if len(found) == limit:
                    return found
    return found


def _fits(filters: RunFilters, plan: str, status: str | None) -> bool:
    named = plan in filters.plans if filters.plans else filters.automatic or not is_automatic(plan)
    return named and (not filters.statuses or status in filters.statuses)


@dataclass(frozen=True, kw_only=True)
class ActsOn:
    """Runs among which the newest is `last` for a command; never one that the health monitor has started.

    The kind of a run decides, not its status: else a run that ends while a person types would make the
    command act on an older one.
    """

    todos_only: bool = False
    """Only runs that execute todos: no landings, reverts, checks, services."""
    or_live: bool = False
    """Beside these, live runs of any kind."""
    todo: str | None = None
    """Only runs that have this todo."""
    action: str | None = None
    """Only runs with a todo of this kind of action."""


ANY_RUN = ActsOn()
OF_TODOS = ActsOn(todos_only=True)
UNDOABLE = ActsOn(todos_only=True, or_live=True)
CHECKED = ActsOn(action="qa")


def last_run(redis: Redis, keys: Keys, acts_on: ActsOn) -> str | None:
    """Return the newest run that a command can act on; where there is none, the newest that a person has
    started, so that the command says why it refuses that run; None without runs.
    """
    first: dict[bool, str] = {}
    position, size = 0, FIRST_READ
    while batch := redis.zrevrange(keys.runs, position, position + size - 1):
        named = []
        for run_id, plan, status in _plans_and_statuses(redis, keys, batch):
            automatic = is_automatic(plan or "")
            first.setdefault(automatic, run_id)
            also = not acts_on.todos_only or (acts_on.or_live and status in LIVE)
            if is_of_todos(plan or "") or (also and not automatic):
                named.append(run_id)
        if found := next(_having(redis, keys, named, acts_on), None):
            return found
        position, size = position + size, AT_ONCE
    return first.get(False) or first.get(True)


def _having(redis: Redis, keys: Keys, runs: Sequence[str], acts_on: ActsOn) -> Iterator[str]:
    """Yield the runs that have the wanted todo, or a todo of the wanted kind of action."""
    if acts_on.todo is None and acts_on.action is None:
        yield from runs
        return
    for run_id in runs:
        descriptor = keys.run(run_id).descriptor
        with suppress(ResponseError, ValueError):  # damaged
            if acts_on.todo is not None:
                found = redis.hexists(descriptor, acts_on.todo)
            else:
                kinds = {Descriptor.parse(text).kind.partition(":")[0] for text in redis.hvals(descriptor)}
                found = acts_on.action in kinds
            if found:
                yield run_id


def newest_of_each(redis: Redis, keys: Keys, plans: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return plan → the id and the status of its newest run, among the RUNS_SEARCHED newest of all."""
    found: dict[str, tuple[str, str]] = {}
    missing = set(plans)
    for position in range(0, RUNS_SEARCHED, AT_ONCE):
        batch = redis.zrevrange(keys.runs, position, position + AT_ONCE - 1)
        for run_id, plan, status in _plans_and_statuses(redis, keys, batch):
            if plan in missing and status:
                found[plan] = run_id, status
                missing.discard(plan)
        if not missing or len(batch) < AT_ONCE:
            break
    return found


def _plans_and_statuses(
    redis: Redis, keys: Keys, runs: Collection[str]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield each run with its plan and status; None and None for a damaged run. One round trip."""
    with redis.pipeline(transaction=False) as pipeline:
        for run_id in runs:
            pipeline.hmget(keys.run(run_id).meta, ["plan_id", "status"])
        answers = pipeline.execute(raise_on_error=False)
    for run_id, answer in zip(runs, answers, strict=True):
        plan, status = answer if isinstance(answer, list) else (None, None)
        yield run_id, plan, status


def _batches(redis: Redis, keys: Keys, filters: RunFilters, limit: int) -> Iterator[list[str]]:
    """Yield ids, newest first; only those of live runs if no others can match. Where nearly all match, the
    first batch is small.
    """
    if filters.statuses and filters.statuses <= set(LIVE):
        live = redis.zrange(keys.live, 0, -1)
        started = dict(zip(live, redis.zmscore(keys.runs, live), strict=True)) if live else {}
        ids = [run_id for run_id, at_ms in started.items() if at_ms is not None and at_ms >= filters.since_ms]
        yield sorted(ids, key=lambda run_id: -started[run_id])
        return
    position, size = 0, AT_ONCE if filters.plans or filters.statuses else min(limit, AT_ONCE)
    while batch := redis.zrevrangebyscore(keys.runs, "+inf", filters.since_ms, position, size):
        yield batch
        position, size = position + len(batch), AT_ONCE


def refuse_unknown_plans(redis: Redis, keys: Keys, plans: Collection[str], declared: Collection[str]) -> None:
    """Raise NotFound for a plan that neither the file declares nor any run has: an empty list would mean that
    it had never run.
    """
    for plan in sorted(set(plans) - set(declared)):
        if not newest(redis, keys, RunFilters(plans=frozenset({plan})), 1):
            raise NotFound(
                f"there is no plan {plan!r}, and no run of it{did_you_mean(plan, declared)}",
                "list the plans: coord plan list",
            )
