"""Read the notifications of this worker; each lost one costs a few seconds and nothing else.

* `Notifications` reads the worker's inbox. A run was cancelled or is rolled back: the heartbeat that stops
  its commands is sent now. A run was paused or resumed: its todos here write that into their logs. A cleanup
  job was posted: the worker takes it now. A forge has news: parked todos may go on.
* `PubSubNotifications` does the same for a restricted worker, which may read no inbox. A message on its
  channel has no content: the worker then looks for cancelled todos and for cleanup jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.client import PubSub

from coordination.backend.client import address_of, reaching
from coordination.backend.keys import MessageKeys
from coordination.background import BackgroundService
from coordination.errors import Unreachable, Unusable
from coordination.forges.webhooks import REQUEST_NEWS
from coordination.messages import Limits, Message, MessageBus
from coordination.messages.outage import Outage, Stopped
from coordination.runs.cleanup_jobs import CLEANUP_JOBS, WORKERS
from coordination.runs.worker_registry import Worker
from coordination.settings import Settings

OPEN_AGAIN_S = 5.0
TICK_S = 0.5
BEAT = "beat"
"""Published on a worker's channel, and kept nowhere, by a step that sends no messages."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """The reactions to notifications; none of them takes long."""

    send_heartbeat: Callable[[], None]
    look_for_jobs: Callable[[], None]
    """Look for cleanup jobs now."""
    log_line: Callable[[str, str], None]
    """Write a line into the logs of a run's todos that run here: run, line."""
    record_news: Callable[[Any], None] = lambda _: None
    """Record the payload of a message that announces news of a forge."""


class Notifications(BackgroundService):
    """Read the worker's inbox. The round blocks until `stop`."""

    name = "notifications"
    interval_s = 0.0
    first_at_once = True

    def __init__(self, client: redis.Redis, settings: Settings, worker: Worker, callbacks: Callbacks) -> None:
        super().__init__()
        self._bus = MessageBus(client, settings.namespace, limits=Limits(interval=settings.heartbeat))
        self._recipient = recipient(worker)
        self._callbacks = callbacks
        self._open()

    def subscribe(self) -> None:
        """Make the inbox, which keeps all messages from now on. Raises Unreachable."""
        self._bus.subscribe(self._recipient, WORKERS)

    def stop(self) -> None:
        """Stop reading, and delete the inbox."""
        super().stop()
        try:
            self._bus.unsubscribe(self._recipient, WORKERS)
            self._bus.forget(self._recipient)
        except Unreachable as error:
            logger.warning("could not delete the inbox, which expires by itself: %s", error.message)

    def run_once(self) -> None:
        """Read until the inbox is stopped."""
        self._inbox.run(self._receive)

    def interrupt(self) -> None:
        self._inbox.stop()

    def failed(self, error: Exception) -> float:
        """Open the inbox again: until then, heartbeats stop cancelled todos."""
        logger.exception("the inbox cannot be read; it is opened again", exc_info=error)
        self.stopping.wait(OPEN_AGAIN_S)
        self._open()
        return 0.0

    def _open(self) -> None:
        self._inbox = self._bus.receive(self._recipient, hear=self._receive_signal)

    def _receive_signal(self, text: str) -> None:
        if text == BEAT:
            self._callbacks.send_heartbeat()

    def _receive(self, message: Message) -> None:
        payload: Mapping[str, str] = message.payload
        if message.type == "run.cancelled":
            self._callbacks.send_heartbeat()
        elif message.type == "run.paused":
            line = f"paused by {payload['by']}: this todo may finish, nothing new starts"
            self._callbacks.log_line(payload["run"], line)
        elif message.type == "run.resumed":
            self._callbacks.log_line(payload["run"], f"resumed by {payload['by']}")
        elif message.type == CLEANUP_JOBS:
            self._callbacks.look_for_jobs()
        elif message.type == REQUEST_NEWS:
            self._callbacks.record_news(message.payload)


class PubSubNotifications(BackgroundService):
    """Read the channels of a restricted worker. A round blocks until Redis goes away or `stop`."""

    name = "notifications"
    interval_s = 0.0
    first_at_once = True

    def __init__(
        self, pubsub_redis: redis.Redis, keys: MessageKeys, worker: Worker, callbacks: Callbacks
    ) -> None:
        """`pubsub_redis` must block and not decode."""
        super().__init__()
        self._pubsub_redis = pubsub_redis
        self._reactions = {
            keys.mail(recipient(worker)): callbacks.send_heartbeat,
            keys.mail(f"topic:{WORKERS}"): callbacks.look_for_jobs,
        }

    def run_once(self) -> None:
        """Subscribe as soon as Redis answers, and read until it goes away."""
        with Outage(self.stopping, None).outlive(self._subscribed) as subscription:
            self._read(subscription)

    def failed(self, error: Exception) -> float:
        if isinstance(error, Unusable):
            logger.error("no notifications: heartbeats stop cancelled todos: %s", error)
            self.stopping.set()
        elif not isinstance(error, Stopped):
            return super().failed(error) or OPEN_AGAIN_S
        return 0.0

    def _subscribed(self) -> PubSub:
        with reaching(address_of(self._pubsub_redis)):
            subscription = self._pubsub_redis.pubsub(ignore_subscribe_messages=True)
            subscription.subscribe(*self._reactions)
            return subscription

    def _read(self, subscription: PubSub) -> None:
        for react in self._reactions.values():  # messages before the subscription are lost
            react()
        try:
            with reaching(address_of(self._pubsub_redis)):
                while not self.stopping.is_set():
                    message = subscription.get_message(timeout=TICK_S)
                    if message is not None:
                        self._reactions[message["channel"].decode()]()
        except Unusable:
            raise
        except Unreachable as error:
            logger.warning("reading again: %s", error.message)


def recipient(worker: Worker) -> str:
    return f"worker:{worker.id}"
