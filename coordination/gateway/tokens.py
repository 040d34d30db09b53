"""Who may come in as whom: one token per recipient. Redis keeps a hash of it, and nobody can read the token back.

A token is `<who>.<secret>`; `who` is made of the recipient's name, so that a new token takes the place of the old one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass

from redis import Redis

from coordination.errors import NotFound
from coordination.nearest import nearest
from coordination.wire.keys import GatewayKeys

SECRET_BYTES = 32
NOBODY = hashlib.sha256(b"nobody").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Grant:
    recipient: str
    since_ms: int


class Tokens:
    """`redis` answers in text."""

    def __init__(self, redis: Redis, keys: GatewayKeys) -> None:
        self._redis, self._keys = redis, keys

    def grant(self, recipient: str) -> str:
        """A new token, to be shown once; the one before it, and who came in with it, are out."""
        token = f"{who(recipient)}.{secrets.token_urlsafe(SECRET_BYTES)}"
        entry = {"recipient": recipient, "sha256": _hash(token), "since_ms": time.time_ns() // 1_000_000}
        self._redis.hset(self._keys.tokens, who(recipient), json.dumps(entry))
        self._redis.publish(self._keys.news, news(recipient))
        return token

    def revoke(self, recipient: str) -> None:
        """Raises NotFound where the recipient has no token."""
        if not self._redis.hdel(self._keys.tokens, who(recipient)):
            raise NotFound(*self._unknown(recipient))
        self._redis.publish(self._keys.news, news(recipient))

    def list(self) -> tuple[Grant, ...]:
        entries = map(json.loads, self._redis.hvals(self._keys.tokens))
        grants = (Grant(recipient=entry["recipient"], since_ms=entry["since_ms"]) for entry in entries)
        return tuple(sorted(grants, key=lambda grant: grant.recipient))

    def recipient_of(self, token: str) -> str | None:
        """Whose token that is; it takes as long wherever a wrong one differs."""
        entry = json.loads(self._redis.hget(self._keys.tokens, token.partition(".")[0]) or "{}")
        right = hmac.compare_digest(_hash(token), entry.get("sha256", NOBODY))
        return entry["recipient"] if right else None

    def _unknown(self, recipient: str) -> tuple[str, str]:
        near = nearest(recipient, [grant.recipient for grant in self.list()])
        hint = f"did you mean {near!r}?" if near else "see who has one: coord gateway --list"
        return f"{recipient} has no token", hint


def news(recipient: str, but: str = "") -> str:
    """To all gateways: whoever came in as this recipient is out, but for one session."""
    return json.dumps({"out": recipient, "but": but})


def who(recipient: str) -> str:
    return hashlib.sha256(recipient.encode()).hexdigest()[:16]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
