"""What a reader has in hand: its own for as long as its process lives, however long one message takes.

`Inbox`: a recipient's messages one after the other, for as long as one likes.

A subscription only wakes its reader (`WakeSubscription`): a wake-up that was lost costs an interval.
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
from threading import Condition, Event, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from redis.client import PubSub
from redis.exceptions import TimeoutError

from coordination.backend.client import reaching
from coordination.errors import Unreachable
from coordination.messages.names import name, recipient
from coordination.messages.outage import Outage, Stopped
from coordination.messages.records import Message, Position, Taken, text
from coordination.messages.steps import Effects, Steps

if TYPE_CHECKING:
    from coordination.messages.bus import MessageBus

BEATS_PER_IDLE = 3
GATHER_S = 0.002
"""Acknowledgements of so long a time travel together: at 10,000 messages a second that is what a reader costs or does not."""
RETRY_S = 1.0

logger = logging.getLogger(__name__)


class InFlight:
    """The message that is begun, those that wait behind it, and those that are done with but not acknowledged yet.

    A thread acknowledges and extends; it is no `BackgroundService`, for it waits on a condition until a moment that moves. Of messages that were never handed out before, a kill loses up to `GATHER_S` of
    acknowledgements, so that they come again; of others (they may be what killed their reader) each is acknowledged
    before the next is begun, and that it was begun is written down.
    """

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._lock = Lock()
        self._stir = Condition(self._lock)
        self._settling = Lock()
        self._begun: dict[int, Message] = {}
        self._waiting: deque[Message] = deque()
        self._done: list[Message] = []
        self._closed = Event()
        self._thread: Thread | None = None

    def open(self) -> None:
        if self._thread is None:
            self._closed = Event()
            self._thread = Thread(target=self._keep, args=(self._closed,), name="inbox", daemon=True)
            self._thread.start()

    def refill(self, take: Callable[[Sequence[Message], Sequence[Message]], Taken]) -> Taken:
        """`take` gets what is in hand, and what is done with, which it acknowledges in the same step."""
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
        """Somebody else says what becomes of it."""
        with self._lock:
            self._begun.pop(message.offset, None)

    def finish(self, message: Message) -> None:
        """It is acknowledged soon, unless it has left."""
        with self._lock:
            if self._begun.pop(message.offset, None) is not None:
                self._done.append(message)
                if len(self._done) == 1:
                    self._stir.notify()

    def all(self) -> tuple[Message, ...]:
        with self._lock:
            return (*self._begun.values(), *self._waiting, *self._done)

    def drop(self, offsets: Collection[int]) -> None:
        """They are somebody else's now."""
        with self._lock:
            self._waiting = deque(m for m in self._waiting if m.offset not in offsets)

    def settle(self, *, mark: bool = False) -> None:
        """Acknowledges what is done; with `mark`, that the next is begun is known when this returns. Raises Unreachable."""
        with self._settling:
            with self._lock:
                done, begun = tuple(self._done), next(iter(self._begun.values()), None)
            if done or (mark and begun):
                _warn(self._bus.ack_all(done, begun))
            with self._lock:
                del self._done[: len(done)]

    def close(self) -> None:
        """Everything goes back; where Redis cannot be told, the idle time tells it."""
        self._closed.set()
        with self._lock:
            self._stir.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        try:
            self.settle()
            self._bus.hand_back(*self._begun.values(), *self._waiting)
        except Unreachable as error:
            logger.warning("what is in hand goes back when the idle time is over: %s", error.message)
        self._begun.clear()
        self._waiting.clear()
        self._done.clear()

    def _keep(self, closed: Event) -> None:
        every_s = self._bus.limits.idle.total_seconds() / BEATS_PER_IDLE
        beat = time.monotonic() + every_s
        while not closed.is_set():
            with self._lock:
                self._stir.wait_for(lambda: self._done or closed.is_set(), timeout=max(0.0, beat - time.monotonic()))
            try:
                if not closed.wait(GATHER_S):
                    self.settle()
                if time.monotonic() >= beat:
                    beat = time.monotonic() + every_s
                    self._extend()
            except Unreachable as error:
                logger.warning("cannot acknowledge or extend what is in hand: %s", error.message)
                closed.wait(RETRY_S)

    def _extend(self) -> None:
        lost = self._bus.extend(*self.all())
        _warn(lost)
        gone = set(map(id, lost))  # these deliveries: meanwhile it may have been handed the same message anew
        with self._lock:
            self._waiting = deque(message for message in self._waiting if id(message) not in gone)


def _warn(lost: Iterable[Message]) -> None:
    """What others have taken over by now may have been done twice."""
    for message in lost:
        logger.warning("message %s to %s was taken over, or its inbox is gone", message.id, message.to)


class WakeSubscription:
    """Of one recipient. Not for several threads at a time."""

    def __init__(self, steps: Steps, recipient: str) -> None:
        self._steps = steps
        self._channel = steps.keys.mail(recipient)
        self._subscription: PubSub | None = None

    def listen(self) -> None:
        """From here on nothing is missed; call it before looking into the inbox. Raises Unreachable."""
        if self._subscription is None:
            with reaching(self._steps.url):
                self._subscription = self._steps.line.subscription()
                self._subscription.subscribe(self._channel)
                if self._subscription.get_message(timeout=self._steps.patience_s) is None:
                    raise TimeoutError("no answer to SUBSCRIBE")

    def wait(self, longest: timedelta) -> str:
        """Until something came, or that long; returns the word that was said with it, mostly none. Raises Unreachable."""
        assert self._subscription is not None, "listen first"
        with reaching(self._steps.url):
            heard = self._subscription.get_message(timeout=longest.total_seconds())
        return text(heard["data"]) if heard and heard["type"] == "message" else ""

    def close(self) -> None:
        """The next `listen` begins anew."""
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None


