"""Wake the worker and its parked todos early; each lost wake-up costs a few seconds and nothing else.

* `ServiceWaits` fires a todo as soon as the start of its service has ended (wait reason `service`).
* `RequestWaits` fires a todo as soon as `coord gateway` passes on a webhook of its repository (wait reason
  `request`). The worker that parked a todo keeps its wait in memory. If that worker dies, or no news arrives,
  the timer of the todo fires it.
* `Notifications` reads the worker's inbox. A run was cancelled or is rolled back: the heartbeat that stops
  its commands is sent now. A run was paused or resumed: its todos here write that into their logs. A cleanup
  job was posted: the worker takes it now. A forge has news: `RequestWaits` gets them.
* `PubSubNotifications` does the same for a restricted worker, which may read no inbox. A message on its
  channel has no content: the worker then looks for cancelled todos and for cleanup jobs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from pydantic import ValidationError
from redis.client import PubSub

from coordination.backend.client import address_of, reaching
from coordination.backend.keys import MessageKeys
from coordination.background import BackgroundService
from coordination.errors import CoordinationError, Unreachable, Unusable
from coordination.forges.webhooks import REQUEST_NEWS, RequestNews
from coordination.messages import Limits, Message, MessageBus
from coordination.messages.outage import Outage, Stopped
from coordination.runs.cleanup_jobs import CLEANUP_JOBS, WORKERS
from coordination.runs.worker_registry import Worker
from coordination.services.host import ServiceHost, Stamp
from coordination.settings import Settings
from workers.outcome import AwaitedRequest

LOOK_S = 0.03
"""Interval between two looks at the services' states while a todo waits."""
IDLE_S = 60.0
PAUSE_S = 2.0
"""The shortest time between two looks at a request: a forge sends news of each check and each comment."""
WAITS_KEPT = 10_000
"""The most waits, and the most news, in memory."""
OPEN_AGAIN_S = 5.0
TICK_S = 0.5
BEAT = "beat"
"""Published on a worker's channel, and kept nowhere, by a step that sends no messages."""

logger = logging.getLogger(__name__)


class ServiceWaits(BackgroundService):
    name = "service-waits"
    interval_s = IDLE_S

    def __init__(self, host: ServiceHost, fire: Callable[[str, str], None]) -> None:
        """`fire` continues a parked todo of a run."""
        super().__init__()
        self._host = host
        self._fire = fire
        self._waits: dict[tuple[str, str], str] = {}
        self._seen: tuple[Stamp, Stamp] | None = None
        self._guard = threading.Lock()

    def add(self, run_id: str, todo_id: str, service: str) -> None:
        """Fire the todo when the start of the service has ended."""
        with self._guard:
            self._waits[run_id, todo_id] = service
            self._seen = None
        self.wake()

    def run_once(self) -> int:
        """Fire the todos whose services are up or failed; return how many."""
        with self._guard:
            waits, stamps = dict(self._waits), self._host.stamps()
            changed, self._seen = stamps != self._seen, stamps
        ended = [key for key, service in waits.items() if self._settled(service)] if changed else []
        for key in ended:
            with self._guard:
                self._waits.pop(key, None)
            self._fire(*key)
        self.interval_s = LOOK_S if len(waits) > len(ended) else IDLE_S
        return len(ended)

    def failed(self, error: Exception) -> float:
        """Look again later; while Redis is away, nothing is lost: the timers fire the waiting todos."""
        self._seen = None
        return super().failed(error)

    def _settled(self, service: str) -> bool:
        try:
            return self._host.settled(service) is not None
        except CoordinationError:  # the attempt will report it
            return True


@dataclass(frozen=True, kw_only=True)
class _Wait:
    repo: str
    request: AwaitedRequest
    due: float | None = None
    """The earliest time to fire the todo; None while there is no news."""


class RequestWaits(BackgroundService):
    name = "request-waits"
    interval_s = IDLE_S

    def __init__(self, fire: Callable[[str, str], None], may_look: Callable[[str], bool]) -> None:
        """`fire` continues a parked todo of a run. `may_look` returns whether the budget of a host allows
        another look, and counts it.
        """
        super().__init__()
        self._fire = fire
        self._may_look = may_look
        self._waits: dict[tuple[str, str], _Wait] = {}
        self._news: dict[RequestNews, float] = {}
        """News → the time at which they arrived, the oldest first."""
        self._guard = threading.Lock()

    def add(self, run_id: str, todo_id: str, repo: str, request: AwaitedRequest) -> None:
        """Fire the todo at the next news of its repository, also at news that came since its look began."""
        with self._guard:
            missed = any(
                at >= request.looked_at and news.is_about(repo, request.address)
                for news, at in self._news.items()
            )
            due = request.looked_at + PAUSE_S if missed else None
            self._waits[run_id, todo_id] = _Wait(repo=repo, request=request, due=due)
            _forget_oldest(self._waits)
        if missed:
            self.wake()

    def forget(self, run_id: str, todo_id: str) -> None:
        """Forget the wait of a todo that has been executed since."""
        with self._guard:
            self._waits.pop((run_id, todo_id), None)

    def hear(self, payload: Any) -> None:
        """Record the payload of a message that announces news."""
        try:
            news = RequestNews.model_validate(payload)
        except ValidationError as error:
            logger.warning("news of a forge that cannot be read: %s", error.errors()[0]["msg"])
            return
        now = time.monotonic()
        with self._guard:
            self._news.pop(news, None)
            self._news[news] = now
            _forget_oldest(self._news)
            for key, wait in self._waits.items():
                if wait.due is None and news.is_about(wait.repo, wait.request.address):
                    due = max(now, wait.request.looked_at + PAUSE_S)
                    self._waits[key] = _Wait(repo=wait.repo, request=wait.request, due=due)
        self.wake()

    def run_once(self) -> int:
        """Fire the todos with news; return how many."""
        now = time.monotonic()
        with self._guard:
            due = [key for key, wait in self._waits.items() if wait.due is not None and wait.due <= now]
            hosts = [self._waits.pop(key).request.address.api_host for key in due]
            later = [wait.due - now for wait in self._waits.values() if wait.due is not None]
        self.interval_s = min([IDLE_S, *later])
        fired = 0
        for key, host in zip(due, hosts, strict=True):
            if self._may_look(host):
                self._fire(*key)
                fired += 1
        return fired


def _forget_oldest(known: dict[Any, Any]) -> None:
    """Keep the newest entries: anyone who writes to Redis can add some. A forgotten todo waits for its
    timer.
    """
    while len(known) > WAITS_KEPT:
        del known[next(iter(known))]


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
