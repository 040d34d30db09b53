"""A worker takes the message that is due first, whichever of its queues it stands in.

kombu's BRPOP takes from one queue after the other, so that a todo on the plan's longest path waits behind any others: over 20
repositories with lognormal durations a plan takes 5 to 15 % longer than by rank. Here a worker with a free place asks by one step for
the most urgent message (lua/queue/fetch.lua), and tells in the same breath which it is done with: one round trip where kombu needs
three, BRPOP, the note of what is in hand, and its acknowledgement. The note is made by the step that takes the message, so that none
is lost between. Where there is none it falls back to one BRPOP, which waits for the next to come, and takes whatever nobody
put there by order.

kombu's own priorities (ten lists a queue) were the other way: one rank would have to do for all plans, and BRPOP is given ten times
as many keys, 20,000 for 500 repositories.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import Any

from kombu.transport.redis import Channel, QoS
from kombu.transport.virtual import QoS as Places
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis.exceptions import ResponseError

from coordination.backend import library
from coordination.backend.step_connection import StepCaller

FETCH = "queue/fetch"
NO_RUN = ""
"""What is posted from Python stands under this run."""


class RankedQoS(QoS):
    noted = ""
    """Tag of the message that `fetch` has noted down itself."""

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag == self.noted:
            Places.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        # An acknowledgement that is lost with us is harmless: the message comes again when its visibility runs out, and is refused.
        if self.channel.asks_again:
            self.channel.done.append(delivery_tag)
            Places.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
        else:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]


class RankedChannel(Channel):
    QoS = RankedQoS
    _fetching = False
    _nothing_there = False

    def __init__(self, *args: Any, **options: Any) -> None:
        self.done: deque[str] = deque()
        """Tags of messages that are done with, to be told with the next question."""
        self._told: tuple[str, ...] = ()
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._ranked: dict[str, str] | None = self.connection.client.transport_options.get("ranked")
        """The keys; None for who may not touch them."""

    @property
    def asks_again(self) -> bool:
        return self._ranked is not None and bool(self.active_queues) and not self._closing

    def close(self) -> None:
        while self.done:
            with suppress(*self.connection_errors):
                self.qos._remove_from_indices(self.done.popleft()).execute()
        super().close()  # type: ignore[no-untyped-call]

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        ranked = self._ranked
        if ranked is None or options.get("_publish_batch") is not None:
            super()._put(queue, message, **options)  # type: ignore[no-untyped-call]
            return
        with self.conn_or_acquire() as client, client.pipeline(transaction=True) as pipeline:
            pipeline.lpush(queue, dumps(message))  # type: ignore[no-untyped-call]
            self._say(ranked, queue, pipeline)
            pipeline.execute()

    def _do_restore_message(self, payload: Any, exchange: str, key: str, pipe: Any, leftmost: bool = False) -> None:
        """Back into its queue: of a worker that stops, or that was not heard of for as long as the visibility lasts."""
        super()._do_restore_message(payload, exchange, key, pipe, leftmost)  # type: ignore[no-untyped-call]
        if self._ranked is not None:
            for queue in self._lookup(exchange, key):  # type: ignore[no-untyped-call]
                self._say(self._ranked, queue, pipe)

    def _say(self, ranked: dict[str, str], queue: str, pipeline: Any) -> None:
        """That there is something, or who asks for what was posted would find the queue only when there is nothing else."""
        pipeline.zadd(ranked["posted"].replace("@", NO_RUN), {queue: int(time.time() * 1000)}, nx=True)
        pipeline.zadd(ranked["served"], {NO_RUN: 0}, nx=True)

    def _brpop_start(self, timeout: float | None = None) -> None:
        ranked = self._ranked
        self._fetching = ranked is not None and bool(self.done or not self._nothing_there)
        if ranked is None or not self._fetching:
            super()._brpop_start(timeout)  # type: ignore[no-untyped-call]
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if queues:
            self._in_poll = self.client.connection
            self._brpop_sent_at = time.monotonic()  # type: ignore[assignment]
            self._told = tuple(self.done.popleft() for _ in range(len(self.done)))
            keys = (ranked["served"], self.unacked_key, self.unacked_index_key)
            words = (ranked["posted"], len(self._told), *self._told, *queues)
            self.client.connection.send_command("FCALL", library.function(FETCH), len(keys), *keys, *words)

    def _brpop_read(self, **options: Any) -> Any:
        if not self._fetching:
            self._nothing_there = False
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        fetched = self._fetched()
        if fetched is None:
            self._nothing_there = True
            raise Empty
        queue, raw, self.qos.noted = map(bytes_to_str, fetched)
        self.connection._deliver(loads(raw), queue)  # type: ignore[no-untyped-call]
        return True

    def _fetched(self) -> Any:
        try:
            answer = self.client.parse_response(self.client.connection, "FCALL")
            self._told = ()
            return answer
        except ResponseError as error:
            if not library.is_missing(error):
                self.client.connection.disconnect()
                raise
            with self.conn_or_acquire() as client:
                StepCaller(client).load()
            raise Empty from None
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        finally:
            self.done.extendleft(self._told)  # what was not heard is told again
            self._told = ()
            self._in_poll = False
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]
