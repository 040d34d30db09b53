"""Steps over connections of its own, for what is done often, and for waiting: a third of the time that redis-py's client takes.

A caller has a connection to itself for one command. What is sent here is harmless when it arrives twice, so that a command
without an answer is sent again, over a new connection, for as long as its caller has patience; then it is Unreachable.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.connection import AbstractConnection
from redis.retry import Retry

from coordination.backend import library
from coordination.backend.client import ANSWER_S, address_of
from coordination.backend.error_messages import explain
from coordination.backend.steps import STEPS, Word

_INSTANT_S = 0.001
_LOADS = 5
_ANY_NUMBER = 2**31 - 1
"""redis-py would allow for a hundred, and count those that were lost long ago."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
_SILENCE = (redis.ConnectionError, redis.TimeoutError)
_REFUSED = (redis.AuthenticationError, redis.exceptions.AuthorizationError)


class StepCaller:
    """Calls steps through a client of redis-py, with its pool, its timeouts and its errors."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def __call__(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        step = STEPS[name]
        step.check(keys, args)
        try:
            return step.read(self._fcall(name, keys, args))
        except redis.ResponseError as error:
            if not library.is_missing(error):
                raise
        self.load()
        return step.read(self._fcall(name, keys, args))

    def load(self) -> None:
        """Load the library of steps into a server that does not have it, or not any more."""
        library.load(self._client, address_of(self._client))

    def _fcall(self, name: str, keys: Sequence[str], args: Sequence[Word]) -> Any:
        return self._client.fcall(library.function(name), len(keys), *keys, *args)


class MissingLibrary(Exception):
    """The server does not have the library of steps."""


class StepConnection(StepCaller):
    """To the Redis of a client, with its login and TLS; for any number of threads, and for processes that fork.

    Raises Unreachable (Unusable where the server refuses us); what redis-py raises for a fault of ours passes.
    """

    def __init__(self, client: Redis, *, decode: bool = True) -> None:
        """Without `decode` it answers in bytes."""
        super().__init__(client)
        given = client.connection_pool
        own = {"decode_responses": decode, "retry": Retry(NoBackoff(), 0), "health_check_interval": 0}
        self._pool = ConnectionPool(
            connection_class=given.connection_class,
            max_connections=_ANY_NUMBER,
            **{**given.connection_kwargs, **own, "redis_connect_func": None},  # it would have a patience of its own
        )
        self.url = address_of(client)
        self._forget()

    def __call__(self, name: str, keys: Sequence[str], args: Sequence[Word], *, patience_s: float = ANSWER_S) -> Any:
        step = STEPS[name]
        step.check(keys, args)
        command = pack("FCALL", library.function(name), len(keys), *keys, *args)
        for _ in range(_LOADS):
            try:
                return step.read(self._send(command, patience_s, 0))
            except MissingLibrary:  # also of a server that is another one since it was told
                try:
                    self.load()
                except redis.RedisError as error:
                    raise self._explained(error) from error
        return step.read(self._send(command, patience_s, 0))

    def send(self, *words: Word, patience_s: float = ANSWER_S, blocks_s: float = 0) -> Any:
        """`patience_s`: for how long an answer is asked for. `blocks_s`: it may take so much longer, on purpose."""
        return self._send(pack(*words), patience_s, blocks_s)

    def subscription(self) -> PubSub:
        """Over a connection of its own. Raises what redis-py raises."""
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
                pass  # it lay idle, and the server has hung up meanwhile; over a new one we shall see
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
        except IndexError:  # there is none, or another thread has just taken the last one
            return None

    def _connected(self, within_s: float) -> AbstractConnection:
        connection = self._pool.make_connection()
        connection.socket_connect_timeout = connection.socket_timeout = connection.waits_s = within_s
        connection.connect()
        return connection

    def _forget(self) -> None:
        """Connections are not shared with a parent process."""
        self._pid = os.getpid()
        self._idle: deque[AbstractConnection] = deque()

    def _explained(self, error: redis.RedisError) -> Exception:
        return explain(error, self.url) or error


class PlainLine(StepConnection):
    """For callers that know redis-py: they are told what it raises."""

    def _explained(self, error: redis.RedisError) -> Exception:
        return error  # type: ignore[no-any-return]


def pack(*words: Word) -> bytes:
    """A command as Redis reads it."""
    if bytes not in map(type, words):
        texts = [word if isinstance(word, str) else str(word) for word in words]
        whole = "".join([f"${len(text)}\r\n{text}\r\n" for text in texts])
        if whole.isascii():  # as long in characters as in bytes: encoded at once, which takes half the time
            return f"*{len(texts)}\r\n{whole}".encode()
    raw = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"".join([b"*%d\r\n" % len(raw), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in raw)])
