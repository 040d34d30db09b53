"""What this worker is told at once, and would find out by itself at its next heartbeat or look.

A run was cancelled or is rolled back: the heartbeat that stops its commands comes now. It was paused or resumed: its todos here say so in their
logs. An errand hangs out: it is looked for now. The truth about each stands elsewhere in Redis, so that a message which is
lost costs a few seconds and nothing else.

A restricted worker may read no inbox. It hears that there is something, and goes and looks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import redis
from redis.client import PubSub

from coordination.backend.client import address_of, reaching
from coordination.backend.keys import MessageKeys
from coordination.errors import Unreachable, Unusable
from coordination.messages import Limits, Message, MessageBus
from coordination.messages.outage import Outage, Stopped
from coordination.runs.cleanup_jobs import ERRANDS, WORKERS
from coordination.runs.presence import Worker
from coordination.settings import Settings

LEAVE_S = 5.0
OPEN_AGAIN_S = 5.0
TICK_S = 0.5
BEAT = "beat"
"""Said on a worker's channel, and kept nowhere, by a step that sends no messages."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Who is to be told; none of them takes long."""

    beat: Callable[[], None]
    """Have a heartbeat now."""
    look: Callable[[], None]
    """Look for errands now."""
    say: Callable[[str, str], None]
    """A line for the logs of a run's todos that run here: run, line."""


class Notifications:
    def __init__(self, client: redis.Redis, settings: Settings, worker: Worker, told: Callbacks) -> None:
        # A wake-up that is lost costs what it costs without messages.
        self._bus = MessageBus(client, settings.namespace, limits=Limits(interval=settings.heartbeat))
        self._recipient = recipient(worker)
        self._told = told
        self._stopping = threading.Event()
        self._open()
        self._thread = threading.Thread(target=self._run, name="mail", daemon=True)

    def _open(self) -> None:
        self._inbox = self._bus.receive(self._recipient, hear=self._hear)

    def sign_on(self) -> None:
        """What is sent from now on is received when `start` was called. Raises Unreachable."""
        self._bus.subscribe(self._recipient, WORKERS)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Reads no more, and is known no more."""
        self._stopping.set()
        self._inbox.stop()
        try:
            if self._thread.is_alive():
                self._thread.join(LEAVE_S)
            self._bus.unsubscribe(self._recipient, WORKERS)
            self._bus.forget(self._recipient)
        except Unreachable as error:
            logger.warning("could not give up the inbox, it is forgotten by itself: %s", error.message)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._inbox.run(self._receive)
                return
            except Exception:
                # Somebody wrote into it what is no message: until it is read again, cancelled todos are stopped by the heartbeat.
                logger.exception("the inbox cannot be read; it is opened again")
                self._stopping.wait(OPEN_AGAIN_S)
                self._open()

    def _hear(self, word: str) -> None:
        if word == BEAT:
            self._told.beat()

    def _receive(self, message: Message) -> None:
        told: Mapping[str, str] = message.payload
        if message.type == "run.cancelled":
            self._told.beat()
        elif message.type == "run.paused":
            self._told.say(told["run"], f"paused by {told['by']}: this todo may finish, nothing new starts")
        elif message.type == "run.resumed":
            self._told.say(told["run"], f"resumed by {told['by']}")
        elif message.type == ERRANDS:
            self._told.look()


class PubSubNotifications:
    """The mail of a restricted worker."""

    def __init__(self, pubsub_redis: redis.Redis, keys: MessageKeys, worker: Worker, told: Callbacks) -> None:
        """`ears` must block and not decode."""
        self._ears = pubsub_redis
        self._meaning = {keys.mail(recipient(worker)): told.beat, keys.mail(f"topic:{WORKERS}"): told.look}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mail", daemon=True)

    def sign_on(self) -> None:
        """Nothing: it has no inbox."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_S)

    def _run(self) -> None:
        outage = Outage(self._stopping, None)
        try:
            while not self._stopping.is_set():
                with outage.outlive(self._subscribed) as ear:
                    self._hear(ear)
        except Stopped:
            return
        except Unusable as error:
            logger.error("nothing is heard: cancelled todos are stopped by the heartbeat: %s", error)

    def _subscribed(self) -> PubSub:
        with reaching(address_of(self._ears)):
            ear = self._ears.pubsub(ignore_subscribe_messages=True)
            ear.subscribe(*self._meaning)
            return ear

    def _hear(self, ear: PubSub) -> None:
        """Until it is told to stop, or Redis is away."""
        for action in self._meaning.values():  # what was said while nobody listened
            action()
        try:
            with reaching(address_of(self._ears)):
                while not self._stopping.is_set():
                    heard = ear.get_message(timeout=TICK_S)
                    if heard is not None:
                        self._meaning[heard["channel"].decode()]()
        except Unusable:
            raise
        except Unreachable as error:
            logger.warning("listening again: %s", error.message)


def recipient(worker: Worker) -> str:
    return f"worker:{worker.id}"
