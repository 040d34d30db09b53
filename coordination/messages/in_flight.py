"""What a reader has in hand: its own for as long as its process lives, however long one message takes."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from threading import Condition, Event, Lock, Thread
from typing import TYPE_CHECKING

from coordination.errors import Unreachable
from coordination.messages.records import Message, Taken

if TYPE_CHECKING:
    from coordination.messages.bus import MessageBus

BEATS_PER_IDLE = 3
GATHER_S = 0.002
"""Acknowledgements of so long a time travel together: at 10,000 messages a second that is what a reader costs or does not."""
RETRY_S = 1.0

logger = logging.getLogger(__name__)


class InFlight:
    """The message that is begun, those that wait behind it, and those that are done with but not acknowledged yet.

    A thread acknowledges and extends. Of messages that were never handed out before, a kill loses up to `GATHER_S` of
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
