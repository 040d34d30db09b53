"""Who may come in: a token in the header, or in the subprotocols, which is what a browser can set. Never in the address.

A browser says which page it acts for; only pages that were named may.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from coordination.errors import UsageError

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
