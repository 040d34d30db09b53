"""`Inbox`: a recipient's messages one by one; `InFlight`: the messages that a reader has taken.

Messages in flight stay the reader's as long as its process lives, however long one takes. A pub/sub
subscription only wakes the reader (`WakeSubscription`); a lost wake-up delays delivery by one interval.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from math import inf
from threading import Event, Lock
from typing import TypeVar

from redis.client import PubSub
from redis.exceptions import TimeoutError

from coordination.backend.client import reaching
from coordination.background import BackgroundService
from coordination.errors import Unreachable
from coordination.messages.names import name, recipient
from coordination.messages.outage import Outage, Stopped
from coordination.messages.reader_operations import ReaderOperations
from coordination.messages.records import Message, Position, Taken, text
from coordination.messages.steps import Effects, Steps

BEATS_PER_IDLE = 3
GATHER_S = 0.002
"""Time over which acknowledgements are collected, which at 10,000 messages a second makes the reader's cost
negligible.
"""
RETRY_S = 1.0

logger = logging.getLogger(__name__)


class InFlight(BackgroundService):
    """Started messages, those that wait behind them, and processed ones that are not acknowledged yet.

    A round acknowledges, and extends the messages in flight when that is due. A kill loses the
    acknowledgements of up to `GATHER_S`, of messages on their first delivery, which are then delivered again.
    A message on a later delivery may have killed its reader, so its start is recorded, and it is acknowledged
    before the next one starts.
    """

    name = "inbox"
    join_s = 30.0

    def __init__(self, bus: ReaderOperations) -> None:
        super().__init__()
        self._bus = bus
        self._lock = Lock()
        self._settling = Lock()
        self._begun: dict[int, Message] = {}
        self._waiting: deque[Message] = deque()
        self._done: list[Message] = []
        self._extend_every_s = bus.limits.idle.total_seconds() / BEATS_PER_IDLE
        self._extend_at = 0.0

    def start(self) -> None:
        if not self.is_running:
            self._extend_at = time.monotonic() + self._extend_every_s
        super().start()

    def refill(self, take: Callable[[Sequence[Message], Sequence[Message]], Taken]) -> Taken:
        """Take messages. `take` gets the messages in flight and the processed ones, which it acknowledges in
        the same step.
        """
        with self._settling:
            with self._lock:
                known, done = (*self._begun.values(), *self._waiting), tuple(self._done)
            taken = take(known, done)
            _warn(taken.lost)
            with self._lock:
                del self._done[: len(done)]
                self._waiting.extend(taken.messages)
        return taken

    def begin(self) -> Message | None:
        with self._lock:
            if not self._waiting:
                return None
            message = self._waiting.popleft()
            if message.wants_ack:
                self._begun[message.offset] = message
            return message

    def leave(self, message: Message) -> None:
        """Remove a message that is settled elsewhere."""
        with self._lock:
            self._begun.pop(message.offset, None)

    def processed(self, message: Message) -> None:
        """Queue a message for acknowledgement, unless it was removed."""
        with self._lock:
            if self._begun.pop(message.offset, None) is not None:
                self._done.append(message)
                if len(self._done) == 1:
                    self.wake()

    def all(self) -> tuple[Message, ...]:
        with self._lock:
            return (*self._begun.values(), *self._waiting, *self._done)

    def drop(self, offsets: Collection[int]) -> None:
        """Remove waiting messages that another reader has now."""
        with self._lock:
            self._waiting = deque(m for m in self._waiting if m.offset not in offsets)

    def settle(self, *, mark: bool = False) -> None:
        """Acknowledge processed messages; with `mark`, record the start of the next one.
        Raises Unreachable.
        """
        with self._settling:
            with self._lock:
                done, begun = tuple(self._done), next(iter(self._begun.values()), None)
            if done or (mark and begun):
                _warn(self._bus.ack_all(done, begun))
            with self._lock:
                del self._done[: len(done)]

    def close(self) -> None:
        """Return all messages; if Redis is unreachable, others get them after the idle time."""
        self.stop()
        try:
            self.settle()
            self._bus.hand_back(*self._begun.values(), *self._waiting)
        except Unreachable as error:
            logger.warning("messages in flight are redelivered after the idle time: %s", error.message)
        self._begun.clear()
        self._waiting.clear()
        self._done.clear()

    def run_once(self) -> None:
        if not self.stopping.wait(GATHER_S):
            self.settle()
        if time.monotonic() >= self._extend_at:
            self._extend_at = time.monotonic() + self._extend_every_s
            self._extend()

    def until_next_s(self) -> float:
        with self._lock:
            return 0.0 if self._done else max(0.0, self._extend_at - time.monotonic())

    def failed(self, error: Exception) -> float:
        if not isinstance(error, Unreachable):
            return super().failed(error)
        logger.warning("cannot acknowledge or extend messages in flight: %s", error.message)
        return RETRY_S

    def _extend(self) -> None:
        lost = self._bus.extend(*self.all())
        _warn(lost)
        # Compare deliveries, not message ids: the same message may have been delivered again.
        gone = set(map(id, lost))
        with self._lock:
            self._waiting = deque(message for message in self._waiting if id(message) not in gone)


def _warn(lost: Iterable[Message]) -> None:
    """Log messages that other readers took over, which may be processed twice."""
    for message in lost:
        logger.warning("message %s to %s was taken over, or its inbox is gone", message.id, message.to)


class WakeSubscription:
    """Wake-ups of one recipient, for one thread at a time."""

    def __init__(self, steps: Steps, recipient: str) -> None:
        self._steps = steps
        self._channel = steps.keys.mail(recipient)
        self._subscription: PubSub | None = None

    def listen(self) -> None:
        """Subscribe. Call it before looking into the inbox, so that no message is missed.
        Raises Unreachable.
        """
        if self._subscription is None:
            with reaching(self._steps.url):
                self._subscription = self._steps.connection.subscription()
                self._subscription.subscribe(self._channel)
                if self._subscription.get_message(timeout=self._steps.patience_s) is None:
                    raise TimeoutError("no answer to SUBSCRIBE")

    def wait(self, longest: timedelta) -> str:
        """Wait for a wake-up; return its word, usually "". Raises Unreachable."""
        assert self._subscription is not None, "listen first"
        with reaching(self._steps.url):
            received = self._subscription.get_message(timeout=longest.total_seconds())
        return text(received["data"]) if received and received["type"] == "message" else ""

    def close(self) -> None:
        """Unsubscribe; `listen` subscribes again."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None


