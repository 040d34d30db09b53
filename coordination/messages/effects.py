"""Acknowledged together with what it caused in Redis: in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Callable

from redis.client import Pipeline
from redis.exceptions import WatchError

from coordination.messages.decoding import text
from coordination.messages.records import Message
from coordination.messages.steps import Steps, deliveries
from coordination.wire.connection import reaching
from coordination.wire.scripts import source

Effects = Callable[[Pipeline], object]


def ack_with(steps: Steps, message: Message, effects: Effects) -> bool:
    """False, and no effect, where the message is not its reader's any more.

    Optimistic locking (WATCH) on the inbox's deliveries: whoever changes one in between makes it look again.
    """
    with reaching(steps.url), steps.redis.pipeline() as pipe:
        while True:
            try:
                return _try(steps, pipe, message, effects)
            except WatchError:  # also where the connection is lost meanwhile
                pipe.reset()


def _try(steps: Steps, pipe: Pipeline, message: Message, effects: Effects) -> bool:
    pipe.watch(steps.keys.deliveries(message.to))
    if not _is_ours(message, pipe.hget(steps.keys.deliveries(message.to), message.ticket)):
        return False
    pipe.multi()
    effects(pipe)
    # The whole text: were it the hash, and Redis had forgotten it, the effects would stand without the acknowledgement.
    step = source("inbox/ack")
    pipe.eval(step, 1, steps.keys.head, message.to, message.reader, "", *deliveries(message))
    pipe.execute()
    return True


def _is_ours(message: Message, delivery: bytes | str | None) -> bool:
    """As inbox.read_delivery in Lua reads it: how often handed out, in vain, begun, and who has it."""
    if delivery is None:
        return False
    n, _, _, reader = text(delivery).split(" ", 3)
    return (int(n), reader) == (message.delivery, message.reader)