SHORTEST = timedelta(milliseconds=1)
MOMENT_S = 0.1
LOOKS_APART_S = 0.001
"""From a look that found all there was, and several messages, to the next: those that come thick and fast come in batches.

Without it a quick reader asks for every second message by itself, and keeps the server from its senders.
"""

Answer = TypeVar("Answer")


class Inbox:
    """Iterate over it: when the body asks for the next message, the last one is acknowledged, unless the body did so itself.

    A body that is left by `break` or by an error acknowledges nothing: what it had goes back at once. While it works, what
    it has in hand is extended by a thread, so that it may take as long as it needs. A Redis that is away is waited for.
    """

    def __init__(
        self,
        bus: MessageBus,
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
        """How far this reader has come; give it as `since` when it comes back."""
        self.recovered = True
        """False from the moment on that something is known to be missing."""
        self.trimmed = 0
        """How many messages are known to be missing."""
        self._bus = bus
        self._hear = hear
        self._prefetch = prefetch
        self._appetite = 1
        self._last_look = 0.0
        self._in_a_stream = False
        self._stopped = Event()
        self._outage = Outage(self._stopped, patience)
        self._waking = WakeSubscription(bus.steps, to)
        self._hand = InFlight(bus)

    def __enter__(self) -> Inbox:
        """Looks into the inbox for the first time: `recovered` says from here on whether something is missing."""
        self._hand.open()
        self._fill()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Message]:
        with self:
            while (message := self.next()) is not None:
                yield message
                self._hand.finish(message)

    def run(self, handler: Callable[[Message], object]) -> None:
        """Hands each message to `handler`: when it returns, the message is acknowledged; when it raises, it comes again."""
        for message in self:
            try:
                handler(message)
            except Exception as error:  # the handler is anybody's code, and the next message is not to blame
                logger.warning("message %s to %s failed", message.id, message.to, exc_info=True)
                self.nack(message, f"{type(error).__name__}: {error}")

    def next(self, timeout: timedelta | None = None) -> Message | None:
        """The next one, in hand until it is acknowledged; None when `timeout` is over, or the inbox was stopped.

        Raises Unreachable where Redis is away at the end of `timeout`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout.total_seconds()
        while not self._stopped.is_set():
            message = self._hand.begin()
            if message is not None:
                if message.delivery > 1:  # it may be what killed its last reader
                    self._through(lambda: self._hand.settle(mark=True), otherwise=None)
                return message
            left = None if deadline is None else timedelta(seconds=deadline - time.monotonic())
            if left is not None and left < SHORTEST:
                return None
            interval = self._bus.limits.interval
            self._fill(interval if left is None else min(left, interval), left)
        return None

    def ack(self, message: Message, effects: Effects | None = None) -> bool:
        """As `MessageBus.ack`, and outlives an outage."""
        self._hand.leave(message)
        return self._through(lambda: self._bus.ack(message, effects), otherwise=False)

    def nack(self, message: Message, why: str = "") -> None:
        """As `MessageBus.nack`, and outlives an outage."""
        self._hand.leave(message)
        self._through(self._hand.settle, otherwise=None)
        self._hand.drop(self._through(lambda: self._bus.nack(message, why), otherwise=()))

    def stop(self) -> None:
        """From any thread: what is being handled is finished, and nothing more begun."""
        self._stopped.set()
        with suppress(Unreachable):
            self._bus.wake(self.recipient)

    def close(self) -> None:
        """What is in hand goes back."""
        if sys.is_finalizing():  # an iterator that nobody ended, in a process that ends: the idle time says it
            return
        self._hand.close()
        self._waking.close()

    def _fill(self, wait: timedelta | None = None, longest: timedelta | None = None) -> None:
        """Takes what is there; where nothing is, and nothing comes while it waits, nothing."""
        self._through(lambda: self._look(wait), otherwise=None, longest=longest)

    def _look(self, wait: timedelta | None) -> None:
        try:
            self._waking.listen()
            due = self._take()
            if wait is None or due is None or self._stopped.is_set():
                return
            if word := self._waking.wait(min(wait, due)):
                self._hear(word)
        except Unreachable:
            self._waking.close()  # a subscription may look alive and be none any more
            raise

    def _take(self) -> timedelta | None:
        """Until when nothing is due; None where there was something."""
        if self._in_a_stream:
            time.sleep(max(0.0, self._last_look + LOOKS_APART_S - time.monotonic()))
        appetite = self._next_appetite()
        taken = self._hand.refill(
            lambda known, done: self._bus.take_ahead(self.recipient, self.reader, appetite, self.position, known, done)
        )
        self._in_a_stream = 1 < len(taken.messages) < appetite
        if not taken.recovered:
            self.recovered, self.trimmed = False, self.trimmed + taken.trimmed
            logger.warning("%s missed messages: %s", self.recipient, taken.trimmed or "the server lost its data")
        self.position = taken.position
        if taken.messages:
            return None
        return self._bus.limits.interval if taken.due is None else max(taken.due, SHORTEST)

    def _next_appetite(self) -> int:
        """As many as it does within a moment: what is in hand of one reader is kept from the others."""
        now = time.monotonic()
        eaten = self._appetite * 2 if now - self._last_look < MOMENT_S else self._appetite // 2
        self._appetite, self._last_look = max(1, min(self._prefetch, eaten)), now
        return self._appetite

    def _through(self, attempt: Callable[[], Answer], otherwise: Answer, longest: timedelta | None = None) -> Answer:
        try:
            return self._outage.outlive(attempt, inf if longest is None else longest.total_seconds())
        except Stopped:
            return otherwise
