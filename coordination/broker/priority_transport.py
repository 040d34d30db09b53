"""A kombu transport with priorities: a worker takes the most urgent message from all of its queues.

kombu's BRPOP takes from one queue after the other, so a todo on the plan's critical path waits behind others:
over 20 repositories with lognormal durations a plan takes 5 to 15 % longer than in order of rank. Here a
worker with a free slot calls one step, lua/queue/fetch.lua, which takes the most urgent message, records it
as unacknowledged, and acknowledges the messages that the worker has finished. This is one round trip where
kombu needs three (BRPOP, record, acknowledge), and no message is lost between taking and recording. If there
is no message, the worker falls back to one BRPOP. That waits for the next message, and also takes messages
that were not put there with a rank.

The alternative, kombu's own priorities (ten lists per queue), has one rank for all plans, and gives BRPOP ten
times as many keys: 20,000 for 500 repositories.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import Any

from kombu.transport.redis import Channel, QoS
from kombu.transport.virtual import QoS as VirtualQoS
from kombu.utils.json import dumps, loads
from redis.exceptions import ResponseError

from coordination.backend import library
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.namespace import Fetch, FetchedMessage

NO_RUN = ""
"""Run id under which messages sent from Python are recorded."""


class RankedQoS(QoS):
    noted = ""
    """Tag of the message that the fetch step has already recorded as unacknowledged."""

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag == self.noted:
            VirtualQoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        # If the process dies before it sends the acknowledgement, no harm is done: the message is delivered
        # again after its visibility timeout, and the claim step refuses it.
        if self.channel.asks_again:
            self.channel.done.append(delivery_tag)
            VirtualQoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
        else:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]


class RankedChannel(Channel):
    QoS = RankedQoS
    _fetch: Fetch
    """The fetch that was sent last."""
    _fetching = False
    _found_nothing = False

    def __init__(self, *args: Any, **options: Any) -> None:
        self.done: deque[str] = deque()
        """Tags of finished messages, to be acknowledged by the next fetch."""
        self._acknowledging: tuple[str, ...] = ()
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._ranked: dict[str, str] | None = self.connection.client.transport_options.get("ranked")
        """Keys of ranked messages; None for a worker that may not access them."""

    @property
    def asks_again(self) -> bool:
        """Return whether the channel will fetch again, so that acknowledgements can wait for that."""
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
            self._record_queue(ranked, queue, pipeline)
            pipeline.execute()

    def _do_restore_message(
        self, payload: Any, exchange: str, key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        """Return a message to its queue: its worker stops, or was silent for the visibility timeout."""
        super()._do_restore_message(payload, exchange, key, pipe, leftmost)  # type: ignore[no-untyped-call]
        if self._ranked is not None:
            for queue in self._lookup(exchange, key):  # type: ignore[no-untyped-call]
                self._record_queue(self._ranked, queue, pipe)

    def _record_queue(self, ranked: dict[str, str], queue: str, pipeline: Any) -> None:
        """Record that the queue has a message; a fetch would otherwise find it only when all else
        is empty.
        """
        pipeline.zadd(ranked["posted"].replace("@", NO_RUN), {queue: int(time.time() * 1000)}, nx=True)
        pipeline.zadd(ranked["served"], {NO_RUN: 0}, nx=True)

    def _brpop_start(self, timeout: float | None = None) -> None:
        ranked = self._ranked
        self._fetching = ranked is not None and bool(self.done or not self._found_nothing)
        if ranked is None or not self._fetching:
            super()._brpop_start(timeout)  # type: ignore[no-untyped-call]
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        if queues:
            self._in_poll = self.client.connection
            self._brpop_sent_at = time.monotonic()  # type: ignore[assignment]
            self._acknowledging = tuple(self.done.popleft() for _ in range(len(self.done)))
            keys = (ranked["served"], self.unacked_key, self.unacked_index_key)
            self._fetch = Fetch(posted=ranked["posted"], done=self._acknowledging, queues=queues)
            self.client.connection.send_command("FCALL", *library.fcall(self._fetch, keys))

    def _brpop_read(self, **options: Any) -> Any:
        if not self._fetching:
            self._found_nothing = False
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        fetched = self._fetched()
        if fetched is None:
            self._found_nothing = True
            raise Empty
        queue, raw, self.qos.noted = fetched
        self.connection._deliver(loads(raw), queue)  # type: ignore[no-untyped-call]
        return True

    def _fetched(self) -> FetchedMessage | None:
        try:
            fetched = self._fetch.result(self.client.parse_response(self.client.connection, "FCALL"))
            self._acknowledging = ()
            return fetched
        except (ResponseError, *self.connection_errors) as error:
            if not library.is_missing(error):
                self.client.connection.disconnect()
                raise
            with self.conn_or_acquire() as client:
                StepCaller(client).load()
            raise Empty from None
        finally:
            # After an error, the next fetch acknowledges these again.
            self.done.extendleft(self._acknowledging)
            self._acknowledging = ()
            self._in_poll = False
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]
