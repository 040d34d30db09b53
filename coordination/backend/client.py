"""Clients for Redis, one profile for each kind of caller.

redis-py 8 waits 5 s and tries 10 times by default, and repeats commands that are not idempotent; no caller here wants all of
that. Steps carry a request id or a fence, so that a repeated one is harmless.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from functools import partial
from urllib.parse import quote

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.connection import AbstractConnection, SSLConnection
from redis.retry import Retry

from coordination.backend.address import PORT, client_url
from coordination.backend.error_messages import damaged, explain

ANSWER_S = 2.0
"""A step is done in milliseconds; a disk that is busy makes Redis wait this long with a write."""
FREIGHT_S = 60.0
"""8 MiB in that time is a slow line."""


class Profile(StrEnum):
    COMMAND = "command"
    """A person waits: a Redis that does not greet within the connect timeout is not there."""
    WORKER = "worker"
    """Short outages are waited out; a hung server is noticed."""
    READER = "reader"
    """Blocks on streams and subscriptions: no socket timeout."""
    FREIGHT = "freight"
    """Carries commits: megabytes over a slow line take longer than a step."""


def connect(
    url: str, profile: Profile, timeout: timedelta = timedelta(seconds=1), *, decode: bool = True
) -> redis.Redis:
    """A client for `url` (redis://, rediss:// or unix://); connects at the first command. Raises UsageError.

    `timeout`: for the connection, for TLS, and again until the server greets.

    Without `decode` it answers in bytes. With it, bytes that are no UTF-8 come with their escapes: anybody may have written them, and one
    such value must not end whoever goes through all of them.
    """
    timeout_s = timeout.total_seconds()
    tries = {
        Profile.COMMAND: Retry(NoBackoff(), 0),
        Profile.WORKER: Retry(ExponentialBackoff(cap=1, base=0.05), 3),
        Profile.READER: Retry(NoBackoff(), 0),
        Profile.FREIGHT: Retry(NoBackoff(), 0),
    }
    patience_s = {Profile.READER: None, Profile.FREIGHT: FREIGHT_S}
    address = client_url(url)
    tls = {"connection_class": _TlsConnection} if address.startswith("rediss") else {}
    client: redis.Redis = redis.Redis.from_url(
        address,
        **tls,
        decode_responses=decode,
        encoding_errors="backslashreplace",
        socket_connect_timeout=timeout_s,
        socket_timeout=patience_s.get(profile, max(timeout_s, ANSWER_S)),
        redis_connect_func=partial(_greet, timeout_s=timeout_s),
        health_check_interval=0 if profile is Profile.COMMAND else 15,
        retry=tries[profile],
    )
    return client


def _greet(connection: AbstractConnection, *, timeout_s: float) -> None:
    """What accepts a connection and never says a word is no Redis: that is known sooner than a slow answer is given up."""
    connection.update_current_socket_timeout(timeout_s)
    connection.on_connect()
    connection.update_current_socket_timeout(-1)


class _TlsConnection(SSLConnection):  # type: ignore[misc]
    """Agreeing on TLS belongs to the connection: redis-py gives it as long as an answer, which for a reader is for ever."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(self.socket_connect_timeout)
        wrapped: socket.socket = super()._wrap_socket_with_ssl(sock)
        wrapped.settimeout(self.socket_timeout)
        return wrapped


def address_of(client: redis.Redis) -> str:
    """Where a client of anybody's making connects to, for words about it; without its password."""
    known = client.connection_pool.connection_kwargs
    login = f"{quote(known.get('username') or '', safe='')}:***@" if known.get("password") else ""
    if "path" in known:
        return f"unix://{login}{quote(known['path'])}?db={known.get('db') or 0}"
    scheme = "rediss" if issubclass(client.connection_pool.connection_class, SSLConnection) else "redis"
    host = str(known.get("host", "localhost"))
    return (
        f"{scheme}://{login}{f'[{host}]' if ':' in host else host}:{known.get('port', PORT)}?db={known.get('db') or 0}"
    )


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Redis' own errors become Unreachable, with what to do."""
    try:
        yield
    except redis.RedisError as error:
        words = explain(error, url) or damaged(error, url)
        if words is None:
            raise
        raise words from error
