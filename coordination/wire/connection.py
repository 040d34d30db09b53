"""Clients for Redis, one profile for each kind of caller, and Celery's dialect of the address.

redis-py 8 waits 5 s and tries 10 times by default, and repeats commands that are not idempotent; no caller here wants all of
that. Steps carry a request id or a fence, so that a repeated one is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from coordination.errors import Unreachable, UsageError

SCHEMES = ("redis", "rediss", "unix")
REFUSALS = ("MISCONF", "OOM ", "READONLY ", "NOREPLICAS ")
NO_ROOM = "make room where it keeps its data; the embedded server keeps it in .coord beside the file"


class Profile(StrEnum):
    COMMAND = "command"
    """A person waits: an answer or an error within the connect timeout."""
    WORKER = "worker"
    """Short outages are waited out; a hung server is noticed."""
    READER = "reader"
    """Blocks on streams and subscriptions: no socket timeout."""


def connect(url: str, profile: Profile, timeout: timedelta = timedelta(seconds=2)) -> redis.Redis:
    """A client for `url` (redis://, rediss:// or unix://); connects at the first command."""
    if urlsplit(url).scheme not in SCHEMES:
        raise UsageError(f"{hide_password(url)} is no Redis address", "use redis://, rediss:// or unix://")
    timeout_s = timeout.total_seconds()
    tries = {
        Profile.COMMAND: Retry(NoBackoff(), 0),
        Profile.WORKER: Retry(ExponentialBackoff(cap=1, base=0.05), 3),
        Profile.READER: Retry(NoBackoff(), 0),
    }
    client: redis.Redis = redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=timeout_s,
        socket_timeout=None if profile is Profile.READER else max(timeout_s, 1.0),
        health_check_interval=0 if profile is Profile.COMMAND else 15,
        retry=tries[profile],
    )
    return client


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Redis' own errors become Unreachable, with what to do."""
    where = hide_password(url)
    try:
        yield
    except redis.AuthenticationError as error:
        raise Unreachable(
            f"Redis at {where} refuses the password: {error}", "check the password in the address"
        ) from error
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise Unreachable(
            f"Redis at {where} does not answer: {error}",
            "start it, or name another with --redis or COORD_REDIS_URL; without any, coord uses its embedded server",
        ) from error
    except redis.ResponseError as error:
        if not cannot_write(error):
            raise
        raise Unreachable(f"Redis at {where} cannot write: {error}", NO_ROOM) from error


def cannot_write(error: redis.RedisError) -> bool:
    """Redis answers, but takes nothing in: its disk or its memory is full, or it is a replica now. That may pass."""
    return isinstance(error, redis.ResponseError) and any(word in str(error) for word in REFUSALS)


def hide_password(url: str) -> str:
    parts = urlsplit(url)
    if not parts.password:
        return url
    return url.replace(f":{parts.password}@", ":***@")


def carrier_url(url: str) -> str:
    """The address as kombu spells it."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        query = parse_qs(parts.query)
        db = query.get("db", ["0"])[0]
        password = unquote(parts.password) if parts.password else query.get("password", [""])[0]
        login = f":{quote(password, safe='')}@" if password else ""
        return f"redis+socket://{login}{parts.path}?virtual_host={db}"
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in parts.query:
        return f"{url}{'&' if parts.query else '?'}ssl_cert_reqs=required"
    return url
