"""Everything a worker process is made of, put together once."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from celery import Celery

from coordination.cache import Limits, Store
from coordination.cache.chore import CacheChore
from coordination.cache.store import RESULTS
from coordination.disk import shortage
from coordination.locks import LockManager
from coordination.locks.sweeper import Sweeper
from coordination.runs.cleaning import Board
from coordination.runs.dispatch import Dispatcher
from coordination.runs.mail import open_bus
from coordination.runs.presence import Presence, Worker
from coordination.runs.recovery import Keeper
from coordination.runs.restricted.deeds import BRIEFS_KEPT, Deeds
from coordination.runs.restricted.serving import Serving
from coordination.runs.shared import ContextCalls
from coordination.runs.store import RunStore
from coordination.settings import Settings
from coordination.wire.carrier import make_app
from coordination.wire.connection import Profile, connect
from coordination.wire.keys import Keys
from coordination.wire.line import PlainLine
from workers.attempts import Attempts
from workers.context_socket import clear_sockets
from workers.errands import Errands
from workers.leases import Leases
from workers.mail import Mail, Told, Wakes
from workers.parcels import Parcels
from workers.reuse import Results
from workers.roll import Roll
from workers.scratch import clear_scratch
from workers.served import LEAVES, Served
from workers.tasks import collect, forget_names, register


@dataclass(kw_only=True, eq=False)
class Charge:
    """Say what this worker serves, and how. `served` and `jobs` follow the file while it works (`file_watch.py`)."""

    redis_url: str
    settings: Settings
    places: Mapping[str, Path]
    """Repository → where it lies on this machine."""
    jobs: int
    """How many todos at once."""
    state: Path
    """Folder for worktrees and logs."""
    ecosystem_id: str = ""
    """`coordination.id` of the file; empty without one."""
    served: Served = field(init=False)
    """`places`, as they stand now."""

    def __post_init__(self) -> None:
        self.places = self.served = Served(self.places)

    def unfit(self, repo: str) -> str:
        """Why the repository cannot be worked on here at present; empty if it can."""
        place = self.places.get(repo)
        if place is None:
            return "this worker does not serve it"
        if self.served.leaves(repo):
            return f"the worker {LEAVES}"
        return "" if place.is_dir() else f"there is no folder {place}: clone it there, or name its folder to the worker"

    def short(self) -> str:
        """Why no todo is begun here at present: a disk that work is done on has too little room. Empty if there is enough."""
        return shortage((self.state, *self.places.values()), self.settings.disk_min)


class Service(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


class WorkerParts:
    def __init__(self, charge: Charge) -> None:
        self.charge = charge
        self.keys = Keys(charge.settings.namespace)
        self.redis = connect(charge.redis_url, Profile.WORKER, charge.settings.connect_timeout)
        self.ears = connect(charge.redis_url, Profile.READER, charge.settings.connect_timeout, decode=False)
        self.goods = connect(charge.redis_url, Profile.FREIGHT, charge.settings.connect_timeout)
        host = charge.settings.host or socket.gethostname()
        self.worker = Worker(
            id=f"coord-{os.getpid()}@{host}",
            host=host,
            pid=os.getpid(),
            version=version("coord"),
            repos=tuple(charge.places),
            jobs=charge.jobs,
            places={repo: str(path) for repo, path in charge.places.items()},
            state=str(charge.state),
        )

    @cached_property
    def store(self) -> RunStore:
        return RunStore(self.redis, self.charge.settings.namespace, PlainLine(self.redis))

    @cached_property
    def presence(self) -> Presence:
        return Presence(self.redis, self.keys)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.store, self.presence, self.worker, self.charge)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.app, self.store)

    @cached_property
    def keeper(self) -> Keeper:
        return Keeper(self.store, self.dispatcher, self.charge.settings, label=self.worker.id, state=self.charge.state)

    @cached_property
    def serving(self) -> Serving:
        deeds = Deeds(self.store, self.dispatcher, self.charge.settings, self.worker.version)
        return Serving(self.redis, self.ears, self.keys, deeds, lambda: self.keeper.leads)

    @cached_property
    def roll(self) -> Roll:
        return Roll(self.charge.state, self.worker.id, self.store, self.dispatcher, self.charge.settings)

    @property
    def services(self) -> Sequence[Service]:
        """The threads beside Celery's, in the order in which they start."""
        return (self.leases, self.keeper, self.serving, self.errands, self.mail, self.sweeper, self.roll)

    @cached_property
    def attempts(self) -> Attempts:
        return Attempts(
            self.store,
            self.dispatcher,
            self.leases,
            self.worker,
            self.charge,
            self.parcels,
            self.contexts,
            self.results,
        )

    @cached_property
    def contexts(self) -> ContextCalls:
        """What its todos may ask of the values that they share."""
        return ContextCalls(self.store, self.charge.settings, lru_cache(BRIEFS_KEPT)(self.store.brief))

    @cached_property
    def parcels(self) -> Parcels:
        return Parcels(self.goods, self.keys)

    @cached_property
    def results(self) -> Results | None:
        settings = self.charge.settings
        if not settings.cache_todos:
            return None
        limits = Limits.of(settings)
        store = Store(self.redis, settings.namespace, RESULTS, limits)
        return Results(store, LockManager(self.redis, settings.namespace), limits, settings.cache_todos_ttl)

    @cached_property
    def board(self) -> Board:
        return Board(self.redis, self.keys)

    @cached_property
    def errands(self) -> Errands:
        clear = partial(clear_scratch, self.charge.state)
        chores = (collect, forget_names, self.attempts.janitor.run_once, clear, clear_sockets)
        return Errands(self.board, self.worker, self.charge, chores)

    @property
    def told(self) -> Told:
        return Told(beat=self.leases.beat, look=self.errands.look, say=self.attempts.say)

    @cached_property
    def mail(self) -> Mail | Wakes:
        return Mail(self.redis, self.charge.settings, self.worker, self.told)

    @cached_property
    def sweeper(self) -> Sweeper:
        bus = open_bus(self.redis, self.charge.settings, self.worker.id)
        cache = CacheChore(self.redis, self.charge.settings)
        return Sweeper(self.redis, self.keys.namespace, chores=[bus.sweep, cache.run_once], label=self.worker.id)

    @cached_property
    def app(self) -> Celery:
        return make_app(self.charge.redis_url, self.keys, self.charge.settings)

    @property
    def queues(self) -> list[str]:
        return [self.keys.control_queue, *self.queues_of(self.charge.places)]

    def queues_of(self, repos: Iterable[str]) -> list[str]:
        """Each has one that its workers share, and one of this host."""
        return [self.keys.queue(repo, host) for repo in repos for host in (None, self.worker.host)]

    def registered(self) -> Celery:
        """The app with its tasks."""
        register(self.app, self.attempts, self.dispatcher, joins=not self.charge.settings.restricted)
        return self.app

    def close(self) -> None:
        if results := self.__dict__.get("results"):  # not made for this
            results.close()
        if contexts := self.__dict__.get("contexts"):
            contexts.close()
        for client in (self.redis, self.ears, self.goods):
            client.close()
