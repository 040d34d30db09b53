"""Kombu's Redis transport with priorities, tolerant of unreadable queue entries and of outages of Redis.

**Priorities.** kombu's BRPOP takes from one queue after the other, so a todo on the plan's critical path
waits behind others: over 20 repositories with lognormal durations a plan takes 5 to 15 % longer than in order
of rank. Here a worker with a free slot calls one step, lua/queue/fetch.lua, which takes the most urgent
message from all queues, records it as unacknowledged, and acknowledges the messages that the worker has
finished. This is one round trip where kombu needs three (BRPOP, record, acknowledge), and no message is lost
between taking and recording. If there is no message, the worker falls back to one BRPOP. That waits for the
next message, and also takes messages that were queued without a rank. The alternative, kombu's own priorities
(ten lists per queue), has one rank for all plans, and gives BRPOP ten times as many keys: 20,000 for 500
repositories.

**Tolerance.** Any program with access to Redis can push anything into a queue: bytes, half a message, a
message of another program. An unreadable entry, or an outage of Redis, would end the process of a stock
Celery worker. An entry that cannot be parsed, lacks the shape of a message, or makes Celery fail before the
task starts, is moved to the list `<ns>:poison` and logged.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import Any

import redis
from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Channel, QoS, Transport
from kombu.transport.virtual import QoS as VirtualQoS
from kombu.utils.json import dumps, loads
from redis.exceptions import LockNotOwnedError
from redis.lock import Lock

from coordination.backend import library
from coordination.backend.address import hide_password
from coordination.backend.bounded_parser import BoundedParser
from coordination.backend.client import DRIVER
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.namespace import Fetch, FetchedMessage

NAME = "coord"
"""Name of this transport in kombu's table; the address of a socket (`NAME+socket://`) requires one."""
TRANSPORT_ALIASES[NAME] = f"{__name__}:TolerantTransport"
POISON_KEPT = 1000
RECONNECT = {"interval_start": 1, "interval_step": 1, "interval_max": 3}
"""Seconds between attempts to connect again."""
NOT_READABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

NO_RUN = ""
"""Run id under which messages sent from Python are recorded."""

logger = logging.getLogger(__name__)


class Mutex(Lock):  # type: ignore[misc]
    """A lock of redis-py that is released without a script: a Redis user who may load scripts can stop the
    server with an endless one.
    """

    def register_scripts(self) -> None:
        """Load none."""

    def do_release(self, expected_token: str) -> None:
        """Release the lock. Raises LockNotOwnedError if it has expired."""
        with self.redis.pipeline() as pipeline:
            pipeline.watch(self.name)
            if pipeline.get(self.name) == expected_token:
                pipeline.multi()
                pipeline.delete(self.name)
                with suppress(redis.WatchError):
                    pipeline.execute()
                    return
        raise LockNotOwnedError("another consumer has the lock", lock_name=self.name)


class Client(redis.Redis):  # type: ignore[misc]
    """The client of a channel."""

    def lock(self, name: str, *args: Any, **options: Any) -> Any:
        return super().lock(name, *args, **{**options, "lock_class": Mutex})


class RankedQoS(QoS):
    recorded_tag = ""
    """Tag of the message that the fetch step has already recorded as unacknowledged."""

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag == self.recorded_tag:
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

    def _get_client(self) -> type[redis.Redis]:
        return Client

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
        queue, raw, self.qos.recorded_tag = fetched
        self.connection._deliver(loads(raw), queue)  # type: ignore[no-untyped-call]
        return True

    def _fetched(self) -> FetchedMessage | None:
        try:
            fetched = self._fetch.result(self.client.parse_response(self.client.connection, "FCALL"))
            self._acknowledging = ()
            return fetched
        except (redis.ResponseError, *self.connection_errors) as error:
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


class TolerantQoS(RankedQoS):
    def ack(self, delivery_tag: str) -> None:
        # A message whose acknowledgement failed would occupy its slot for ever: a worker with one slot would
        # send heartbeats but take no more messages. So the slot is freed. The message is delivered again
        # after its visibility timeout, and the claim step refuses it.
        try:
            super().ack(delivery_tag)
        except redis.RedisError:
            VirtualQoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise


