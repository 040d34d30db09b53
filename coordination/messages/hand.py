"""What a reader has in hand: it stays its own for as long as the process lives, however long one message takes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from coordination.errors import Unreachable
from coordination.messages.records import Message

if TYPE_CHECKING:
    from coordination.messages.bus import MessageBus

BEATS_PER_IDLE = 3

logger = logging.getLogger(__name__)


class Hand:
    """The message that is begun, and those that wait behind it; a thread extends them all."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._lock = Lock()
        self._begun: dict[int, Message] = {}
        self._waiting: deque[Message] = deque()
        self._closed = Event()
        self._thread: Thread | None = None

    def open(self) -> None:
        if self._thread is None:
            self._closed = Event()
            self._thread = Thread(target=self._keep, args=(self._closed,), name="inbox", daemon=True)
            self._thread.start()

    def add(self, messages: Iterable[Message]) -> None:
        with self._lock:
            self._waiting.extend(messages)

    def begin(self) -> Message | None:
        with self._lock:
            if not self._waiting:
                return None
            message = self._waiting.popleft()
            self._begun[message.offset] = message
            return message

    def following(self) -> Message | None:
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def leave(self, message: Message) -> bool:
        """Whether it was in hand still."""
        with self._lock:
            return self._begun.pop(message.offset, None) is not None

    def drop(self, offsets: Collection[int]) -> None:
        """They are somebody else's now."""
        with self._lock:
            self._waiting = deque(m for m in self._waiting if m.offset not in offsets)

    def close(self) -> None:
        """Everything goes back; where Redis cannot be told, the idle time tells it."""
        self._closed.set()
        with self._lock:
            rest = [*self._begun.values(), *self._waiting]
            self._begun.clear()
            self._waiting.clear()
        try:
            self._bus.hand_back(*rest)
        except Unreachable as error:
            logger.warning("%d messages go back when the idle time is over: %s", len(rest), error.message)
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _keep(self, closed: Event) -> None:
        while not closed.wait(self._bus.limits.idle.total_seconds() / BEATS_PER_IDLE):
            with self._lock:
                mine = [*self._begun.values(), *self._waiting]
            try:
                self._forget(self._bus.extend(*mine))
            except Unreachable as error:
                logger.warning("cannot extend what is in hand: %s", error.message)

    def _forget(self, lost: Collection[Message]) -> None:
        """Others have taken it over: nothing of it is begun any more. What is begun cannot be stopped; its ack will say so."""
        for message in lost:
            logger.warning("message %s to %s was taken over", message.id, message.to)
        self.drop({message.offset for message in lost})
