"""Redis clients, with one profile of timeouts and retries per kind of caller.

By default redis-py 8 waits 5 s, tries 10 times, and repeats commands that are not idempotent. No caller here
wants all of that. Steps carry a request id or a fence, so repeating a step is harmless.
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
from redis.driver_info import DriverInfo
from redis.retry import Retry

from coordination.backend.address import PORT, client_url
from coordination.backend.bounded_parser import BoundedParser
from coordination.backend.error_messages import damaged, explain

ANSWER_S = 2.0
"""Socket timeout of a step. A step takes milliseconds, but a busy disk delays a write by up to this time."""
BULK_S = 60.0
"""Socket timeout of a bulk transfer: enough for 8 MiB over a slow network."""
DRIVER = DriverInfo(lib_version=redis.__version__)
"""The version of redis-py, which it otherwise reads from its package for each connection, in 1 ms."""


class Profile(StrEnum):
    COMMAND = "command"
    """For a person who waits: no retries, so an absent Redis is reported after the connect timeout."""
    WORKER = "worker"
    """For a process that survives short outages: three retries; a hung server is noticed."""
    READER = "reader"
    """For blocking reads of streams and subscriptions: no socket timeout."""
    BULK = "bulk"
    """For git bundles: megabytes over a slow network take longer than a step."""


def connect(
    url: str, profile: Profile, timeout: timedelta = timedelta(seconds=1), *, decode: bool = True
) -> redis.Redis:
    """Return a client for `url` (redis://, rediss:// or unix://); it connects at the first command.

    `timeout` limits the connect and the TLS handshake, and separately the first reply of the server.

    Without `decode` the client returns bytes. With it, bytes that are not UTF-8 are returned as escapes: any
    program may have written them, and one such value must not stop a loop over all values.

    Raises UsageError for an invalid address.
    """
    timeout_s = timeout.total_seconds()
    retries = {
        Profile.COMMAND: Retry(NoBackoff(), 0),
        Profile.WORKER: Retry(ExponentialBackoff(cap=1, base=0.05), 3),
        Profile.READER: Retry(NoBackoff(), 0),
        Profile.BULK: Retry(NoBackoff(), 0),
    }
    socket_timeouts_s = {Profile.READER: None, Profile.BULK: BULK_S}
    address = client_url(url)
    tls = {"connection_class": _TlsConnection} if address.startswith("rediss") else {}
    client: redis.Redis = redis.Redis.from_url(
        address,
        **tls,
        decode_responses=decode,
        encoding_errors="backslashreplace",
        socket_connect_timeout=timeout_s,
        socket_timeout=socket_timeouts_s.get(profile, max(timeout_s, ANSWER_S)),
        redis_connect_func=partial(_greet, timeout_s=timeout_s),
        driver_info=DRIVER,
        parser_class=BoundedParser,
        health_check_interval=0 if profile is Profile.COMMAND else 15,
        retry=retries[profile],
    )
    return client


def _greet(connection: AbstractConnection, *, timeout_s: float) -> None:
    """Initialise a connection under the connect timeout.

    A server that accepts connections but never replies is not Redis. This detects it before the (longer)
    socket timeout for replies.
    """
    connection.update_current_socket_timeout(timeout_s)
    connection.on_connect()
    connection.update_current_socket_timeout(-1)


class _TlsConnection(SSLConnection):  # type: ignore[misc]
    """Applies the connect timeout to the TLS handshake.

    redis-py applies the socket timeout to it, and a reader has none: its handshake could hang for ever.
    """

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(self.socket_connect_timeout)
        wrapped: socket.socket = super()._wrap_socket_with_ssl(sock)
        wrapped.settimeout(self.socket_timeout)
        return wrapped


def address_of(client: redis.Redis) -> str:
    """Return the URL of any redis-py client with its password hidden, for messages."""
    known = client.connection_pool.connection_kwargs
    login = f"{quote(known.get('username') or '', safe='')}:***@" if known.get("password") else ""
    if "path" in known:
        return f"unix://{login}{quote(known['path'])}?db={known.get('db') or 0}"
    scheme = "rediss" if issubclass(client.connection_pool.connection_class, SSLConnection) else "redis"
    host = str(known.get("host", "localhost"))
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{login}{shown}:{known.get('port', PORT)}?db={known.get('db') or 0}"


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Convert errors of redis-py to errors of coord, each with a hint.

    Raises Unreachable or Unreadable; re-raises an error that only a fault of coord can cause.
    """
    try:
        yield
    except redis.RedisError as error:
        explained = explain(error, url) or damaged(error, url)
        if explained is None:
            raise
        raise explained from error