class TolerantChannel(RankedChannel):
    QoS = TolerantQoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except NOT_READABLE as error:
            self.set_aside(_raw(error))
            return True

    def set_aside(self, raw: bytes | str) -> None:
        """Log a queue entry and store it in the list of unreadable entries."""
        logger.error("unreadable queue entry, set aside: %.200r", raw)
        poison = self.connection.client.transport_options["poison_key"]
        with self.conn_or_acquire() as client:
            client.lpush(poison, raw)
            client.ltrim(poison, 0, POISON_KEPT - 1)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        if not self._ours(exchange):
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[no-untyped-call]

    def get_table(self, exchange: str) -> Any:
        # A queue of coord has the name of its exchange, so its bindings need not be read from Redis. A user
        # who may write to one queue therefore cannot redirect its messages to others, or make sending them
        # fail.
        if self._ours(exchange):
            return [(exchange, "", exchange)]
        return super().get_table(exchange)  # type: ignore[no-untyped-call]

    def _ours(self, exchange: str) -> bool:
        prefix: str = self.connection.client.transport_options["queue_prefix"]
        return exchange.startswith(prefix)

    def _connparams(self, *args: Any, **options: Any) -> Any:
        # kombu 5.7 closes a lost connection twice. The second time it has no address any more, and its
        # AttributeError would end the worker, which expects a ConnectionError. A channel that another thread
        # closes during a send has no connection at all: after a ConnectionError the message is sent over
        # another one.
        if self.connection is None or self.connection.client is None:
            raise redis.ConnectionError("this connection to Redis is closed")
        given = super()._connparams(*args, **options)  # type: ignore[no-untyped-call]
        return given | {"driver_info": DRIVER, "parser_class": BoundedParser}


class TolerantConnection(Connection):
    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        # kombu waits 2 s longer after each attempt, up to 30 s: a worker would be idle that long after Redis
        # is back.
        return super().ensure_connection(*args, **{**RECONNECT, **options})  # type: ignore[no-untyped-call]

    def info(self) -> dict[str, Any]:
        # A worker's stats contain this, and Flower shows them; the address of a socket would contain the
        # password.
        known = super().info()  # type: ignore[no-untyped-call]
        return {**known, "hostname": hide_password(known["hostname"]), "alternates": []}


class TolerantAmqp(AMQP):  # type: ignore[misc]
    Connection = TolerantConnection


class TolerantApp(Celery):  # type: ignore[misc]
    def send_task(self, *args: Any, **options: Any) -> Any:
        # Callers handle redis-py's errors at every step; kombu wraps them in its own.
        try:
            return super().send_task(*args, **options)
        except OperationalError as error:
            if isinstance(error.__cause__, redis.RedisError):
                raise error.__cause__ from None
            raise


class TolerantTransport(Transport):
    Channel = TolerantChannel
    # An error reply (such as: the disk is full) must not end the worker either: it connects again and
    # retries.
    connection_errors = (*Transport.connection_errors, redis.ResponseError)

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            check(message)
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]
        except NOT_READABLE:
            logger.debug("not delivered", exc_info=True)
            self._give_up(message)

    def _give_up(self, message: Any) -> None:
        tag = message["properties"].get("delivery_tag") if _has_properties(message) else None
        for channel in self.channels:
            if isinstance(tag, str) and tag in channel.qos._delivered:  # it failed after `check`
                channel.basic_ack(tag)
        self.channels[0].set_aside(json.dumps(message, ensure_ascii=False))


def check(message: Any) -> None:
    """Raise ValueError for an entry that kombu would accept as a message but cannot handle."""
    if not _has_properties(message):
        raise ValueError("not an object with properties")
    properties = message["properties"]
    delivery_info = properties.get("delivery_info")
    if not isinstance(properties.get("delivery_tag"), str) or not properties["delivery_tag"]:
        raise ValueError("no delivery tag")
    if not isinstance(delivery_info, dict) or not {"exchange", "routing_key"} <= delivery_info.keys():
        raise ValueError("no exchange or routing key")
    if not isinstance(message.get("headers"), dict) or not isinstance(message.get("body"), str):
        raise ValueError("no headers, or no body")
    if properties.get("body_encoding") == "base64":
        base64.b64decode(message["body"], validate=True)


def _has_properties(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("properties"), dict)


def _raw(error: Exception) -> bytes | str:
    """Return the queue entry from the error of decoding it, or the error's text if that has no entry."""
    if isinstance(error, UnicodeDecodeError):
        return error.object
    return error.doc if isinstance(error, json.JSONDecodeError) else repr(error)