SHORTEST = timedelta(milliseconds=1)
MOMENT_S = 0.1
LOOKS_APART_S = 0.001
"""Minimal time between two reads of a stream of messages, so that they are read in batches.

Without it a fast reader asks for nearly every message separately, and keeps the server from serving senders.
"""

Answer = TypeVar("Answer")


class Inbox:
    """Iterator over a recipient's messages; requesting the next one acknowledges the last, unless the caller
    did.

    Leaving the loop by `break` or an error acknowledges nothing: the messages are returned at once. Meanwhile
    a thread extends the messages in flight, so processing may take any time. Outages of Redis are waited out.
    """

    def __init__(
        self,
        bus: ReaderOperations,
        to: str,
        *,
        reader: str,
        since: Position | None,
        prefetch: int,
        patience: timedelta | None,
        hear: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.recipient = recipient(to)
        self.reader = name(reader, "a reader")
        self.position = since
        """Position of this reader; pass it as `since` to continue later."""
        self.recovered = True
        """False once messages are known to be missing."""
        self.trimmed = 0
        """Number of messages known to be missing."""
        self._bus = bus
        self._hear = hear
        self._prefetch = prefetch
        self._batch_size = 1
        self._last_look = 0.0
        self._streaming = False
        self._stopped = Event()
        self._outage = Outage(self._stopped, patience)
        self._wake_subscription = WakeSubscription(bus.steps, to)
        self._in_flight = InFlight(bus)

    def __enter__(self) -> Inbox:
        """Read the inbox for the first time; `recovered` then says whether messages are missing."""
        self._in_flight.start()
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Message]:
        with self:
            while (message := self.next()) is not None:
                yield message
                self._in_flight.processed(message)

    def run(self, handler: Callable[[Message], object]) -> None:
        """Call `handler` for each message: acknowledge it when it returns, refuse it when it raises."""
        for message in self:
            try:
                handler(message)
            except Exception as error:  # any error of the handler; the next message must still be handled
                logger.warning("message %s to %s failed", message.id, message.to, exc_info=True)
                self.nack(message, f"{type(error).__name__}: {error}")

    def next(self, timeout: timedelta | None = None) -> Message | None:
        """Return the next message, in flight until it is acknowledged; None after `timeout` or when the inbox
        was stopped.

        Raises Unreachable if Redis is still unreachable after `timeout`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        while not self._stopped.is_set():
            message = self._in_flight.begin()
            if message is not None:
                if message.delivery > 1:  # it may have killed its last reader
                    self._retry(lambda: self._in_flight.settle(mark=True), otherwise=None)
                return message
            left = None if deadline is None else timedelta(seconds=deadline - time.monotonic())
            if left is not None and left < SHORTEST:
                return None
            interval = self._bus.limits.interval
            self._fill(interval if left is None else min(left, interval), left)
        return None

    def ack(self, message: Message, effects: Effects | None = None) -> bool:
        """Acknowledge as `MessageBus.ack`, retrying during an outage."""
        self._in_flight.leave(message)
        return self._retry(lambda: self._bus.ack(message, effects), otherwise=False)

    def nack(self, message: Message, why: str = "") -> None:
        """Refuse as `MessageBus.nack`, retrying during an outage."""
        self._in_flight.leave(message)
        self._retry(self._in_flight.settle, otherwise=None)
        self._in_flight.drop(self._retry(lambda: self._bus.nack(message, why), otherwise=()))

    def stop(self) -> None:
        """Stop after the present message. May be called from any thread."""
        self._stopped.set()
        with suppress(Unreachable):
            self._bus.wake(self.recipient)

    def close(self) -> None:
        """Return all messages in flight."""
        if sys.is_finalizing():  # an unfinished iterator at process exit: the idle time returns the messages
            return
        self._in_flight.close()
        self._wake_subscription.close()

    def _fill(self, wait: timedelta | None = None, longest: timedelta | None = None) -> None:
        """Take waiting messages, waiting once for a wake-up if there are none."""
        self._retry(lambda: self._look(wait), otherwise=None, longest=longest)

    def _look(self, wait: timedelta | None) -> None:
        try:
            self._wake_subscription.listen()
            due = self._take()
            if wait is None or due is None or self._stopped.is_set():
                return
            if word := self._wake_subscription.wait(min(wait, due)):
                self._hear(word)
        except Unreachable:
            self._wake_subscription.close()  # a subscription may look alive although its connection is lost
            raise

    def _take(self) -> timedelta | None:
        """Take messages; return None if there were some, else the time until the next one is due."""
        if self._streaming:
            time.sleep(max(0.0, self._last_look + LOOKS_APART_S - time.monotonic()))
        batch_size = self._next_batch_size()
        taken = self._in_flight.refill(
            lambda known, done: self._bus.take_ahead(
                self.recipient, self.reader, batch_size, self.position, known, done
            )
        )
        self._streaming = 1 < len(taken.messages) < batch_size
        if not taken.recovered:
            self.recovered, self.trimmed = False, self.trimmed + taken.trimmed
            logger.warning(
                "%s missed messages: %s", self.recipient, taken.trimmed or "the server lost its data"
            )
        self.position = taken.position
        if taken.messages:
            return None
        return self._bus.limits.interval if taken.due is None else max(taken.due, SHORTEST)

    def _next_batch_size(self) -> int:
        """Return a batch size that can be processed within a moment, because messages in flight are kept from
        other readers.
        """
        now = time.monotonic()
        wanted_size = self._batch_size * 2 if now - self._last_look < MOMENT_S else self._batch_size // 2
        self._batch_size, self._last_look = max(1, min(self._prefetch, wanted_size)), now
        return self._batch_size

    def _retry(
        self, attempt: Callable[[], Answer], otherwise: Answer, longest: timedelta | None = None
    ) -> Answer:
        try:
            return self._outage.outlive(attempt, inf if longest is None else longest.total_seconds())
        except Stopped:
            return otherwise
