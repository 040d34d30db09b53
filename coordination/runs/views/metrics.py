"""Counts of runs, todos, queues and workers for Prometheus, at a cost that does not grow with the number of
ended runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from redis import Redis

from coordination.backend.keys import SLOT, Keys, RunKeys
from coordination.runs.records import LIVE, RunStatus, TodoState
from coordination.runs.views.run_view import RunReader
from coordination.runs.worker_registry import Worker, WorkerRegistry

COUNTS = [f"n.{state}" for state in TodoState]

Counts = Mapping[str, int]
Queue = tuple[str, str | None]
"""A repository, and the host if it is the queue of one host."""


@dataclass(frozen=True, kw_only=True)
class LiveCounts:
    """Counts of the live runs, their todos, the queues and the workers."""

    queues: Counts
    """Repository → messages that no worker has taken yet."""
    runs: Counts
    """Status → live runs."""
    todos: Counts
    """State → todos of live runs."""
    leases: int
    """Todos that a worker holds at present."""
    seat_waits: Counts
    """Repository → todos that wait until another run releases its slot."""
    workers: Mapping[tuple[str, ...], int]
    """Host and repository → living workers that can work on it."""
    slots: Mapping[tuple[str, ...], int]
    """Host → slots of its workers."""
    short: Mapping[tuple[str, ...], int]
    """Host → 1 if a disk is short of room, else 0."""
    poison: int
    """Queue entries that could not be read."""
    breakers: Counts
    """State → circuit breakers in it, without those at rest."""
    cache: Counts
    """Context cache: entries, bytes; totals of hits, local_hits, misses, evictions …"""
    counters: Counts
    """Totals of events: see `<ns>:counters`."""


class LiveCountReader:
    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._registry = WorkerRegistry(redis, keys)
        self._reader = RunReader(redis, keys)

    def read(self) -> LiveCounts:
        keys = self._keys
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zrange(keys.live, 0, -1)
            pipeline.zcard(keys.leases)
            pipeline.smembers(keys.locks.names)
            pipeline.llen(keys.poison)
            pipeline.hgetall(keys.counters)
            pipeline.hvals(keys.breakers.all)
            pipeline.hgetall(keys.cache.facts)
            pipeline.zcard(keys.cache.expiry)
            live, leases, names, poison, counters, breakers, cache, entries = pipeline.execute()
        workers = self._registry.workers()
        slots = _slots(workers)
        runs, todos, queues = self._of_runs(live)
        return LiveCounts(
            queues=_by_repo(queue_lengths(self._redis, keys, queues | _own_queues(workers))),
            runs=runs,
            todos=todos,
            leases=leases,
            seat_waits=self._seat_waits(names),
            workers=Counter((worker.host, repo) for worker in workers for repo in worker.fit),
            slots=slots,
            short=dict.fromkeys(slots, 0) | {(worker.host,): 1 for worker in workers if worker.short},
            poison=poison,
            breakers=Counter(breakers),
            cache={"entries": entries, **{name: int(float(value)) for name, value in cache.items()}},
            counters={name: int(count) for name, count in counters.items()},
        )

    def _seat_waits(self, names: Iterable[str]) -> Counts:
        slots = [name for name in names if name.startswith(SLOT)]
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in slots:
                pipeline.zcard(self._keys.locks.queue(name))
            lengths = pipeline.execute()
        waits: Counter[str] = Counter()
        for name, length in zip(slots, lengths, strict=True):
            waits[name.removeprefix(SLOT).partition(":")[0]] += length
        return +waits

    def _of_runs(self, live: Iterable[str]) -> tuple[Counts, Counts, set[Queue]]:
        """Return statuses, states of todos, and the queues that may hold messages, by repository and pinned
        host.
        """
        runs: Counter[str] = Counter()
        todos: Counter[str] = Counter()
        queues: set[Queue] = set()
        for run_id in live:
            keys = self._keys.run(run_id)
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hmget(keys.meta, ["status", *COUNTS])
                pipeline.hkeys(keys.occupant)
                (status, *counts), busy = pipeline.execute()
            if status in LIVE:  # it may have ended since it was listed
                runs[status] += 1
                todos.update(self._counts(run_id, status, counts))
                queues |= self._queues(keys, set(busy))
        return runs, todos, queues

    def _counts(self, run_id: str, status: str, counts: Iterable[str | None]) -> Counts:
        if status == RunStatus.ROLLING_BACK:  # only the facts show which todos are being undone
            return self._reader.read(run_id, todos=False).counts
        return {state: int(n or 0) for state, n in zip(TodoState, counts, strict=True)}

    def _queues(self, keys: RunKeys, repos: Set[str]) -> set[Queue]:
        ordered = sorted(repos)
        hosts = self._redis.hmget(keys.meta, [f"host.{repo}" for repo in ordered]) if ordered else []
        return {(repo, host) for repo, pin in zip(ordered, hosts, strict=True) for host in (None, pin)}


def queue_lengths(redis: Redis, keys: Keys, queues: Iterable[Queue]) -> Mapping[Queue, int]:
    """Return the number of messages in each queue that no worker has taken yet."""
    ordered = list(queues)
    with redis.pipeline(transaction=False) as pipeline:
        for repo, host in ordered:
            pipeline.llen(keys.queue(repo, host))
        return dict(zip(ordered, pipeline.execute(), strict=True))


def _by_repo(lengths: Mapping[Queue, int]) -> Counts:
    counts: Counter[str] = Counter()
    for (repo, _), length in lengths.items():
        counts[repo] += length
    return counts


def _own_queues(workers: Iterable[Worker]) -> set[Queue]:
    return {(repo, host) for worker in workers for repo in worker.repos for host in (None, worker.host)}


def _slots(workers: Iterable[Worker]) -> Mapping[tuple[str, ...], int]:
    found: Counter[tuple[str, ...]] = Counter()
    for worker in workers:
        found[(worker.host,)] += worker.jobs
    return found
