"""The container of a restricted worker, whose Redis user may access only its own repositories.

A maintenance leader takes its steps. It follows no file: it forwards no edits, because a user who may write
events could forge those of other repositories, and writes no results into a file, because it may not read the
state of whole runs. Another worker or `coord run sync` writes them; the journal stays on its machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import redis
from celery import Celery

from coordination.background import BackgroundService
from coordination.broker.celery_app import make_app
from coordination.errors import Unreachable, Unusable
from coordination.runs.cleanup_jobs import CleanupQueue
from coordination.runs.remote_steps.calls import (
    NobodyAnswers,
    ProxyCleanupQueue,
    ProxyContexts,
    ProxyPresence,
    ProxyStore,
)
from coordination.runs.run_contexts import ContextCalls
from coordination.runs.worker_registry import WorkerRegistry
from workers.config import WorkerConfig
from workers.container import Container
from workers.wakeups import PubSubNotifications


class RestrictedContainer(Container):
    """Without maintenance leader and `advance`: each needs the state of all repositories."""

    reads_parts = True

    @cached_property
    def attempt_store(self) -> ProxyStore:
        return ProxyStore(self.redis, self.config.settings.namespace, self.config.places)

    @cached_property
    def registry(self) -> WorkerRegistry:
        return ProxyPresence(self.attempt_store)

    @cached_property
    def results(self) -> None:
        """None: results and their locks belong to all repositories, and its user may not read those."""
        return None

    @cached_property
    def change_sets(self) -> None:
        """None: a change set belongs to all repositories of its plan."""
        return None

    @cached_property
    def service_waits(self) -> None:
        """None: it may fire no todo, so its parked todos wait for their timers."""
        return None

    @cached_property
    def request_waits(self) -> None:
        """None, as for services: its landings ask the forge at intervals."""
        return None

    @cached_property
    def contexts(self) -> ContextCalls:
        return ProxyContexts(self.attempt_store)

    @cached_property
    def cleanup_queue(self) -> CleanupQueue:
        return ProxyCleanupQueue(self.attempt_store)

    @cached_property
    def notifications(self) -> PubSubNotifications:
        return PubSubNotifications(self.pubsub_redis, self.keys.messages, self.worker, self.callbacks)

    @cached_property
    def app(self) -> Celery:
        own = self.keys.restricted(self.config.places)
        return make_app(self.config.redis_url, self.keys, self.config.settings, own)

    @property
    def queues(self) -> list[str]:
        return [queue for queue in super().queues if queue != self.keys.control_queue]

    @property
    def services(self) -> Sequence[BackgroundService]:
        return (self.leases, self.cleanup_jobs, self.notifications)

    def sign_on(self) -> None:
        """Make this worker known; it has no inbox, and may write no template."""
        self.trust.sign_on(self.config.places)
        self.leases.sign_on()
        self.local_liveness.sign()


def make_container(config: WorkerConfig) -> Container:
    return RestrictedContainer(config) if config.settings.restricted else Container(config)


@contextmanager
def refusals_explained(config: WorkerConfig) -> Iterator[None]:
    """Explain a refusal at the start: the rights that are missing, or that no leader answers."""
    try:
        yield
    except NobodyAnswers as error:
        raise Unreachable(str(error), "a worker that is not restricted does as well") from error
    except redis.exceptions.NoPermissionError as error:
        names = " ".join(f"--repo {repo}" for repo in sorted(config.places))
        if config.settings.restricted:
            hint = (
                "a restricted worker serves exactly the repositories of its user: "
                f"coord acl --role worker {names}"
            )
        else:
            hint = (
                "if its user is for these repositories alone (coord acl --role worker), say so: "
                "COORD_RESTRICTED=true"
            )
        raise Unusable(f"Redis does not permit it: {error}", hint) from error
