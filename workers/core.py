"""The parts that all services of a worker use: its connections, its record, the steps in Redis, its trust.

None of it is a thread. Each part is made once, when it is first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from functools import cached_property
from importlib.metadata import version

from celery import Celery

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.backend.step_connection import PlainStepConnection
from coordination.broker.celery_app import make_app
from coordination.runs.attempt_store import AttemptStore, Grant
from coordination.runs.cleanup_jobs import CleanupQueue
from coordination.runs.dispatch import Dispatcher
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.services.host import ServiceHost
from coordination.trust.orders import Audience
from coordination.trust.trust_file import trust_path
from workers.config import ServedRepositories, WorkerConfig
from workers.trust.order_memory import OrderMemory
from workers.trust.server_memory import ServerMemory
from workers.trust.worker_trust import OrderCheck, WorkerKey, WorkerTrust
from workers.workspace.repository import remote_urls


class WorkerCore:
    restricted = False
    """True where the Redis user of the worker may access only its own repositories."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.served = ServedRepositories(config)
        self.keys = Keys(config.settings.namespace)
        self.redis = connect(config.redis_url, Profile.WORKER, config.settings.connect_timeout)
        self.pubsub_redis = connect(
            config.redis_url, Profile.READER, config.settings.connect_timeout, decode=False
        )
        self.bundle_redis = connect(config.redis_url, Profile.BULK, config.settings.connect_timeout)
        host = config.settings.this_host
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

    # Redis and Celery

    @cached_property
    def store(self) -> RunStore:
        return RunStore(self.redis, self.config.settings.namespace, PlainStepConnection(self.redis))

    @cached_property
    def attempt_store(self) -> AttemptStore:
        return self.store

    @cached_property
    def registry(self) -> WorkerRegistry:
        return WorkerRegistry(self.redis, self.keys)

    @cached_property
    def cleanup_queue(self) -> CleanupQueue:
        return CleanupQueue(self.redis, self.keys)

    @cached_property
    def app(self) -> Celery:
        return make_app(self.config.redis_url, self.keys, self.config.settings)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.app, self.store)

    @property
    def queues(self) -> list[str]:
        return [self.keys.control_queue, *self.queues_of(self.served)]

    def queues_of(self, repos: Iterable[str]) -> list[str]:
        """Return two queues for each repository: one that its workers share, and one of this host."""
        return [self.keys.queue(repo, host) for repo in repos for host in (None, self.worker.host)]

    # Trust

    @cached_property
    def worker_key(self) -> WorkerKey:
        return WorkerKey(self.config.state, self.worker.host)

    @cached_property
    def trust(self) -> WorkerTrust:
        return WorkerTrust(
            trust_path(),
            self.worker_key,
            lambda: (self.config.state, *self.served.values()),
            self.config.signatures,
        )

    @cached_property
    def server_memory(self) -> ServerMemory:
        return ServerMemory(self.config.state, self.config.redis_url, self.attempt_store)

    @cached_property
    def here(self) -> Audience:
        """The audience whose orders this worker executes."""
        ecosystem = self.config.ecosystem_id or (None if self.config.file is None else "")
        return self.attempt_store.audience(ecosystem, self.server_memory.server())

    @cached_property
    def order_memory(self) -> OrderMemory | None:
        return OrderMemory(self.config.state) if self.trust.requires else None

    @cached_property
    def order_check(self) -> OrderCheck:
        return OrderCheck(
            self.attempt_store,
            self.trust,
            restricted=self.restricted,
            here=lambda: self.here,
            repos=lambda: tuple(self.served),
            report=self._report_refused,
            confines_all=self.config.settings.sandbox == "require",
            urls=self._urls_of,
            repos_of_service=ServiceHost(self.config.state).repos_of,
            memory=self.order_memory,
        )

    def _urls_of(self, repo: str) -> Collection[str]:
        """Return the addresses that this machine has for a repository: that of its file, and the remotes of
        the checkout.
        """
        declared, place = self.config.urls.get(repo), self.served.get(repo)
        return ({declared} if declared else set()) | (remote_urls(place) if place else set())

    def _report_refused(self, subject: str, why: str, run: str) -> None:
        if not self.restricted:  # a restricted worker may write no event; its log has it
            self.store.announce("trust.refused", subject, run=run, actor=self.worker.id, title=why)

    def report_distrust(self, grant: Grant, why: str) -> None:
        """Record that a result was not trusted."""
        repo = grant.spec.repo.name
        self.attempt_store.distrust(grant.run_id, grant.todo_id, self.worker.id, repo, why)

    def close(self) -> None:
        if memory := self.__dict__.get("order_memory"):  # made only if it was asked for
            memory.close()
        for client in (self.redis, self.pubsub_redis, self.bundle_redis):
            client.close()
