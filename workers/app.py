"""The repositories that this worker serves, where each lies, and how many todos it takes at once; they may change while it works.

A repository that goes, or lies elsewhere now, takes nothing new at once, and is left when its last todo here has ended. Only then is
it served from its new folder: todos of one repository never run in two folders of a host.

Everything a worker process is made of, put together once.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from celery import Celery

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.backend.step_connection import PlainLine
from coordination.broker.celery_app import make_app
from coordination.cache import Limits, Store
from coordination.cache.disk import CacheChore
from coordination.cache.entries import RESULTS
from coordination.disk import shortage
from coordination.locks import LockManager
from coordination.locks.sweeper import Sweeper
from coordination.messages.bus import open_bus
from coordination.runs.cleanup_jobs import CleanupQueue
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance.leader import MaintenanceLeader
from coordination.runs.presence import Presence, Worker
from coordination.runs.remote_steps.deeds import BRIEFS_KEPT, StepHandlers
from coordination.runs.remote_steps.serving import Serving
from coordination.runs.shared import ContextCalls
from coordination.runs.store import RunStore
from coordination.settings import Settings
from workers.cleanup.jobs import CleanupJobs
from workers.context_socket import clear_sockets
from workers.delivery import DeliveryHandler
from workers.leases import Leases
from workers.local_liveness import LocalLiveness
from workers.notifications import Callbacks, Notifications, PubSubNotifications
from workers.result_cache import Results
from workers.tasks import collect, forget_names, register
from workers.transfer.bundles import BundleStore
from workers.workspace.files import clear_scratch

LEAVES = "is told to leave it: what runs there ends first"


class Served(Mapping[str, Path]):
    """Repository → its folder, as it stands now."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = dict(places)  # never changed, only replaced: others may be going through it
        self._wanted = dict(places)
        self._in_hand: Counter[str] = Counter()
        self._guard = threading.Lock()

    def __getitem__(self, repo: str) -> Path:
        return self._places[repo]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def leaves(self, repo: str) -> bool:
        """Whether nothing new of it is to begin here."""
        return repo in self._places and self._wanted.get(repo) != self._places[repo]

    @contextmanager
    def in_hand(self, repo: str) -> Iterator[None]:
        """For a todo of the repository: its folder stays what it is. Ask `leaves` within."""
        with self._guard:
            self._in_hand[repo] += 1
        try:
            yield
        finally:
            with self._guard:
                self._in_hand[repo] -= 1
                self._in_hand += Counter()  # those that are 0 go

    def want(self, places: Mapping[str, Path]) -> None:
        """Serve these from now on, as far as what runs permits: `step` does it."""
        with self._guard:
            self._wanted = dict(places)

    def leave(self) -> tuple[str, ...]:
        """Serve no more what is to go, or to move, and has no todo in hand; returns those."""
        with self._guard:
            gone = tuple(repo for repo in self._places if self.leaves(repo) and not self._in_hand[repo])
            self._places = {repo: path for repo, path in self._places.items() if repo not in gone}
            return gone

    def take_up(self, permitted: Callable[[str, Path], bool]) -> tuple[str, ...]:
        """Serve what is wanted, and permitted; returns what is new."""
        new = {repo: path for repo, path in self._wanted.items() if repo not in self._places and permitted(repo, path)}
        with self._guard:
            self._places = {**self._places, **new}
        return tuple(new)


@dataclass(kw_only=True, eq=False)
class WorkerConfig:
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


