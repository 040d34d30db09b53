"""The container of a restricted worker, whose Redis user may access only its own repositories.

A maintenance leader takes its steps. It follows no file. To forward edits it would have to write events, and
could then forge those of other repositories; to write results it would have to read the state of whole runs.
Another worker or `coord run sync` writes them; the journal stays on its machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from celery import Celery

from coordination.background import BackgroundService
from coordination.broker.celery_app import make_app
from coordination.errors import Unreachable
from coordination.runs.cleanup_jobs import CleanupQueue
from coordination.runs.remote_steps.calls import NobodyAnswers, ProxyCleanupQueue, ProxyPresence, ProxyStore
from coordination.runs.worker_registry import WorkerRegistry
from workers.container import Container
from workers.notifications import PubSubNotifications


class RestrictedContainer(Container):
    """Without maintenance leader and `advance`: each needs the state of all repositories."""

    restricted = True

    @cached_property
    def attempt_store(self) -> ProxyStore:
        return ProxyStore(self.redis, self.config.settings.namespace, self.config.places)

    @cached_property
    def registry(self) -> WorkerRegistry:
        return ProxyPresence(self.attempt_store)

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
        """Make this worker known; it has no inbox, and may write no template. Raises Unreachable where no
        maintenance leader answers.
        """
        try:
            self.trust.sign_on(self.config.places)
            self.leases.sign_on()
            self.local_liveness.sign()
        except NobodyAnswers as error:
            raise Unreachable(str(error), "a worker that is not restricted does as well") from error
