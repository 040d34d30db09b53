"""Who may come in as whom: one token per recipient. Redis keeps a hash of it, and nobody can read the token back.

A token is `<who>.<secret>`; `who` is made of the recipient's name, so that a new token takes the place of the old one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from coordination.errors import NotFound, UsageError
from coordination.gateway.listener import News
from coordination.gateway.topics import checked
from coordination.messages import names
from coordination.nearest import did_you_mean
from coordination.wire.connection import address_of, reaching
from coordination.wire.keys import GatewayKeys

KINDS = ("agent", "person", "repo")
"""Workers, runs and replies are coord's own, and have Redis."""
SECRET_BYTES = 32
EVERYTHING = ("**",)
NOBODY = hashlib.sha256(b"nobody").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Grant:
    recipient: str
    since_ms: int
    topics: tuple[str, ...] = EVERYTHING
    """Patterns of what it may subscribe to and publish on."""


class Tokens:
    """`redis` answers in text. Each method raises Unreachable where it does not answer."""

    def __init__(self, redis: Redis, keys: GatewayKeys) -> None:
        self._redis, self._keys = redis, keys
        self._url = address_of(redis)

    def grant(self, recipient: str, topics: Sequence[str] = EVERYTHING) -> str:
        """A new token, to be shown once; the one before it, and who came in with it, are out. Raises UsageError."""
        allowed = checked(topics)
        if recipient.partition(":")[0] not in KINDS:
            raise UsageError(f"{recipient} gets no token", f"one gets: {', '.join(f'{kind}:NAME' for kind in KINDS)}")
        names.recipient(recipient)
        token = f"{_who(recipient)}.{secrets.token_urlsafe(SECRET_BYTES)}"
        entry = {"recipient": recipient, "sha256": _hash(token), "since_ms": time.time_ns() // 1_000_000}
        entry |= {} if allowed == list(EVERYTHING) else {"topics": allowed}
        with reaching(self._url):
            self._redis.hset(self._keys.tokens, _who(recipient), json.dumps(entry))
        self.tell(News(recipient=recipient))
        return token

    def revoke(self, recipient: str) -> None:
        """Raises NotFound where the recipient has no token."""
        with reaching(self._url):
            had = self._redis.hdel(self._keys.tokens, _who(recipient))
        if not had:
            near = did_you_mean(recipient, [grant.recipient for grant in self.list()])
            raise NotFound(f"{recipient} has no token{near}", "see who has one: coord gateway --list")
        self.tell(News(recipient=recipient))

    def list(self) -> tuple[Grant, ...]:
        with reaching(self._url):
            entries = [json.loads(entry) for entry in self._redis.hvals(self._keys.tokens)]
        return tuple(sorted(map(_grant, entries), key=lambda grant: grant.recipient))

    def recipient_of(self, token: str) -> str | None:
        grant = self.grant_of(token)
        return grant.recipient if grant else None

    def grant_of(self, token: str) -> Grant | None:
        """Whose token that is, and what for; it takes as long wherever a wrong one differs."""
        with reaching(self._url):
            entry = json.loads(self._redis.hget(self._keys.tokens, token.partition(".")[0]) or "{}")
        right = hmac.compare_digest(_hash(token), entry.get("sha256", NOBODY))
        return _grant(entry) if right else None

    def tell(self, news: News) -> None:
        """To all gateways."""
        with reaching(self._url):
            self._redis.publish(self._keys.news, str(news))

    def ping(self) -> None:
        with reaching(self._url):
            self._redis.ping()


def _grant(entry: Mapping[str, Any]) -> Grant:
    return Grant(
        recipient=entry["recipient"], since_ms=entry["since_ms"], topics=tuple(entry.get("topics", EVERYTHING))
    )


def _who(recipient: str) -> str:
    return hashlib.sha256(recipient.encode()).hexdigest()[:16]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