class Container:
    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.keys = Keys(config.settings.namespace)
        self.redis = connect(config.redis_url, Profile.WORKER, config.settings.connect_timeout)
        self.pubsub_redis = connect(config.redis_url, Profile.READER, config.settings.connect_timeout, decode=False)
        self.bundle_redis = connect(config.redis_url, Profile.FREIGHT, config.settings.connect_timeout)
        host = config.settings.host or socket.gethostname()
        self.worker = Worker(
            id=f"coord-{os.getpid()}@{host}",
            host=host,
            pid=os.getpid(),
            version=version("coord"),
            repos=tuple(config.places),
            jobs=config.jobs,
            places={repo: str(path) for repo, path in config.places.items()},
            state=str(config.state),
        )

    @cached_property
    def store(self) -> RunStore:
        return RunStore(self.redis, self.config.settings.namespace, PlainLine(self.redis))

    @cached_property
    def presence(self) -> Presence:
        return Presence(self.redis, self.keys)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.store, self.presence, self.worker, self.config)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.app, self.store)

    @cached_property
    def keeper(self) -> MaintenanceLeader:
        return MaintenanceLeader(
            self.store, self.dispatcher, self.config.settings, label=self.worker.id, state=self.config.state
        )

    @cached_property
    def serving(self) -> Serving:
        deeds = StepHandlers(self.store, self.dispatcher, self.config.settings, self.worker.version)
        return Serving(self.redis, self.pubsub_redis, self.keys, deeds, lambda: self.keeper.leads)

    @cached_property
    def local_liveness(self) -> LocalLiveness:
        return LocalLiveness(self.config.state, self.worker.id, self.store, self.dispatcher, self.config.settings)

    @property
    def services(self) -> Sequence[Service]:
        """The threads beside Celery's, in the order in which they start."""
        return (
            self.leases,
            self.keeper,
            self.serving,
            self.cleanup_jobs,
            self.notifications,
            self.sweeper,
            self.local_liveness,
        )

    @cached_property
    def attempts(self) -> DeliveryHandler:
        return DeliveryHandler(
            self.store,
            self.dispatcher,
            self.leases,
            self.worker,
            self.config,
            self.bundles,
            self.contexts,
            self.results,
        )

    @cached_property
    def contexts(self) -> ContextCalls:
        """What its todos may ask of the values that they share."""
        return ContextCalls(self.store, self.config.settings, lru_cache(BRIEFS_KEPT)(self.store.brief))

    @cached_property
    def bundles(self) -> BundleStore:
        return BundleStore(self.bundle_redis, self.keys)

    @cached_property
    def results(self) -> Results | None:
        settings = self.config.settings
        if not settings.cache_todos:
            return None
        limits = Limits.of(settings)
        store = Store(self.redis, settings.namespace, RESULTS, limits)
        return Results(store, LockManager(self.redis, settings.namespace), limits, settings.cache_todos_ttl)

    @cached_property
    def cleanup_queue(self) -> CleanupQueue:
        return CleanupQueue(self.redis, self.keys)

    @cached_property
    def cleanup_jobs(self) -> CleanupJobs:
        clear = partial(clear_scratch, self.config.state)
        chores = (collect, forget_names, self.attempts.auto_cleanup.run_once, clear, clear_sockets)
        return CleanupJobs(self.cleanup_queue, self.worker, self.config, chores)

    @property
    def told(self) -> Callbacks:
        return Callbacks(beat=self.leases.beat, look=self.cleanup_jobs.look, say=self.attempts.say)

    @cached_property
    def notifications(self) -> Notifications | PubSubNotifications:
        return Notifications(self.redis, self.config.settings, self.worker, self.told)

    @cached_property
    def sweeper(self) -> Sweeper:
        bus = open_bus(self.redis, self.config.settings, self.worker.id)
        cache = CacheChore(self.redis, self.config.settings)
        return Sweeper(self.redis, self.keys.namespace, chores=[bus.sweep, cache.run_once], label=self.worker.id)

    @cached_property
    def app(self) -> Celery:
        return make_app(self.config.redis_url, self.keys, self.config.settings)

    @property
    def queues(self) -> list[str]:
        return [self.keys.control_queue, *self.queues_of(self.config.places)]

    def queues_of(self, repos: Iterable[str]) -> list[str]:
        """Each has one that its workers share, and one of this host."""
        return [self.keys.queue(repo, host) for repo in repos for host in (None, self.worker.host)]

    def registered(self) -> Celery:
        """The app with its tasks."""
        register(self.app, self.attempts, self.dispatcher, joins=not self.config.settings.restricted)
        return self.app

    def close(self) -> None:
        if results := self.__dict__.get("results"):  # not made for this
            results.close()
        if contexts := self.__dict__.get("contexts"):
            contexts.close()
        for client in (self.redis, self.pubsub_redis, self.bundle_redis):
            client.close()
