"""Access control: one token per recipient, sent in a header or, from browsers, in the subprotocols.

Redis stores a hash of each token, so that nobody can read it back. A token is `<who>.<secret>`; `who` is
derived from the recipient's name, so a new token replaces the old one. A browser names the page it acts for;
only configured pages are allowed.
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
from coordination.gateway.topics import validated_patterns
from coordination.messages import names
from coordination.text import did_you_mean

KINDS = ("agent", "person", "repo")
"""Kinds of recipients that may have tokens; workers, runs and replies are internal and use Redis."""
SECRET_BYTES = 32
EVERYTHING = ("**",)
NOBODY = hashlib.sha256(b"nobody").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Grant:
    recipient: str
    since_ms: int
    topics: tuple[str, ...] = EVERYTHING
    """Patterns of topics that it may subscribe to and publish on."""


@dataclass(frozen=True, kw_only=True)
class News:
    """Tells all gateways to end the sessions of a recipient, except the one with the id `but`; if `but` is
    empty, to check its token, which has changed.
    """

    recipient: str
    but: str = ""

    def __str__(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def read(cls, text: str) -> News:
        return cls(**json.loads(text))


class Tokens:
    """Tokens in Redis. `redis` must decode responses. Each method raises Unreachable if it
    does not answer.
    """

    def __init__(self, redis: Redis, keys: GatewayKeys) -> None:
        self._redis, self._keys = redis, keys
        self._url = address_of(redis)

    def grant(self, recipient: str, topics: Sequence[str] = EVERYTHING) -> str:
        """Return a new token, which cannot be shown again; the former token and its sessions end. Raises
        UsageError.
        """
        allowed = validated_patterns(topics)
        if recipient.partition(":")[0] not in KINDS:
            raise UsageError(
                f"{recipient} cannot have a token",
                f"grant one to: {', '.join(f'{kind}:NAME' for kind in KINDS)}",
            )
        names.recipient(recipient)
        token = f"{_token_id(recipient)}.{secrets.token_urlsafe(SECRET_BYTES)}"
        entry = {"recipient": recipient, "sha256": _hash(token), "since_ms": time.time_ns() // 1_000_000}
        entry |= {} if allowed == list(EVERYTHING) else {"topics": allowed}
        with reaching(self._url):
            self._redis.hset(self._keys.tokens, _token_id(recipient), json.dumps(entry))
        self.tell(News(recipient=recipient))
        return token

    def revoke(self, recipient: str) -> None:
        """Revoke a recipient's token. Raises NotFound if it has none."""
        with reaching(self._url):
            removed = self._redis.hdel(self._keys.tokens, _token_id(recipient))
        if not removed:
            near = did_you_mean(recipient, [grant.recipient for grant in self.list()])
            raise NotFound(
                f"{recipient} has no token{near}", "list the recipients with a token: coord gateway --list"
            )
        self.tell(News(recipient=recipient))

    def list(self) -> tuple[Grant, ...]:
        with reaching(self._url):
            entries = [json.loads(entry) for entry in self._redis.hvals(self._keys.tokens)]
        return tuple(sorted(map(_grant, entries), key=lambda grant: grant.recipient))

    def recipient_of(self, token: str) -> str | None:
        grant = self.grant_of(token)
        return grant.recipient if grant else None

    def grant_of(self, token: str) -> Grant | None:
        """Return the grant of the token, or None. The duration does not tell where a wrong token differs."""
        with reaching(self._url):
            entry = json.loads(self._redis.hget(self._keys.tokens, token.partition(".")[0]) or "{}")
        matches = hmac.compare_digest(_hash(token), entry.get("sha256", NOBODY))
        return _grant(entry) if matches else None

    def tell(self, news: News) -> None:
        """Notify all gateways."""
        with reaching(self._url):
            self._redis.publish(self._keys.news, str(news))

    def ping(self) -> None:
        with reaching(self._url):
            self._redis.ping()


def _grant(entry: Mapping[str, Any]) -> Grant:
    return Grant(
        recipient=entry["recipient"],
        since_ms=entry["since_ms"],
        topics=tuple(entry.get("topics", EVERYTHING)),
    )


def _token_id(recipient: str) -> str:
    return hashlib.sha256(recipient.encode()).hexdigest()[:16]


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


SUBPROTOCOL = "coord.v1"
BEARER = "bearer."
MINUTE_S = 60.0
GUESSES = 10_000
WHO_LENGTH = 40
"""Longest part before the dot of a valid token."""
USUAL_PORTS = {"http": ":80", "https": ":443"}
"""Ports that browsers omit from the origin."""
logger = logging.getLogger(__name__)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")


def token_of(headers: Mapping[str, str], subprotocols: Sequence[str]) -> str:
    """Return the token of a connection request, or ""."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return next((word.removeprefix(BEARER) for word in subprotocols if word.startswith(BEARER)), "")


def origin_of(page: str) -> str:
    """Return a page's origin as browsers send it. Raises UsageError for a path or a missing scheme."""
    origin = page.lower().removesuffix("/")
    if not _ORIGIN.fullmatch(origin):
        raise UsageError(
            f"--origin {page} is not an origin", "write https://HOST or https://HOST:PORT, without a path"
        )
    return origin.removesuffix(USUAL_PORTS.get(origin.partition(":")[0], "/"))


def is_allowed_origin(headers: Mapping[str, str], pages: Collection[str]) -> bool:
    """Return whether the request is not from a browser, or from an allowed page (`https://host[:port]`)."""
    origin = headers.get("origin")
    return origin is None or origin in pages


Guess = tuple[str, str]
"""Part of a token before the dot, which identifies the claimed recipient, and the client's address."""


def guess_of(token: str, address: str) -> Guess:
    who = token.partition(".")[0]
    return (who if len(who) <= WHO_LENGTH and who.isascii() and who.isalnum() else "", address)


@dataclass
class TokenGuesses:
    """Wrong tokens of the last minute by recipient and address.

    A right token is always accepted; otherwise clients behind one address could lock each other out. A secret
    has 256 bits, so the count is not what protects it; it bounds the cost of guessing and informs the
    operator.
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
            logger.warning(
                "%d wrong tokens within a minute from %s, for %s", self.most, guess[1], guess[0] or "nobody"
            )

    def _recent(self, guess: Guess) -> tuple[float, int]:
        """Return the time of the first wrong token within the last minute, and their number."""
        now = time.monotonic()
        since, count = self._failed.get(guess, (now, 0))
        return (since, count) if now - since < MINUTE_S else (now, 0)
