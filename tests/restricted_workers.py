"""A maintenance leader that serves restricted workers, and the requests of these workers."""

from __future__ import annotations

from datetime import timedelta

from coordination.backend.client import Profile, connect
from coordination.backend.steps.run import Reply
from coordination.broker.celery_app import make_app
from coordination.models import Strategy
from coordination.runs.attempt_store import Grant
from coordination.runs.dispatch import Dispatcher
from coordination.runs.records import Result, TodoState
from coordination.runs.remote_steps.calls import ProxyStore
from coordination.runs.remote_steps.handlers import StepHandlers
from coordination.runs.remote_steps.serving import StepServer
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import WorkerRegistry
from coordination.settings import Settings
from tests.engine import submit
from tests.plans import ecosystem, graph, order

TODOS = {"A": "alpha", "B": ("beta", ["A"]), "C": ("gamma", ["B"]), "L": "lone"}
LEASE = timedelta(seconds=15)
DONE = Result(outcome=TodoState.SUCCEEDED, output='{"x":1}')


class Site:
    """A leader that serves, and the store of a user with all rights."""

    def __init__(self, url: str) -> None:
        settings = Settings(namespace="test")
        self.client, self.pubsub_redis = (
            connect(url, Profile.WORKER),
            connect(url, Profile.READER, decode=False),
        )
        self.store = RunStore(self.client, "test")
        self.registry = WorkerRegistry(self.client, self.store.keys)
        self.dispatcher = Dispatcher(make_app(url, self.store.keys, settings), self.store)
        handlers = StepHandlers(self.store, self.dispatcher, settings, "1")
        self.serving = StepServer(self.client, self.pubsub_redis, self.store.keys, handlers)

    def submit(self, strategy: Strategy = Strategy.DATAFLOW) -> str:
        run_id, reply = submit(self.store, graph(TODOS), ecosystem(TODOS), Settings(), order(strategy))
        self.dispatcher.follow(reply)
        return run_id

    def asking(self, *repos: str) -> ProxyStore:
        return ProxyStore(self.client, "test", repos)

    def queue(self, repo: str, host: str | None = None) -> int:
        length: int = self.client.llen(self.store.keys.queue(repo, host))
        return length

    def close(self) -> None:
        self.serving.stop()
        self.client.close()
        self.pubsub_redis.close()


def claim(store: RunStore, run_id: str, todo: str, attempt: int = 1, lease: timedelta = LEASE) -> Reply:
    return store.claim(run_id, todo, attempt, worker="w", host="h", lease=lease, request="q")


def granted(store: RunStore, run_id: str, todo: str, attempt: int = 1) -> Grant:
    grant = claim(store, run_id, todo, attempt).grant
    assert grant is not None
    return grant
