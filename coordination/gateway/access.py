"""Who may come in: a token in the header, or in the subprotocols, which is what a browser can set. Never in the address.

A browser says which page it acts for; only pages that were named may.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from coordination.errors import UsageError

SUBPROTOCOL = "coord.v1"
BEARER = "bearer."
MINUTE_S = 60.0
ADDRESSES = 10_000
USUAL_PORTS = {"http": ":80", "https": ":443"}
"""A browser leaves them out."""
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


@dataclass
class Tries:
    """Wrong tokens by address, for a minute each."""

    most: int
    _failed: dict[str, tuple[float, int]] = field(default_factory=dict)

    def exhausted(self, address: str) -> bool:
        return self._recent(address)[1] >= self.most

    def failed(self, address: str) -> None:
        since, count = self._recent(address)
        self._failed.pop(address, None)
        if len(self._failed) >= ADDRESSES:
            self._failed.pop(next(iter(self._failed)))
        self._failed[address] = (since, count + 1)

    def _recent(self, address: str) -> tuple[float, int]:
        """Since when, and how many."""
        now = time.monotonic()
        since, count = self._failed.get(address, (now, 0))
        return (since, count) if now - since < MINUTE_S else (now, 0)
