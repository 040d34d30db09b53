"""Calls of Lua steps, through a redis-py client or over connections of this module.

`StepConnection` is for frequent calls and for blocking commands: a call takes a third of the time of one
through redis-py's client. Each caller has a connection to itself for one command. All commands sent here are
idempotent, so a command without a reply is repeated over a new connection until the caller's timeout; then
the call raises Unreachable.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.connection import AbstractConnection
from redis.retry import Retry

from coordination.backend import library
from coordination.backend.client import ANSWER_S, address_of
from coordination.backend.error_messages import explain
from coordination.backend.steps import Step, StepValue

R = TypeVar("R")
T = TypeVar("T")
logger = logging.getLogger(__name__)

_INSTANT_S = 0.001
_LOADS = 5
_ANY_NUMBER = 2**31 - 1
"""Connection limit of the pool. redis-py's default is 100, and it also counts connections lost long ago."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_SILENCE = (redis.ConnectionError, redis.TimeoutError)
_REFUSED = (redis.AuthenticationError, redis.exceptions.AuthorizationError)


class StepCaller:
    """Calls steps through a redis-py client, with its pool, timeouts and errors."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def __call__(self, step: Step[R], keys: Sequence[str]) -> R:
        logger.debug("step %s", step.name)
        call = library.fcall(step, keys)
        return step.result(self.with_library(lambda: self._client.fcall(*call)))

    def with_library(self, call: Callable[[], T]) -> T:
        """Return the result of a call of steps, which is repeated once if the server did not have the
        library.
        """
        try:
            return call()
        except redis.ResponseError as error:
            if not library.is_missing(error):
                raise
        self.load()
        return call()

    def load(self) -> None:
        """Load the library of steps, if the server does not have it."""
        library.load(self._client, address_of(self._client))


class MissingLibrary(Exception):
    """The server does not have the library of steps."""


class StepConnection(StepCaller):
    """Calls steps on the Redis of a client, with its login and TLS. Safe for threads and for fork.

    Calls raise Unreachable, or Unusable if the server refuses the client. Errors that only a fault of coord
    can cause are raised as redis-py raises them.
    """

    def __init__(self, client: Redis, *, decode: bool = True) -> None:
        """Create the pool. Without `decode`, replies are bytes."""
        super().__init__(client)
        original = client.connection_pool
        own = {"decode_responses": decode, "retry": Retry(NoBackoff(), 0), "health_check_interval": 0}
        self._pool = ConnectionPool(
            connection_class=original.connection_class,
            max_connections=_ANY_NUMBER,
            **{**original.connection_kwargs, **own, "redis_connect_func": None},  # that has its own timeout
        )
        self.url = address_of(client)
        self._forget()

    def __call__(self, step: Step[R], keys: Sequence[str], *, patience_s: float = ANSWER_S) -> R:
        logger.debug("step %s", step.name)
        command = pack("FCALL", *library.fcall(step, keys))
        for _ in range(_LOADS):
            try:
                return step.result(self._send(command, patience_s, 0))
            except MissingLibrary:  # also after a load: the address may lead to another server by now
                try:
                    self.load()
                except redis.RedisError as error:
                    raise self._explained(error) from error
        return step.result(self._send(command, patience_s, 0))

    def send(self, *words: StepValue, patience_s: float = ANSWER_S, blocks_s: float = 0) -> Any:
        """Send a command and return its reply.

        `patience_s`: the timeout, over all attempts. `blocks_s`: time added to it for a command that blocks.
        """
        return self._send(pack(*words), patience_s, blocks_s)

    def subscription(self) -> PubSub:
        """Return a pub/sub object with its own connection. It raises redis-py's errors."""
        return PubSub(self._pool)

    def close(self) -> None:
        while connection := self._take():
            connection.disconnect()

    def _send(self, command: bytes, patience_s: float, blocks_s: float) -> Any:
        connection = self._take()
        if connection is not None:
            try:
                return self._ask(connection, command, max(patience_s, _INSTANT_S) + blocks_s)
            except redis.ConnectionError:
                pass  # the server closed the connection while it was idle: try a new one
            except redis.TimeoutError as error:
                raise self._explained(error) from error
        return self._insist(command, patience_s, blocks_s)

    def _insist(self, command: bytes, patience_s: float, blocks_s: float) -> Any:
        began, pause_s = time.monotonic(), _FIRST_PAUSE_S
        while True:
            left_s = max(patience_s - (time.monotonic() - began), _INSTANT_S)
            try:
                return self._ask(self._connected(left_s), command, left_s + blocks_s)
            except _SILENCE as error:
                if isinstance(error, _REFUSED) or left_s <= pause_s:
                    raise self._explained(error) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _ask(self, connection: AbstractConnection, command: bytes, answer_s: float) -> Any:
        if answer_s != connection.waits_s:
            connection.waits_s = answer_s
            connection.update_current_socket_timeout(answer_s)
        try:
            connection.send_packed_command([command], check_health=False)
            answer = connection.read_response()
        except redis.ResponseError as error:
            self._idle.append(connection)
            if library.is_missing(error):
                raise MissingLibrary from error
            raise self._explained(error) from error
        self._idle.append(connection)
        return answer

    def _take(self) -> AbstractConnection | None:
        if self._pid != os.getpid():
            self._forget()
        try:
            return self._idle.pop()
        except IndexError:  # no idle connection, or another thread has just taken the last one
            return None

    def _connected(self, within_s: float) -> AbstractConnection:
        connection = self._pool.make_connection()
        connection.socket_connect_timeout = connection.socket_timeout = connection.waits_s = within_s
        connection.connect()
        return connection

    def _forget(self) -> None:
        """Drop all idle connections: after a fork they belong to the parent process."""
        self._pid = os.getpid()
        self._idle: deque[AbstractConnection] = deque()

    def _explained(self, error: redis.RedisError) -> Exception:
        return explain(error, self.url) or error


class PlainStepConnection(StepConnection):
    """A step connection that raises redis-py's errors unchanged."""

    def _explained(self, error: redis.RedisError) -> Exception:
        return error  # type: ignore[no-any-return]


def pack(*words: StepValue) -> bytes:
    """Return a command in the Redis protocol."""
    try:
        texts = [
            word if type(word) is str else str(word) if type(word) is int else _text(word) for word in words
        ]
    except TypeError:  # some words are bytes
        pass
    else:
        whole = "".join([f"${len(text)}\r\n{text}\r\n" for text in texts])
        if whole.isascii():  # character counts are byte counts: one encode takes half the time
            return f"*{len(texts)}\r\n{whole}".encode()
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"".join([b"*%d\r\n" % len(raw), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in raw)])


def _text(word: StepValue) -> str:
    """Return a float, or a member of an enum, as text. Raises TypeError for bytes."""
    if isinstance(word, bytes):
        raise TypeError
    return str(word)
