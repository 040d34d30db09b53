"""A queue entry that is no message ends a stock worker's process, and so does losing Redis; here both are lived through.

Anybody who reaches Redis can push anything: bytes, half a message, one of another program. What cannot be read, or has not
the shape of a message, or makes Celery stumble on its way to a task, goes to the list `<ns>:poison` and into the log.
"""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import redis
from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport.redis import Transport
from kombu.transport.virtual import QoS as Places

from coordination.backend.address import hide_password
from coordination.broker.priority_transport import RankedChannel, RankedQoS

NAME = "coord"
"""Of our transport, in kombu's table: an address with a socket (`NAME+socket://`) can name one only by that."""
TRANSPORT_ALIASES[NAME] = f"{__name__}:TolerantTransport"
POISON_KEPT = 1000
RECONNECT = {"interval_start": 1, "interval_step": 1, "interval_max": 3}
"""Seconds between attempts to reach a Redis that is away."""
NOT_READABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

logger = logging.getLogger(__name__)


class TolerantQoS(RankedQoS):
    def ack(self, delivery_tag: str) -> None:
        # A message that could not be acknowledged would keep its place for ever: a worker with one place would consume no
        # more, and beat on. It is a hint that was taken; it comes again when its visibility runs out, and is refused.
        try:
            super().ack(delivery_tag)
        except redis.RedisError:
            Places.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
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
        logger.error("a queue entry cannot be read, set aside: %.200r", raw)
        poison = self.connection.client.transport_options["poison_key"]
        with self.conn_or_acquire() as client:
            client.lpush(poison, raw)
            client.ltrim(poison, 0, POISON_KEPT - 1)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        if not self._ours(exchange):
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[no-untyped-call]

    def get_table(self, exchange: str) -> Any:
        # A queue of ours has its exchange's name, so what leads to it need not be asked of Redis, and nobody who may write
        # in one queue can lead its messages to others, or make them impossible to send.
        return [(exchange, "", exchange)] if self._ours(exchange) else super().get_table(exchange)  # type: ignore[no-untyped-call]

    def _ours(self, exchange: str) -> bool:
        prefix: str = self.connection.client.transport_options["queue_prefix"]
        return exchange.startswith(prefix)

    def _connparams(self, *args: Any, **options: Any) -> Any:
        # kombu 5.7 closes a lost connection twice. The second time it has forgotten the address, and its AttributeError
        # would end the worker where a ConnectionError is expected. A channel that another thread has closed while we sent by it
        # knows no connection at all: with a ConnectionError the message is sent by another one.
        if self.connection is None or self.connection.client is None:
            raise redis.ConnectionError("this connection to Redis is closed")
        return super()._connparams(*args, **options)  # type: ignore[no-untyped-call]


class TolerantConnection(Connection):
    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        # kombu waits 2 s longer after each attempt, up to 30 s: a worker would be idle so long after Redis has come back.
        return super().ensure_connection(*args, **{**RECONNECT, **options})  # type: ignore[no-untyped-call]

    def info(self) -> dict[str, Any]:
        # A worker tells it to whoever asks for its stats, and Flower shows that; an address with a socket holds its password.
        known = super().info()  # type: ignore[no-untyped-call]
        return {**known, "hostname": hide_password(known["hostname"]), "alternates": []}


class TolerantAmqp(AMQP):  # type: ignore[misc]
    Connection = TolerantConnection


class TolerantApp(Celery):  # type: ignore[misc]
    def send_task(self, *args: Any, **options: Any) -> Any:
        # To whoever starts or settles something, Redis' errors are the same at every step; kombu dresses them up.
        try:
            return super().send_task(*args, **options)
        except OperationalError as error:
            if isinstance(error.__cause__, redis.RedisError):
                raise error.__cause__ from None
            raise


class TolerantTransport(Transport):
    Channel = TolerantChannel
    # An answer that says no (the disk is full) is no reason to end either: connect again, and ask again.
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
            if isinstance(tag, str) and tag in channel.qos._delivered:  # it stumbled later than at our check
                channel.basic_ack(tag)
        self.channels[0].set_aside(json.dumps(message, ensure_ascii=False))


def check(message: Any) -> None:
    """Raises ValueError for what kombu would take for a message and could not handle."""
    if not _has_properties(message):
        raise ValueError("no object with properties")
    properties = message["properties"]
    way = properties.get("delivery_info")
    if not isinstance(properties.get("delivery_tag"), str) or not properties["delivery_tag"]:
        raise ValueError("no delivery tag")
    if not isinstance(way, dict) or not {"exchange", "routing_key"} <= way.keys():
        raise ValueError("no way back")
    if not isinstance(message.get("headers"), dict) or not isinstance(message.get("body"), str):
        raise ValueError("no headers, or no body")
    if properties.get("body_encoding") == "base64":
        base64.b64decode(message["body"], validate=True)


def _has_properties(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("properties"), dict)


def _raw(error: Exception) -> bytes | str:
    """The entry, as far as the error tells it: what was no text, or no JSON."""
    if isinstance(error, UnicodeDecodeError):
        return error.object
    return error.doc if isinstance(error, json.JSONDecodeError) else repr(error)
