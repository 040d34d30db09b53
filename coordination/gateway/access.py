"""Who may come in as whom: one token per recipient, sent in the header, or in the subprotocols, which is what a browser can set.

Redis keeps a hash of a token, so nobody can read it back. A token is `<who>.<secret>`; `who` is made of the recipient's name, so that a
new token replaces the old one. A browser says which page it acts for; only pages that were named may.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from coordination.backend.client import address_of, reaching
from coordination.backend.keys import GatewayKeys
from coordination.errors import NotFound, UsageError
from coordination.gateway.topics import checked
from coordination.messages import names
from coordination.text import did_you_mean

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


@dataclass(frozen=True, kw_only=True)
class News:
    """Sessions of this recipient may have to end, all but the session `but` that came in elsewhere (empty: none)."""

    recipient: str
    but: str = ""

    def __str__(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def read(cls, text: str) -> News:
        return cls(**json.loads(text))


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


SUBPROTOCOL = "coord.v1"
BEARER = "bearer."
MINUTE_S = 60.0
GUESSES = 10_000
WHO_LENGTH = 40
"""Of what a token says before its dot: what is longer is nobody's."""
USUAL_PORTS = {"http": ":80", "https": ":443"}
"""A browser leaves them out."""
logger = logging.getLogger(__name__)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")


def token_of(headers: Mapping[str, str], subprotocols: Sequence[str]) -> str:
    """The token that a client shows, or nothing."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return next((word.removeprefix(BEARER) for word in subprotocols if word.startswith(BEARER)), "")


def origin_of(page: str) -> str:
    """As a browser says it. Raises UsageError for what none says: a path, or no scheme."""
    origin = page.lower().removesuffix("/")
    if not _ORIGIN.fullmatch(origin):
        raise UsageError(
            f"--origin {page}: no browser says so", "write https://HOST or https://HOST:PORT, without a path"
        )
    return origin.removesuffix(USUAL_PORTS.get(origin.partition(":")[0], "/"))


def may_ask(headers: Mapping[str, str], pages: Collection[str]) -> bool:
    """Whether no browser asks, or one on behalf of a page that was named (`https://host[:port]`)."""
    origin = headers.get("origin")
    return origin is None or origin in pages


Guess = tuple[str, str]
"""Whose token it claims to be (its part before the dot), and the address that it came from."""


def guess_of(token: str, address: str) -> Guess:
    who = token.partition(".")[0]
    return (who if len(who) <= WHO_LENGTH and who.isascii() and who.isalnum() else "", address)


@dataclass
class Tries:
    """Count wrong tokens by recipient and address, for a minute each.

    A right token is never refused: without that, whoever shares an address with others locks them out. A secret has 256 bits,
    so the count does not protect it; it bounds what guessing costs, and tells the operator.
    """

    most: int
    _failed: dict[Guess, tuple[float, int]] = field(default_factory=dict)

    def exhausted(self, guess: Guess) -> bool:
        return self._recent(guess)[1] >= self.most

    def failed(self, guess: Guess) -> None:
        since, count = self._recent(guess)
        self._failed.pop(guess, None)
        if len(self._failed) >= GUESSES:
            self._failed.pop(next(iter(self._failed)))
        self._failed[guess] = (since, count + 1)
        if count + 1 == self.most:
            logger.warning("%d wrong tokens within a minute from %s, for %s", self.most, guess[1], guess[0] or "nobody")

    def _recent(self, guess: Guess) -> tuple[float, int]:
        """Return since when, and how many."""
        now = time.monotonic()
        since, count = self._failed.get(guess, (now, 0))
        return (since, count) if now - since < MINUTE_S else (now, 0)
